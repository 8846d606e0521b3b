"""GeoTIFF chips: one file, one chip at one time step.

Band names come from the band descriptions where the file has them; orientation from the
file's own record of how its samples are laid out. It must know nothing of what the bands mean.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from models.errors import UserError
from suites.chips.names import NATURAL_L2A
from suites.chips.sidecar import Layout
from suites.chips.stored import (
    ReadRow,
    StoredChip,
    StoredImage,
    UnusableError,
    reason,
    refuse_giants,
)
from suites.datasets.arrays import lacks_decoder, no_data_of
from suites.datasets.loose import descriptions
from suites.datasets.lzw import needs_lzw, read_lzw_page

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # we say it in our own sentences

title = "GeoTIFF"
suffixes = (".tif", ".tiff")


def count(path: str, layout: Layout) -> int | None:
    """One chip a file; it is not opened for that."""
    return None


@contextmanager
def reading(path: str, layout: Layout) -> Iterator[ReadRow]:
    """The one chip of a file."""
    modality = next(iter(layout.modalities))
    yield lambda _row: StoredChip({modality: _read(path)})


def _read(path: str) -> StoredImage:
    try:
        return _unpacked(path)
    except UnusableError:
        raise
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # zlib, struct and tifffile's own: all mean a broken file
        if lacks_decoder(error):
            raise UserError(
                f"{path} is compressed in a way that needs the package imagecodecs: "
                "run pip install imagecodecs, or store the chips deflated."
            ) from None
        raise UnusableError(
            f"is not a readable TIFF ({reason(error)}): it is damaged or truncated"
        ) from None


def _unpacked(path: str) -> StoredImage:
    """By the library; what it lacks a decoder for, and is packed by LZW, the slow way."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return _image(tiff, lambda page: page.asarray())
    except (ValueError, ImportError) as error:
        if not (lacks_decoder(error) and needs_lzw(Path(path))):
            raise
    with tifffile.TiffFile(path) as tiff:
        return _image(tiff, lambda page: read_lzw_page(tiff, page))


def _image(tiff: Any, pixels_of: Callable[[Any], npt.NDArray[Any]]) -> StoredImage:
    first = tiff.pages[0]
    axes = first.axes.replace("S", "D").replace("Y", "H").replace("X", "W")
    refuse_giants(first.shape, first.dtype)
    if axes == "HW":
        pages = [page for page in tiff.pages if _is_a_band(page, first)]
        refuse_giants((len(pages), *first.shape), first.dtype)
        pixels = np.stack([pixels_of(page) for page in pages])
        axes = "DHW"
    elif sorted(axes) == sorted("DHW"):
        pixels = np.asarray(pixels_of(first))
    else:
        raise UnusableError(f"has shape {first.shape}; an image has rows, columns and bands")
    _refuse_no_data(first, pixels)
    told = descriptions(first)
    depth = pixels.shape[axes.index("D")]
    bands = tuple(told[i] for i in range(depth)) if set(range(depth)) <= set(told) else None
    return StoredImage(pixels, axes, bands, _implied(depth))


def _implied(depth: int) -> tuple[str, ...] | None:
    return NATURAL_L2A if depth == len(NATURAL_L2A) else None


def _is_a_band(page: Any, first: Any) -> bool:
    """Some writers give each band a page; overviews and masks are pages too."""
    same = page.shape == first.shape and page.dtype == first.dtype
    return bool(same and not page.is_reduced and not page.is_mask)


def _refuse_no_data(page: Any, pixels: npt.NDArray[np.generic]) -> None:
    """A marked no-data value is no measurement; 0 is, by convention, and may stay."""
    marker = no_data_of(page)
    if marker is None or np.isnan(marker):  # NaN is refused in any file
        return
    if marker != 0 and bool((pixels == np.asarray(marker).astype(pixels.dtype)).any()):
        raise UnusableError(f"holds no-data pixels (the file marks them with {marker:g})")
