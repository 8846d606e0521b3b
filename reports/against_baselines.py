"""Which variants beat what was never trained: the best baseline, and their own family untrained.

A model that image statistics match has learned nothing that the task asks for, whatever its
rank among models. Per task the mark is the best of the baselines (or of the family's untrained
encoders), and the difference from it is paired, by the draws that ranks come from. Over all
tasks a variant beats its mark when it wins more tasks than it loses, as a ranking of the two
alone would have it, in at least 97.5% of the draws. It must know nothing of tables or pages.

The best of several baselines is picked by the very scores that it is then held to, so the mark
stands a little too high: "beats" is the safer claim, "loses" the less safe one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reports.pairs import Difference, difference
from reports.ranking import BASELINE, RankingTable
from reports.resampling import DECIMALS, Floats, Interval, TaskScores, interval
from reports.study import design, is_beginning
from reports.table import SuiteResults, TaskInfo

UNTRAINED_TIERS = ("random", BASELINE)
Verdict = Literal["beats", "cannot be told apart", "loses", "no interval"]
VERDICTS: tuple[Verdict, ...] = ("beats", "cannot be told apart", "loses", "no interval")
_SAID: Mapping[str, Verdict] = {
    "better": "beats",
    "worse": "loses",
    "not separated": "cannot be told apart",
    "no interval": "no interval",
}


@dataclass(frozen=True)
class Mark:
    """What a task's scores are held to: the best of some variants, and its score."""

    variant: str
    score: float


@dataclass(frozen=True)
class Margin:
    """A variant against its mark on one task; ``difference`` is variant minus mark."""

    task: TaskInfo
    mark: str
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        """What the interval of the difference allows to say."""
        return _SAID[self.difference.verdict]

    @property
    def gain(self) -> float:
        """By how much the variant is better, in the metric's units; negative: worse."""
        return self.difference.value if self.task.higher_is_better else -self.difference.value

    @property
    def gain_interval(self) -> Interval | None:
        """95% interval of `gain`."""
        spread = self.difference.interval
        if spread is None or self.task.higher_is_better:
            return spread
        return Interval(-spread.high, -spread.low)


@dataclass(frozen=True)
class Standing:
    """One variant against its marks, task by task in the suite's order, and over all of them.

    ``is_complete`` says whether it has a score on every task that has a mark.
    """

    variant: str
    margins: tuple[Margin, ...]
    verdict: Verdict
    is_complete: bool

    def on(self, verdict: Verdict) -> tuple[Margin, ...]:
        """The tasks with this verdict."""
        return tuple(m for m in self.margins if m.verdict == verdict)

    @property
    def beats_all(self) -> bool:
        """Whether it beats the mark on every task that has one."""
        return self.is_complete and len(self.on("beats")) == len(self.margins)


@dataclass(frozen=True)
class AgainstBaselines:
    """The variants of one ranking against the best baseline, and against untrained encoders.

    ``best`` is the best baseline of each task. Either part is empty where its marks took no
    part in the suite. Variants stand in the order of the ranking, incomplete ones last.
    ``own_beginning``: each one's untrained mark is the variant itself, not its whole family.
    """

    ranking: RankingTable
    best: Mapping[str, Mark]
    baselines: tuple[Standing, ...]
    untrained: tuple[Standing, ...]
    own_beginning: bool = False


def against_baselines(
    results: SuiteResults, rankings: Sequence[RankingTable], scores: Mapping[str, TaskScores]
) -> tuple[AgainstBaselines, ...]:
    """One entry per ranking whose variants have something to beat; baselines are not judged.

    ``scores`` are those of `reports.resampling.bootstrap` that the rankings were made from.
    """
    found = [_of_ranking(results, r, scores) for r in rankings if BASELINE not in r.tiers]
    return tuple(entry for entry in found if entry.baselines or entry.untrained)


