"""Attention pooling: a learned query decides which patches of a sample count, then a linear head.

One query attends over all patch embeddings of a sample (a single head, softmax of the scaled dot
product; keys and values are the embeddings themselves), and batch normalisation and a linear
layer follow as in the linear probe. Patches are read from disk batch by batch, all learning rates
of a view are trained at once on the same batches, and views side by side, a core each. It must
not know images, encoders, suites or tracking.

With one query a key matrix would only turn the query, and a value matrix the linear layer: neither
is there (compare the attentive probes of J. Lee et al., Set Transformer, 2019, and of A. Bardes et
al., V-JEPA, 2024, which have them). The query starts at zero, where pooling is the mean, so that
what the probe gains over a linear one is what it has learned to look at. Features are brought to
mean 0 and deviation 1 by the training split's moments, as in the segmentation probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harness.metrics import metric
from harness.probes.base import Labels, ProbeResult, TrialRecord, View
from harness.probes.linear import Training, initial_linear, learning_rate_factors, minibatches
from harness.probes.objective import Objective, objective_of
from harness.probes.side_by_side import StoppedError, side_by_side
from harness.probes.stored_patches import Standardise, adamw
from harness.probes.tuning import PUBLISHED_RATES, PUBLISHED_WEIGHT_DECAY
from models.errors import UserError
from suites.datasets.base import TargetKind

Rows = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

_NUMBERS_AT_ONCE = 16_000_000  # of embeddings that are held together when nothing is trained


@dataclass(frozen=True)
class TokenInputs:
    """All that the probe may know.

    ``views``: patch embeddings ``[N, h, w, dim]`` of all samples, mapped from disk, in the order in
    which ties are decided. ``splits``: rows of train, val and test; ``labels``: what is to be
    predicted for them. Raises `UserError` for an empty split, or one training sample.
    """

    views: Mapping[View, npt.NDArray[Any]]
    labels: Labels
    splits: Mapping[str, Rows]
    outputs: int
    kind: TargetKind = "classes"

    def __post_init__(self) -> None:
        for name, rows in self.splits.items():
            if len(rows) < (2 if name == "train" else 1):
                raise UserError(
                    f"The {name} split has {len(rows)} samples; attention pooling needs one or "
                    "more in each, and two to train on."
                )

    @cached_property
    def objective(self) -> Objective:
        """How this kind of target is learned and read off."""
        return objective_of(self.kind, self.labels.train, self.outputs)

    def tokens(self, view: View, rows: Rows) -> Tensor:
        """Patches of some samples, float32 ``[b, h w, dim]``."""
        found = np.asarray(self.views[view][rows], dtype=np.float32)
        return torch.from_numpy(found).flatten(1, 2)


@dataclass(frozen=True)
class AttentionSettings:
    """Protocol of the probe; ``select_by`` names the score that chooses on validation."""

    training: Training = field(default_factory=Training)
    rates: Sequence[float] = PUBLISHED_RATES
    weight_decay: float = PUBLISHED_WEIGHT_DECAY
    select_by: str = "accuracy"


def run_attention(
    inputs: TokenInputs,
    settings: AttentionSettings,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> ProbeResult:
    """Train every learning rate on every view, take the best on validation, score it on test.

    Ties go to the first view, and to the smaller learning rate.
    """
    chosen, objective = metric(settings.select_by), inputs.objective
    truth = inputs.labels.val.numpy()
    trials: list[TrialRecord] = []
    places: list[tuple[View, Heads, int]] = []
    device, stopped = torch.device(device), Event()

    def trained(view: View) -> tuple[Heads, Tensor]:
        heads = train_heads(inputs, view, settings, seed, device, stopped)
        return heads, heads.outputs(inputs, view, "val")

    views = list(inputs.views)
    for place, (heads, outputs) in enumerate(side_by_side(trained, views, device, stopped)):
        view = views[place]
        for index, rate in enumerate(settings.rates):
            params: dict[str, str | float] = {
                "learning_rate": rate,
                "normalisation": view[0],
                "pooling": view[1],
            }
            value = chosen.worst  # of a diverged head, whose answers would be a class like others
            if bool(torch.isfinite(outputs[index]).all()):
                likely = objective.likely(outputs[index])
                said = likely if chosen.from_probabilities else objective.decode(likely)
                value = chosen.value(truth, said.numpy())
            trials.append(TrialRecord(len(trials), params, value))
            places.append((view, heads, index))
        if progress is not None:
            progress(place + 1, len(views))
    sign = 1 if chosen.higher_is_better else -1
    best = max(range(len(trials)), key=lambda i: sign * trials[i].val_score)
    view, heads, index = places[best]
    [outputs] = side_by_side(
        lambda split: heads.outputs(inputs, view, split, index)[0], ["test"], device, stopped
    )
    likely = objective.likely(outputs)
    return ProbeResult(
        objective.decode(likely),
        None if inputs.kind == "values" else likely,
        dict(trials[best].params),
        trials[best].val_score,
        tuple(trials),
    )


class Heads:
    """K queries with a head each on one view, one per learning rate, from the same start.

    ``query``, ``scale``, ``shift`` ``[K, 1, dim]``, ``weight`` ``[K, dim, outputs]``, ``bias``
    ``[K, 1, outputs]``.
    """

    def __init__(
        self,
        inputs: TokenInputs,
        view: View,
        settings: AttentionSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        features = inputs.views[view]
        self.standardise = Standardise.of(features, inputs.splits["train"])
        dim, count, outputs = features.shape[-1], len(settings.rates), inputs.objective.outputs
        weight, bias = initial_linear(dim, outputs, seed)
        starts = (
            torch.zeros(1, dim),
            torch.ones(1, dim),
            torch.zeros(1, dim),
            weight.T,
            bias[None],
        )
        self.parameters = tuple(
            start.expand(count, -1, -1).to(device, copy=True).contiguous().requires_grad_()
            for start in starts
        )
        self.query, self.scale, self.shift, self.weight, self.bias = self.parameters
        self.running_mean = torch.zeros(count * dim, device=device)
        self.running_var = torch.ones(count * dim, device=device)
        self.device = device

    def shares(self, x: Tensor) -> Tensor:
        """How much each head looks at each token: ``[b, n, dim]`` to ``[b, K, n]``."""
        scores: Tensor = x @ self.query[:, 0].T * x.shape[-1] ** -0.5
        return scores.transpose(1, 2).softmax(dim=2)

    def __call__(self, tokens: Tensor, training: bool = False) -> Tensor:
        """Outputs ``[K, b, outputs]`` of tokens ``[b, n, dim]``."""
        x = self.standardise(tokens.to(self.device))
        pooled = self.shares(x) @ x
        normal = F.batch_norm(
            pooled.flatten(1), self.running_mean, self.running_var, training=training
        )
        normal = normal.view(pooled.shape).transpose(0, 1)
        return torch.baddbmm(self.bias, normal * self.scale + self.shift, self.weight)

    @torch.no_grad()
    def outputs(
        self, inputs: TokenInputs, view: View, split: str, head: int | None = None
    ) -> Tensor:
        """Outputs of a split's samples, of all heads ``[K, n, outputs]`` or one, on the CPU."""
        rows, (_, high, wide, dim) = inputs.splits[split], inputs.views[view].shape
        size = max(1, _NUMBERS_AT_ONCE // (high * wide * dim))
        chosen = slice(None) if head is None else slice(head, head + 1)
        return torch.cat(
            [self(tokens)[chosen].cpu() for tokens in _blocks(inputs, view, rows, size)], dim=1
        )


def train_heads(
    inputs: TokenInputs,
    view: View,
    settings: AttentionSettings,
    seed: int,
    device: torch.device,
    stopped: Event | None = None,
) -> Heads:
    """All learning rates on one view, on the same batches in the same order.

    Raises `StoppedError` once ``stopped`` is set.
    """
    heads, objective = Heads(inputs, view, settings, seed, device), inputs.objective
    rows = inputs.splits["train"]
    targets = objective.encode(inputs.labels.train).T.to(device)
    rates = torch.tensor(list(settings.rates), device=device).view(-1, 1, 1)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in heads.parameters]
    batches = minibatches(len(rows), settings.training, seed)
    factors = learning_rate_factors(len(batches), settings.training.warmup)
    for number, (batch, factor) in enumerate(zip(batches, factors, strict=True), start=1):
        if stopped is not None and stopped.is_set():
            raise StoppedError
        at = batch[np.argsort(rows[batch.numpy()])]  # in the order of the disk
        outputs = heads(inputs.tokens(view, rows[at.numpy()]), training=True)
        error = objective.error(outputs.detach().transpose(1, 2), targets[:, at.to(device)])
        gradients = torch.autograd.grad(outputs, heads.parameters, error.transpose(1, 2))
        with torch.no_grad():
            together = zip(heads.parameters, gradients, moments, strict=True)
            for p, gradient, (mean, square) in together:
                adamw(p, gradient, mean, square, factor * rates, settings.weight_decay, number)
    return heads


def _blocks(inputs: TokenInputs, view: View, rows: Rows, size: int) -> Iterator[Tensor]:
    for start in range(0, len(rows), size):
        yield inputs.tokens(view, rows[start : start + size])
