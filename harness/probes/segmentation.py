"""The probe of pixels: from each patch's embedding to a class, or a number, for each of its pixels.

One linear layer, trained on batches of images that are read from disk as they are needed:
memory does not grow with the data set. All learning rates of a view are trained at once on the
same batches, because reading them is most of the work. It must not know images, encoders, suites
or tracking.

Protocol: a linear layer from each patch token to ``p x p x classes`` logits, or to classes which
are then enlarged bilinearly (the two kinds that OlmoEarth's and GEO-Bench's evaluations have); of
numbers one output takes the place of the classes, and squared error that of cross-entropy. AdamW,
50 epochs, cosine; the published sweep of 8 learning rates times views, the best on the validation
split. Unlike there, features are first brought to mean 0 and deviation 1 by the training split's
moments, so that one range of learning rates suits every encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harness.metrics import MeanMetric, mean_metric
from harness.probes.base import ProbeResult, Targets, TrialRecord, View
from harness.probes.linear import Training as LinearTraining
from harness.probes.linear import initial_linear, learning_rate_factors, minibatches
from harness.probes.map_objective import MapObjective, Rows, map_objective, require_pixels
from harness.probes.side_by_side import StoppedError, side_by_side
from harness.probes.stored_patches import Standardise, adamw
from harness.probes.tuning import PUBLISHED_RATES, PUBLISHED_WEIGHT_DECAY
from suites.datasets.base import TargetKind

Head = Literal["linear", "bilinear"]
Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

_OUTPUTS_AT_ONCE = 4_000_000  # of a training step on a CPU: larger ones are slower
_LOGITS_AT_ONCE = 16_000_000  # which bounds the memory of predictions


@dataclass(frozen=True)
class MapInputs:
    """All that the probe may know.

    ``views``: patch embeddings ``[N, h, w, dim]`` of all samples, mapped from disk, in the order in
    which ties are decided. ``maps``: class of each pixel, int ``[N, H, W]``, -1 where nobody is
    asked; or a number, float, NaN there. ``splits``: rows of train, val and test. ``classes``: how
    many there are, 0 of numbers. Raises `UserError` for a split without a pixel that counts.
    """

    views: Mapping[View, npt.NDArray[Any]]
    maps: Targets
    splits: Mapping[str, Rows]
    classes: int
    kind: TargetKind = "maps"

    def __post_init__(self) -> None:
        known = {name: self.splits[name] for name in ("train", "val")}
        require_pixels(self.maps, known, self.kind)

    @cached_property
    def objective(self) -> MapObjective:
        """How this kind of map is learned and read off."""
        return map_objective(self.kind, self.maps, self.splits["train"], self.classes)

    @property
    def side(self) -> tuple[int, int]:
        """Rows and columns of a map, pixels."""
        return int(self.maps.shape[1]), int(self.maps.shape[2])


@dataclass(frozen=True)
class MapSettings:
    """Protocol of the segmentation probe; ``batch_size`` counts images."""

    head: Head = "linear"
    epochs: int = 50
    batch_size: int = 16
    rates: Sequence[float] = PUBLISHED_RATES
    weight_decay: float = PUBLISHED_WEIGHT_DECAY
    select_by: str = "miou"


def run_segmentation(
    inputs: MapInputs,
    settings: MapSettings,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> ProbeResult:
    """Train every learning rate on every view, take the best on validation, score it on test.

    The answer's ``predictions`` are maps ``[n_test, H, W]``. Ties go to the first view, and to the
    smaller learning rate.
    """
    device = torch.device(device)
    chosen = mean_metric(settings.select_by)
    trials: list[TrialRecord] = []
    heads: list[tuple[View, Heads, int]] = []
    views, stopped = list(inputs.views), Event()

    def trained_on(view: View) -> tuple[Heads, list[float]]:
        trained = train_heads(inputs, view, settings, seed, device, stopped)
        return trained, _validated(inputs, view, trained, settings)

    found_heads = side_by_side(trained_on, views, device, stopped)
    for place, (view, (trained, values)) in enumerate(zip(views, found_heads, strict=True)):
        for index, (rate, value) in enumerate(zip(settings.rates, values, strict=True)):
            params: dict[str, str | float] = {
                "learning_rate": rate,
                "normalisation": view[0],
                "pooling": view[1],
            }
            trials.append(TrialRecord(len(trials), params, value))
            heads.append((view, trained, index))
        if progress is not None:
            progress(place + 1, len(inputs.views))
    sign = 1 if chosen.higher_is_better else -1
    best = max(range(len(trials)), key=lambda i: sign * trials[i].val_score)
    view, trained, index = heads[best]
    found = [
        trained.predictions(features, index)[0]
        for features, _ in trained.blocks(inputs, view, "test")
    ]
    return ProbeResult(
        torch.cat(found), None, dict(trials[best].params), trials[best].val_score, tuple(trials)
    )


class Heads:
    """K linear layers on one view, one per learning rate, from the same start.

    ``weight`` ``[dim, K, outputs]`` and ``bias`` ``[1, K, outputs]``: one matrix product for all.
    """

    def __init__(
        self,
        inputs: MapInputs,
        view: View,
        settings: MapSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        features = inputs.views[view]
        self.standardise = Standardise.of(features, inputs.splits["train"])
        self.head, self.side, self.objective = settings.head, inputs.side, inputs.objective
        rows, columns, dim = features.shape[1:]
        self.grid = (rows, columns)
        self.patch = (-(-self.side[0] // rows), -(-self.side[1] // columns))
        pixels = self.patch[0] * self.patch[1] if self.head == "linear" else 1
        weight, bias = initial_linear(dim, pixels * self.objective.outputs, seed)
        start = torch.cat([weight.T, bias[None]])[:, None]
        start = start.expand(-1, len(settings.rates), -1).to(device)
        self.weight = start[:-1].clone().requires_grad_()
        self.bias = start[-1:].clone().requires_grad_()
        self.device = device

    @property
    def parameters(self) -> tuple[Tensor, Tensor]:
        """Weights and biases, which are trained."""
        return self.weight, self.bias

    def blocks(self, inputs: MapInputs, view: View, split: str) -> Iterator[tuple[Tensor, Rows]]:
        """Embeddings of a split and their rows, few enough at a time for all heads' logits."""
        each = self.bias.shape[1] * self.objective.outputs * self.side[0] * self.side[1]
        size, rows = max(1, _LOGITS_AT_ONCE // each), inputs.splits[split]
        for start in range(0, len(rows), size):
            at = rows[start : start + size]
            features = np.asarray(inputs.views[view][at], dtype=np.float32)
            yield torch.from_numpy(features), at

    def logits(self, features: Tensor, head: int | None = None) -> Tensor:
        """``[b, h, w, dim]`` to ``[n, K, outputs, L]``: L pixels of n patches, or of n images.

        With ``head`` of that one alone (K = 1).
        Patches for the linear head, whose outputs are left as they come: a class's pixels lie side
        by side, so that a softmax over classes runs along them. Images for the bilinear one.
        """
        count, rows, columns, dim = features.shape
        x = self.standardise(features.to(self.device)).reshape(-1, dim)
        chosen = slice(None) if head is None else slice(head, head + 1)
        weight, bias = self.weight[:, chosen], self.bias[:, chosen]
        outputs = torch.addmm(bias.flatten(1), x, weight.flatten(1))
        if self.head == "linear":
            return outputs.view(len(x), bias.shape[1], self.objective.outputs, -1)
        small = outputs.view(count, rows, columns, -1).permute(0, 3, 1, 2)
        large = F.interpolate(small, self.side, mode="bilinear", align_corners=False)
        return large.view(count, -1, self.objective.outputs, self.side[0] * self.side[1])

    def arranged(self, maps: Tensor) -> Tensor:
        """Maps ``[b, H, W]`` as the logits have them, ``[n, L]``."""
        if self.head == "bilinear":
            return maps.flatten(1)
        (rows, columns), (high, wide) = self.grid, self.patch
        whole = (rows * high, columns * wide)
        if self.side != whole:  # images were enlarged to whole patches, and so is the truth
            larger = F.interpolate(maps[:, None].float(), whole, mode="nearest-exact")[:, 0]
            maps = larger.to(maps.dtype)
        cut = maps.view(-1, rows, high, columns, wide).transpose(2, 3)
        return cut.reshape(-1, high * wide)

    @torch.no_grad()
    def predictions(self, features: Tensor, head: int | None = None) -> Tensor:
        """Class or number of each pixel by each head (or by one), ``[K, b, H, W]``."""
        logits = self.logits(features, head)
        if self.head == "bilinear":
            found = self.objective.decode(logits)
            return found.view(*found.shape[:2], *self.side).transpose(0, 1).cpu()
        (rows, columns), (high, wide) = self.grid, self.patch
        heads = logits.shape[1]
        cut = logits.view(-1, rows, columns, heads, self.objective.outputs, high, wide)
        whole = cut.permute(3, 0, 4, 1, 5, 2, 6).flatten(5, 6).flatten(3, 4)
        if whole.shape[-2:] != self.side:
            resized = F.interpolate(whole.flatten(0, 1), self.side, mode="bilinear")
            whole = resized.view(heads, -1, self.objective.outputs, *self.side)
        return self.objective.decode(whole.flatten(3)).view(heads, -1, *self.side).cpu()


def train_heads(
    inputs: MapInputs,
    view: View,
    settings: MapSettings,
    seed: int,
    device: torch.device,
    stopped: Event | None = None,
) -> Heads:
    """All learning rates on one view, on the same batches in the same order.

    Raises `StoppedError` once ``stopped`` is set.
    """
    heads = Heads(inputs, view, settings, seed, device)
    rows = inputs.splits["train"]
    training = LinearTraining(settings.epochs, max(2, settings.batch_size))
    batches = minibatches(len(rows), training, seed)
    rates = torch.tensor(list(settings.rates), device=device).view(1, -1, 1)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in heads.parameters]
    factors = learning_rate_factors(len(batches), training.warmup)
    for number, (batch, factor) in enumerate(zip(batches, factors, strict=True), start=1):
        if stopped is not None and stopped.is_set():
            raise StoppedError
        at = np.sort(rows[batch.numpy()])  # in the order of the disk
        features = torch.from_numpy(np.asarray(inputs.views[view][at], dtype=np.float32))
        maps = inputs.objective.encode(inputs.maps[at]).to(device)
        gradients = _gradients(heads, inputs.objective, features, maps)
        with torch.no_grad():
            for p, gradient, (mean, square) in zip(
                heads.parameters, gradients, moments, strict=True
            ):
                adamw(p, gradient, mean, square, factor * rates, settings.weight_decay, number)
    return heads


