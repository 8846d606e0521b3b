"""Zarr chips: a store that is one array of chips, or a group with an array per modality.

The zarr package is an extra and is imported when the first store is opened. It must know
nothing of axes or bands.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.errors import UserError
from suites.chips.arrays import NamedArrays, reader_of, rows_of
from suites.chips.sidecar import Layout
from suites.chips.stored import ReadRow, StoredChip, UnusableError, reason

title = "Zarr"
suffixes = (".zarr",)


def count(path: str, layout: Layout) -> int | None:
    """Chips along the axis N of the store's arrays, from its metadata alone."""
    return rows_of(_opened(path), layout)


@contextmanager
def reading(path: str, layout: Layout) -> Iterator[ReadRow]:
    """The chips of a store. Band names may stand in an attribute ``bands`` of each array."""
    read = reader_of(_opened(path), layout)
    yield lambda row: _whole(read, row)


def _whole(read: ReadRow, row: int) -> StoredChip:
    try:
        return read(row)
    except (UnusableError, UserError):
        raise
    except Exception as error:  # zarr, numcodecs and zlib: all mean a broken chunk
        raise _broken(error) from None


def _opened(path: str) -> NamedArrays:
    try:
        import zarr  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError(
            f'{path} needs the package zarr: run pip install "tokenrank[zarr]".'
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files in the store that are no part of it
            store: Any = zarr.open(path, mode="r")
            single = isinstance(store, zarr.Array)
            arrays: dict[str, Any] = {"": store} if single else dict(store.arrays())
        named = {name: array.attrs.get("bands") for name, array in arrays.items()}
    except Exception as error:
        raise _broken(error) from None
    bands = {name: list(told) for name, told in named.items() if isinstance(told, list)}
    return NamedArrays(arrays, bands)


def _broken(error: Exception) -> UnusableError:
    return UnusableError(f"is not a readable Zarr store ({reason(error)}): it is damaged")
