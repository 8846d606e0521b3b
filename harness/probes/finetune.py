"""Full fine-tuning: the encoder itself is trained, below one linear layer.

One trial from the encoder's given weights to its best epoch on validation. The head alone learns
for the first share of the epochs, so that its random start does not shake what pretraining left;
then everything does. It must not know where learning rates come from (``finetune_tuning.py``), nor
variants, data sets, files or suites: images reach it by the row, ready for the encoder.

Protocol: AdamW at one learning rate, linear warm-up over a tenth of the steps, then cosine, as in
the linear probe; the encoder warms up once more when it is let go. It stays in evaluation mode
(no dropout, no drop path, batch statistics as they are). Maps have a linear layer from each patch
to a class for each of its pixels. Features reach the linear layer with mean 0 and deviation 1 by
what the training split's were before any training: running statistics of a batch normalisation
trail an encoder that moves, the more so where labels are few and steps therefore too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.embed import pool
from harness.metrics import metric
from harness.probes.answers import Answers, answers_of
from harness.probes.base import Targets
from harness.probes.linear import Training, initial_linear, learning_rate_factors, minibatches
from harness.probes.map_objective import require_pixels
from harness.probes.side_by_side import side_by_side
from harness.probes.tuning import PUBLISHED_WEIGHT_DECAY
from models.errors import UserError
from suites.datasets.base import MAP_KINDS, TargetKind

Rows = npt.NDArray[np.int64]
Images = Mapping[str, Tensor]
Read = Callable[[str, Rows], tuple[Images, Tensor]]
"""From a normalisation and rows to images ``[b, H, W, T, D]`` per modality, and timestamps."""


@dataclass(frozen=True)
class FinetuneInputs:
    """All that the probe may know.

    ``encoder``: makes a new one each time, with the weights to start from. ``targets``: of all
    samples, as the data set has them. ``grid``: rows and columns of patches, of maps only.
    ``width``: of an embedding. Raises `UserError` for an empty split, or one training sample.
    """

    encoder: Callable[[], nn.Module]
    read: Read
    targets: Targets
    splits: Mapping[str, Rows]
    kind: TargetKind
    outputs: int
    normalisations: tuple[str, ...]
    poolings: tuple[str, ...]
    patch_size: int
    width: int
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, rows in self.splits.items():
            if len(rows) < (2 if name == "train" else 1):
                raise UserError(
                    f"The {name} split has {len(rows)} samples; fine-tuning needs one or more in "
                    "each, and two to train on."
                )
        if self.kind in MAP_KINDS:
            known = {name: self.splits[name] for name in ("train", "val")}
            require_pixels(self.targets, known, self.kind)

    @cached_property
    def answers(self) -> Answers:
        """How outputs are held to the targets, and read off."""
        return answers_of(self.kind, self.targets, self.splits["train"], self.outputs, self.grid)


@dataclass(frozen=True)
class FinetuneSettings:
    """Protocol of fine-tuning; ``frozen_epochs`` train the head alone.

    ``patience``: epochs in which the encoder learns and validation does not improve, after which a
    trial ends. ``select_by`` names the score that chooses epoch and trial on validation.
    """

    trials: int = 8
    epochs: int = 50
    frozen_epochs: int = 10
    patience: int = 10
    batch_size: int = 32
    weight_decay: float = PUBLISHED_WEIGHT_DECAY
    select_by: str = "accuracy"


@dataclass(frozen=True)
class Trial:
    """One setting of what is tuned."""

    learning_rate: float
    normalisation: str
    pooling: str


@dataclass(frozen=True)
class Kept:
    """A trial's best epoch (from 1), its score on validation, and the weights that had it."""

    epoch: int
    score: float
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation ``[width]`` of the training split's features before any training."""

    mean: Tensor
    deviation: Tensor


class DivergedError(Exception):
    """Outputs that are not finite: the learning rate was too much for the encoder."""


