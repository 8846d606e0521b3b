"""Critical difference: which average ranks differ more than chance between tasks explains.

Friedman's test asks whether the average ranks differ at all, Nemenyi's critical difference
which of them do. The unit is the task, so with few tasks nothing can be shown, and the
sentences say so first. It must know nothing of figures, pages or files; the tests are in
`reports.significance`, the drawing in `reports.critical_difference_diagram`.

Source: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7
(2006), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import isinf

import numpy as np

from reports import words
from reports.ranking import RankingTable
from reports.significance import ALPHA, Friedman, cliques, critical_difference, friedman

FEW_TASKS = 5
"""Fewer tasks than this bear no conclusion, whatever the arithmetic says."""


@dataclass(frozen=True)
class CriticalDifference:
    """Friedman and Nemenyi over the tasks of a ranking; variants best first.

    ``groups`` are maximal runs (first, last), both included, that are not separated.
    ``test`` is ``None`` with a single task. ``datasets`` counts the distinct data sets.
    """

    variants: tuple[str, ...]
    average_ranks: tuple[float, ...]
    tasks: int
    datasets: int
    test: Friedman | None
    difference: float
    groups: tuple[tuple[int, int], ...]

    @property
    def largest_possible(self) -> float:
        """How far apart two average ranks can be: first everywhere against last everywhere."""
        return len(self.variants) - 1.0

    @property
    def can_separate(self) -> bool:
        """Whether any result could have been significant with this many tasks."""
        return self.difference < self.largest_possible

    @property
    def separated(self) -> tuple[tuple[int, int], ...]:
        """Pairs (better, worse) whose average ranks differ by more than the difference."""
        return tuple(
            (a, b)
            for a, b in combinations(range(len(self.variants)), 2)
            if self.average_ranks[b] - self.average_ranks[a] > self.difference
        )


def critical_difference_of(ranking: RankingTable) -> CriticalDifference | None:
    """The numbers of the diagram; ``None`` for fewer than two complete variants."""
    ranked = ranking.ranked
    if len(ranked) < 2 or not ranking.tasks:
        return None
    averages = tuple(r.average_rank for r in ranked)
    by_task = np.array([[r.ranks[task.name] for r in ranked] for task in ranking.tasks])
    difference = critical_difference(len(ranked), len(ranking.tasks))
    return CriticalDifference(
        tuple(r.variant for r in ranked),
        averages,
        len(ranking.tasks),
        len({task.dataset for task in ranking.tasks}),
        friedman(by_task),
        difference,
        tuple(cliques(averages, difference)),
    )


def too_few_tasks(found: CriticalDifference) -> str:
    """One sentence of warning when the tasks cannot bear a conclusion, else empty."""
    tasks = words.number(found.tasks, "task")
    if not found.can_separate:
        return (
            f"With {tasks} and {len(found.variants)} variants the critical difference is "
            f"{words.rank_text(found.difference)} and the largest possible rank difference is "
            f"{words.rank_text(found.largest_possible)}: no difference could be significant."
        )
    if found.tasks < FEW_TASKS:
        return (
            f"With only {tasks}, Friedman's and Nemenyi's tests have very little power: "
            "not separated does not mean equal."
        )
    return ""


def critical_difference_sentences(ranking: RankingTable) -> list[str]:
    """What the diagram shows and what it cannot: warning, test, separation, dependence."""
    found = critical_difference_of(ranking)
    if found is None:
        return ["A critical difference needs two complete variants on at least one task."]
    sentences = (too_few_tasks(found), _test(found), _separation(found), _dependence(found))
    return [sentence for sentence in sentences if sentence]


def _test(found: CriticalDifference) -> str:
    if found.test is None:
        return "Friedman's test needs at least two tasks."
    over = f"over {words.number(found.tasks, 'task')} and {len(found.variants)} variants"
    verdict = (
        "the average ranks differ more than chance between tasks explains"
        if found.test.p_value < ALPHA
        else "no evidence that the average ranks differ"
    )
    if found.tasks < FEW_TASKS:
        verdict = "with so few tasks this p-value is no more than a rough approximation"
    statistic = "infinite" if isinf(found.test.statistic) else f"{found.test.statistic:.3g}"
    return (
        f"Friedman's test (Iman and Davenport's form) {over}: F = {statistic}, "
        f"p {_p(found.test.p_value)}: {verdict}."
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def _separation(found: CriticalDifference) -> str:
    if not found.can_separate:
        return ""
    pairs = len(found.variants) * (len(found.variants) - 1) // 2
    cut = words.rank_text(found.difference)
    if not found.separated:
        return (
            f"Nemenyi's critical difference at the 5% level is {cut}: none of the "
            f"{words.number(pairs, 'pair')} of variants is separated."
        )
    behind = [found.variants[b] for a, b in found.separated if a == 0]
    best = (
        f"{found.variants[0]}, first on average, is separated from {words.listed(behind, 4)}"
        if behind
        else f"{found.variants[0]}, first on average, is separated from none"
    )
    doubt = ""
    if found.test is not None and found.test.p_value >= ALPHA:
        doubt = " Friedman's test does not back these separations, so take them as chance."
    return (
        f"Nemenyi's critical difference at the 5% level is {cut}: {len(found.separated)} of "
        f"{words.number(pairs, 'pair')} of variants {'is' if len(found.separated) == 1 else 'are'} "
        f"separated; {best}.{doubt}"
    )


def _dependence(found: CriticalDifference) -> str:
    if found.datasets >= found.tasks:
        return ""
    share = f"The {found.tasks} tasks rest on {words.number(found.datasets, 'data set')}"
    return (
        f"{share}: both tests take tasks as independent, which tasks on one data set are not, "
        "so they claim too much rather than too little."
    )
