"""Entrants: the models of imported tables, each with its results by task.

A model with results under two input normalisations is two entrants; a variant of the
registry under two spellings is one. It must know nothing of which tasks are shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase

from harness.published.cleaning import Result
from harness.published.tasks import Task
from harness.published.vocabulary import vocabulary
from models.errors import UserError, did_you_mean
from models.registry import load_registry

_NAMES_IN_A_SENTENCE = 20


@dataclass(frozen=True)
class Cell:
    """One entrant's result on one task: the mean over its seeds (mostly there is one).

    The interval's ends are averaged too: seeds share the test samples, so their errors do
    not cancel out.
    """

    score: float
    ci_low: float | None
    ci_high: float | None
    gflops: float | None
    params: float | None
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Entrant:
    """A model under one input normalisation.

    ``name`` is unique; ``variant`` is the registry's name where it has one, else ``model``,
    which is the name in the table. ``conflicting`` data sets hold contradicting results.
    """

    name: str
    variant: str
    model: str
    normalisation: str
    cells: Mapping[Task, Cell]
    conflicting: frozenset[str]


def entrants_of(results: Sequence[Result]) -> dict[str, Entrant]:
    """All entrants by name. Results that contradict each other take no part.

    That holds across tables, too, and for one variant under two spellings.
    """
    words = vocabulary()
    grouped: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        grouped.setdefault((words.variant(result.model), result.normalisation), []).append(result)
    times = Counter(variant for variant, _ in grouped)
    found: dict[str, Entrant] = {}
    for (variant, normalisation), rows in grouped.items():
        name = f"{variant}@{normalisation or 'unstated'}" if times[variant] > 1 else variant
        while name in found:  # a model that is called like another one's entrant
            name += "'"
        cells, conflicting = _cells(rows)
        found[name] = Entrant(name, variant, rows[0].model, normalisation, cells, conflicting)
    return dict(sorted(found.items()))


def _cells(rows: Sequence[Result]) -> tuple[dict[Task, Cell], frozenset[str]]:
    """Results by task, and the data sets on which they contradict each other."""
    by_task: dict[Task, list[Result]] = {}
    for row in rows:
        by_task.setdefault(_task(row, ()), []).append(row)
    cells = {}
    conflicting = set()
    for group in by_task.values():
        by_seed = {row.seed: row for row in reversed(group)}  # the first of each
        contradicts = any(row.value != by_seed[row.seed].value for row in group)
        if contradicts or any(row.conflict for row in group):
            conflicting.add(group[0].dataset)
            continue
        ordered = sorted(by_seed.values(), key=lambda row: (row.seed is None, row.seed))
        cells[_task(ordered[0], tuple(row.seed for row in ordered))] = _cell(ordered)
    return cells, frozenset(conflicting)


def _task(row: Result, seeds: tuple[int | None, ...]) -> Task:
    shared = {f.name: getattr(row, f.name) for f in fields(Task) if f.name != "seeds"}
    return Task(**shared, seeds=seeds)


def _cell(rows: Sequence[Result]) -> Cell:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return Cell(
        score=sum(row.score for row in rows) / len(rows),
        ci_low=mean([row.ci_low for row in rows]),
        ci_high=mean([row.ci_high for row in rows]),
        gflops=mean([row.gflops for row in rows]),
        params=mean([row.params for row in rows]),
        lines=tuple(row.line for row in rows),
    )


def choose(entrants: Mapping[str, Entrant], wanted: Sequence[str]) -> list[Entrant]:
    """The entrants that a user names, in that order, each once.

    A name may be an entrant's, a ``family-version`` (all of its sizes), or a pattern with
    ``*``. Several ``family-version`` stand for the sizes that all of them have. Raises
    `UserError` for a name that means nothing, or a model that is two entrants.
    """
    versions = {w: _sizes(entrants, w) for w in wanted if w not in entrants and "*" not in w}
    versions = {w: sizes for w, sizes in versions.items() if sizes}
    common = set.intersection(*map(set, versions.values())) if versions else set()
    chosen: dict[str, Entrant] = {}
    for text in wanted:
        if text in versions:
            names = [n for size, n in versions[text].items() if size in common]
        else:
            names = _named(entrants, text)
        chosen |= {name: entrants[name] for name in names}
    if versions and not chosen:
        raise UserError(f"{' and '.join(versions)} have no size in common; name the models.")
    return list(chosen.values())


def left_out_sizes(entrants: Mapping[str, Entrant], wanted: Sequence[str]) -> list[str]:
    """Entrants of a version that was named, whose size the other named versions lack."""
    chosen = {entrant.name for entrant in choose(entrants, wanted)}
    sizes = [n for w in wanted if w not in entrants for n in _sizes(entrants, w).values()]
    return [name for name in sizes if name not in chosen]


def _sizes(entrants: Mapping[str, Entrant], version: str) -> dict[str, str]:
    """Names of a ``family-version``'s entrants, by size, in the registry's order."""
    order = {name: place for place, name in enumerate(load_registry().names())}
    mine = [e for e in entrants.values() if e.variant.rpartition("-")[0] == version]
    known = sorted((e for e in mine if e.variant in order), key=lambda e: order[e.variant])
    return {e.name.removeprefix(f"{version}-"): e.name for e in known}


def _named(entrants: Mapping[str, Entrant], text: str) -> list[str]:
    if text in entrants:
        return [text]
    if "*" in text:
        found = [name for name in entrants if fnmatchcase(name, text)]
        if found:
            return found
        raise UserError(
            f'No published model matches "{text}"; "tokenrank published list" shows all.'
        )
    by_source = [name for name, e in entrants.items() if text in (e.model, e.variant)]
    if len(by_source) == 1:
        return by_source
    if by_source:
        raise UserError(
            f'"{text}" has results under {len(by_source)} input normalisations; name which: '
            f"{', '.join(by_source)}."
        )
    raise UserError(f'No published model is called "{text}": {_hint(text, entrants)}.')


def _hint(text: str, entrants: Mapping[str, Entrant]) -> str:
    """The closest name and all of them; of many, where they are shown."""
    if len(entrants) <= _NAMES_IN_A_SENTENCE:
        return did_you_mean(text, entrants)
    close = get_close_matches(text, entrants, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    return f'{hint}"tokenrank published list --models" shows all {len(entrants)}'
