"""The rasters of an `rslearn` window: band sets of any resolution, brought to the window's pixels.

A band set with fewer or more pixels gives each pixel of the window the value stored where its
middle lies (nearest neighbour), as `rslearn` reads them; what lies beyond them at an edge, where
`rslearn` has 0, gets the last one. It must know nothing of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from models.errors import UserError
from suites.datasets.arrays import no_data_of, read_tiff
from suites.datasets.rslearn_config import BandSet
from suites.datasets.rslearn_windows import Window

FILE = "geotiff.tif"
_SCALE, _TIE = 33550, 33922


@dataclass(frozen=True)
class Pixels:
    """``values`` ``[H, W, T, D]`` in a window's pixels, as stored.

    ``no_data``: the value of those that nothing was measured in. None where there is none, and
    where it is 0, which may be a measurement and by convention stays.
    """

    values: npt.NDArray[Any]
    no_data: float | None

    def gaps(self) -> npt.NDArray[np.bool_]:
        """Where nothing was measured."""
        if self.no_data is None:
            return np.zeros(self.values.shape, dtype=np.bool_)
        found: npt.NDArray[np.bool_] = self.values == self.no_data
        return found


def read_band_set(
    path: Path, window: Window, band_set: BandSet, steps: int, bands: Sequence[int]
) -> Pixels:
    """The bands of some numbers.

    Raises `UserError` for a file that is missing or broken, has another size, number of bands or
    place than its window says.
    """
    stored = read_stored(path)
    rows, columns = _stored_places(path, window, band_set)
    height, width = rows[1], columns[1]
    depth = len(band_set.bands) * steps
    found = stored.pixels.shape
    if found[:2] != (height, width):
        raise UserError(
            f"{path} has {found[0]} x {found[1]} pixels, but its window has {height} x {width}; "
            "make this layer anew."
        )
    if found[2] != depth:
        raise UserError(
            f"{path} holds {found[2]} bands, but config.json says {depth} ("
            f"{', '.join(band_set.bands)}, {steps} time steps); make this layer anew."
        )
    if stored.place is not None:
        _check_place(path, stored.place, window, rows, columns)
    # Bands change slowest in the file, time steps within each.
    pixels = stored.pixels.reshape(height, width, len(band_set.bands), steps).transpose(0, 1, 3, 2)
    pixels = pixels[_nearest(window, rows, 1)][:, _nearest(window, columns, 0)]
    return Pixels(pixels[..., bands], stored.no_data or band_set.no_data or None)


@dataclass(frozen=True)
class Place:
    """Where a file says that it lies: its ``corner`` (x, y) and the size of its ``pixel``."""

    corner: tuple[float, float]
    pixel: tuple[float, float]


@dataclass(frozen=True)
class Stored:
    """All bands of a GeoTIFF ``[H, W, D]``, and their place if the file records one.

    ``no_data``: the value that the file marks so; 0 where it marks none.
    """

    pixels: npt.NDArray[Any]
    place: Place | None
    no_data: float


def read_stored(path: Path) -> Stored:
    """A GeoTIFF, in whatever layout it lies. `UserError` for a file that is broken or no image."""
    found = read_tiff(path)
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages.first
        shape, axes, place, no_data = page.shape, page.axes, None, no_data_of(page) or 0.0
        if _SCALE in page.tags and _TIE in page.tags:
            scale, tie = page.tags[_SCALE].value, page.tags[_TIE].value
            place = Place((float(tie[3]), float(tie[4])), (float(scale[0]), float(scale[1])))
    found = found.reshape(shape) if found.size == np.prod(shape) else found
    if axes == "YX" and found.ndim == 2:
        return Stored(found[..., None], place, no_data)
    if sorted(axes) != ["S", "X", "Y"] or found.ndim != 3:
        raise UserError(f"{path} has shape {found.shape}; an image has rows, columns and bands.")
    return Stored(found.transpose([axes.index(axis) for axis in "YXS"]), place, no_data)


Places = tuple[int, int]
"""Number of the first stored pixel along an axis, in the stored grid; how many there are."""


def _stored_places(path: Path, window: Window, band_set: BandSet) -> tuple[Places, Places]:
    """Along rows and along columns."""
    left, top, _, _ = window.bounds
    height, width = window.size
    if band_set.size is not None:
        (many, wide) = band_set.size
        return (round(top * many / height), many), (round(left * wide / width), wide)
    if band_set.zoom >= 0:
        finer = 2**band_set.zoom
        return (top * finer, height * finer), (left * finer, width * finer)
    coarser = 2**-band_set.zoom
    if height % coarser or width % coarser:
        raise UserError(
            f"{path}: its window of {height} x {width} pixels cannot hold pixels {coarser} times "
            "as large (zoom_offset in config.json)."
        )
    return (top // coarser, height // coarser), (left // coarser, width // coarser)


def _nearest(window: Window, stored: Places, axis: int) -> npt.NDArray[np.int64]:
    """Which stored pixel each of the window's takes its value from; the last at an edge."""
    first, many = stored
    start, length = window.bounds[axis], window.size[1 - axis]
    middles = (start + np.arange(length) + 0.5) * (many / length)
    places: npt.NDArray[np.int64] = np.floor(middles).astype(np.int64) - first
    return places.clip(0, many - 1)


def _check_place(path: Path, place: Place, window: Window, rows: Places, columns: Places) -> None:
    """`UserError` where the file's own record of its place is not the window's."""
    for axis, (first, many) in enumerate((columns, rows)):
        pixel = window.resolution[axis] * window.size[1 - axis] / many
        is_there = abs(place.corner[axis] - first * pixel) <= abs(pixel) / 2
        if not is_there or not np.isclose(place.pixel[axis], abs(pixel), rtol=1e-3):
            x, y = place.corner
            raise UserError(
                f"{path} does not lie where its window does (corner {x:.10g}, {y:.10g}; pixels of "
                f"{place.pixel[0]:g} x {place.pixel[1]:g}); make this layer anew."
            )


def chosen_bands(
    wanted: Sequence[str], band_sets: Sequence[BandSet]
) -> list[tuple[BandSet, list[int], list[int]]]:
    """Where wanted bands lie: a band set, its bands to take, and their places among the wanted.

    A band of several band sets is taken from the first.
    """
    left = {band: place for place, band in enumerate(wanted)}
    found = []
    for band_set in band_sets:
        mine = [(i, left.pop(band)) for i, band in enumerate(band_set.bands) if band in left]
        if mine:
            found.append((band_set, [i for i, _ in mine], [place for _, place in mine]))
    return found
