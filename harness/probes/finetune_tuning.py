"""Tuning of fine-tuning on the validation split: what is asked, what is cut short, what wins.

Trials come in rounds, and those of a round are trained side by side, a core each; one that falls
behind the median of the earlier rounds' trials is pruned (Optuna's MedianPruner). What is asked and
what is pruned depends only on the seed and on the rounds before, and ended trials go to a journal
file: a killed study trains those in flight anew and ends where an undisturbed one ends, on any
number of cores. With ``tuning.py`` and ``study.py``
this is Optuna's only home. It must not know encoders' insides, test targets or tracking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, TrialState, create_trial
from torch import Tensor

from harness.metrics import metric
from harness.precision import true_float32
from harness.probes.base import ProbeResult, TrialRecord
from harness.probes.finetune import (
    DivergedError,
    FinetuneSettings,
    Kept,
    scale_of,
    tested,
    train,
)
from harness.probes.finetune_model import (
    FinetuneInputs,
    Images,
    Read,
    Rows,
    Scale,
    Trial,
)
from harness.probes.side_by_side import StoppedError, side_by_side
from harness.probes.study import Answers, Direction, study_at
from harness.probes.tuning import sampler_of
from models.errors import UserError

RATE_RANGE = (1e-5, 1e-2)
"""From what barely moves a pretrained encoder to what a small untrained one still bears."""
_ROUND = 4  # trials that are asked together: more use more cores, fewer learn from one another
_UNPRUNED = 2  # trials that must have ended well before any is cut short

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


def tune_finetune(
    inputs: FinetuneInputs,
    settings: FinetuneSettings,
    seed: int,
    study_path: Path,
    progress: Progress | None = None,
    *,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """Tune on validation; the best trial's best epoch is scored once on test.

    ``study_path`` is an Optuna journal file: created if absent, resumed if it holds the same study.
    Ties go to the lowest trial number. ``progress(done, total)`` counts epochs. A trial whose
    outputs stop being finite has failed; `UserError` when all have, or for a file of another study.
    """
    search = _Search(inputs, settings, seed, progress, torch.device(device))
    name = _study_name(inputs, settings, seed)
    with true_float32():
        with study_at(study_path, name, search.direction) as study:
            best = search.run(study)
        kept, asked = search.kept_of(best), _asked(search.ended[best])
        try:
            predictions, likely = search.alone(tested, asked, kept)
        except DivergedError:
            raise UserError(
                f"The fine-tuned encoder (learning rate {asked.learning_rate:.3g}) gives NaN or "
                "infinity for test samples; check their pixels (tokenrank data check)."
            ) from None
    chosen: dict[str, str | int | float] = {**asdict(asked), "epoch": kept.epoch}
    if inputs.precision != "float32":
        chosen["precision"] = inputs.precision
    if inputs.at_once is not None:
        chosen["at_once"] = inputs.at_once  # memory held no more: last bits may differ
    return ProbeResult(predictions, likely, chosen, kept.score, search.records())


class _Search:
    """The trials so far, and the weights of the best of those that this process trained."""

    def __init__(
        self,
        inputs: FinetuneInputs,
        settings: FinetuneSettings,
        seed: int,
        progress: Progress | None,
        device: torch.device,
    ) -> None:
        self.stopped, self.lock = Event(), Lock()
        self.inputs = replace(inputs, read=self._stoppable(inputs.read))
        self.settings, self.seed, self.device = settings, seed, device
        self.progress = progress
        self.higher = metric(settings.select_by).higher_is_better
        self.direction: Direction = "maximize" if self.higher else "minimize"
        self.space: dict[str, BaseDistribution] = {
            "learning_rate": FloatDistribution(*RATE_RANGE, log=True),
            "normalisation": CategoricalDistribution(inputs.normalisations),
            "pooling": CategoricalDistribution(inputs.poolings),
        }
        self.ended: list[FrozenTrial] = []
        self.epochs: dict[int, int] = {}  # done by each trial
        self.kept: tuple[int, Kept] | None = None
        self.scales: dict[tuple[str, str], Scale] = {}

    def _stoppable(self, read: Read) -> Read:
        def reading(normalisation: str, rows: Rows) -> tuple[Images, Tensor]:
            if self.stopped.is_set():
                raise StoppedError
            return read(normalisation, rows)

        return reading

    def run(self, study: Answers) -> int:
        """Train every trial that is not kept; the number of the best of all."""
        for start in range(0, self.settings.trials, _ROUND):
            asked = self._ask(range(start, min(start + _ROUND, self.settings.trials)))
            kept = study.to([trial.params for trial in asked], start)
            known = [start + at for at, trial in enumerate(kept) if trial is not None]
            self._show(dict.fromkeys(known, self.settings.epochs))
            left = [trial for trial in asked if kept[trial.number - start] is None]
            for trial in left:
                self._scale(_asked(trial))
            # Closed at once where a result cannot be kept: the others would train to their end.
            with closing(side_by_side(self._train, left, self.device, self.stopped)) as trained:
                for trial, (ended, weights) in zip(left, trained, strict=True):
                    study.keep(trial.number, ended)
                    self._keep(trial.number, weights)
                    kept[trial.number - start] = ended
            self.ended += [trial for trial in kept if trial is not None]
        complete = [n for n, t in enumerate(self.ended) if t.state is TrialState.COMPLETE]
        if not complete:
            rates = sorted(float(t.params["learning_rate"]) for t in self.ended)
            raise UserError(
                f"Fine-tuning diverged at every learning rate that was tried ({rates[0]:.2g} to "
                f"{rates[-1]:.2g}); check the encoder's weights, or allow more trials."
            )
        sign = 1 if self.higher else -1
        return max(
            complete, key=lambda n: sign * _value(self.ended[n])
        )  # max keeps the first of equals

    def _ask(self, numbers: range) -> list[optuna.Trial]:
        """The trials of one round, of a study in memory that holds the rounds before."""
        first = self.settings.frozen_epochs + 1  # in which the encoder learns
        pruner = MedianPruner(n_startup_trials=_UNPRUNED, n_warmup_steps=first)
        study = optuna.create_study(direction=self.direction, pruner=pruner)
        study.add_trials(self.ended[: numbers.start])
        asked = []
        for number in numbers:
            study.sampler = sampler_of("tpe", self.settings.trials, self.seed, number)
            asked.append(study.ask(self.space))
        return asked

    def _train(self, running: optuna.Trial) -> tuple[FrozenTrial, Kept | None]:
        """One trial from start to end, whatever its end; only this process's death leaves none."""
        epochs, scores = self.settings.epochs, list[float]()
        kept = None

        def after_epoch(epoch: int, score: float) -> None:
            scores.append(score)
            running.report(score, epoch)
            self._show({running.number: epoch})
            if epoch < epochs and running.should_prune():
                raise optuna.TrialPruned

        state = TrialState.COMPLETE
        try:
            kept = self._trained(_asked(running), after_epoch)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except DivergedError:
            state = TrialState.FAIL
        self._show({running.number: epochs})
        best = max if self.higher else min
        ended = create_trial(
            state=state,
            params=running.params,
            distributions=self.space,
            value=None if state is TrialState.FAIL else best(scores),
            intermediate_values=dict(enumerate(scores, start=1)),
        )
        return ended, kept

    def _keep(self, number: int, kept: Kept | None) -> None:
        sign = 1 if self.higher else -1
        better = kept and (self.kept is None or sign * kept.score > sign * self.kept[1].score)
        if kept is not None and better:
            self.kept = number, kept

    def kept_of(self, number: int) -> Kept:
        """The best trial's weights: those at hand, or trained again where a killed run had them."""
        if self.kept is not None and self.kept[0] == number:
            return self.kept[1]
        best = self.ended[number]
        last = _best_epoch(best, self.higher)
        self._scale(_asked(best))
        [kept] = side_by_side(
            lambda asked: self._trained(asked, last=last),
            [_asked(best)],
            self.device,
            self.stopped,
        )
        return kept

    def _trained(
        self,
        asked: Trial,
        after_epoch: Callable[[int, float], None] = lambda _epoch, _score: None,
        last: int | None = None,
    ) -> Kept:
        scale = self.scales[asked.normalisation, asked.pooling]
        return train(
            self.inputs, self.settings, asked, self.seed, self.device, after_epoch, last, scale
        )

    def _scale(self, asked: Trial) -> None:
        """The features' scale, found once for each view."""
        view = asked.normalisation, asked.pooling
        if view not in self.scales:
            self.scales[view] = self.alone(scale_of, asked)

    def alone(self, function: Callable[..., Result], *given: Any) -> Result:
        """On one core, as trainings are, of these inputs and settings."""

        def called(_: None) -> Result:
            return function(self.inputs, self.settings, *given, self.device)

        [found] = side_by_side(called, [None], self.device, self.stopped)
        return found

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial, those that were cut short or failed too: ``state`` says which."""
        worst = metric(self.settings.select_by).worst
        found = []
        for number, trial in enumerate(self.ended):
            params: dict[str, str | float] = dict(trial.params)
            params["state"] = _STATES[trial.state]
            if trial.intermediate_values:
                params["epoch"] = _best_epoch(trial, self.higher)
            failed = trial.state is TrialState.FAIL
            found.append(TrialRecord(number, params, worst if failed else _value(trial)))
        return tuple(found)

    def _show(self, epochs: Mapping[int, int]) -> None:
        with self.lock:
            self.epochs.update(epochs)
            if self.progress is not None:
                total = self.settings.trials * self.settings.epochs
                self.progress(sum(self.epochs.values()), total)


_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def _asked(trial: FrozenTrial | optuna.Trial) -> Trial:
    return Trial(**trial.params)


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _best_epoch(trial: FrozenTrial, higher: bool) -> int:
    """The first of its best epochs, as `train` keeps it."""
    best: Callable[[Sequence[float]], float] = max if higher else min
    scores = trial.intermediate_values
    return min(epoch for epoch, score in scores.items() if score == best([*scores.values()]))


def _study_name(inputs: FinetuneInputs, settings: FinetuneSettings, seed: int) -> str:
    """Names the study after all that decides its answers, so that no other can be resumed.

    Encoder and images are the caller's to tell apart, by the path.
    """
    facts = {
        "settings": asdict(settings),
        "seed": seed,
        "views": [inputs.normalisations, inputs.poolings],
        "kind": inputs.kind,
        "shape": [inputs.width, inputs.outputs, inputs.patch_size, inputs.grid],
        "targets": [
            hashlib.sha256(np.asarray(inputs.targets[inputs.splits[s]]).tobytes()).hexdigest()
            for s in ("train", "val")
        ],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"finetune-{digest[:16]}"
