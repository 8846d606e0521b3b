"""The table of a task of one's own, as read: CSV, Parquet or GeoJSON, and its columns.

A CSV is text in UTF-8 with commas; spaces around a value are no part of it. Of GeoJSON the
properties are the columns, and a feature's middle is its lon and lat. It must know nothing of
tasks or chips.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from models.errors import UserError, did_you_mean

_UNREADABLE = (
    *(pl.exceptions.PolarsError, OSError, ValueError, KeyError, TypeError, AttributeError),
)
"""What a damaged table raises, one way or another."""


def table_of(path: Path) -> pl.DataFrame:
    """The table in a file. Raises `UserError` for one that is missing, damaged or no table."""
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            return _csv(path)
        if kind in (".parquet", ".pq"):
            return pl.read_parquet(path)
        if kind in (".geojson", ".json"):
            return _geojson(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; correct labels: in the task's file.") from None
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = "; it must be UTF-8 text, separated by commas" if kind == ".csv" else ""
        raise UserError(f"{path} is not a readable table ({reason}){wanted}.") from None
    raise UserError(f"{path} is no table; allowed: .csv, .parquet, .geojson.")


def column_of(table: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """A column without gaps. Raises `UserError` where there is none, or one has a gap."""
    if name not in table.columns:
        raise UserError(f'{path} has no column "{name}": {did_you_mean(name, table.columns)}.')
    column = table[name]
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise UserError(f'{path}: column "{name}" is empty in row {row + 1}.')
    return column


def _csv(path: Path) -> pl.DataFrame:
    table = pl.read_csv(path, infer_schema=False)
    for mark, said in ((";", "semicolons"), ("\t", "tabs")):
        if len(table.columns) == 1 and mark in table.columns[0]:
            raise UserError(f"{path} is separated by {said}; save it with commas.")
    bare = pl.all().str.strip_chars()
    kept = table.select(pl.when(bare != "").then(bare))  # nothing but spaces is a gap
    return kept.rename(str.strip)


def _geojson(path: Path) -> pl.DataFrame:
    """The properties of each feature; lon and lat, unless these are properties, as well."""
    rows = []
    for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
        row = dict(feature.get("properties") or {})
        places = list(_places((feature.get("geometry") or {}).get("coordinates")))
        if places:
            for axis, name in enumerate(("lon", "lat")):
                along = [place[axis] for place in places]
                row.setdefault(name, (min(along) + max(along)) / 2)
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _places(coordinates: Any) -> Iterator[tuple[float, float]]:
    """Every corner of a geometry, however deep its lists are."""
    if not coordinates:
        return
    if isinstance(coordinates[0], list):
        for each in coordinates:
            yield from _places(each)
    else:
        yield float(coordinates[0]), float(coordinates[1])
