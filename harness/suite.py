"""A suite, ready to be planned: its file read, included suites and selections resolved.

`load_suite` is the only way in. A `Suite` is plain frozen data; `plan.py` expands it.
It must know nothing of how cells are computed, stored or tracked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from pydantic import ValidationError

from harness.entrants import Entrant, entrants_of
from harness.metrics import metrics_of
from harness.model_input import InputPolicy
from harness.selection import select
from harness.suite_file import (
    AnyProbe,
    DataOptions,
    Protocol,
    SegmentationProbe,
    Selection,
    SuiteFile,
    TaskEntry,
    VariantEntry,
)
from models import config_file
from models.errors import UserError, did_you_mean
from models.registry import Registry, load_registry
from suites.datasets import catalogue
from suites.datasets.base import KIND_WORDS

SUITES_FOLDER = Path(__file__).parent.parent / "suites"


@dataclass(frozen=True)
class Task:
    """A task with every setting resolved."""

    name: str
    dataset: str
    data: DataOptions
    probe: AnyProbe
    patch_size: int
    normalisations: tuple[str, ...]
    poolings: tuple[str, ...]
    metric: str
    split_seed: int
    bootstrap: int
    policy: InputPolicy
    label_fraction: float | None = None


@dataclass(frozen=True)
class Suite:
    """A validated suite, ready to be planned."""

    name: str
    title: str
    description: str
    path: Path
    tasks: tuple[Task, ...]
    entrants: tuple[Entrant, ...]
    seeds: tuple[int, ...]
    mix_tiers: bool


@dataclass(frozen=True)
class Overrides:
    """What the command line may change of a suite file; ``None`` leaves it as written."""

    variants: tuple[str, ...] | None = None
    tier: str | None = None
    seeds: tuple[int, ...] | None = None
    patch_size: int | None = None
    registry: tuple[Path, ...] = ()
    weights: tuple[tuple[str, Path], ...] = ()


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in SUITES_FOLDER.glob("*.yaml"))


def suite_path(name_or_path: str) -> Path:
    """A shipped suite's name, or the path of a YAML file. `UserError` for neither."""
    if name_or_path.endswith((".yaml", ".yml")) or os.sep in name_or_path:
        return Path(name_or_path)
    if name_or_path not in suite_names():
        hint = did_you_mean(name_or_path, suite_names())
        raise UserError(
            f'There is no suite "{name_or_path}": {hint}; or give the path of a YAML file.'
        )
    return SUITES_FOLDER / f"{name_or_path}.yaml"


def load_suite(path: Path, overrides: Overrides = Overrides()) -> Suite:
    """Read, validate and resolve a suite file. Raises `UserError` with file and line."""
    document = config_file.read(path)
    file = config_file.validate(SuiteFile, document)
    _refuse_repeats(document, "tasks", [task.name for task in file.tasks])
    _refuse_repeats(document, "seeds", file.seeds)
    included, variants = _included(file, document, (path.resolve(),))
    file = file.model_copy(update={"variants": variants})
    registry = load_registry([*(path.parent / p for p in file.registry), *overrides.registry])
    _refuse_metric(file, included, document)
    listed = _listed(_selected(file, document, registry), overrides)
    entrants = entrants_of(file, listed, document, registry, overrides)
    return Suite(
        name=file.name,
        title=file.title,
        description=" ".join(file.description.split()),
        path=path,
        tasks=tuple(
            _task(each.entry, file.protocol, overrides.patch_size, each.error) for each in included
        ),
        entrants=entrants,
        seeds=overrides.seeds if overrides.seeds is not None else tuple(file.seeds),
        mix_tiers=file.mix_tiers,
    )


def _refuse_repeats(
    document: config_file.Document, key: str, names: Sequence[str] | Sequence[int]
) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise document.error((key, i), f'"{name}" stands twice among the {key}; remove one.')


