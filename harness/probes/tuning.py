"""Tuning of the linear probe on the validation split: what is asked, and what wins.

Trials are asked for in rounds, and a round is trained as one batched program. What a
round asks depends only on the seed and on the finished rounds before it, and finished
trials go to a journal file: a killed study asks the same questions again, keeps the
answers that it has to them and ends where an undisturbed one ends. With ``study.py`` and
``finetune_tuning.py`` this is Optuna's only home. Must not know embeddings' origin, test labels
or tracking.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.metrics import metric as metric_named
from harness.probes.base import ProbeInputs, ProbeResult, TrialRecord
from harness.probes.linear import Heads, Training, Trial, train_heads
from harness.probes.study import Answers, Direction, study_at
from models.errors import UserError

SAMPLERS = ("tpe", "random", "grid")
PUBLISHED_RATES = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1, 5e-1)
PUBLISHED_WEIGHT_DECAY = 0.01

# The learning rates span the published grid. Weight decay spans two decades on either
# side of the published 0.01: AdamW shrinks weights by exp(-decay * sum of learning rates)
# over a run, so for the rates that win here (near 1e-2, some thousand steps) 1e-4 cannot
# be told from none, and 1 leaves next to nothing of a weight that no gradient supports.
# The largest product, 0.5 a step, still contracts.
_RATE_RANGE = (1e-4, 5e-1)
_DECAY_RANGE = (1e-4, 1.0)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LinearSettings:
    """Protocol of the tuned linear probe.

    ``sampler``: ``"tpe"`` (first half of the trials at random, then Optuna's
    tree-structured Parzen estimator), ``"random"``, or ``"grid"``, the published sweep of
    8 learning rates over all views at weight decay 0.01, which fixes the number of trials.
    ``round_size`` trials are trained at once; ``select_by`` names the score
    (`harness.metrics`) that is tuned on validation.
    """

    trials: int = 64
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    round_size: int = 32
    select_by: str = "accuracy"
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UserError(
                f'The linear probe\'s sampler is "{self.sampler}"; allowed: {", ".join(SAMPLERS)}.'
            )
        for name in ("trials", "round_size"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"The linear probe's {name} is {getattr(self, name)}; allowed: 1 or more."
                )
        metric_named(self.select_by)


def tune_linear(
    inputs: ProbeInputs,
    settings: LinearSettings,
    seed: int,
    study_path: Path,
    progress: Progress | None = None,
    *,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """Tune on validation, refit the best trial alone, score it once on test.

    ``study_path`` is an Optuna journal file: created if absent, resumed if it holds the
    same study, whatever moment the earlier run died at. Ties on validation go to the
    lowest trial number. ``progress(done, total)`` is called after every round. Raises
    `UserError` when the file is damaged or belongs to another study.
    """
    name = _study_name(inputs, settings, seed)
    with study_at(study_path, name, _direction(settings)) as study:
        finished = _run_rounds(study, inputs, settings, seed, progress, device)
    sign = 1 if metric_named(settings.select_by).higher_is_better else -1
    best = max(finished, key=lambda trial: sign * trial.val_score)  # max keeps the first of equals
    heads = train_heads(inputs, [_trial(best.params)], settings.training, seed, device)
    split = inputs.views[heads.trials[0].view]
    logits = heads.logits(0, split.test)
    likely = inputs.objective.likely(logits)
    return ProbeResult(
        inputs.objective.decode(likely),
        None if inputs.kind == "values" else likely,
        dict(best.params),
        best.val_score,
        finished,
    )


def _run_rounds(
    study: Answers,
    inputs: ProbeInputs,
    settings: LinearSettings,
    seed: int,
    progress: Progress | None,
    device: torch.device | str,
) -> tuple[TrialRecord, ...]:
    """Train every round that is not kept in full; return all trials."""
    space = _search_space(inputs)
    total = _trial_count(inputs, settings)
    done: list[TrialRecord] = []
    for start in range(0, total, settings.round_size):
        numbers = range(start, min(start + settings.round_size, total))
        asked = _ask(done, numbers, space, inputs, settings, seed)
        kept = study.to(asked, start)
        if None in kept:
            # A half-kept round is trained in full again: the other trials of a batch
            # touch a result's last digits, and those must be the same too.
            scores = _validation_scores(inputs, [_trial(p) for p in asked], settings, seed, device)
            for number, params, score in zip(numbers, asked, scores, strict=True):
                if kept[number - start] is None:
                    trained = _frozen(TrialRecord(number, params, score), space)
                    study.keep(number, trained)
                    kept[number - start] = trained
        done += [
            TrialRecord(number, dict(trial.params), _value(trial))
            for number, trial in zip(numbers, kept, strict=True)
            if trial is not None
        ]
        if progress is not None:
            progress(numbers.stop, total)
    return tuple(done)


def _ask(
    history: Sequence[TrialRecord],
    numbers: range,
    space: dict[str, BaseDistribution],
    inputs: ProbeInputs,
    settings: LinearSettings,
    seed: int,
) -> list[dict[str, str | float]]:
    """The parameters of one round: a pure function of the seed and of earlier rounds.

    Each question has a sampler of its own, seeded by its number, because a sampler's
    hidden state would not survive a kill. Trials of the same round that are still
    unanswered count as bad ones ("constant liar"), so that a round spreads out.
    """
    if settings.sampler == "grid":
        grid = _published_grid(inputs)
        return [grid[number] for number in numbers]
    study = optuna.create_study(direction=_direction(settings))
    study.add_trials([_frozen(record, space) for record in history])
    asked = []
    for number in numbers:
        study.sampler = sampler_of(settings.sampler, settings.trials, seed, number)
        asked.append(dict(study.ask(space).params))
    return asked


def sampler_of(kind: str, trials: int, seed: int, number: int) -> BaseSampler:
    """The sampler that asks trial ``number`` of so many; half of them are drawn at random."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    own_seed = int.from_bytes(digest[:4], "big")
    if kind == "random":
        return RandomSampler(seed=own_seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            n_startup_trials=max(1, trials // 2),
            multivariate=True,
            constant_liar=True,
            seed=own_seed,
        )


def _validation_scores(
    inputs: ProbeInputs,
    trials: Sequence[Trial],
    settings: LinearSettings,
    seed: int,
    device: torch.device | str,
) -> list[float]:
    heads = train_heads(inputs, trials, settings.training, seed, device)
    return [
        _validation_score(inputs, heads, index, settings.select_by) for index in range(len(trials))
    ]


def _validation_score(inputs: ProbeInputs, heads: Heads, index: int, score_name: str) -> float:
    """Score of one head on validation; a diverged one gets the metric's worst value.

    Without that, the argmax of a row of NaN is a class like any other, and a diverged
    trial could win on an unbalanced data set.
    """
    chosen = metric_named(score_name)
    logits = heads.logits(index, inputs.views[heads.trials[index].view].val)
    if not bool(torch.isfinite(logits).all()):
        return chosen.worst
    return inputs.validated(chosen, inputs.objective.likely(logits))


def _search_space(inputs: ProbeInputs) -> dict[str, BaseDistribution]:
    return {
        "learning_rate": FloatDistribution(*_RATE_RANGE, log=True),
        "weight_decay": FloatDistribution(*_DECAY_RANGE, log=True),
        "normalisation": CategoricalDistribution(inputs.normalisations),
        "pooling": CategoricalDistribution(inputs.poolings),
    }


def _published_grid(inputs: ProbeInputs) -> list[dict[str, str | float]]:
    return [
        {
            "learning_rate": rate,
            "weight_decay": PUBLISHED_WEIGHT_DECAY,
            "normalisation": normalisation,
            "pooling": pooling,
        }
        for rate, normalisation, pooling in product(
            PUBLISHED_RATES, inputs.normalisations, inputs.poolings
        )
    ]


def _trial_count(inputs: ProbeInputs, settings: LinearSettings) -> int:
    if settings.sampler == "grid":
        return len(_published_grid(inputs))
    return settings.trials


def _direction(settings: LinearSettings) -> Direction:
    return "maximize" if metric_named(settings.select_by).higher_is_better else "minimize"


def _trial(params: Mapping[str, str | float]) -> Trial:
    return Trial(
        float(params["learning_rate"]),
        float(params["weight_decay"]),
        str(params["normalisation"]),
        str(params["pooling"]),
    )


def _frozen(record: TrialRecord, space: dict[str, BaseDistribution]) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        params=dict(record.params),
        distributions=space,
        value=record.val_score,
    )


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def _study_name(inputs: ProbeInputs, settings: LinearSettings, seed: int) -> str:
    """Names the study after all that decides its answers, so that no other can be resumed.

    The embeddings themselves are the caller's to tell apart, by the path.
    """
    facts = {
        "settings": asdict(settings),
        "seed": seed,
        "views": list(inputs.views),
        "kind": inputs.kind,
        "shape": [inputs.dim, inputs.outputs],
        "labels": [
            hashlib.sha256(labels.numpy().tobytes()).hexdigest()
            for labels in (inputs.labels.train, inputs.labels.val)
        ],
    }
    return "linear-" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