class TunedModel(nn.Module):
    """Encoder, pooling, fixed scale, linear layer; of maps for each patch by itself."""

    def __init__(self, inputs: FinetuneInputs, trial: Trial, seed: int) -> None:
        super().__init__()
        self.encoder = inputs.encoder()
        self.learned = [p for p in self.encoder.parameters() if p.requires_grad]
        self.pooling, self.grid, self.patch_size = trial.pooling, inputs.grid, inputs.patch_size
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(inputs.width))
        self.register_buffer("deviation", torch.ones(inputs.width))
        self.head = nn.Linear(inputs.width, inputs.answers.outputs(inputs.patch_size))
        weight, bias = initial_linear(inputs.width, self.head.out_features, seed)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        self.eval()
        self.let_learn(True)

    def embedded(self, images: Images, timestamps: Tensor) -> Tensor:
        """Pooled embeddings ``[b, width]``, of maps ``[b, h, w, width]``."""
        learning = self.learns and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning):  # inference has faster paths
            with _precision(timestamps.device):
                tokens = self.encoder(images, timestamps, self.patch_size)
            tokens = {name: _not_halved(x) for name, x in tokens.items()}
            pooled = pool(tokens, self.pooling, self.grid)
            # Some encoders normalise what they have pooled, instead of the tokens before.
            after = getattr(self.encoder, "after_pooling", None) or nn.Identity()
            found: Tensor = after(pooled)
        return found

    def forward(self, images: Images, timestamps: Tensor) -> Tensor:
        """Outputs ``[b, outputs]``, of maps ``[b, h, w, outputs]``."""
        x = (self.embedded(images, timestamps) - self.mean) / self.deviation
        outputs: Tensor = self.head(x)
        return outputs

    def take(self, scale: Scale) -> None:
        """Scale features by this from now on."""
        self.mean.copy_(scale.mean)
        self.deviation.copy_(scale.deviation)

    def let_learn(self, encoder: bool) -> None:
        """Whether the encoder learns too. What its author had fixed stays fixed."""
        self.learns = encoder
        for parameter in self.learned:
            parameter.requires_grad_(encoder)


def train(
    inputs: FinetuneInputs,
    settings: FinetuneSettings,
    trial: Trial,
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int, float], None] = lambda _epoch, _score: None,
    last: int | None = None,
    scale: Scale | None = None,
) -> Kept:
    """Train from the given weights; what is kept is the best epoch on validation (ties: the first).

    ``after_epoch(epoch, score)`` may end the trial by raising. With ``last`` no epoch follows that
    one: as if interrupted, for the schedule is that of all epochs. ``scale``: `scale_of` this
    trial's view, where it is known. The seed decides the head's start and the order of the
    batches. Raises `DivergedError`, and `UserError` where nothing of the encoder can be trained.
    """
    model = TunedModel(inputs, trial, seed).to(device)
    model.take(scale or scale_of(inputs, settings, trial, device))
    training = Training(settings.epochs, settings.batch_size)
    rows = inputs.splits["train"]
    batches = minibatches(len(rows), training, seed)
    steps = len(batches) // settings.epochs
    optimiser = _optimiser(model, settings.weight_decay)
    rates = _rates(trial.learning_rate, len(batches), settings.frozen_epochs * steps)
    sign = 1 if metric(settings.select_by).higher_is_better else -1
    kept: Kept | None = None
    for epoch in range(1, (last or settings.epochs) + 1):
        model.let_learn(epoch > settings.frozen_epochs)
        for number in range((epoch - 1) * steps, epoch * steps):
            for group, rate in zip(optimiser.param_groups, rates[number], strict=True):
                group["lr"] = rate
            at = rows[batches[number].numpy()]
            _step(model, optimiser, inputs, trial.normalisation, at, device)
        score = _validated(model, inputs, settings, trial.normalisation, device)
        if kept is None or sign * score > sign * kept.score:
            kept = Kept(epoch, score, copy.deepcopy(model.state_dict()))
        after_epoch(epoch, score)
        if epoch - max(kept.epoch, settings.frozen_epochs) >= settings.patience:
            break
    assert kept is not None
    return kept


