"""What a suite file stands for once its included suites, sweeps and selections are written out.

It must not know how a task or a variant is resolved further: `harness.suite` and
`harness.entrants` do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.entrants import Listed
from harness.selection import select
from harness.suite_file import Selection, SuiteFile, TaskEntry, VariantEntry
from harness.sweeps import swept
from models import config_file
from models.errors import UserError
from models.registry import Registry
from suites.datasets import catalogue
from suites.datasets.base import TargetKind

Find = Callable[[str], Path]


@dataclass(frozen=True)
class Written:
    """A task, what its data set asks for, and how to say what is wrong with it: file and line.

    ``sweeps_patch_size``: it is one of several that differ in that.
    """

    entry: TaskEntry
    kind: TargetKind
    error: Callable[[str], UserError]
    sweeps_patch_size: bool = False


@dataclass(frozen=True)
class Cast:
    """The file that says who takes part: tier, study, seeds and places of weights are its own."""

    file: SuiteFile
    document: config_file.Document


def included(
    file: SuiteFile, document: config_file.Document, find: Find, before: tuple[Path, ...] = ()
) -> tuple[list[Written], Cast]:
    """All tasks, those of included suites first; and who takes part.

    That is said by the file itself, or, where it lists no variants, by the first included suite
    that does; what the file says of tier, seeds or baselines all the same goes before.
    ``find`` tells where a suite of a name lies.

    Raises `UserError` for a suite that includes itself, a task's name that stands twice, and for
    neither tasks nor variants.
    """
    before = (*before, document.path.resolve())
    tasks: list[Written] = []
    cast = Cast(file, document) if file.variants else None
    for i, name in enumerate(file.include):
        path = document.path.parent / name if catalogue.is_own(name) else find(name)
        if path.resolve() in before:
            raise document.error(("include", i), f'"{name}" includes itself; remove one.')
        other = config_file.read(path)
        found, theirs = included(config_file.validate(SuiteFile, other), other, find, before)
        tasks += found
        cast = cast or Cast(_said_over(theirs.file, file), theirs.document)
    for i, entry in enumerate(file.tasks):
        error = partial(document.error, ("tasks", i))
        placed = _placed(entry, document.path.parent)
        kind = catalogue.kind_of(placed.dataset)
        several = entry.sweep is not None and entry.sweep.patch_size is not None
        tasks += [Written(each, kind, error, several) for each in swept(placed)]
    _refuse_repeats(tasks)
    if not tasks or cast is None:
        what = "variants" if tasks else "tasks"
        raise document.error((), f'It has no {what}: list some, or "include" a suite with them.')
    return tasks, cast


def _said_over(theirs: SuiteFile, file: SuiteFile) -> SuiteFile:
    """An included suite's file, but for what the one that includes it says itself."""
    said = file.model_fields_set & {"tier", "study", "seeds", "baselines", "mix_tiers"}
    return theirs.model_copy(update={name: getattr(file, name) for name in said})


def _refuse_repeats(tasks: list[Written]) -> None:
    seen: set[str] = set()
    for each in tasks:
        if each.entry.name in seen:
            raise each.error(
                f'"{each.entry.name}" stands twice among the tasks, those of included suites '
                "among them; rename or remove one."
            )
        seen.add(each.entry.name)


def _placed(entry: TaskEntry, folder: Path) -> TaskEntry:
    """A task of one's own lies beside its suite."""
    if not catalogue.is_own(entry.dataset):
        return entry
    return entry.model_copy(update={"dataset": str(folder / entry.dataset)})


def written_out(cast: Cast, registry: Registry) -> Listed:
    """The entries that are written, each with its place; selections as what they stand for."""
    found: list[tuple[VariantEntry, int | None]] = []
    for place, entry in enumerate(cast.file.variants):
        if isinstance(entry, Selection):
            try:
                found += [(each, place) for each in _selected(entry, registry)]
            except UserError as error:
                raise cast.document.error(("variants", place), str(error)) from None
        else:
            found.append((VariantEntry(variant=entry) if isinstance(entry, str) else entry, place))
    return found


def _selected(entry: Selection, registry: Registry) -> list[VariantEntry]:
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
