"""Like with like: which published results measure the same thing, and may be ranked together.

A task is what must be equal: data set, metric, probe, bands, image size, partition of the
training labels, and the number of samples. The input normalisation belongs to the model, as
its weights do: every model has its own, and a table's column often names the harness's
setting, not what the model did. A model with results under two of them is two entrants.

Pure functions of checked results. It must know nothing of files, figures or own runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase

from harness.published.cleaning import Result
from harness.published.vocabulary import vocabulary
from models.errors import UserError, did_you_mean
from models.registry import load_registry
from reports.words import listed


@dataclass(frozen=True)
class Task:
    """What two results must share to be compared. ``bands`` are canonical and sorted."""

    dataset: str
    metric: str
    probe: str
    bands: tuple[str, ...]
    image_size: int | None
    interpolation: str
    partition: str
    n_train: int | None
    n_val: int | None
    n_test: int | None
    seeds: tuple[int | None, ...]


FIELD_WORDS = {
    "dataset": "data set", "image_size": "image size", "n_train": "number of training samples",
    "n_val": "number of validation samples", "n_test": "number of test samples",
}  # fmt: skip


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
    """A model under one input normalisation. ``name`` is the registry's where it has one."""

    name: str
    model: str
    normalisation: str
    cells: Mapping[Task, Cell]
    conflicting: frozenset[str]  # data sets of which a result contradicts itself


@dataclass(frozen=True)
class LeftOut:
    """A task that not all chosen entrants share, and why."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Shared:
    """The tasks that all entrants share, in alphabetical order, and those that they do not."""

    tasks: tuple[Task, ...]
    left_out: tuple[LeftOut, ...]


def entrants_of(results: Sequence[Result]) -> dict[str, Entrant]:
    """All entrants by name. Results that contradict themselves take no part."""
    words = vocabulary()
    grouped: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        grouped.setdefault((words.variant(result.model), result.normalisation), []).append(result)
    several = {name for name, _ in grouped if sum(name == other for other, _ in grouped) > 1}
    found: dict[str, Entrant] = {}
    for (variant, normalisation), rows in grouped.items():
        name = f"{variant}@{normalisation or 'unstated'}" if variant in several else variant
        conflicting = frozenset(row.dataset for row in rows if row.conflict)
        cells = _cells([row for row in rows if not row.conflict])
        found[name] = Entrant(name, rows[0].model, normalisation, cells, conflicting)
    return dict(sorted(found.items()))


def _cells(rows: Sequence[Result]) -> dict[Task, Cell]:
    by_seed: dict[Task, list[Result]] = {}
    for row in rows:
        by_seed.setdefault(_task(row, ()), []).append(row)
    cells = {}
    for group in by_seed.values():
        ordered = sorted(group, key=lambda row: (row.seed is None, row.seed))
        cells[_task(ordered[0], tuple(row.seed for row in ordered))] = _cell(ordered)
    return cells


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
    """Names of a ``family-version``'s entrants, by size."""
    known = set(load_registry().names())
    return {
        name.removeprefix(f"{version}-"): name
        for name in entrants
        if name.partition("@")[0] in known and name.rpartition("-")[0] == version
    }


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
    by_source = [name for name, e in entrants.items() if text in (e.model, name.partition("@")[0])]
    if len(by_source) == 1:
        return by_source
    if by_source:
        raise UserError(
            f'"{text}" has results under {len(by_source)} input normalisations; name which: '
            f"{', '.join(by_source)}."
        )
    raise UserError(f'No published model is called "{text}": {did_you_mean(text, entrants)}.')


def shared_tasks(entrants: Sequence[Entrant]) -> Shared:
    """Tasks on which every entrant has a result, and why the others are not among them."""
    every = dict.fromkeys(task for entrant in entrants for task in entrant.cells)
    tasks = sorted((t for t in every if all(t in e.cells for e in entrants)), key=_sort_key)
    rest = sorted((t for t in every if t not in tasks), key=_sort_key)
    return Shared(tuple(tasks), tuple(LeftOut(t, _why(t, entrants)) for t in rest))


def _sort_key(task: Task) -> tuple[str, ...]:
    return tuple(str(value) for value in asdict(task).values())


def _why(task: Task, entrants: Sequence[Entrant]) -> str:
    """Who lacks a task, and the nearest that those have instead."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for entrant in entrants:
        if task not in entrant.cells:
            reasons.setdefault(_lack(task, entrant), []).append(entrant.name)
    return "; ".join(
        f"{listed(names)} {one if len(names) == 1 else many}"
        for (one, many), names in reasons.items()
    )


def _lack(task: Task, entrant: Entrant) -> tuple[str, str]:
    """What keeps one entrant, and several, from a task."""
    if task.dataset in entrant.conflicting:
        return "has contradicting results", "have contradicting results"
    near = nearest(task, list(entrant.cells))
    if near is None or near.dataset != task.dataset:
        return "has no result on it", "have no result on it"
    only = f"it only with {differences(task, near)}"
    return f"has {only}", f"have {only}"


def nearest(task: Task, others: Sequence[Task]) -> Task | None:
    """The task that differs least: same data set first, then same probe, then fewest fields."""

    def distance(other: Task) -> tuple[bool, bool, int]:
        fields_apart = _fields_apart(task, other)
        return "dataset" in fields_apart, "probe" in fields_apart, len(fields_apart)

    return min(others, key=distance, default=None)


def differences(task: Task, other: Task) -> str:
    """What another task has instead, in words: ``image size 224 and bands B02, B03, B04``."""
    parts = []
    for name in _fields_apart(task, other):
        value = getattr(other, name)
        if name == "bands":
            parts.append(_band_difference(task.bands, other.bands))
        elif name == "image_size":
            parts.append(size_words(value))
        else:
            parts.append(
                size_words(value)
                if name == "image_size"
                else f"{FIELD_WORDS.get(name, name)} {shown_value(name, value)}"
            )
    return " and ".join(parts)


def size_words(size: int | None) -> str:
    """An image size in words: ``native size``, ``resized to 224 pixels``."""
    return "native size" if size is None else f"images resized to {size} pixels"


def _band_difference(mine: tuple[str, ...], others: tuple[str, ...]) -> str:
    more, fewer = sorted({*others} - {*mine}), sorted({*mine} - {*others})
    if "all" in others or len(others) <= 3:
        return f"bands {bands_words(others)}"
    if not fewer:
        return f"further bands {listed(more, 3)}"
    if not more:
        return f"fewer bands, without {listed(fewer, 3)}"
    return f"other bands, {bands_words(others)}"


def bands_words(bands: tuple[str, ...]) -> str:
    """A band set in a few words: ``B02, B03, B04``, or ``12 bands (B01 ... B8A)``."""
    if len(bands) <= 3:
        return ", ".join(bands)
    return f"{len(bands)} bands ({bands[0]} ... {bands[-1]})"


def _fields_apart(a: Task, b: Task) -> list[str]:
    # How an image was resized cannot be compared where one of them was not.
    both_resized = a.image_size is not None and b.image_size is not None
    return [
        f.name
        for f in fields(Task)
        if getattr(a, f.name) != getattr(b, f.name) and (f.name != "interpolation" or both_resized)
    ]


def shown_value(name: str, value: object) -> str:
    """A task's field as a reader sees it."""
    if name == "bands" and isinstance(value, tuple):
        return bands_words(value)
    if isinstance(value, tuple):
        return ", ".join("unstated" if v is None else str(v) for v in value)
    if value is None or value == "":
        return "native" if name == "image_size" else "unstated"
    return str(value)
