"""A suite, ready to be planned: its file read, included suites and selections resolved.

`load_suite` is the only way in. A `Suite` is plain frozen data; `plan.py` expands it.
It must know nothing of how cells are computed, stored or tracked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.entrants import Entrant, Listed, entrants_of
from harness.inclusion import Written, included, written_out
from harness.metrics import metrics_of
from harness.model_input import InputPolicy
from harness.suite_file import (
    PROBES_OF,
    AnyProbe,
    DataOptions,
    Precision,
    Protocol,
    SuiteFile,
    VariantEntry,
)
from models import config_file
from models.errors import UserError, did_you_mean
from models.registry import load_registry
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
    optional: bool = False
    precision: Precision = "float32"


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
    tasks, cast = included(file, document, suite_path)
    _refuse_metric(file, tasks, document)
    beside = cast.document.path.parent
    registry = load_registry([*(beside / p for p in cast.file.registry), *overrides.registry])
    listed = _listed(written_out(cast, registry), overrides)
    entrants = entrants_of(cast.file, listed, cast.document, registry, overrides)
    return Suite(
        name=file.name,
        title=file.title,
        description=" ".join(file.description.split()),
        path=path,
        tasks=tuple(_task(each, file.protocol, overrides.patch_size) for each in tasks),
        entrants=entrants,
        seeds=overrides.seeds if overrides.seeds is not None else tuple(cast.file.seeds),
        mix_tiers=cast.file.mix_tiers,
    )


def _refuse_repeats(
    document: config_file.Document, key: str, names: Sequence[str] | Sequence[int]
) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise document.error((key, i), f'"{name}" stands twice among the {key}; remove one.')


def _task(written: Written, protocol: Protocol, patch_size: int | None) -> Task:
    entry = written.entry
    _refuse_probe(written)
    if patch_size is not None and written.sweeps_patch_size:
        raise written.error("It sweeps the patch size; leave --patch-size out.")
    return Task(
        name=entry.name,
        dataset=entry.dataset,
        data=entry.data,
        probe=entry.probe,
        patch_size=patch_size or entry.patch_size or protocol.patch_size,
        normalisations=tuple(entry.normalisations or protocol.normalisations),
        poolings=tuple(entry.poolings or protocol.poolings),
        metric=_metric(written, protocol),
        split_seed=protocol.split_seed,
        bootstrap=protocol.bootstrap,
        policy=InputPolicy(protocol.missing_bands, protocol.resize),
        label_fraction=entry.label_fraction,
        optional=entry.optional,
        precision=entry.precision or protocol.precision,
    )


def _refuse_probe(written: Written) -> None:
    entry, kind, error = written.entry, written.kind, written.error
    if entry.data.fallback is not None and (kind != "classes" or catalogue.is_own(entry.dataset)):
        raise error(
            f"The simulated set cannot stand in for {entry.dataset}, which asks for "
            f"{KIND_WORDS[kind]}; remove data: fallback."
        )
    allowed = PROBES_OF[kind]
    if entry.probe.kind not in allowed:
        raise error(
            f'Probe "{entry.probe.kind}" cannot answer what {entry.dataset} asks for '
            f"({KIND_WORDS[kind]}); allowed: {', '.join(allowed)}."
        )


def _refuse_metric(
    file: SuiteFile, tasks: Sequence[Written], document: config_file.Document
) -> None:
    """A protocol's metric that no task can be scored by is a mistake, not a preference."""
    wanted = file.protocol.metric
    kinds = {each.kind for each in tasks}
    if wanted is not None and not any(wanted in metrics_of(kind) for kind in kinds):
        allowed = ", ".join(name for kind in sorted(kinds) for name in metrics_of(kind))
        raise document.error(
            ("protocol", "metric"),
            f'"{wanted}" can score no task of this suite; allowed: {allowed}.',
        )


def _metric(written: Written, protocol: Protocol) -> str:
    """The task's own; else the protocol's, where it can score such targets; else the field's."""
    entry, kind, error = written.entry, written.kind, written.error
    allowed = metrics_of(kind)
    if entry.metric is not None and entry.metric not in allowed:
        raise error(
            f'"{entry.metric}" cannot score what {entry.dataset} asks for ({KIND_WORDS[kind]}); '
            f"allowed: {', '.join(allowed)}."
        )
    return entry.metric or (protocol.metric if protocol.metric in allowed else None) or allowed[0]


def _listed(written: Listed, overrides: Overrides) -> Listed:
    """Entries to run, each with its place in the file; None for what only a command names.

    A variant named on the command line runs as the file has it (tier, weights, options) if the
    file has it, and is no longer optional; else as the suite's default. ``name@recipe`` is the
    variant with that recipe's study weights; the plain name stands for all that the file has.
    """
    if not overrides.variants:
        return written
    found: list[tuple[VariantEntry, int | None]] = []
    for name in overrides.variants:
        mine = [
            (entry.model_copy(update={"optional": False}), place)
            for entry, place in written
            if name in (entry.variant, f"{entry.variant}@{entry.recipe}")
        ]
        found += mine or [(_named(name), None)]
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