def _task(
    entry: TaskEntry,
    protocol: Protocol,
    patch_size: int | None,
    error: Callable[[str], UserError],
) -> Task:
    _refuse_probe(entry, error)
    return Task(
        name=entry.name,
        dataset=entry.dataset,
        data=entry.data,
        probe=entry.probe,
        patch_size=patch_size or entry.patch_size or protocol.patch_size,
        normalisations=tuple(entry.normalisations or protocol.normalisations),
        poolings=tuple(entry.poolings or protocol.poolings),
        metric=_metric(entry, protocol, error),
        split_seed=protocol.split_seed,
        bootstrap=protocol.bootstrap,
        policy=InputPolicy(protocol.missing_bands, protocol.resize),
        label_fraction=entry.label_fraction,
    )


@dataclass(frozen=True)
class _Written:
    """A task, and how to say what is wrong with it: with the file and line that it stands in."""

    entry: TaskEntry
    error: Callable[[str], UserError]


Listed = list[str | VariantEntry | Selection]


def _included(
    file: SuiteFile, document: config_file.Document, before: tuple[Path, ...]
) -> tuple[list[_Written], Listed]:
    """All tasks, those of included suites first; and the variants, theirs where it has none.

    Raises `UserError` for a suite that includes itself, a task's name that stands twice, and for
    neither tasks nor variants.
    """
    tasks: list[_Written] = []
    variants: Listed = list(file.variants)
    for i, name in enumerate(file.include):
        is_path = name.endswith((".yaml", ".yml"))
        path = document.path.parent / name if is_path else suite_path(name)
        if path.resolve() in before:
            raise document.error(("include", i), f'"{name}" includes itself; remove one.')
        other = config_file.read(path)
        inner = config_file.validate(SuiteFile, other)
        found, theirs = _included(inner, other, (*before, path.resolve()))
        tasks += found
        variants = variants or theirs
    for i, entry in enumerate(file.tasks):
        error = partial(document.error, ("tasks", i))
        placed = _placed(entry, document.path.parent)
        tasks += [_Written(each, error) for each in swept(placed)]
    names = [each.entry.name for each in tasks]
    for each in tasks:
        if names.count(each.entry.name) > 1:
            raise each.error(
                f'"{each.entry.name}" stands twice among the tasks, those of included suites '
                "among them; rename or remove one."
            )
    for what, held in (("tasks", tasks), ("variants", variants)):
        if not held:
            raise document.error(
                (), f'It has no {what}: list some, or "include" a suite with them.'
            )
    return tasks, variants


def _selected(
    file: SuiteFile, document: config_file.Document, registry: Registry
) -> list[VariantEntry]:
    """The entries that are written, selections as the variants that they stand for."""
    found: list[VariantEntry] = []
    for i, entry in enumerate(file.variants):
        if isinstance(entry, Selection):
            try:
                found += _of_selection(entry, registry)
            except UserError as error:
                raise document.error(("variants", i), str(error)) from None
        else:
            found.append(VariantEntry(variant=entry) if isinstance(entry, str) else entry)
    return found


def _of_selection(entry: Selection, registry: Registry) -> list[VariantEntry]:
    chosen = select(entry.select, registry.variants())
    names = [variant.name for variant in chosen]
    if entry.schemes is not None:
        names = [
            registry.variant(f"{variant.name}:{scheme}").name
            for variant in chosen
            for scheme in entry.schemes
        ]
    return [
        VariantEntry(variant=name, tier=entry.tier, optional=entry.optional)
        for name in dict.fromkeys(names)
    ]


def swept(entry: TaskEntry) -> list[TaskEntry]:
    """A task for every combination of its sweep's values, named after them; else itself."""
    if entry.sweep is None:
        return [entry]
    axes = [(name, values) for name, values in entry.sweep if values is not None]
    found = []
    for chosen in product(*(values for _, values in axes)):
        said = {name: value for (name, _), value in zip(axes, chosen, strict=True)}
        data = {name: value for name, value in said.items() if name in ("side", "steps")}
        own = {name: value for name, value in said.items() if name not in data}
        suffix = "".join(_SUFFIXES[name].format(value) for name, value in said.items())
        found.append(
            entry.model_copy(
                update={
                    "name": entry.name + suffix,
                    "data": entry.data.model_copy(update=data),
                    "sweep": None,
                    **own,
                }
            )
        )
    return found


