"""The windows of an `rslearn` data set: where each lies, which of its layers are complete.

Source: docs/DatasetFormat.md of allenai/rslearn. It must know nothing of pixels or of labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from models.errors import UserError, did_you_mean
from suites.datasets.rslearn_config import read_json

TimeRange = tuple[datetime, datetime]


@dataclass(frozen=True)
class Window:
    """A rectangle of ground at some time.

    ``bounds``: left, top, right, bottom in pixels of its projection, whose ``resolution`` (x, y) is
    in units of ``crs``. ``options``: whatever its makers wrote of it.
    """

    folder: Path
    group: str
    bounds: tuple[int, int, int, int]
    crs: str
    resolution: tuple[float, float]
    time_range: TimeRange | None
    options: Mapping[str, Any]

    @property
    def id(self) -> str:
        """``group/name``."""
        return f"{self.group}/{self.folder.name}"

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        left, top, right, bottom = self.bounds
        return bottom - top, right - left

    def item_group(self, layer: str, number: int) -> Path:
        """The folder of one item group of a layer."""
        return self.folder / "layers" / (f"{layer}.{number}" if number else layer)

    def block(self, cell: float) -> str:
        """The block, ``cell`` units of the projection wide, that its middle lies in.

        Blocks of two projections are never the same one.
        """
        left, top, right, bottom = self.bounds
        x, y = (left + right) / 2 * self.resolution[0], (top + bottom) / 2 * self.resolution[1]
        return f"{self.crs}/{math.floor(x / cell)}/{math.floor(y / cell)}"


def windows_of(root: Path, groups: Sequence[str] | None) -> tuple[Window, ...]:
    """All windows, by group and name. `UserError` for an unknown group, or a broken window."""
    folder = root / "windows"
    held = _folders(folder)
    if not held:
        raise UserError(f"{folder} holds no groups of windows; copy the data set again.")
    for name in groups or ():
        if name not in held:
            raise UserError(f'{folder} has no group "{name}": {did_you_mean(name, held)}.')
    found = tuple(
        _window(each, group, root)
        for group in (held if groups is None else sorted(set(groups)))
        for each in _folders(folder / group).values()
    )
    if not found:
        raise UserError(f"{folder} holds no windows; copy the data set again.")
    return found


def inside(path: Path, root: Path) -> Path:
    """The path itself. `UserError` when it, links followed, leads outside of the data set."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{path} leads outside of the data set, to {path.resolve()}; copy what it points to "
            "into its place."
        )
    return path


def completed(window: Window, layer: str) -> tuple[int, ...]:
    """The item groups of a layer that are complete, in order; none where one is missing between."""
    numbers = []
    for name in _folders(window.folder / "layers"):
        stem, _, number = name.partition(".")
        is_one = stem == layer and (not number or number.isdecimal())
        if is_one and (window.folder / "layers" / name / "completed").exists():
            numbers.append(int(number or 0))
    found = tuple(sorted(numbers))
    return found if found == tuple(range(len(found))) else ()


def _folders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {
        each.name: each
        for each in sorted(folder.iterdir())
        if not each.name.startswith(".") and each.is_dir()
    }


def _window(folder: Path, group: str, root: Path) -> Window:
    path = inside(folder, root) / "metadata.json"
    said = read_json(path)
    try:
        left, top, right, bottom = (int(each) for each in said["bounds"])
        projection = said["projection"]
        resolution = float(projection["x_resolution"]), float(projection["y_resolution"])
        window = Window(
            folder,
            group,
            (left, top, right, bottom),
            str(projection["crs"]),
            resolution,
            time_range(said.get("time_range")),
            dict(said.get("options") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} describes no window ({error!r}); copy it again.") from None
    if min(window.size) < 1:
        raise UserError(f"{path}: its bounds {list(window.bounds)} hold no pixels.")
    return window


def time_range(said: Any) -> TimeRange | None:
    """Start and end, as JSON has them. `ValueError` or `TypeError` for anything else."""
    if said is None:
        return None
    start, end = (datetime.fromisoformat(each) for each in said)
    return start, end