def is_mark_only(results: SuiteResults, ranking: RankingTable) -> bool:
    """Whether a ranking's variants are there to be beaten, not to be chosen between.

    So are baselines, and what a suite adds for comparison: beside study weights the same
    variants untrained, beside other trained ones of a family one untrained encoder.
    """
    if ranking.tiers == (BASELINE,):
        return True
    if ranking.tiers != ("random",):
        return False
    rows = results.variants.to_dicts()
    mine = [r for r in rows if r["tier"] in ranking.tiers and not is_beginning(r, rows)]
    families = [row["family"] for row in mine]
    trained = {row["family"] for row in rows if _is_trained(row["tier"])}
    return len(set(families)) == len(families) and set(families) <= trained


def _is_trained(tier: str) -> bool:
    return tier not in UNTRAINED_TIERS


def _of_ranking(
    results: SuiteResults, ranking: RankingTable, scores: Mapping[str, TaskScores]
) -> AgainstBaselines:
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    names = [e.variant for e in ranking.entries]
    tasks = [scores[task.name] for task in ranking.tasks]
    best = _marks(tasks, [n for n, row in rows.items() if row["tier"] == BASELINE])
    untrained: list[Standing] = []
    for name in names:
        row = rows[name]
        own = _untrained_of(row, rows)
        if _is_trained(row["tier"]) and own:
            untrained += _standing(name, tasks, _marks(tasks, own))
    return AgainstBaselines(
        ranking,
        best,
        tuple(standing for name in names for standing in _standing(name, tasks, best)),
        tuple(untrained),
        bool(untrained) and all(_begins(rows[s.variant], rows.values()) for s in untrained),
    )


def _untrained_of(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The variant itself untrained, where that takes part, else all untrained of its family."""
    family = {
        name: other
        for name, other in rows.items()
        if other["tier"] == "random" and other["family"] == row["family"]
    }
    if not _begins(row, rows.values()):
        return list(family)
    return [name for name, other in family.items() if design(other) == design(row)]


def _begins(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a variant has study weights and takes part untrained as well."""
    return row["tier"] == "study" and any(
        other["tier"] == "random" and design(other) == design(row) for other in rows
    )


def _marks(tasks: Sequence[TaskScores], names: Iterable[str]) -> dict[str, Mark]:
    """The best of some variants on each task that any of them has a score on."""
    found = {}
    for task in tasks:
        known = [name for name in names if name in task.variants]
        points = [float(task.point[v]) for v in task.columns(tuple(known))]
        if points:
            best = max(points) if task.task.higher_is_better else min(points)
            found[task.task.name] = Mark(known[points.index(best)], best)
    return found


def _standing(
    name: str, tasks: Sequence[TaskScores], marks: Mapping[str, Mark]
) -> tuple[Standing, ...]:
    """None where the variant has no task in common with its marks."""
    marked = [task for task in tasks if task.task.name in marks]
    mine = [task for task in marked if name in task.variants]
    if not mine:
        return ()
    margins = tuple(
        Margin(task.task, mark, difference(task, mark, name))
        for task in mine
        for mark in [marks[task.task.name].variant]
    )
    drawn = [_wins(task, m.mark, name) for task, m in zip(mine, margins, strict=True)]
    return (Standing(name, margins, _overall(drawn), len(mine) == len(marked)),)


def _wins(task: TaskScores, mark: str, name: str) -> Floats | None:
    """Per draw ``[B]``: 1 where the variant has the better score, -1 where the mark has."""
    if task.draws is None:
        return None
    m, v = task.columns((mark, name))
    gain = task.draws[:, v] - task.draws[:, m]
    if np.isnan(gain).any():
        return None
    return np.sign(np.round(gain, DECIMALS)) * (1.0 if task.task.higher_is_better else -1.0)


def _overall(drawn: Sequence[Floats | None]) -> Verdict:
    known = [wins for wins in drawn if wins is not None]
    if len(known) < len(drawn):
        return "no interval"
    spread = interval(np.mean(known, axis=0))
    if spread.low > 0:
        return "beats"
    return "loses" if spread.high < 0 else "cannot be told apart"
