"""BreizhCrops' tables: which fields there are, in which region, of which class.

Read strictly, because an overlap of regions or another list of classes would spoil every number
measured on them. It must know nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from models.errors import UserError

YEAR = 2017
REGIONS = {"train": ("frh01", "frh02"), "val": ("frh03",), "test": ("frh04",)}
CLASSES = (
    "barley", "wheat", "rapeseed", "corn", "sunflower", "orchards", "nuts", "permanent meadows",
    "temporary meadows",
)  # fmt: skip
MAPPING = "classmapping.csv"
_AGAIN = "fetch the data set again"


def read_index(folder: Path, level: str) -> pl.DataFrame:
    """Fields of all regions: ``region``, ``id``, ``key`` (in the region's HDF5 file), ``label``.

    Fields of other crops and such without an observation are left out. Raises `UserError` for a
    file that is missing or no such table, a class outside the nine, a field listed twice.
    """
    classes = _classes(folder / MAPPING)
    tables = {}
    for regions in REGIONS.values():
        for region in regions:
            path = folder / str(YEAR) / level / f"{region}.csv"
            tables[region] = _fields(path, classes)
            series = path.with_suffix(".h5")
            if not series.is_file():
                raise UserError(f"{series} is missing; {_AGAIN}.")
    _check_apart(tables, folder / str(YEAR) / level)
    return pl.concat(
        table.select(pl.lit(region).alias("region"), "id", "key", "label")
        for region, table in tables.items()
    )


def _classes(path: Path) -> dict[str, int]:
    """Class of each crop code."""
    table = _table(path, ("id", "classname", "code"))
    classes: dict[str, int] = {}
    for number, name, code in table.select("id", "classname", "code").iter_rows():
        if (number, name) not in {(str(i), known) for i, known in enumerate(CLASSES)}:
            raise UserError(
                f'{path} has class {number} "{name}", which is none of the nine '
                f"(0 {CLASSES[0]} to 8 {CLASSES[-1]}); take the mapping of nine classes."
            )
        if code in classes:
            raise UserError(f"{path} lists crop code {code} twice; {_AGAIN}.")
        classes[code] = int(number)
    return classes


def _fields(path: Path, classes: dict[str, int]) -> pl.DataFrame:
    table = _table(path, ("id", "CODE_CULTU", "path", "sequencelength"))
    length = table["sequencelength"].cast(pl.Float64, strict=False)
    if length.null_count() or table.select("id", "path").null_count().sum_horizontal()[0]:
        raise UserError(f"{path} has a row without id, path or sequencelength; {_AGAIN}.")
    kept = table.filter(pl.col("CODE_CULTU").is_in(list(classes)) & (length > 0)).with_columns(
        pl.col("CODE_CULTU").replace_strict(classes, return_dtype=pl.Int64).alias("label"),
        pl.col("path").alias("key"),
    )
    if not len(kept):
        raise UserError(f"{path} lists no field of the nine classes; {_AGAIN}.")
    twice = kept.filter(pl.col("id").is_duplicated())
    if len(twice):
        raise UserError(f"{path} lists field {twice['id'][0]} twice; {_AGAIN}.")
    if "classid" in kept.columns:  # the package adds it to an index that it has used
        other = kept.filter(pl.col("classid").cast(pl.Int64, strict=False) != pl.col("label"))
        if len(other):
            raise UserError(
                f"{path} gives field {other['id'][0]} class {other['classid'][0]}, but {MAPPING} "
                f"gives its crop {other['CODE_CULTU'][0]} class {other['label'][0]}; {_AGAIN}."
            )
    return kept


def _check_apart(tables: dict[str, pl.DataFrame], folder: Path) -> None:
    names = list(REGIONS)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for a in REGIONS[first]:
                for b in REGIONS[second]:
                    shared = tables[b].filter(pl.col("id").is_in(tables[a]["id"].implode()))
                    if len(shared):
                        raise UserError(
                            f"{folder / b}.csv lists {len(shared)} field(s) of {a}.csv "
                            f"({shared['id'][0]} is the first), so that {first} and {second} "
                            "overlap; remove them from one of the two."
                        )


def _table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path} is not a readable table ({str(error).splitlines()[0]}); {_AGAIN}."
        ) from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f'{path} has no column "{missing[0]}"; {_AGAIN}.')
    return table
