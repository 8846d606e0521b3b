"""Results given twice: repeated ones are dropped and counted, contradicting ones set aside.

Two values for one measurement are never averaged, and none is picked unless the user says
so. It must know nothing of units or of which results are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from harness.published.cleaning import Result
from harness.published.formats import PlainTable
from models.errors import UserError

DuplicateRule = Literal["exclude", "refuse", "first"]
DUPLICATE_RULES: tuple[str, ...] = get_args(DuplicateRule)


@dataclass(frozen=True)
class Conflict:
    """The same measurement with different values: where they stand, and what they say."""

    model: str
    dataset: str
    probe: str
    lines: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Cleaned:
    """Checked results and what was dropped or set aside on the way."""

    results: tuple[Result, ...]
    repeated: int
    conflicts: tuple[Conflict, ...]


def without_duplicates(
    table: PlainTable, results: Sequence[Result], rule: DuplicateRule
) -> Cleaned:
    """Results once each; contradictions by the rule. ``refuse`` raises `UserError`."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.identity, []).append(result)
    kept: list[Result] = []
    conflicts: list[Conflict] = []
    for group in groups.values():
        values = {result.value: result for result in reversed(group)}  # the first of each value
        distinct = sorted(values.values(), key=lambda r: r.line)
        if len(distinct) > 1:
            conflicts.append(_conflict(distinct))
        kept += _by_rule(distinct, rule)
    if conflicts and rule == "refuse":
        raise _contradiction(table, conflicts)
    told = sum(len(c.lines) for c in conflicts) - len(conflicts)
    repeated = len(results) - len(groups) - told
    kept.sort(key=lambda r: r.line)
    return Cleaned(tuple(kept), repeated, tuple(conflicts))


def _by_rule(distinct: Sequence[Result], rule: DuplicateRule) -> Sequence[Result]:
    if len(distinct) == 1 or rule == "first":
        return distinct[:1]
    return [replace(result, conflict=True) for result in distinct]


def _conflict(distinct: Sequence[Result]) -> Conflict:
    first = distinct[0]
    return Conflict(
        first.model,
        first.dataset,
        first.probe,
        tuple(r.line for r in distinct),
        tuple(r.score for r in distinct),
    )


def _contradiction(table: PlainTable, conflicts: Sequence[Conflict]) -> UserError:
    first = conflicts[0]
    scores = " and ".join(f"{score:g}" for score in first.scores)
    lines = " and ".join(str(line) for line in first.lines[1:])
    more = f" ({len(conflicts) - 1} more such)" if len(conflicts) > 1 else ""
    return table.raw.error(
        first.lines[0],
        f"{first.model} on {first.dataset} with {first.probe} stands here and again in "
        f"{table.raw.place} {lines}, with other values (scores {scores}){more}; mend the file, or "
        "import with --duplicates exclude (ranked nowhere) or first (the first one counts).",
    )
