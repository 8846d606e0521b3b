"""The bands of MADOS: which file holds which, and what it holds at 10 m.

One file a band and crop, in a folder for each resolution, named by the satellite's own wavelength
(ACOLITE's convention). It must know nothing of windows, classes or splits.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.sensors import SENTINEL2_L2A
from suites.datasets.arrays import read_tiff

CROP_SIDE = 240
"""Pixels of a crop at 10 m."""
BandFiles = Mapping[str, Mapping[str, list[Path]]]
"""A crop's number -> band -> files."""
MEANS = {
    "B01": 0.0582676, "B02": 0.05223386, "B03": 0.04381474, "B04": 0.0357083, "B05": 0.03412902,
    "B06": 0.03680401, "B07": 0.03999107, "B08": 0.03566642, "B8A": 0.03965081, "B11": 0.0267993,
    "B12": 0.01978944,
}  # fmt: skip
"""Mean reflectance of each band, in stored order, as the publisher's reader has it: there as here
it stands where a value is no number."""
BANDS = tuple(MEANS)
MOST_REFLECTANCE = 100.0
"""Brighter than any cloud or glint; digital numbers are higher, but for the darkest crops."""
WITHIN = 20.0  # nm: Sentinel-2B's B12 lies 17 nm from Sentinel-2A's, B08 and B8A lie 32 apart
_BAND_FILE = re.compile(r"Scene_\d+_L2R_rhorc_(?P<wavelength>\d+)_(?P<number>\d+)\.tif")
RESOLUTION = {band.name: int(band.resolution) for band in SENTINEL2_L2A.bands}


def band_of(wavelength: float, resolution: int) -> str | None:
    """Sentinel-2's band of a resolution (m) at a wavelength (nm), whichever satellite names it.

    Sentinel-2A and -2B name theirs by their own centres, some nanometres apart.
    """
    near = [
        (abs(band.wavelength - wavelength), band.name)
        for band in SENTINEL2_L2A.bands
        if band.wavelength is not None and band.resolution == resolution
    ]
    distance, name = min(near, default=(np.inf, None))
    return name if distance <= WITHIN else None


def band_files(scene: Path) -> BandFiles:
    """All files of bands in a scene's folder; what is no band of these is passed over."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for resolution in sorted(set(RESOLUTION.values())):
        for path in sorted((scene / str(resolution)).glob("*_L2R_rhorc_*.tif")):
            parts = _BAND_FILE.fullmatch(path.name)
            band = band_of(float(parts["wavelength"]), resolution) if parts else None
            if parts and band:
                found[parts["number"]][band].append(path)
    return found


def paths_of(files: BandFiles, scene: Path, number: str) -> list[Path]:
    """A crop's file of each band, in the order of `BANDS`.

    Raises `UserError` for a band that has none or more than one.
    """
    paths = []
    for band in BANDS:
        found = files.get(number, {}).get(band, [])
        where = scene / str(RESOLUTION[band])
        if not found:
            raise UserError(
                f"{where} holds no file of band {band} for crop {number} "
                f"({scene.name}_L2R_rhorc_WAVELENGTH_{number}.tif); fetch the data set again."
            )
        if len(found) > 1:
            raise UserError(
                f"{where} holds {len(found)} files of band {band} for crop {number} "
                f"({', '.join(path.name for path in found)}); remove all but one."
            )
        paths.append(found[0])
    return paths


def reflectance(path: Path, band: str) -> npt.NDArray[np.float32]:
    """One band at its own resolution; what is no number is its published mean.

    Raises `UserError` for a broken file, another size, whole numbers, and digital numbers.
    """
    values = read_tiff(path)
    side = CROP_SIDE * 10 // RESOLUTION[band]
    if values.shape != (side, side) or not np.issubdtype(values.dtype, np.floating):
        raise UserError(
            f"{path} holds {values.dtype} of shape {values.shape}, expected reflectance (real "
            f"numbers) of ({side}, {side}) for band {band}; fetch it again."
        )
    filled = np.where(np.isfinite(values), values, MEANS[band])
    if filled.max() > MOST_REFLECTANCE:
        raise UserError(
            f"{path} holds values up to {filled.max():.4g}, which are no reflectance (0 to about "
            "1): its units are mixed up; fetch it again."
        )
    return filled.astype(np.float32)


def enlarged(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """To 240 pixels a side, bilinear between the centres of pixels."""
    from scipy import ndimage  # noqa: PLC0415  (lists of data sets are shown without it)

    factor = CROP_SIDE // values.shape[0]
    if factor == 1:
        return values
    return ndimage.zoom(values, factor, order=1, mode="nearest", grid_mode=True)