def _optimiser(model: TunedModel, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW on the head, and on the encoder: two groups, in this order."""
    groups = [{"params": [*model.head.parameters()]}, {"params": model.learned}]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=weight_decay)


def _rates(rate: float, steps: int, frozen: int) -> list[tuple[float, float]]:
    """Learning rates of head and encoder, step by step.

    The encoder's rises from 0 when its turn comes: AdamW's first steps, whose second moments are
    those of a batch or two, are as large as the learning rate whatever the gradient.
    """
    warmup = Training().warmup
    rising = round((steps - frozen) * warmup)
    return [
        (rate * factor, rate * min(factor, max(0, number - frozen) / rising if rising else 1.0))
        for number, factor in enumerate(learning_rate_factors(steps, warmup))
    ]


def _step(
    model: TunedModel,
    optimiser: torch.optim.Optimizer,
    inputs: FinetuneInputs,
    normalisation: str,
    rows: Rows,
    device: torch.device,
) -> None:
    rows = np.sort(rows)  # in the order of the disk
    outputs = model(*_read(inputs, normalisation, rows, device))
    if not bool(torch.isfinite(outputs).all()):
        raise DivergedError
    optimiser.zero_grad()
    torch.autograd.backward(inputs.answers.loss(outputs, rows))
    if model.learns and all(p.grad is None for p in model.learned):
        raise UserError(
            "Nothing in the encoder can be trained: no gradient reaches its weights; leave it out "
            "of tasks with a probe of kind finetune."
        )
    optimiser.step()


def _validated(
    model: TunedModel,
    inputs: FinetuneInputs,
    settings: FinetuneSettings,
    normalisation: str,
    device: torch.device,
) -> float:
    found, likely = _predicted(model, inputs, settings, normalisation, "val", device)
    truth, chosen = np.asarray(inputs.targets[inputs.splits["val"]]), metric(settings.select_by)
    said = likely if chosen.from_probabilities and likely is not None else found
    score = chosen.value(truth, said.numpy())
    if not np.isfinite(score):
        raise DivergedError
    return score


def tested(
    inputs: FinetuneInputs,
    settings: FinetuneSettings,
    trial: Trial,
    kept: Kept,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    """Predictions and probabilities for the test split, by a trial's kept weights."""
    model = TunedModel(inputs, trial, 0).to(device)
    model.load_state_dict(kept.state)
    return _predicted(model, inputs, settings, trial.normalisation, "test", device)


def _predicted(
    model: TunedModel,
    inputs: FinetuneInputs,
    settings: FinetuneSettings,
    normalisation: str,
    split: str,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    """Predictions as metrics want them, and probabilities if any; may raise `DivergedError`."""
    found = []
    for rows in _blocks(inputs.splits[split], settings.batch_size):
        with torch.no_grad():
            outputs = model(*_read(inputs, normalisation, rows, device))
        if not bool(torch.isfinite(outputs).all()):
            raise DivergedError
        found.append(inputs.answers.found(outputs.cpu()))
    likely = [shares for _, shares in found if shares is not None]
    return torch.cat([each for each, _ in found]), torch.cat(likely) if likely else None


@torch.no_grad()
def scale_of(
    inputs: FinetuneInputs, settings: FinetuneSettings, trial: Trial, device: torch.device
) -> Scale:
    """Moments over the training split (of maps over all patches), by the encoder as it is given."""
    model = TunedModel(inputs, trial, 0).to(device)
    shift: Tensor | None = None  # keeps the digits where features lie far from 0
    total, count = torch.zeros(2, inputs.width, dtype=torch.float64, device=device), 0
    for rows in _blocks(inputs.splits["train"], settings.batch_size):
        x = model.embedded(*_read(inputs, trial.normalisation, rows, device))
        flat = x.reshape(-1, inputs.width).double()
        shift = flat[0] if shift is None else shift
        total += torch.stack([(flat - shift).sum(0), (flat - shift).square().sum(0)])
        count += len(flat)
    assert shift is not None
    mean, square = total / count
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return Scale(mean + shift, torch.where(deviation > 0, deviation, torch.inf))


def untouched(
    inputs: FinetuneInputs, rows: Rows, device: torch.device
) -> list[npt.NDArray[np.float32]]:
    """Embeddings of some samples before any training, for every normalisation and pooling."""
    [found] = side_by_side(lambda at: _untouched(inputs, at, device), [rows], device, Event())
    return found


@torch.no_grad()
def _untouched(
    inputs: FinetuneInputs, rows: Rows, device: torch.device
) -> list[npt.NDArray[np.float32]]:
    model = TunedModel(inputs, Trial(0.0, "", ""), 0).to(device)
    found = []
    for normalisation in inputs.normalisations:
        read = _read(inputs, normalisation, rows, device)
        for model.pooling in inputs.poolings:
            found.append(model.embedded(*read).cpu().numpy())
    return found


def _read(
    inputs: FinetuneInputs, normalisation: str, rows: Rows, device: torch.device
) -> tuple[Images, Tensor]:
    images, timestamps = inputs.read(normalisation, rows)
    return {name: x.to(device) for name, x in images.items()}, timestamps.to(device)


def _blocks(rows: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _not_halved(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _precision(device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16) if in_bfloat16(device) else nullcontext()


def in_bfloat16(device: torch.device) -> bool:
    """Whether the encoder's products are taken in bfloat16: where the hardware is fast at it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
