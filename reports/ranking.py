"""Average ranks over tasks, with the uncertainty that finite test sets leave.

Variants are ranked within each task (1 is best, ties share the mean rank), and the
ranks are averaged. Pure functions of a `SuiteResults`; it must know nothing of files,
figures or how a score was measured.

Ranks are taken over complete variants only. A rank depends on who else is ranked, so a
variant that took part in some tasks and not in others would shift its rivals' ranks in
some tasks and not in others; and its own mean over fewer tasks is no average rank.

Sources: J. Demsar, Statistical comparisons of classifiers over multiple data sets,
JMLR 7 (2006), section 3.2 (average ranks); bootstrap as in `reports.resampling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reports import words
from reports.resampling import (
    DECIMALS,
    RESAMPLES,
    Floats,
    Interval,
    TaskScores,
    bootstrap,
    interval,
)
from reports.study import trained_on
from reports.table import SuiteResults, TaskInfo

BASELINE = "baseline"  # the tier of what nobody trains: a mark to beat, never mixed with others
TIER_ORDER = ("official", "study", "published", "random", BASELINE)
ORIGIN_ORDER = ("real", "simulated")


@dataclass(frozen=True)
class Score:
    """A seed-averaged score with its 95% interval, ``None`` when it cannot be known."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class RankedVariant:
    """A complete variant's place.

    ``significance_tier`` 1 holds the best and all that tie with it, 2 the best of the
    rest and all that tie with that one, and so on; ``first`` is the share of resamples
    in which it has the lowest average rank (shared when several do). Both, and the
    interval, are ``None`` without per-sample values.
    """

    variant: str
    tier: str
    average_rank: float
    interval: Interval | None
    first: float | None
    significance_tier: int | None
    ranks: Mapping[str, float]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class IncompleteVariant:
    """A variant without average rank: what it lacks and why; what it does have."""

    variant: str
    tier: str
    lacks: tuple[str, ...]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class RankingTable:
    """Variants of one tier (or mixed, when the suite says so) on tasks of one origin.

    ``ranked`` is sorted best first; ``draws`` holds the resampled average ranks
    ``[B, len(ranked)]`` in that order, or ``None``. ``trained_on``: the images behind study
    weights.
    """

    tiers: tuple[str, ...]
    origin: str
    tasks: tuple[TaskInfo, ...]
    ranked: tuple[RankedVariant, ...]
    incomplete: tuple[IncompleteVariant, ...]
    resamples: int
    draws: Floats | None = field(default=None, compare=False, repr=False)
    trained_on: str = ""

    @property
    def status(self) -> str:
        """What kind of data and weights this is, in words that stand beside all it shows."""
        return words.status(self.tiers, self.origin, self.trained_on)

    @property
    def entries(self) -> tuple[RankedVariant | IncompleteVariant, ...]:
        """Everybody: the ranked ones in their order, then the incomplete ones."""
        return (*self.ranked, *self.incomplete)

    @property
    def name(self) -> str:
        """Stem for files and headings, e.g. ``official_real``."""
        return "-".join((*self.tiers, self.origin)).replace("-", "_")


def task_ranks(scores: Floats, higher_is_better: bool = True) -> Floats:
    """Ranks along the last axis, 1 is best, ties share the mean rank; any leading axes.

    >>> task_ranks(np.array([0.9, 0.7, 0.9]))
    array([1.5, 3. , 1.5])
    """
    values = np.round(scores, DECIMALS) * (1 if higher_is_better else -1)
    mine, others = values[..., :, None], values[..., None, :]
    above = np.count_nonzero(others > mine, axis=-1)
    equal = np.count_nonzero(others == mine, axis=-1)  # counts the variant itself
    return np.asarray(above + (equal + 1) / 2, dtype=np.float64)


def average_ranks(scores: Sequence[Floats], higher_is_better: Sequence[bool]) -> Floats:
    """Mean of the tasks' ranks; each task's scores are ``[..., V]``."""
    ranks = [task_ranks(s, up) for s, up in zip(scores, higher_is_better, strict=True)]
    return np.asarray(np.mean(ranks, axis=0), dtype=np.float64)


def rank(
    results: SuiteResults,
    resamples: int = RESAMPLES,
    seed: int = 0,
    scores: Mapping[str, TaskScores] | None = None,
) -> tuple[RankingTable, ...]:
    """One table per tier and origin, most trustworthy first (official, real).

    Tiers meet in one table only under ``run.mix_tiers``; origins never do. Pass ``scores``
    (of `reports.resampling.bootstrap`) to share one set of resamples with other analyses.
    """
    scores = bootstrap(results, resamples, seed) if scores is None else scores
    return tuple(
        _rank_table(results, tiers, origin, scores) for tiers, origin in _rankings_of(results)
    )


def _rankings_of(results: SuiteResults) -> Iterator[tuple[tuple[str, ...], str]]:
    tiers = _ordered(results.variants["tier"].to_list(), TIER_ORDER)
    origins = _ordered([task.origin for task in results.run.tasks], ORIGIN_ORDER)
    mixed = tuple(tier for tier in tiers if tier != BASELINE) if results.run.mix_tiers else ()
    groups = [mixed] if mixed else []
    for group in [*groups, *((tier,) for tier in tiers if tier not in mixed)]:
        for origin in origins:
            yield group, origin


