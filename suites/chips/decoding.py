"""Every chip of a folder in turn, decoded, or the reason why it cannot be used.

Joins the time steps that chips.yaml declares, keeps one file per step open at a time, and
never holds more than one chip. It must know nothing of where chips go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from models.pretraining.chips import Chip
from suites.chips.canonical import chip_of, is_mostly_empty, joined, remarks
from suites.chips.finding import Found
from suites.chips.formats import FORMATS
from suites.chips.sidecar import SIDECAR, Date, Layout
from suites.chips.stored import ReadRow, UnusableError


@dataclass(frozen=True, slots=True)
class Part:
    """One time step of a chip: chip number ``row`` of a file, and its date where steps have one."""

    file: Found
    row: int
    date: Date | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a chip comes from, or (``refusal``) why it cannot be had."""

    name: str
    parts: tuple[Part, ...]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A chip, or (``chip`` is None) why it cannot be used; ``remarks`` on what was assumed."""

    name: str
    chip: Chip | None
    reason: str = ""
    formats: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


def sources(root: Path, found: Sequence[Found], layout: Layout) -> list[Source]:
    """The chips of a folder in order; raises `UserError` for a step without files."""
    if not layout.steps:
        return [
            Source(name, (Part(file, row, None),), refusal)
            for file in found
            for name, row, refusal in _rows(root, file, file.name, layout)
        ]
    parts: dict[str, dict[str, Part]] = defaultdict(dict)
    refusals: dict[str, str] = {}
    for folder, date in layout.steps.items():
        within = [file for file in found if file.name.startswith(f"{folder}/")]
        if not within:
            raise UserError(
                f'{root / SIDECAR}: step "{folder}" has no chips: {root / folder} is missing or '
                "holds none; correct the name or remove the step."
            )
        for file in within:
            for name, row, refusal in _rows(root, file, file.name[len(folder) + 1 :], layout):
                parts[name][folder] = Part(file, row, date)
                if refusal is not None:
                    refusals[name] = refusal
    return [_of_steps(name, parts[name], layout, refusals.get(name)) for name in sorted(parts)]


def _rows(
    root: Path, file: Found, name: str, layout: Layout
) -> Iterator[tuple[str, int, str | None]]:
    """Id, row and refusal of each chip in a file; one refused row for a file without rows."""
    try:
        rows = FORMATS[file.suffix].count(str(root / file.name), layout)
    except UnusableError as error:
        yield name, 0, str(error)
        return
    if rows is None:
        yield name, 0, None
    else:
        yield from ((f"{name}[{row}]", row, None) for row in range(rows))


def _of_steps(name: str, parts: dict[str, Part], layout: Layout, refusal: str | None) -> Source:
    missing = [folder for folder in layout.steps if folder not in parts]
    if missing:
        refusal = f"has no file in step {', '.join(missing)}"
    return Source(name, tuple(parts[f] for f in layout.steps if f in parts), refusal)


def decode(root: Path, chips: Sequence[Source], layout: Layout) -> Iterator[Decoded]:
    """Decode chip after chip. Raises `UserError` for what no other chip would survive either."""
    with _OpenFiles(root, layout) as files:
        for source in chips:
            if source.refusal is not None:
                yield Decoded(source.name, None, source.refusal)
                continue
            try:
                yield _decode(source, files, layout)
            except UnusableError as error:
                yield Decoded(source.name, None, str(error))


def _decode(source: Source, files: _OpenFiles, layout: Layout) -> Decoded:
    steps: list[Chip] = []
    said: dict[str, None] = {}
    for place, part in enumerate(source.parts):
        try:
            stored = files.reader(place, part.file)(part.row)
            steps.append(chip_of(stored, layout, part.date))
        except UnusableError as error:
            where = f"step {part.file.name}: " if len(source.parts) > 1 else ""
            raise UnusableError(f"{where}{error}") from None
        said.update(dict.fromkeys(remarks(stored, layout, part.date)))
    formats = frozenset(FORMATS[part.file.suffix].title for part in source.parts)
    chip = joined(steps)
    if is_mostly_empty(chip):
        said["are more than half without data (0 in every band)"] = None
    return Decoded(source.name, chip, "", formats, tuple(said))


class _OpenFiles:
    """One open file per time step: many chips of one file are read without opening it again."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root, self._layout = root, layout
        self._open: dict[int, tuple[str, ReadRow, ExitStack]] = {}

    def __enter__(self) -> _OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for _name, _read, stack in self._open.values():
            stack.close()

    def reader(self, place: int, file: Found) -> ReadRow:
        """The reader of a file, which takes the place of the one that was open before."""
        if place in self._open:
            name, opened, held = self._open[place]
            if name == file.name:
                return opened
            del self._open[place]
            held.close()
        stack = ExitStack()
        path = str(self._root / file.name)
        read = stack.enter_context(FORMATS[file.suffix].reading(path, self._layout))
        self._open[place] = (file.name, read, stack)
        return read
