"""The formats that chips come in, by suffix: the one place that lists them all."""

from __future__ import annotations

from suites.chips import geotiff, hdf5, numpy_files, zarr_stores
from suites.chips.stored import Format

_ALL: tuple[Format, ...] = (geotiff, hdf5, numpy_files, zarr_stores)

FORMATS: dict[str, Format] = {suffix: kind for kind in _ALL for suffix in kind.suffixes}
FOLDER_SUFFIXES = frozenset(zarr_stores.suffixes)
"""Suffixes of folders that are one store."""
FILE_SUFFIXES = frozenset(FORMATS) - FOLDER_SUFFIXES
