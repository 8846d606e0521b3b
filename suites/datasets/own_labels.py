"""The labels of a task of one's own: a table with a row for each chip.

Everything that is wrong with a table is found here, before any encoder runs, and said with the
file, the column and the row; masks are `own_masks`'. It must know nothing of chips' pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import UserError, did_you_mean
from suites.datasets.base import MAP_KINDS, SPLITS
from suites.datasets.own_file import ByColumn, ByLocation, BySeed, OwnTask
from suites.datasets.own_table import column_of, table_of


@dataclass(frozen=True)
class Labelled:
    """What the table says, row by row.

    ``chips``: number and name of each labelled chip. ``values``: what is to be predicted (of maps,
    nothing: the masks are). ``split``: the part that each row belongs to, where a column says so;
    ``groups``: what must stay together.
    """

    chips: tuple[tuple[int, str], ...]
    classes: tuple[str, ...]
    values: npt.NDArray[Any]
    split: tuple[str, ...] | None
    groups: tuple[str, ...] | None


def labelled(
    file: Path,
    task: OwnTask,
    chip_ids: Sequence[str],
    unusable: Sequence[tuple[str, str]] = (),
) -> Labelled:
    """The table of a task, matched with its chips; ``unusable`` are ids and reasons of others.

    Raises `UserError` for a table that cannot be read, a column that is not there, a row without a
    chip or without a value, a chip named twice, a class outside the list.
    """
    path = file.parent / task.labels
    table = table_of(path)
    names = [str(name) for name in column_of(table, task.id, path).to_list()]
    if not names:
        raise UserError(f"{path} has no rows; it needs one for each chip.")
    _check_there(names, chip_ids, unusable, path, file.parent / task.chips)
    chips = _matched(names, chip_ids, path)
    classes, values = _values(table, task, path, names)
    return Labelled(
        tuple(zip(chips, names, strict=True)),
        classes,
        values,
        _split(table, task, path, names),
        _groups(table, task, path, names),
    )


def _keys(chip: str) -> Iterator[str]:
    """What a table may call a chip: its file's name, with or without folder and suffix."""
    whole = PurePosixPath(chip)
    yield from {chip, whole.name, whole.stem, str(whole.with_suffix(""))}


def _check_there(
    names: Sequence[str],
    chip_ids: Sequence[str],
    unusable: Sequence[tuple[str, str]],
    path: Path,
    folder: Path,
) -> None:
    """Raise `UserError` for the first row whose chip is not there, or cannot be used."""
    there = {key for chip in chip_ids for key in _keys(chip)}
    missing = [row for row, name in enumerate(names) if name not in there]
    if not missing:
        return
    name, place = names[missing[0]], f"row {missing[0] + 1}"
    reasons = {key: reason for chip, reason in unusable for key in _keys(chip)}
    if name in reasons:
        raise UserError(
            f'{path}: chip "{name}" ({place}) cannot be used, because it {reasons[name]}; replace '
            "it, or remove its row."
        )
    closest = get_close_matches(name, chip_ids, n=1, cutoff=0)
    more = f", and of {len(missing) - 1:,} more rows" if len(missing) > 1 else ""
    raise UserError(
        f'{path}: there is no chip "{name}" ({place}){more} in {folder} (the closest name of '
        f'{len(chip_ids):,} is "{closest[0]}"); add the file, or correct or remove the row.'
    )


def _matched(names: Sequence[str], chip_ids: Sequence[str], path: Path) -> list[int]:
    """The chip of each row."""
    known: dict[str, int] = {}
    doubtful: set[str] = set()
    for number, chip in enumerate(chip_ids):
        for key in _keys(chip):
            if key in known:
                doubtful.add(key)
            known.setdefault(key, number)
    found: dict[int, None] = {}
    for row, name in enumerate(names):
        if name in doubtful:
            raise UserError(
                f'{path}: "{name}" in row {row + 1} names several chips; give its folder.'
            )
        if known[name] in found:
            raise UserError(f'{path}: row {row + 1} names chip "{name}" a second time.')
        found[known[name]] = None
    return list(found)


