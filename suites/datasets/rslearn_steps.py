"""The time steps of a window: its item groups, their dates, and what is wrong with their order.

Dates come from the rasters' own record, else from the items that each group was made of, else from
the window's time range, and a card says when it is the last. Source: docs/DatasetFormat.md of
allenai/rslearn. It must know nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.eurosat import ASSUMED_DATE
from suites.datasets.rslearn_config import BandSet, read_json
from suites.datasets.rslearn_windows import TimeRange, Window, time_range

_RECORD = "metadata.json"
_COUNTS = "window_storage_meta.json"


@dataclass(frozen=True)
class Piece:
    """``steps`` time steps of the ``held`` in one file of each band set, from number ``first`` on.

    ``group`` is the item group whose folder holds the file.
    """

    layer: str
    group: int
    first: int
    steps: int
    held: int


@dataclass(frozen=True)
class Series:
    """The time steps of one modality in one window.

    ``pieces`` in stored order; ``chosen``: numbers of the steps that are given, in the order in
    which they are; ``dates`` ``[T, 3]`` of those: day, month (0-based), year. ``is_assumed``: the
    dates are the time range's, or nobody's.
    """

    pieces: tuple[Piece, ...]
    chosen: tuple[int, ...]
    dates: npt.NDArray[np.int64]
    is_assumed: bool


def series_of(
    window: Window,
    item_groups: Sequence[tuple[str, BandSet, int]],
    *,
    is_packed: bool,
    order: Literal["stored", "time"],
) -> Series:
    """The time steps of some item groups: each a layer, the band set that is asked, its number.

    ``is_packed``: all item groups of a layer lie in one file. Raises `UserError` for steps that are
    out of order, or repeated, and for records that cannot be read.
    """
    pieces: list[Piece] = []
    middles: list[datetime | None] = []
    for layer, band_set, number in item_groups:
        file_of = 0 if is_packed else number
        folder = window.item_group(layer, file_of) / band_set.folder
        held, ranges = _recorded(folder / _RECORD)
        first, steps = 0, held
        if is_packed:
            counts = _counts(folder / _COUNTS, held)
            if number >= len(counts):
                raise UserError(
                    f"{folder} holds {len(counts)} item groups, but group {number} is marked "
                    "complete; make this layer anew."
                )
            first, steps = sum(counts[:number]), counts[number]
        mine = ranges[first : first + steps] if ranges else [None] * steps
        if steps == 1 and mine[0] is None:
            mine = [_items_range(window, layer, number)]
        pieces.append(Piece(layer, file_of, first, steps, held))
        middles += [_middle(each) for each in mine]
    dates = [date for date in middles if date is not None]
    if len(dates) < len(middles) or not dates:
        return Series(tuple(pieces), tuple(range(len(middles))), _assumed(window, middles), True)
    chosen = list(range(len(dates)))
    if order == "time":
        chosen.sort(key=dates.__getitem__)
    _check_order(window, item_groups[0][0], [dates[step] for step in chosen])
    return Series(
        tuple(pieces),
        tuple(chosen),
        np.array([_numbers(dates[step]) for step in chosen], dtype=np.int64),
        False,
    )


def _check_order(window: Window, layer: str, dates: Sequence[datetime]) -> None:
    for step, (before, after) in enumerate(pairwise(dates), start=1):
        told = f"{window.folder}: time steps {step} and {step + 1} of layer {layer}"
        if before == after:
            raise UserError(
                f"{told} are both of {before:%Y-%m-%d %H:%M}; list the item groups to use under "
                "layers: (sentinel2, sentinel2.2)."
            )
        if before > after:
            raise UserError(
                f"{told} are not in order of time ({before:%Y-%m-%d}, then {after:%Y-%m-%d}); "
                "write order: time to sort them."
            )


def _recorded(path: Path) -> tuple[int, list[TimeRange | None]]:
    """How many steps a raster holds, and the time range of each if it says so."""
    if not path.is_file():
        return 1, []
    said = read_json(path)
    try:
        ranges = [time_range(each) for each in said.get("timestamps") or ()]
        steps = int(said.get("num_timesteps") or len(ranges) or 1)
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{path} is no record of a raster's time steps; copy it again.") from None
    if ranges and len(ranges) != steps:
        raise UserError(f"{path} dates {len(ranges)} of {steps} time steps; copy it again.")
    return steps, ranges


def _counts(path: Path, steps: int) -> list[int]:
    """Time steps of each item group in a file that holds all of them."""
    said = read_json(path)
    try:
        counts = [int(each) for each in said["group_timestep_counts"]]
    except (KeyError, TypeError, ValueError):
        counts = []
    if sum(counts) != steps:
        raise UserError(
            f"{path} does not say how {steps} time steps belong to item groups; copy it again."
        )
    return counts


def _items_range(window: Window, layer: str, number: int) -> TimeRange | None:
    """From the first to the last item of a group; without items, what was asked for."""
    path = window.folder / "items.json"
    if not path.is_file():
        return None
    try:
        for said in read_json(path):
            if said["layer_name"] == layer:
                return _range_of(said, number)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no record of items ({error!r}); copy it again.") from None
    return None


def _range_of(said: Any, number: int) -> TimeRange | None:
    groups = said["serialized_item_groups"]
    items = groups[number] if number < len(groups) else []
    ranges = [time_range(item["geometry"].get("time_range")) for item in items]
    known = [each for each in ranges if each is not None]
    if known:
        return min(start for start, _ in known), max(end for _, end in known)
    asked = said.get("group_time_ranges") or []
    return time_range(asked[number]) if number < len(asked) else None


def _middle(span: TimeRange | None) -> datetime | None:
    if span is None:
        return None
    start, end = (each if each.tzinfo else each.replace(tzinfo=UTC) for each in span)
    return start + (end - start) / 2


def _assumed(window: Window, steps: Sequence[object]) -> npt.NDArray[np.int64]:
    """The middles of as many equal parts of the window's time range as there are steps."""
    count = len(steps)
    if window.time_range is None:
        if count > 1:
            raise UserError(
                f"{window.folder} has {count} time steps and no dates: neither its rasters, nor "
                "items.json, nor its time_range say any; add a time_range to metadata.json."
            )
        return np.array([ASSUMED_DATE], dtype=np.int64)
    start, end = window.time_range
    parts = [start + (end - start) * (2 * part + 1) / (2 * count) for part in range(count)]
    return np.array([_numbers(part) for part in parts], dtype=np.int64)


def _numbers(date: datetime) -> tuple[int, int, int]:
    return date.day, date.month - 1, date.year
