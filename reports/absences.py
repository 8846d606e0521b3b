"""What was not run and why: each variant once, with the tasks that share a reason together.

Of a variant that nothing could be run of, one line is said, not one for every task and seed.
It must know nothing of pages or terminals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from reports import words
from reports.ranking import RankingTable
from reports.table import SuiteResults

NO_RESULT = "no result"
T = TypeVar("T")


@dataclass(frozen=True)
class Absence:
    """One reason why a variant lacks cells. ``tasks`` and ``seeds`` are empty where it is all."""

    variant: str
    reason: str
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """``NAME was not run: reason``; of a part, which part."""
        # A reason that opens with the name would say it twice.
        reason = self.reason.strip().rstrip(".").removeprefix(f"{self.variant}: ")
        if not self.tasks and not self.seeds:
            return f"{self.variant} was not run: {reason}."
        where = f" on {words.listed(self.tasks)}" if self.tasks else ""
        seeds = f"{'seed' if len(self.seeds) == 1 else 'seeds'} "
        when = f" with {seeds}{words.listed([str(s) for s in self.seeds])}" if self.seeds else ""
        why = "" if reason == NO_RESULT else f": {reason}"
        return f"{self.variant} has no result{where}{when}{why}."


def absences(results: SuiteResults, ranking: RankingTable) -> tuple[Absence, ...]:
    """Why the ranking's incomplete variants are so, in their order."""
    tasks = [task.name for task in ranking.tasks]
    found: list[Absence] = []
    for entry in ranking.incomplete:
        found += _of_variant(results, entry.variant, tasks)
    return tuple(found)


def _of_variant(results: SuiteResults, name: str, tasks: Sequence[str]) -> list[Absence]:
    seeds = results.run.seeds
    own = results.scores.filter(variant=name).select("task", "seed")
    have = set(own.iter_rows())
    why = {(m.task, m.seed): m.reason for m in results.run.missing if m.variant == name}
    lacking: dict[str, list[tuple[str, int]]] = {}
    for task in tasks:
        for seed in seeds:
            if not have & {(task, seed), (task, None)}:
                reason = why.get((task, seed), NO_RESULT)
                lacking.setdefault(reason, []).append((task, seed))
    return [
        Absence(name, reason, _unless_all(of_tasks, tasks), _unless_all(of_seeds, seeds))
        for reason, cells in lacking.items()
        for of_tasks, of_seeds in _blocks(cells)
    ]


def _blocks(cells: Sequence[tuple[str, int]]) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Cells as tasks x seeds: tasks that lack the same seeds together."""
    by_task: dict[str, list[int]] = {}
    for task, seed in cells:
        by_task.setdefault(task, []).append(seed)
    found: dict[tuple[int, ...], list[str]] = {}
    for task, seeds in by_task.items():
        found.setdefault(tuple(seeds), []).append(task)
    return [(tuple(tasks), seeds) for seeds, tasks in found.items()]


def _unless_all(found: Sequence[T], every: Sequence[T]) -> tuple[T, ...]:
    kept = tuple(dict.fromkeys(found))
    return () if len(kept) == len(every) else kept
