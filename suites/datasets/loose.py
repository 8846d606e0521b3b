"""Loose Sentinel-2 files in any folder, so that an audit can be pointed at what one has.

Finds GeoTIFF and HDF5 files, reads them one at a time as ``[1, H, W, 1, D]`` and takes
band names from band descriptions or array names where there are any. It must know
nothing of known data sets: those have their own modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tifffile

from models.errors import UserError
from suites.datasets.arrays import read_page
from suites.datasets.audit import AuditReport, Images, check_images
from suites.datasets.digests import Progress

_SUFFIXES = frozenset({".tif", ".tiff", ".hdf5", ".h5"})
_BAND = re.compile(r"^\s*B?0?(\d{1,2})(A?)\b", re.IGNORECASE)
_DESCRIPTION = re.compile(r'<Item name="DESCRIPTION" sample="(\d+)"[^>]*>([^<]*)</Item>')


@dataclass(frozen=True)
class LooseImage:
    """One file: ``image`` ``[H, W, D]`` as stored, and its band names if it has any."""

    image: npt.NDArray[np.float32]
    names: tuple[str, ...] | None


def band_name(text: str) -> str | None:
    """A Sentinel-2 band's name from how people write it: ``08A - Red Edge``, ``b2``, ``B02``."""
    match = _BAND.match(text)
    if match is None or not 1 <= int(match[1]) <= 12:
        return None
    return f"B{match[1].lstrip('0')}A" if match[2] else f"B{int(match[1]):02d}"


def find_files(folder: Path) -> list[Path]:
    """All image files under a folder, or the file itself; `UserError` when there are none."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; give a folder or a file with images.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not found:
        raise UserError(
            f"{folder} holds no image files; looked for {', '.join(sorted(_SUFFIXES))}."
        )
    return found


def read_image(path: Path) -> LooseImage:
    """Read one file; raises `UserError` naming it when it is broken or holds no image."""
    try:
        return _read_hdf5(path) if path.suffix.lower() in (".hdf5", ".h5") else _read_tiff(path)
    except UserError:
        raise
    except Exception as error:  # h5py, tifffile, zlib...: all mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read ({reason}): it is damaged or truncated.") from None


def descriptions(page: Any) -> dict[int, str]:
    """Band descriptions of a GeoTIFF page by channel, as GDAL keeps them; empty without any."""
    metadata = page.tags.get(42112)  # GDAL_METADATA
    text = str(metadata.value) if metadata is not None else ""
    return {int(i): name for i, name in _DESCRIPTION.findall(text)}


def _read_tiff(path: Path) -> LooseImage:
    image = read_page(path)
    with tifffile.TiffFile(path) as tiff:
        told = descriptions(tiff.pages.first)
    if image.ndim != 3:
        raise UserError(f"{path} has shape {image.shape}; an image has rows, columns and bands.")
    if image.shape[0] < image.shape[2] and image.shape[0] <= 13:
        image = image.transpose(1, 2, 0)  # band-sequential storage
    described = {i: band_name(name) for i, name in told.items()}
    return LooseImage(
        image.astype(np.float32), _complete([described.get(i) for i in range(image.shape[2])])
    )


def _read_hdf5(path: Path) -> LooseImage:
    with h5py.File(path, "r") as file:
        arrays = {str(k): v for k, v in file.items() if isinstance(v, h5py.Dataset) and v.ndim == 2}
        named = [(key, band_name(key)) for key in sorted(arrays)]
        known = [(key, name) for key, name in named if name is not None]
        if not known or len({arrays[key].shape for key, _ in known}) != 1:
            raise UserError(f"{path} holds no set of equally large band arrays.")
        image = np.stack([np.asarray(arrays[key][...], np.float32) for key, _ in known], axis=-1)
    return LooseImage(image, _complete([name for _, name in known]))


def _complete(names: Sequence[str | None]) -> tuple[str, ...] | None:
    whole = [name for name in names if name is not None]
    return tuple(whole) if len(whole) == len(names) == len(set(whole)) else None


def check_folder(
    folder: Path, claimed: Sequence[str] | None = None, progress: Progress | None = None
) -> AuditReport:
    """Audit all images under a folder (or one file).

    ``claimed`` names the channels; by default they are the names found in the first file
    that has any, and with none the report says which order the pixels look like.
    """
    files = find_files(folder)
    names = tuple(claimed) if claimed is not None else _first_names(files)
    return check_images(str(folder), _stream(files), names, len(files), progress)


def _first_names(files: Sequence[Path]) -> tuple[str, ...] | None:
    for path in files[:5]:
        try:
            return read_image(path).names
        except UserError:
            continue
    return None


def _stream(files: Sequence[Path]) -> Iterator[Images]:
    for path in files:
        try:
            yield Images((str(path),), read_image(path).image[None, :, :, None, :])
        except UserError as error:
            yield Images((str(path),), None, str(error))