_SUFFIXES = {
    "patch_size": "-patch{}",
    "side": "-side{}",
    "steps": "-steps{}",
    "label_fraction": "-labels{:.3g}",
}


def _placed(entry: TaskEntry, folder: Path) -> TaskEntry:
    """A task of one's own lies beside its suite."""
    if not catalogue.is_own(entry.dataset):
        return entry
    return entry.model_copy(update={"dataset": str(folder / entry.dataset)})


def _refuse_probe(entry: TaskEntry, error: Callable[[str], UserError]) -> None:
    kind = catalogue.kind_of(entry.dataset)
    if entry.data.fallback is not None and (kind != "classes" or catalogue.is_own(entry.dataset)):
        raise error(
            f"The simulated set cannot stand in for {entry.dataset}, which asks for "
            f"{KIND_WORDS[kind]}; remove data: fallback."
        )
    if isinstance(entry.probe, SegmentationProbe) != (kind == "maps"):
        allowed = "segmentation" if kind == "maps" else "knn, linear"
        raise error(
            f'Probe "{entry.probe.kind}" cannot answer what {entry.dataset} asks for '
            f"({KIND_WORDS[kind]}); allowed: {allowed}."
        )


def _refuse_metric(
    file: SuiteFile, tasks: Sequence[_Written], document: config_file.Document
) -> None:
    """A protocol's metric that no task can be scored by is a mistake, not a preference."""
    wanted = file.protocol.metric
    kinds = {catalogue.kind_of(each.entry.dataset) for each in tasks}
    if wanted is not None and not any(wanted in metrics_of(kind) for kind in kinds):
        allowed = ", ".join(name for kind in sorted(kinds) for name in metrics_of(kind))
        raise document.error(
            ("protocol", "metric"),
            f'"{wanted}" can score no task of this suite; allowed: {allowed}.',
        )


def _metric(entry: TaskEntry, protocol: Protocol, error: Callable[[str], UserError]) -> str:
    """The task's own; else the protocol's, where it can score such targets; else the field's."""
    kind = catalogue.kind_of(entry.dataset)
    allowed = metrics_of(kind)
    if entry.metric is not None and entry.metric not in allowed:
        raise error(
            f'"{entry.metric}" cannot score what {entry.dataset} asks for ({KIND_WORDS[kind]}); '
            f"allowed: {', '.join(allowed)}."
        )
    return entry.metric or (protocol.metric if protocol.metric in allowed else None) or allowed[0]


def _listed(written: list[VariantEntry], overrides: Overrides) -> list[tuple[VariantEntry, bool]]:
    """Entries to run, and whether each is written in the file.

    A variant named on the command line runs as the file has it (tier, weights, options) if the
    file has it, and is no longer optional; else as the suite's default. ``name@recipe`` is the
    variant with that recipe's study weights; the plain name stands for all that the file has.
    """
    if not overrides.variants:
        return [(entry, True) for entry in written]
    found: list[tuple[VariantEntry, bool]] = []
    for name in overrides.variants:
        mine = [e for e in written if name in (e.variant, f"{e.variant}@{e.recipe}")]
        found += [(entry.model_copy(update={"optional": False}), True) for entry in mine]
        found += [] if mine else [(_named(name), False)]
    return found


def _named(name: str) -> VariantEntry:
    """A variant of the command line that the file does not have."""
    variant, at, recipe = name.partition("@")
    if not at:
        return VariantEntry(variant=name)
    try:
        return VariantEntry(variant=variant, tier="study", recipe=recipe)
    except ValidationError:
        raise UserError(
            f'--variant "{name}" names no recipe after its "@"; write the name of a variant '
            "alone, or with a recipe of study weights."
        ) from None
