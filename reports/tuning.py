"""How a probe's tuning went: best score so far, what was chosen, what it promised and kept.

Numbers only, as pure functions of a ranking and the trials on validation. The range that a
search was allowed is not in the results; the range that was tried stands for it. It must know
nothing of figures or pages.

Source: G. Cawley and N. Talbot, On over-fitting in model selection, JMLR 11 (2010): the best
of many validation scores overstates the test score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from reports.ranking import RankingTable
from reports.resampling import Floats
from reports.table import TRIAL_SCHEMA, SuiteResults

NUMERIC = ("learning_rate", "weight_decay")
EDGE = 0.05
"""A choice within this share of the tried range (in logarithms) of an end lies at its edge."""


@dataclass(frozen=True)
class Search:
    """The trials of one cell in the order of asking, and the one that was chosen.

    ``test`` is ``None`` where the cell's score is unknown. ``overstated`` is how much better
    the chosen trial's validation score is than the test score, in the metric's direction.
    """

    variant: str
    task: str
    seed: int
    scores: tuple[float, ...]
    chosen: Mapping[str, str | float]
    higher_is_better: bool
    validation: float
    test: float | None

    @property
    def overstated(self) -> float | None:
        """Validation minus test, positive when validation promised more."""
        if self.test is None:
            return None
        return (self.validation - self.test) * (1 if self.higher_is_better else -1)

    @property
    def best_so_far(self) -> Floats:
        """The best validation score after each trial."""
        best = np.maximum if self.higher_is_better else np.minimum
        return np.asarray(best.accumulate(np.array(self.scores)))


@dataclass(frozen=True)
class TriedRange:
    """Smallest and largest value of a numeric parameter that a task's trials tried."""

    task: str
    parameter: str
    low: float
    high: float

    def edge(self, value: float) -> str:
        """``lower`` or ``upper`` when a value lies at that end of the range, else empty."""
        if not 0 < self.low < self.high or value <= 0:
            return ""
        along = math.log(value / self.low) / math.log(self.high / self.low)
        return "lower" if along <= EDGE else "upper" if along >= 1 - EDGE else ""


def searches(results: SuiteResults, ranking: RankingTable) -> tuple[Search, ...]:
    """Every ranked cell that has trials, in the ranking's order of tasks and variants.

    The chosen trial is the best one, of equals the first.
    """
    up = {task.name: task.higher_is_better for task in ranking.tasks}
    names = [r.variant for r in ranking.ranked]
    mine = results.trials.filter(pl.col("variant").is_in(names) & pl.col("task").is_in(list(up)))
    columns = [mine.sort("number")[name].to_list() for name in TRIAL_SCHEMA]
    cells: dict[tuple[str, str, int], list[tuple[float, str]]] = {}
    for variant, task, seed, _, params, score in zip(*columns, strict=True):
        cells.setdefault((variant, task, seed), []).append((score, params))
    tests = {
        (variant, task, seed): score
        for variant, task, seed, score in results.scores.select(
            "variant", "task", "seed", "score"
        ).iter_rows()
    }
    found = {}
    for (variant, task, seed), trials in cells.items():
        scores = [score for score, _ in trials]
        best = scores.index(max(scores) if up[task] else min(scores))
        found[variant, task, seed] = Search(
            variant,
            task,
            seed,
            tuple(scores),
            _parameters(trials[best][1]),
            up[task],
            scores[best],
            tests.get((variant, task, seed)),
        )
    order = [(v, t, k) for t in up for v in names for k in results.run.seeds]
    return tuple(found[key] for key in order if key in found)


def _parameters(text: str | None) -> dict[str, str | float]:
    try:
        read = json.loads(text or "{}")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def tried_ranges(results: SuiteResults, ranking: RankingTable) -> tuple[TriedRange, ...]:
    """What was tried of each numeric parameter, by task; only where there are trials of it."""
    found = []
    for task in ranking.tasks:
        params = results.trials.filter(task=task.name)["params"]
        for parameter in NUMERIC:
            values = params.str.json_path_match(f"$.{parameter}").cast(pl.Float64, strict=False)
            low, high = values.min(), values.max()
            if isinstance(low, float) and isinstance(high, float) and low < high:
                found.append(TriedRange(task.name, parameter, low, high))
    return tuple(found)


def median_progress(found: Sequence[Search]) -> Floats:
    """Best score so far, the median over searches (seeds), up to the shortest of them."""
    shortest = min(len(search.scores) for search in found)
    return np.asarray(np.median([s.best_so_far[:shortest] for s in found], axis=0))


def by_cell(found: Sequence[Search]) -> dict[tuple[str, str], list[Search]]:
    """Searches of one task and variant together, all seeds."""
    groups: dict[tuple[str, str], list[Search]] = {}
    for search in found:
        groups.setdefault((search.task, search.variant), []).append(search)
    return groups