def _gradients(
    heads: Heads, objective: MapObjective, features: Tensor, maps: Tensor
) -> tuple[Tensor, Tensor]:
    """Of a batch's mean loss, by weights and biases.

    A few images at a time: outputs are far larger than the embeddings that they come from.
    """
    each = maps[0].numel() * heads.bias.shape[1] * objective.outputs
    size = max(1, (_OUTPUTS_AT_ONCE if heads.device.type == "cpu" else _LOGITS_AT_ONCE) // each)
    asked = objective.asked(maps).sum().clamp(min=1)
    total = (torch.zeros_like(heads.weight), torch.zeros_like(heads.bias))
    for start in range(0, len(maps), size):
        some = maps[start : start + size]
        outputs = heads.logits(features[start : start + size])
        error = objective.error(outputs.detach(), heads.arranged(some))
        share = objective.asked(some).sum() / asked  # the error is of these images' mean
        for sum_, found in zip(
            total, torch.autograd.grad(outputs, heads.parameters, error), strict=True
        ):
            sum_.add_(found * share)
    return total


def _validated(inputs: MapInputs, view: View, heads: Heads, settings: MapSettings) -> list[float]:
    """Score of each head on the validation split; a diverged one gets the metric's worst.

    Only sums over the images are kept: memory does not grow with the split.
    """
    chosen = mean_metric(settings.select_by)
    sums: list[Floats] = [np.zeros(0)] * len(settings.rates)
    for features, rows in heads.blocks(inputs, view, "val"):
        maps = np.asarray(inputs.maps[rows])
        for index, found in enumerate(heads.predictions(features).numpy()):
            mine = chosen.statistics(maps, found).sum(axis=0)
            sums[index] = _together(chosen, sums[index], mine)
    count = len(inputs.splits["val"])
    values = [float(chosen.of_means(each[None] / count)[0]) for each in sums]
    both = torch.cat([heads.weight, heads.bias])
    finite = torch.isfinite(both).flatten(2).all(dim=2).all(dim=0)
    return [
        value if bool(is_finite) else chosen.worst
        for value, is_finite in zip(values, finite, strict=True)
    ]


def _together(chosen: MeanMetric, before: Floats, now: Floats) -> Floats:
    """A metric's sums over more images.

    Of classes they are above and below a ratio, class by class, as far as these images hold some;
    what they lack is 0 / 0, which the ratio leaves out.
    """
    halves = 2 if chosen.kind == "maps" else 1
    pair = [sums.reshape(halves, -1) for sums in (before, now)]
    longest = max(sums.shape[1] for sums in pair)
    whole = sum(np.pad(sums, ((0, 0), (0, longest - sums.shape[1]))) for sums in pair)
    return np.asarray(whole, dtype=np.float64).ravel()
