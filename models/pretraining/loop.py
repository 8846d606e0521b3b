"""The training loop: steps, logging, checkpoints, and stopping when a run goes wrong.

Every step follows from (recipe, setting, data, size, seed, its number): a run that was killed
goes on with the loss curve that it would have had. What happens is told to a `Watcher`;
tracking, progress bars and probes are its business. It must not know MLflow, terminals or
labelled data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.olmoearth.config import config_of
from models.pretraining import checkpoint
from models.pretraining.batches import BatchMaker, ahead
from models.pretraining.checkpoint import Record, State
from models.pretraining.diagnostics import (
    PATIENCE,
    effective_rank,
    is_collapsed,
    is_diverging,
    spread,
)
from models.pretraining.distributed import Group
from models.pretraining.job import Job, of_modalities
from models.pretraining.normalising import Statistics, statistics_of
from models.pretraining.pretrainer import Objective, Pretrainer
from models.pretraining.recipe import Setting
from models.pretraining.schedule import adamw, learning_rate, warmup_steps
from models.pretraining.stepping import make_step


@dataclass(frozen=True)
class Habits:
    """How a run goes about it; nothing here can change a weight but by rounding.

    ``log_every`` steps make a record; a checkpoint is written at the first record that is
    ``save_seconds`` after the last one. ``compile``: the transformer blocks, by torch.compile.
    """

    log_every: int = 20
    save_seconds: float = 60.0
    workers: int = 1
    compile: bool = False
    bfloat16: bool = False


class Watcher(Protocol):
    """Told how a run goes."""

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """Training begins, or goes on after some steps."""

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """A record stands; the encoder may be looked at, not changed."""


@dataclass
class Trained:
    """What a run leaves.

    ``statistics`` normalised the images. ``waited`` are seconds spent waiting for data, of
    ``seconds`` in all.
    """

    encoder: nn.Module
    steps: int
    statistics: Statistics
    history: list[Record]
    seconds: float = 0.0
    waited: float = 0.0
    timed_samples: int = 0


@dataclass
class _Since:
    """Sums since the last record."""

    terms: list[Tensor] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


def train(job: Job, folder: Path, group: Group, habits: Habits, watch: Watcher) -> Trained:
    """Run the job to its end in a folder, going on where an earlier run stopped.

    Raises:
        UserError: the folder holds another run's checkpoint, or cannot be written; chips that
            the recipe cannot use; the run diverged or its encodings collapsed (the last good
            checkpoint stays).
    """
    scheme = of_modalities(job.variant.scheme, job.modalities)
    statistics = statistics_of(job.setting.normalisation, job.chips, job.modalities)
    maker = BatchMaker(
        job.recipe, job.setting, scheme, job.chips, statistics, job.seed, group.share
    )
    _ = maker.shapes  # refuses what no crop fits, before anything is built
    _check_share(job.setting, group)
    model = build(job, group).to(group.device)
    optimiser = adamw(model, job.setting.optimiser)
    folder.mkdir(parents=True, exist_ok=True)
    state = checkpoint.load(folder, job.identity)
    if state is not None:
        model.load_state_dict(dict(state.model))
        optimiser.load_state_dict(dict(state.optimiser))
    done = state.step if state else 0
    history = checkpoint.read_history(folder, done)
    if group.leads:
        checkpoint.write_history(folder, history)
        watch.started(job, done, history)
    if habits.compile:
        _compile_blocks(model)
    trained = Trained(model.encoder, job.steps, statistics, history)
    wrapped = group.wrap(model)
    since, saved_at = _Since(), time.monotonic()
    started = waiting = time.perf_counter()
    for step, parts in enumerate(ahead(maker, done, job.steps, habits.workers), start=done):
        trained.waited += time.perf_counter() - waiting
        made = make_step(wrapped, optimiser, parts, job, step, group, habits.bfloat16)
        since.terms.append(made.terms)
        if (step + 1) % habits.log_every == 0 or step + 1 == job.steps:
            record = _record(job, step, since, group.gather(made.pooled))
            history.append(record)
            _refuse_failure(job, history, folder)
            if group.leads:
                checkpoint.append_history(folder, record)
                speed = len(since.terms) * job.setting.batch / _elapsed(since.started)
                watch.logged(record, speed, model.encoder)
                due = time.monotonic() - saved_at >= habits.save_seconds
                if step + 1 == job.steps or (due and not _is_doubtful(job, history)):
                    checkpoint.save(folder, job.identity, _state(model, optimiser, step + 1))
                    saved_at = time.monotonic()
            since = _Since()
        waiting = time.perf_counter()
    trained.seconds = _elapsed(started)
    trained.timed_samples = (job.steps - done) * job.setting.batch
    group.wait()
    return trained


def _elapsed(start: float) -> float:
    return max(time.perf_counter() - start, 1e-9)


def build(job: Job, group: Group) -> Pretrainer:
    """Encoder, predictor, head and targets, initialised from the job's seed."""
    recipe = job.recipe
    objective = Objective(
        recipe.temperature,
        recipe.near_duplicate,
        recipe.contrast_weight,
        recipe.contrast_temperature,
    )
    model = Pretrainer(
        config_of(job.variant),
        objective,
        recipe.decoder_depth,
        job.seed,
        gather=group.gather,
        centred_targets=job.setting.centred_targets,
    )
    _set_drop_path(model, job.setting.drop_path)
    # What the chips do not hold cannot train; its random weights stay as they are.
    for name, parameter in model.named_parameters():
        other = [m for m in job.variant.scheme.groups if m not in job.modalities]
        if any(f".{m}." in f".{name}." for m in other):
            parameter.requires_grad_(False)
    return model


