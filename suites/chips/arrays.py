"""Chips in named arrays: what NumPy, HDF5 and Zarr files have in common.

Picks the array of each modality, settles the order of its axes, and reads one chip of it,
a storage chunk at a time where one array holds many. It must know nothing of how a file is
opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.sensors import MODALITIES
from suites.chips.sidecar import Layout, check_date, how_to_name
from suites.chips.stored import (
    ReadRow,
    StoredChip,
    StoredImage,
    UnusableError,
    refuse_giants,
)

TIMESTAMPS = "timestamps"
_BY_DIMENSIONS = {3: "HWD", 4: "HWTD", 5: "NHWTD"}
_MAX_BLOCK = 2**26  # bytes of neighbouring chips that are read at once


class ArrayLike(Protocol):
    """What the arrays of NumPy, h5py and zarr share."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True)
class NamedArrays:
    """The arrays of one open file.

    A file that is one array has it under the name ``""``. ``bands`` holds the band names
    that the file keeps beside an array, by the array's name.
    """

    arrays: Mapping[str, ArrayLike]
    bands: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Picked:
    """The array that holds a modality: the order of its axes, and its band names if it has any."""

    array: ArrayLike
    axes: str
    bands: tuple[str, ...] | None


def rows_of(file: NamedArrays, layout: Layout) -> int | None:
    """How many chips the arrays hold along their axis N; ``None`` without such an axis."""
    return _length(_picked(file, layout))


def _length(picked: Mapping[str, _Picked]) -> int | None:
    lengths = {p.array.shape[0] if p.axes[0] == "N" else None for p in picked.values()}
    if len(lengths) != 1:
        raise UnusableError("its modalities hold different numbers of chips")
    (rows,) = lengths
    return rows


def reader_of(file: NamedArrays, layout: Layout) -> ReadRow:
    """Reads one chip of the arrays."""
    picked = _picked(file, layout)
    rows = _length(picked)
    dates = _timestamps(file.arrays.get(TIMESTAMPS), rows)
    columns = {name: _Rows(p.array, many=rows is not None) for name, p in picked.items()}

    def read(row: int) -> StoredChip:
        images = {
            name: StoredImage(columns[name].at(row), p.axes.removeprefix("N"), p.bands)
            for name, p in picked.items()
        }
        own = dates if dates is None or dates.ndim == 2 else dates[row]
        return StoredChip(images, own)

    return read


def _picked(file: NamedArrays, layout: Layout) -> dict[str, _Picked]:
    """Modality -> its array."""
    arrays = {name: array for name, array in file.arrays.items() if name != TIMESTAMPS}
    names = {name: name for name in arrays if name in MODALITIES}
    if layout.names_modalities:
        missing = [name for name in layout.modalities if name not in names]
        if missing:
            held = ", ".join(arrays) or "nothing"
            raise UnusableError(f"has no array {', '.join(missing)}; it holds {held}")
        names = {name: name for name in layout.modalities}
    images = [name for name, array in arrays.items() if len(array.shape) >= 3]
    if not names and len(images) == 1:
        names = {next(iter(layout.modalities)): images[0]}
    if not names:
        held = ", ".join(f"{name} {tuple(array.shape)}".strip() for name, array in arrays.items())
        raise UnusableError(
            f"holds neither one image nor arrays named after modalities "
            f"({', '.join(MODALITIES)}), but {held or 'nothing'}"
        )
    return {modality: _pick(modality, name, file, layout) for modality, name in names.items()}


def _pick(modality: str, name: str, file: NamedArrays, layout: Layout) -> _Picked:
    told = file.bands.get(name, file.bands.get(""))
    bands = None if told is None else tuple(str(band) for band in told)
    array, stated = file.arrays[name], layout.stored(modality)
    shape, axes = tuple(array.shape), stated.axes
    if axes is None:
        axes = _usual_axes(modality, shape, stated.bands or bands)
    elif len(axes) != len(shape):
        raise UnusableError(f"has shape {shape}, but chips.yaml says axes: {axes}")
    return _Picked(array, axes, bands)


def _usual_axes(modality: str, shape: tuple[int, ...], bands: Sequence[str] | None) -> str:
    """The order that arrays of so many axes usually have, if that fits the number of bands."""
    if bands is None:
        raise UnusableError(f"names no bands of {modality}: {how_to_name(modality)}")
    axes = _BY_DIMENSIONS.get(len(shape))
    if axes is None:
        raise UnusableError(f"has shape {shape}; a chip has rows, columns and bands")
    if shape[-1] != len(bands) or (axes == "HWD" and shape[0] == len(bands)):
        raise UnusableError(
            f"has shape {shape}, and which axis holds the {len(bands)} bands is not certain: "
            'state the order in chips.yaml, as in "axes: DHW" (N for chips, T for time steps)'
        )
    return axes


def _timestamps(array: ArrayLike | None, rows: int | None) -> npt.NDArray[np.int64] | None:
    """``[T, 3]`` (for all chips) or ``[N, T, 3]``, checked; ``None`` when the file has none."""
    if array is None:
        return None
    refuse_giants(tuple(array.shape), np.dtype(array.dtype))
    dates = np.asarray(array[...])
    shapes = {2} if rows is None else {2, 3}
    fits = dates.ndim in shapes and dates.shape[-1] == 3 and dates.dtype.kind in "iu"
    if not fits or (dates.ndim == 3 and len(dates) != rows):
        raise UnusableError(
            f"has timestamps of shape {dates.shape} and type {dates.dtype}; they are whole "
            "numbers [T, 3] (or [N, T, 3] beside N chips): day, month (0-based), year"
        )
    for day, month, year in np.unique(dates.reshape(-1, 3), axis=0).tolist():
        try:
            check_date(day, month, year)
        except ValueError as error:
            raise UnusableError(f"timestamps: {error}") from None
    return dates.astype(np.int64)


class _Rows:
    """One chip after another of an array, read a storage chunk at a time.

    Chips that share a compressed chunk would otherwise decompress it once each.
    """

    def __init__(self, array: ArrayLike, *, many: bool) -> None:
        self._array, self._many = array, many
        shape, dtype = tuple(array.shape), np.dtype(array.dtype)
        refuse_giants(shape[1:] if many else shape, dtype)
        self._start, self._block = 0, np.empty((0,), dtype)
        size = max(1, int(np.prod(shape[1:])) * dtype.itemsize)
        chunks = getattr(array, "chunks", None)
        self._step = max(1, min(chunks[0] if chunks else 1, _MAX_BLOCK // size))

    def at(self, row: int) -> npt.NDArray[Any]:
        if not self._many:
            return np.asarray(self._array[...])
        if not self._start <= row < self._start + len(self._block):
            self._start = row - row % self._step
            self._block = np.asarray(self._array[self._start : self._start + self._step])
        image: npt.NDArray[Any] = self._block[row - self._start]
        return image
