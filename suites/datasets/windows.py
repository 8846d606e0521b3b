"""Chips of one size under a published split, cut into square windows of which some are kept.

Published evaluations cut large chips and leave out windows in which nothing is to be found; which
ones is the data set's to say. Windows of a chip follow one another and stay in the chip's split.
It must know nothing of sensors or of file formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.base import SPLITS

ChipLists = Mapping[str, tuple[Path, Sequence[str]]]
"""Of each split: the file that lists its chips, and their names in its order."""


@dataclass(frozen=True)
class Window:
    """A square of a chip: its first row and column."""

    chip: str
    row: int
    column: int

    @property
    def name(self) -> str:
        """``chip/row-column``."""
        return f"{self.chip}/{self.row}-{self.column}"


@dataclass(frozen=True)
class Windows:
    """The windows that are kept, in the order of their chips; ``maps`` ``[N, side, side]``."""

    places: tuple[Window, ...]
    maps: npt.NDArray[np.int8]

    def rows(self, split_of: Mapping[str, str], name: str) -> dict[str, npt.NDArray[np.int64]]:
        """Rows of train, val and test; `UserError` where a split of data set ``name`` has none."""
        parts = np.array([split_of[place.chip] for place in self.places], dtype=object)
        found = {split: np.flatnonzero(parts == split) for split in SPLITS}
        for split, rows in found.items():
            if not len(rows):
                raise UserError(
                    f"None of {name}'s windows in the {split} split can be used (its card says "
                    "which are kept); fetch the data set again."
                )
        return found


def split_of_chips(lists: ChipLists, files: Callable[[str], Iterable[Path]]) -> dict[str, str]:
    """The split of each chip, in listed order; ``files`` names those that a chip must have.

    Raises `UserError` for an empty list, a chip that is listed twice, and one without its files.
    """
    found: dict[str, str] = {}
    for split, (path, names) in lists.items():
        if not names:
            raise UserError(f"{path} lists no chip; fetch it again.")
        for name in names:
            if name in found:
                raise UserError(
                    f"{path} lists {name}, which is already in the {found[name]} split; fetch the "
                    "lists again."
                )
            missing = next((file for file in files(name) if not file.is_file()), None)
            if missing is not None:
                raise UserError(
                    f"{path} lists {name}, but {missing} is missing; fetch the data set again."
                )
            found[name] = split
    return found


def tiles(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """``[H, W, ...]`` to windows ``[n, side, side, ...]``, row by row; side divides H and W."""
    height, width, *rest = image.shape
    rows, columns = height // side, width // side
    cut = image.reshape(rows, side, columns, side, *rest).swapaxes(1, 2)
    return cut.reshape(rows * columns, side, side, *rest)


def keep(
    chips: Iterable[tuple[str, npt.NDArray[np.int8], npt.NDArray[np.bool_]]], side: int
) -> Windows:
    """Of each chip (name, map ``[H, W]``, which of its windows ``[n]``), the wanted windows.

    Maps of one chip at a time are held whole; what is not wanted is forgotten.
    """
    places: list[Window] = []
    maps = [np.zeros((0, side, side), dtype=np.int8)]
    for name, chip, wanted in chips:
        across = chip.shape[1] // side
        kept = np.flatnonzero(wanted)
        places += [Window(name, int(i) // across * side, int(i) % across * side) for i in kept]
        maps.append(tiles(chip, side)[kept])
    return Windows(tuple(places), np.concatenate(maps))


def images_of(
    places: Iterable[Window], side: int, read: Callable[[str], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Images ``[B, side, side, 1, D]`` of windows; a chip is read once for its neighbours."""
    found: list[npt.NDArray[np.float32]] = []
    name, chip = "", np.zeros((0, 0, 0), dtype=np.float32)
    for place in places:
        if place.chip != name:
            name, chip = place.chip, read(place.chip)
        rows, columns = slice(place.row, place.row + side), slice(place.column, place.column + side)
        found.append(chip[rows, columns])
    return np.stack(found)[:, :, :, None]
