"""Tests of significance, as functions of plain numbers: what a report and a check may claim.

For one pair on one task: McNemar and the paired bootstrap. For many tasks of one pair: Holm.
For many variants over many tasks: Friedman, then Nemenyi's critical difference. It must
know nothing of variants, tables or pages.

Sources: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7
(2006), section 3.2; Q. McNemar, Psychometrika 12 (1947); S. Holm, Scand. J. Statist. 6 (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from reports.resampling import Floats

ALPHA = 0.05


@dataclass(frozen=True)
class Friedman:
    """Whether the average ranks of ``variants`` over ``tasks`` differ more than by chance.

    ``statistic`` is Iman and Davenport's F form, which is less conservative than the
    chi-squared one; ``p_value`` is its tail. A perfect agreement of all tasks has F infinite.
    """

    tasks: int
    variants: int
    statistic: float
    p_value: float


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value that two classifiers err equally often, by the exact binomial.

    ``only_a`` samples are right under a alone, ``only_b`` under b alone; those that both or
    neither get right say nothing. Without any disagreement the p-value is 1.
    """
    # At one half the binomial is symmetric: twice its lower tail, which is exact and fast.
    lower = special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)
    return float(min(1.0, 2 * lower))


def bootstrap_p_value(differences: Floats) -> float:
    """Two-sided p-value of "no difference" from bootstrap draws ``[B]`` of the difference.

    Twice the smaller share of draws on either side of zero, a draw at zero counting for both,
    each count raised by one: never below 2 / (B + 1), since B draws cannot show less.
    """
    draws = len(differences)
    below = np.count_nonzero(differences <= 0)
    above = np.count_nonzero(differences >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (draws + 1)))


def normal_p_value(difference: float, deviation: float) -> float:
    """Two-sided p-value of "no difference" for a normally distributed difference."""
    if deviation == 0:
        return float(difference == 0)
    return float(2 * special.ndtr(-abs(difference) / deviation))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; controls the family-wise error."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for place, i in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = floor
    return adjusted


def friedman(ranks: Floats) -> Friedman | None:
    """Friedman's test on ranks ``[tasks, variants]`` (ties share the mean rank).

    None for fewer than two tasks or variants, where there is nothing to test.
    """
    n_tasks, k = ranks.shape
    if n_tasks < 2 or k < 2:
        return None
    mean = ranks.mean(axis=0)
    # With ties the ranks vary less than 1..k would; Conover's form of the statistic allows for it.
    spread = float(((ranks - (k + 1) / 2) ** 2).sum()) / (n_tasks * (k - 1))
    if spread == 0:  # all tied everywhere
        return Friedman(n_tasks, k, 0.0, 1.0)
    chi2 = n_tasks * float(((mean - (k + 1) / 2) ** 2).sum()) / spread
    room = n_tasks * (k - 1) - chi2
    if room <= 1e-12:
        return Friedman(n_tasks, k, float("inf"), 0.0)
    f = (n_tasks - 1) * chi2 / room
    return Friedman(n_tasks, k, f, float(special.fdtrc(k - 1, (k - 1) * (n_tasks - 1), f)))


def critical_difference(variants: int, tasks: int, alpha: float = ALPHA) -> float:
    """Nemenyi: average ranks further apart than this differ, at family-wise level ``alpha``.

    ``q sqrt(k (k + 1) / (6 N))`` with q the studentised range over root two (Demsar, 3.2.2).
    """
    from scipy import stats  # noqa: PLC0415  (slow; needed by reports only)

    q = float(stats.studentized_range.ppf(1 - alpha, variants, np.inf)) / 2**0.5
    return float(q * (variants * (variants + 1) / (6 * tasks)) ** 0.5)


def cliques(average_ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Maximal runs of variants that the critical difference cannot tell apart.

    ``average_ranks`` ascend; a run is (first, last), both included. Runs of one are left out.
    """
    found: list[tuple[int, int]] = []
    for first, low in enumerate(average_ranks):
        last = max(i for i, rank in enumerate(average_ranks) if rank - low <= difference)
        if last > first and not any(a <= first and last <= b for a, b in found):
            found.append((first, last))
    return found
