"""HDF5 chips: GEO-Bench samples, files with a 2-D array per band, and arrays per modality.

A GEO-Bench sample is read by the module that knows its data set, with the corrected band
names; its pickled record is never unpickled here. It must know nothing of axes or bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from models.errors import UserError
from suites.chips.arrays import NamedArrays, reader_of, rows_of
from suites.chips.sidecar import SIDECAR, Layout
from suites.chips.stored import ReadRow, StoredChip, StoredImage, UnusableError, reason
from suites.datasets.geobench import SPECS, Spec, read_sample
from suites.datasets.loose import read_image

title = "HDF5"
suffixes = (".h5", ".hdf5")


def count(path: str, layout: Layout) -> int | None:
    """Chips along the axis N of a file's arrays; a GEO-Bench sample is one chip."""
    if _spec(path, layout) is not None:
        return None
    with _opened(path) as file:
        arrays = _images(file)
        return rows_of(arrays, layout) if arrays is not None else None


@contextmanager
def reading(path: str, layout: Layout) -> Iterator[ReadRow]:
    """The chips of a file. Band names may stand in an attribute ``bands`` of each array."""
    spec = _spec(path, layout)
    if spec is not None:
        yield lambda _row: _chip(layout, _sample(path, spec))
        return
    with _opened(path) as file:
        arrays = _images(file)
        if arrays is None:
            _refuse_unknown_geobench(file, layout)
            yield lambda _row: _chip(layout, _band_arrays(path))
        else:
            read = reader_of(arrays, layout)
            yield lambda row: _whole(read, row)


def _chip(layout: Layout, image: StoredImage) -> StoredChip:
    return StoredChip({next(iter(layout.modalities)): image})


def _spec(path: str, layout: Layout) -> Spec | None:
    """The GEO-Bench data set that a file belongs to: as stated, else by its folder's name."""
    if any(stored.bands is not None for stored in layout.modalities.values()):
        return None
    return SPECS.get(layout.geobench or Path(path).parent.name)


def _sample(path: str, spec: Spec) -> StoredImage:
    try:
        sample = read_sample(Path(path), spec)
    except UserError as error:
        raise UnusableError(_without(path, error)) from None
    return StoredImage(sample.image, "HWD", spec.corrected)


def _band_arrays(path: str) -> StoredImage:
    """A 2-D array per band, in the order of the arrays' names."""
    try:
        image = read_image(Path(path))
    except UserError as error:
        raise UnusableError(_without(path, error)) from None
    return StoredImage(image.image, "HWD", image.names)


def _without(path: str, error: UserError) -> str:
    return str(error).removeprefix(path).lstrip(": ").rstrip(".")


def _refuse_unknown_geobench(file: Any, layout: Layout) -> None:
    """Some GEO-Bench sets have false band names, and a lone sample does not say whose it is."""
    for spec in SPECS.values():
        stated = any(stored.bands is not None for stored in layout.modalities.values())
        if not stated and "pickle" in file.attrs and all(name in file for name in spec.arrays):
            raise UnusableError(
                f"is a GEO-Bench sample, and in some of its data sets {spec.correction}: say "
                f"which set it is of (geobench: {spec.name}) or the true bands in {SIDECAR}"
            )


def _images(file: Any) -> NamedArrays | None:
    """The file's arrays if any of them is an image; ``None`` for 2-D band arrays."""
    try:
        arrays = {str(name): item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        bands = {
            name: [t.decode() if isinstance(t, bytes) else str(t) for t in array.attrs["bands"]]
            for name, array in arrays.items()
            if "bands" in array.attrs
        }
        return NamedArrays(arrays, bands) if any(a.ndim >= 3 for a in arrays.values()) else None
    except Exception as error:  # h5py raises whatever it finds, KeyError and RuntimeError too
        raise _broken(error) from None


def _whole(read: ReadRow, row: int) -> StoredChip:
    try:
        return read(row)
    except UnusableError:
        raise
    except Exception as error:
        raise _broken(error) from None


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        raise _broken(error) from None
    with file:
        yield file


def _broken(error: Exception) -> UnusableError:
    return UnusableError(
        f"is not a readable HDF5 file ({reason(error)}): it is damaged or truncated"
    )