def _ordered(values: Sequence[str], first: Sequence[str]) -> tuple[str, ...]:
    known = [value for value in first if value in values]
    return (*known, *sorted(set(values) - set(known)))


def _rank_table(
    results: SuiteResults, tiers: tuple[str, ...], origin: str, scores: Mapping[str, TaskScores]
) -> RankingTable:
    tasks = tuple(task for task in results.run.tasks if task.origin == origin)
    mine = [scores[task.name] for task in tasks]
    tier_of = {
        name: tier
        for name, tier in results.variants.select("variant", "tier").iter_rows()
        if tier in tiers
    }
    complete = tuple(name for name in tier_of if all(name in t.variants for t in mine))
    incomplete = tuple(
        IncompleteVariant(name, tier_of[name], _lacks(results, name, tasks), _scores(name, mine))
        for name in tier_of
        if name not in complete
    )
    # Of equal ranks, the cheaper one stands first.
    cost_of = {
        name: float("inf") if macs is None else float(macs)
        for name, macs in results.variants.select("variant", "macs").iter_rows()
    }
    ranked, draws = _rank_complete(complete, tier_of, cost_of, mine)
    resamples = 0 if draws is None else len(draws)
    images = trained_on(results, tier_of)
    return RankingTable(tiers, origin, tasks, ranked, incomplete, resamples, draws, images)


def _rank_complete(
    names: tuple[str, ...],
    tier_of: Mapping[str, str],
    cost_of: Mapping[str, float],
    tasks: Sequence[TaskScores],
) -> tuple[tuple[RankedVariant, ...], Floats | None]:
    if not names:
        return (), None
    up = [t.task.higher_is_better for t in tasks]
    points = [t.point[t.columns(names)] for t in tasks]
    ranks = {t.task.name: task_ranks(p, u) for t, p, u in zip(tasks, points, up, strict=True)}
    average = average_ranks(points, up)
    order = sorted(range(len(names)), key=lambda v: (average[v], cost_of[names[v]], names[v]))
    all_draws = [t.draws[:, t.columns(names)] for t in tasks if t.draws is not None]
    known = len(all_draws) == len(tasks) and not any(np.isnan(d).any() for d in all_draws)
    draws = average_ranks(all_draws, up)[:, order] if known else None
    first = None if draws is None else _share_first(draws)
    places = None if draws is None else _significance_tiers(draws)
    ranked = tuple(
        RankedVariant(
            names[v],
            tier_of[names[v]],
            float(average[v]),
            None if draws is None else _rank_interval(float(average[v]), draws[:, place]),
            None if first is None else float(first[place]),
            None if places is None else places[place],
            {name: float(r[v]) for name, r in ranks.items()},
            _scores(names[v], tasks),
        )
        for place, v in enumerate(order)
    )
    return ranked, draws


def _rank_interval(rank: float, draws: Floats) -> Interval:
    """Central 95% of the drawn ranks, widened where need be to hold the rank itself.

    Drawing blurs the differences between variants, so drawn ranks crowd towards the middle:
    of a variant near either end hardly any reaches the rank it has, and the plain percentiles
    would exclude the very value they are about.
    """
    drawn = interval(draws)
    return Interval(min(drawn.low, rank), max(drawn.high, rank))


def _share_first(draws: Floats) -> Floats:
    """Share of resamples in which each variant has the lowest average rank; sums to one."""
    first = np.isclose(draws, draws.min(axis=1, keepdims=True))
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0), dtype=np.float64)


def _significance_tiers(draws: Floats) -> list[int]:
    """Significance tiers of ``[B, V]`` draws, sorted best first.

    A variant ties with a tier's leader when the 95% interval of their paired difference
    in average rank reaches zero.
    """
    tiers = [0] * draws.shape[1]
    tier = 0
    while 0 in tiers:
        tier += 1
        leader = tiers.index(0)
        for v in range(leader, len(tiers)):
            if tiers[v] == 0 and interval(draws[:, v] - draws[:, leader]).low <= 0:
                tiers[v] = tier
    return tiers


def _scores(name: str, tasks: Sequence[TaskScores]) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for task in tasks:
        if name in task.variants:
            v = task.variants.index(name)
            found[task.task.name] = Score(float(task.point[v]), task.intervals[v])
    return found


def _lacks(results: SuiteResults, name: str, tasks: Sequence[TaskInfo]) -> tuple[str, ...]:
    """One entry per absent cell: "task, seed 0: reason"."""
    have = set(results.scores.select("variant", "task", "seed").iter_rows())
    why = {(m.variant, m.task, m.seed): m.reason for m in results.run.missing}
    return tuple(
        f"{task.name}, seed {seed}: {why.get((name, task.name, seed), 'no result')}"
        for task in tasks
        for seed in results.run.seeds
        if not have & {(name, task.name, seed), (name, task.name, None)}
    )