def _values(
    table: pl.DataFrame, task: OwnTask, path: Path, names: Sequence[str]
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    if task.kind in MAP_KINDS:
        return tuple(task.classes or ()), np.zeros(0)
    if task.kind == "labels":
        columns = list(task.label)
        table = table.with_columns(_truths(column) for column in columns if column in table.columns)
        values = np.stack([_numbers(table, column, path, names) for column in columns], axis=1)
        if not np.isin(values, (0, 1)).all():
            row, column = np.argwhere(~np.isin(values, (0, 1)))[0]
            raise UserError(
                f'{path}: column "{columns[column]}" holds {values[row, column]:g} for '
                f"{names[row]}; labels are 0 or 1."
            )
        if task.classes is not None and len(task.classes) != len(columns):
            raise UserError(f"{path}: {len(columns)} columns of labels, but classes: names others.")
        return tuple(task.classes or columns), values.astype(np.uint8)
    assert isinstance(task.label, str)
    if task.kind == "values":
        return (), _numbers(table, task.label, path, names)
    said = [str(value) for value in column_of(table, task.label, path).to_list()]
    classes = tuple(task.classes or sorted(set(said)))
    if len(classes) < 2:
        raise UserError(
            f'{path}: column "{task.label}" holds "{classes[0]}" only; a task needs two.'
        )
    for name, value in zip(names, said, strict=True):
        if value not in classes:
            raise UserError(
                f'{path}: class "{value}" of {name} is not in the list: '
                f"{did_you_mean(value, classes)}."
            )
    return classes, np.array([classes.index(value) for value in said], dtype=np.int64)


def _truths(column: str) -> pl.Expr:
    """True and False of a CSV, as pandas writes them, as 1 and 0."""
    text = pl.col(column).cast(pl.String)
    return text.replace({"True": "1", "true": "1", "False": "0", "false": "0"})


def _numbers(
    table: pl.DataFrame, column: str, path: Path, names: Sequence[str]
) -> npt.NDArray[np.float64]:
    values = column_of(table, column, path)
    try:
        found = values.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError:
        raise UserError(f'{path}: column "{column}" holds text, not numbers.') from None
    bad = ~np.isfinite(found)
    if bad.any():
        raise UserError(
            f'{path}: column "{column}" holds no number for {names[int(bad.argmax())]}.'
        )
    return found


def _split(
    table: pl.DataFrame, task: OwnTask, path: Path, names: Sequence[str]
) -> tuple[str, ...] | None:
    if not isinstance(task.split, ByColumn):
        return None
    said = [str(value) for value in column_of(table, task.split.column, path).to_list()]
    known = {"valid": "val", "validation": "val", **{name: name for name in SPLITS}}
    for name, value in zip(names, said, strict=True):
        if value not in known:
            raise UserError(
                f'{path}: column "{task.split.column}" holds "{value}" for {name}; allowed: train, '
                "val, test."
            )
    found = tuple(known[value] for value in said)
    missing = [name for name in SPLITS if name not in found]
    if missing:
        raise UserError(f'{path}: column "{task.split.column}" has no row of {", ".join(missing)}.')
    return found


def _groups(
    table: pl.DataFrame, task: OwnTask, path: Path, names: Sequence[str]
) -> tuple[str, ...] | None:
    split = task.split
    if isinstance(split, ByLocation):
        lon, lat = (_numbers(table, column, path, names) for column in (split.lon, split.lat))
        if np.abs(lon).max() > 360 or np.abs(lat).max() > 90:
            raise UserError(
                f"{path}: {split.lon} and {split.lat} are no degrees; splits by location need "
                "longitude and latitude."
            )
        columns, rows = np.floor(lon / split.cell), np.floor(lat / split.cell)
        return tuple(f"{int(x)}/{int(y)}" for x, y in zip(columns, rows, strict=True))
    if isinstance(split, BySeed) and split.together is not None:
        return tuple(str(value) for value in column_of(table, split.together, path).to_list())
    return None
