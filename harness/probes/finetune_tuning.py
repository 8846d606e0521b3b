"""Tuning of fine-tuning on the validation split: what is asked, what is cut short, what wins.

One trial at a time, because each is a whole training; a trial that falls behind the median of the
finished ones is pruned (Optuna's MedianPruner). What is asked and what is pruned depends only on
the seed and on the trials before, and ended trials go to a journal file: a killed study trains the
trial in flight anew and ends where an undisturbed one ends. With ``tuning.py`` and ``study.py``
this is Optuna's only home. It must not know encoders' insides, test targets or tracking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.metrics import metric
from harness.probes.base import ProbeResult, TrialRecord
from harness.probes.finetune import (
    DivergedError,
    FinetuneInputs,
    FinetuneSettings,
    Kept,
    Scale,
    Trial,
    in_bfloat16,
    scale_of,
    tested,
    train,
)
from harness.probes.study import Direction, study_at, writing
from harness.probes.tuning import sampler_of
from models.errors import UserError

RATE_RANGE = (1e-5, 1e-2)
"""From what barely moves a pretrained encoder to what a small untrained one still bears."""
_UNPRUNED = 2  # trials that must have ended well before any is cut short

Progress = Callable[[int, int], None]


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
    device = torch.device(device)
    search = _Search(inputs, settings, seed, study_path, progress, device)
    with study_at(study_path, _study_name(inputs, settings, seed), search.direction) as study:
        best = search.run(study)
    kept, asked = search.kept_of(best), _asked(search.ended[best])
    try:
        predictions, likely = tested(inputs, settings, asked, kept, device)
    except DivergedError:
        raise UserError(
            f"The fine-tuned encoder (learning rate {asked.learning_rate:.3g}) gives NaN or "
            "infinity for test samples; check their pixels (tokenrank data check)."
        ) from None
    chosen: dict[str, str | int | float] = {**asdict(asked), "epoch": kept.epoch}
    if in_bfloat16(device):
        chosen["precision"] = "bfloat16"
    return ProbeResult(predictions, likely, chosen, kept.score, search.records())


class _Search:
    """The trials so far, and the weights of the best of those that this process trained."""

    def __init__(
        self,
        inputs: FinetuneInputs,
        settings: FinetuneSettings,
        seed: int,
        path: Path,
        progress: Progress | None,
        device: torch.device,
    ) -> None:
        self.inputs, self.settings, self.seed, self.device = inputs, settings, seed, device
        self.path, self.progress = path, progress
        self.higher = metric(settings.select_by).higher_is_better
        self.direction: Direction = "maximize" if self.higher else "minimize"
        self.space: dict[str, BaseDistribution] = {
            "learning_rate": FloatDistribution(*RATE_RANGE, log=True),
            "normalisation": CategoricalDistribution(inputs.normalisations),
            "pooling": CategoricalDistribution(inputs.poolings),
        }
        self.ended: list[FrozenTrial] = []
        self.kept: tuple[int, Kept] | None = None
        self.scales: dict[tuple[str, str], Scale] = {}

    def run(self, study: optuna.Study) -> int:
        """Train every trial that the journal does not hold; the number of the best of all."""
        known = study.get_trials(deepcopy=False)
        for number in range(self.settings.trials):
            if number < len(known):
                self._require_asked(number, known[number])
                self.ended.append(known[number])
                continue
            ended = self._train(number)
            with writing(self.path):
                study.add_trial(ended)
            self.ended.append(ended)
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

    def _study(self, number: int) -> optuna.Study:
        """What trial ``number`` is asked of: a study of the trials before it, in memory."""
        first = self.settings.frozen_epochs + 1  # in which the encoder learns
        pruner = MedianPruner(n_startup_trials=_UNPRUNED, n_warmup_steps=first)
        study = optuna.create_study(direction=self.direction, pruner=pruner)
        study.add_trials(self.ended[:number])
        study.sampler = sampler_of("tpe", self.settings.trials, self.seed, number)
        return study

    def _require_asked(self, number: int, known: FrozenTrial) -> None:
        if self._study(number).ask(self.space).params != known.params:
            raise UserError(
                f"The unfinished study in {self.path} was begun by another version of Optuna, "
                "which asks differently; delete that file and run again."
            )

    def _train(self, number: int) -> FrozenTrial:
        """One trial from start to end, whatever its end; only this process's death leaves none."""
        running = self._study(number).ask(self.space)
        asked = Trial(**running.params)
        scores: list[float] = []

        def after_epoch(epoch: int, score: float) -> None:
            scores.append(score)
            running.report(score, epoch)
            self._show(number, epoch)
            if epoch < self.settings.epochs and running.should_prune():
                raise optuna.TrialPruned

        state = TrialState.COMPLETE
        try:
            self._keep(number, self._trained(asked, after_epoch))
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except DivergedError:
            state = TrialState.FAIL
        self._show(number + 1, 0)
        best = max if self.higher else min
        return create_trial(
            state=state,
            params=running.params,
            distributions=self.space,
            value=None if state is TrialState.FAIL else best(scores),
            intermediate_values=dict(enumerate(scores, start=1)),
        )

    def _keep(self, number: int, kept: Kept) -> None:
        sign = 1 if self.higher else -1
        if self.kept is None or sign * kept.score > sign * self.kept[1].score:
            self.kept = number, kept

    def kept_of(self, number: int) -> Kept:
        """The best trial's weights: those at hand, or trained again where a killed run had them."""
        if self.kept is not None and self.kept[0] == number:
            return self.kept[1]
        best = self.ended[number]
        last = _best_epoch(best, self.higher)
        return self._trained(_asked(best), last=last)

    def _trained(
        self,
        asked: Trial,
        after_epoch: Callable[[int, float], None] = lambda _epoch, _score: None,
        last: int | None = None,
    ) -> Kept:
        """One training; the features' scale is found once for each view."""
        inputs, settings, view = self.inputs, self.settings, (asked.normalisation, asked.pooling)
        if view not in self.scales:
            self.scales[view] = scale_of(inputs, settings, asked, self.device)
        scale = self.scales[view]
        return train(inputs, settings, asked, self.seed, self.device, after_epoch, last, scale)

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

    def _show(self, number: int, epoch: int) -> None:
        if self.progress is not None:
            epochs = self.settings.epochs
            self.progress(number * epochs + epoch, self.settings.trials * epochs)


_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def _asked(trial: FrozenTrial) -> Trial:
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
