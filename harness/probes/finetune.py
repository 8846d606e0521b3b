"""Full fine-tuning: the encoder itself is trained, below one linear layer.

One trial from the encoder's given weights to its best epoch on validation. The head alone learns
for the first share of the epochs, so that its random start does not shake what pretraining left;
then everything does. It must not know where learning rates come from (``finetune_tuning.py``), nor
variants, data sets, files or suites: images reach it by the row, ready for the encoder.

Protocol: AdamW at one learning rate, linear warm-up over a tenth of the steps, then cosine, as in
the linear probe; the encoder warms up once more when it is let go. The model is that of
``finetune_model.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.metrics import metric
from harness.probes.finetune_model import (
    FinetuneInputs,
    Rows,
    Scale,
    Trial,
    TunedModel,
    read_rows,
)
from harness.probes.linear import Training, learning_rate_factors, minibatches
from harness.probes.tuning import PUBLISHED_WEIGHT_DECAY
from models.errors import UserError


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
class Kept:
    """A trial's best epoch (from 1), its score on validation, and the weights that had it."""

    epoch: int
    score: float
    state: Mapping[str, Tensor]


class DivergedError(Exception):
    """Outputs that are not finite: the learning rate was too much for the encoder."""


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
    optimiser.zero_grad()
    parts = inputs.parts(np.sort(rows))  # in the order of the disk
    for part, share in zip(parts, _shares(inputs, parts), strict=True):
        outputs = model(*read_rows(inputs, normalisation, part, device))
        if not bool(torch.isfinite(outputs).all()):
            raise DivergedError
        torch.autograd.backward(inputs.answers.loss(outputs, part) * share)
    if model.learns and all(p.grad is None for p in model.learned):
        raise UserError(
            "Nothing in the encoder can be trained: no gradient reaches its weights; leave it out "
            "of tasks with a probe of kind finetune."
        )
    optimiser.step()


def _shares(inputs: FinetuneInputs, parts: list[Rows]) -> list[float]:
    """Of the batch's mean loss: gradients of the parts, times these, add up to its gradient."""
    if len(parts) == 1:
        return [1.0]
    asked = [inputs.answers.asked(part) for part in parts]
    return [each / max(1, sum(asked)) for each in asked]


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
    for rows in inputs.parts(inputs.splits[split], settings.batch_size):
        with torch.no_grad():
            outputs = model(*read_rows(inputs, normalisation, rows, device))
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
    for rows in inputs.parts(inputs.splits["train"], settings.batch_size):
        x = model.embedded(*read_rows(inputs, trial.normalisation, rows, device))
        flat = x.reshape(-1, inputs.width).double()
        shift = flat[0] if shift is None else shift
        total += torch.stack([(flat - shift).sum(0), (flat - shift).square().sum(0)])
        count += len(flat)
    assert shift is not None
    mean, square = total / count
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return Scale(mean + shift, torch.where(deviation > 0, deviation, torch.inf))
