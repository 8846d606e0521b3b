"""The labels of a task of one's own: a table with a row for each chip.

Everything that is wrong with a table is found here, before any encoder runs, and said with the
file, the column and the row; masks are `own_masks`'. It must know nothing of chips' pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import UserError, did_you_mean
from suites.datasets.base import MAP_KINDS, SPLITS
from suites.datasets.own_file import ByColumn, ByLocation, BySeed, OwnTask


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


def labelled(file: Path, task: OwnTask, chip_ids: Sequence[str]) -> Labelled:
    """The table of a task, matched with its chips.

    Raises `UserError` for a table that cannot be read, a column that is not there, a row without a
    chip or without a value, a chip named twice, a class outside the list.
    """
    path = file.parent / task.labels
    table = _table(path)
    names = [str(name) for name in _column(table, task.id, path).to_list()]
    if not names:
        raise UserError(f"{path} has no rows; it needs one for each chip.")
    chips = _matched(names, chip_ids, path)
    classes, values = _values(table, task, path, names)
    return Labelled(
        tuple(zip(chips, names, strict=True)),
        classes,
        values,
        _split(table, task, path, names),
        _groups(table, task, path, names),
    )


_UNREADABLE = (
    *(pl.exceptions.PolarsError, OSError, ValueError, KeyError, TypeError, AttributeError),
)
"""What a damaged table raises, one way or another."""


def _table(path: Path) -> pl.DataFrame:
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            return pl.read_csv(path, infer_schema=False)
        if kind in (".parquet", ".pq"):
            return pl.read_parquet(path)
        if kind in (".geojson", ".json"):
            return _geojson(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; correct labels: in the task's file.") from None
    except (
        pl.exceptions.PolarsError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a readable table ({reason}).") from None
    raise UserError(f"{path} is no table; allowed: .csv, .parquet, .geojson.")


def _geojson(path: Path) -> pl.DataFrame:
    """The properties of each feature; of points, lon and lat as well."""
    rows = []
    for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
        row = dict(feature.get("properties") or {})
        geometry = feature.get("geometry") or {}
        if geometry.get("type") == "Point":
            row.setdefault("lon", float(geometry["coordinates"][0]))
            row.setdefault("lat", float(geometry["coordinates"][1]))
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _column(table: pl.DataFrame, name: str, path: Path) -> pl.Series:
    if name not in table.columns:
        raise UserError(f'{path} has no column "{name}": {did_you_mean(name, table.columns)}.')
    column = table[name]
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise UserError(f'{path}: column "{name}" is empty in row {row + 1}.')
    return column


def _matched(names: Sequence[str], chip_ids: Sequence[str], path: Path) -> list[int]:
    """The chip of each row: by its file's name, with or without folder and suffix."""
    known: dict[str, int] = {}
    doubtful: set[str] = set()
    for number, chip in enumerate(chip_ids):
        whole = PurePosixPath(chip)
        for key in {chip, whole.name, whole.stem, str(whole.with_suffix(""))}:
            if key in known:
                doubtful.add(key)
            known.setdefault(key, number)
    found: dict[int, None] = {}
    for row, name in enumerate(names):
        if name in doubtful:
            raise UserError(
                f'{path}: "{name}" in row {row + 1} names several chips; give its folder.'
            )
        if name not in known:
            hint = did_you_mean(name, list(chip_ids))
            raise UserError(f'{path}: there is no usable chip "{name}" (row {row + 1}): {hint}.')
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
    said = [str(value) for value in _column(table, task.label, path).to_list()]
    classes = tuple(task.classes or sorted(set(said)))
    for name, value in zip(names, said, strict=True):
        if value not in classes:
            raise UserError(
                f'{path}: class "{value}" of {name} is not in the list: '
                f"{did_you_mean(value, classes)}."
            )
    return classes, np.array([classes.index(value) for value in said], dtype=np.int64)


def _numbers(
    table: pl.DataFrame, column: str, path: Path, names: Sequence[str]
) -> npt.NDArray[np.float64]:
    values = _column(table, column, path)
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
    said = [str(value) for value in _column(table, task.split.column, path).to_list()]
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
        return tuple(str(value) for value in _column(table, split.together, path).to_list())
    return None