def _set_drop_path(model: nn.Module, rate: float) -> None:
    for module in model.modules():
        if hasattr(module, "drop_path"):
            module.drop_path = rate  # type: ignore[assignment]


def _check_share(setting: Setting, group: Group) -> None:
    part = setting.batch // setting.accumulate
    if part % group.share.world:
        raise UserError(
            f'{group.share.world} processes cannot share a batch of {part} (setting "'
            f'{setting.name}": batch {setting.batch}, accumulate {setting.accumulate}) equally; '
            "choose a number of processes that divides it."
        )


def _compile_blocks(model: Pretrainer) -> None:
    for block in (*model.encoder.blocks, *model.predictor.blocks):
        block.compile(dynamic=True)


def _record(job: Job, step: int, since: _Since, pooled: Tensor) -> Record:
    """The record of a step. ``pooled``: of all processes, so that each comes to the same verdict.

    Else some would stop, and the others wait for them forever.
    """
    loss, discrimination, contrast, norm = torch.stack(since.terms).mean(dim=0).tolist()
    return Record(
        step=step + 1,
        samples=(step + 1) * job.setting.batch,
        loss=loss,
        discrimination=discrimination,
        contrast=contrast,
        gradient_norm=norm,
        learning_rate=learning_rate(job.setting.optimiser, step, job.steps),
        spread=spread(pooled),
        effective_rank=effective_rank(pooled),
    )


def _refuse_failure(job: Job, history: Sequence[Record], folder: Path) -> None:
    """`UserError` when the run diverged, or its encodings have collapsed after the warm-up."""
    last = history[-1]
    # Nothing comes after the end that could tell an odd batch from a failure.
    patience = 1 if last.step == job.steps else PATIENCE
    kept = "no checkpoint had been written before"
    if (folder / checkpoint.CHECKPOINT).exists():
        kept = f"the checkpoint before it is in {folder}"
    # A gradient that is not finite has made every weight NaN, whatever the loss before it was.
    finite = math.isfinite(last.gradient_norm)
    if not finite or is_diverging([record.loss for record in history], patience):
        raise UserError(
            f'Pretraining "{job.recipe.name}" (seed {job.seed}) diverged at step {last.step}: the '
            f"loss is {last.loss:.4g}{'' if finite else ', its gradient not finite'}. Lower "
            f'optimiser.learning_rate in setting "{job.setting.name}", or warm up longer; {kept}.'
        )
    if is_collapsed(_spreads(job, history), patience):
        raise UserError(
            f'Pretraining "{job.recipe.name}" (seed {job.seed}) collapsed at step {last.step}: its '
            f"encodings are all alike (spread {last.spread:.4f}, effective rank "
            f"{last.effective_rank:.1f}). Lower the learning rate, or raise contrast_weight; "
            f"{kept}."
        )


def _is_doubtful(job: Job, history: Sequence[Record]) -> bool:
    """Whether the last record may be the first of a failure: nothing to go on from."""
    losses = [record.loss for record in history]
    return is_diverging(losses, 1) or is_collapsed(_spreads(job, history), 1)


def _spreads(job: Job, history: Sequence[Record]) -> list[float]:
    """Of the records after the warm-up, before which encodings may well be alike."""
    warm = warmup_steps(job.setting.optimiser, job.steps)
    return [record.spread for record in history if record.step > warm]


def _state(model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> State:
    return State(step, model.state_dict(), optimiser.state_dict())


__all__ = ["Habits", "Job", "Record", "Trained", "Watcher", "build", "of_modalities", "train"]
