"""MADOS: marine debris, oil spills and what resembles them, at each pixel of Sentinel-2 crops.

Crops of 240 pixels of which few are labelled, one file a band, cut into windows of 80 as the field
evaluates them. Source: K. Kikaki, I. Kakogeorgiou, I. Hoteit, K. Karantzalos (ISPRS Journal 2024).
It must know nothing of models.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.sensors import SENTINEL2_L2A
from suites.datasets.arrays import read_tiff
from suites.datasets.base import IGNORED, Batch, DatasetCard
from suites.datasets.digests import (
    DigestCache,
    Progress,
    digest_files,
    fingerprint,
    pixel_digest,
)
from suites.datasets.windows import Windows, images_of, keep, split_of_chips, tiles

READER = "mados-1"
FOLDERS = ("MADOS", "mados")
CROP_SIDE, SIDE = 240, 80
CLASSES = (
    "Marine Debris", "Dense Sargassum", "Sparse Floating Algae", "Natural Organic Material", "Ship",
    "Oil Spill", "Marine Water", "Sediment-Laden Water", "Foam", "Turbid Water", "Shallow Water",
    "Waves & Wakes", "Oil Platform", "Jellyfish", "Sea snot",
)  # fmt: skip
UNLABELLED = 0
"""In a mask; the classes follow, from 1 on."""
MEANS = {
    "B01": 0.0582676, "B02": 0.05223386, "B03": 0.04381474, "B04": 0.0357083, "B05": 0.03412902,
    "B06": 0.03680401, "B07": 0.03999107, "B08": 0.03566642, "B8A": 0.03965081, "B11": 0.0267993,
    "B12": 0.01978944,
}  # fmt: skip
"""Mean reflectance of each band, in stored order, as the publisher's reader has it: there as here
it stands where a value is no number."""
BANDS = tuple(MEANS)
WITHIN = 20.0  # nm: Sentinel-2B's B12 lies 17 nm from Sentinel-2A's, B08 and B8A lie 32 apart
DATE = (1, 6, 2020)
NOTES = (
    f"Crops of {CROP_SIDE} pixels are cut into windows of {SIDE}; as in published evaluations, "
    "windows without a labelled pixel are left out. Unlabelled pixels are not asked about.",
    "Rayleigh-corrected reflectance of ACOLITE (rhorc), neither L1C nor L2A; B09 and B10 are not "
    "among the bands. Bands of 20 and 60 m are enlarged to 10 m bilinearly, and a value that is no "
    "number is first replaced by its band's published mean.",
    "The files do not say when a scene was taken: 1 July 2020 is assumed.",
    "Bands of three real crops were read; files and lists are tested in the documented format.",
)
_BAND_FILE = re.compile(r"Scene_\d+_L2R_rhorc_(?P<wavelength>\d+)_(?P<number>\d+)\.tif")
_CROP = re.compile(r"(?P<scene>Scene_\d+)_(?P<number>\d+)")
_RESOLUTION = {band.name: int(band.resolution) for band in SENTINEL2_L2A.bands}


def find_folder(data_dir: Path) -> Path | None:
    """Where folders ``Scene_N`` lie under a data directory, or ``None``."""
    for folder in (*(data_dir / name for name in FOLDERS), data_dir):
        if next(folder.glob("Scene_*/10"), None) is not None:
            return folder
    return None


class Mados:
    """Windows with labelled pixels. Implements `suites.datasets.base.Dataset`.

    Raises `UserError` for a missing or damaged list, a crop that is missing or listed twice, a band
    without a file or with two, a broken file, another size, values that are no reflectance, a class
    outside the list.
    """

    def __init__(self, folder: Path, *, cache_dir: Path | None = None) -> None:
        self._folder = folder
        self._cache = DigestCache.of(cache_dir, folder, READER)
        self._scenes: dict[str, Mapping[str, Mapping[str, list[Path]]]] = {}
        paths = {split: folder / "splits" / f"{split}_X.txt" for split in ("train", "val", "test")}
        self._split_of = split_of_chips(
            {split: (path, _listed(path)) for split, path in paths.items()},
            lambda crop: (self._mask_path(crop),),
        )

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these windows."""
        return DatasetCard(
            name="mados",
            title="MADOS marine debris and oil spills",
            origin="real",
            licence="CC BY 4.0",
            home="https://doi.org/10.5281/zenodo.10664073",
            level="L2R",
            classes=CLASSES,
            bands={"sentinel2_l2a": BANDS},
            height=SIDE,
            width=SIDE,
            steps=1,
            units_per_dn=10_000.0,
            split_rule="published lists of crops",
            notes=NOTES,
            kind="maps",
        )

    @cached_property
    def _windows(self) -> Windows:
        return keep(self._crops(), SIDE)

    def _crops(self) -> Iterator[tuple[str, npt.NDArray[np.int8], npt.NDArray[np.bool_]]]:
        for crop in self._split_of:
            classes = _map(self._mask_path(crop))
            yield crop, classes, (tiles(classes, SIDE) != IGNORED).any(axis=(1, 2))

    @cached_property
    def ids(self) -> Sequence[str]:
        """``crop/row-column`` of each window's first pixel; crops as listed, train first."""
        return tuple(place.name for place in self._windows.places)

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """Class of each pixel, ``[N, 80, 80]``; -1 where there is no label."""
        return self._windows.maps

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each window's crop (all its bands), and where in it it lies."""
        crops = tuple(dict.fromkeys(place.chip for place in self._windows.places))
        paths = [path for crop in crops for path in self._band_paths(crop)]
        found = digest_files(
            paths, lambda path: pixel_digest(read_tiff(path)), self._cache, progress
        )
        many = len(BANDS)
        by_crop = {crop: "".join(found[i * many : i * many + many]) for i, crop in enumerate(crops)}
        return [f"{by_crop[p.chip]}/{p.row}-{p.column}" for p in self._windows.places]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, windows, maps, the published split and pixels."""
        facts = (f"{name} {digest}" for name, digest in zip(self.ids, self.digests(), strict=True))
        splits = (f"{crop} {split}" for crop, split in self._split_of.items())
        return fingerprint([READER, *BANDS, pixel_digest(self.labels), *splits, *facts])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published lists; the seed changes nothing."""
        return self._windows.rows(self._split_of, self.card.name)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 80, 80, 1, 11]``, reflectance."""
        places = [self._windows.places[row] for row in rows]
        dates = np.tile(np.array(DATE, dtype=np.int64), (len(places), 1, 1))
        return Batch({"sentinel2_l2a": images_of(places, SIDE, self._image)}, dates)

    def _image(self, crop: str) -> npt.NDArray[np.float32]:
        """``[240, 240, 11]``."""
        image = np.empty((CROP_SIDE, CROP_SIDE, len(BANDS)), dtype=np.float32)
        for place, (band, path) in enumerate(zip(BANDS, self._band_paths(crop), strict=True)):
            image[..., place] = _enlarged(_reflectance(path, band))
        return image

    def _band_paths(self, crop: str) -> list[Path]:
        """A crop's file of each band, by the wavelength in its name."""
        scene, number = _parts(crop)
        files = self._files_of(scene).get(number, {})
        paths = []
        for band in BANDS:
            found = files.get(band, [])
            where = self._folder / scene / str(_RESOLUTION[band])
            if not found:
                raise UserError(
                    f"{where} holds no file of band {band} for crop {number} "
                    f"({scene}_L2R_rhorc_WAVELENGTH_{number}.tif); fetch the data set again."
                )
            if len(found) > 1:
                raise UserError(
                    f"{where} holds {len(found)} files of band {band} for crop {number} "
                    f"({', '.join(path.name for path in found)}); remove all but one."
                )
            paths.append(found[0])
        return paths

    def _files_of(self, scene: str) -> Mapping[str, Mapping[str, list[Path]]]:
        """Number of a crop -> band -> files, of all crops of a scene."""
        if scene not in self._scenes:
            self._scenes[scene] = _band_files(self._folder / scene)
        return self._scenes[scene]

    def _mask_path(self, crop: str) -> Path:
        scene, number = _parts(crop)
        return self._folder / scene / "10" / f"{scene}_L2R_cl_{number}.tif"


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


def _band_files(scene: Path) -> Mapping[str, Mapping[str, list[Path]]]:
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for resolution in sorted(set(_RESOLUTION.values())):
        for path in sorted((scene / str(resolution)).glob("*_L2R_rhorc_*.tif")):
            parts = _BAND_FILE.fullmatch(path.name)
            band = band_of(float(parts["wavelength"]), resolution) if parts else None
            if parts and band:
                found[parts["number"]][band].append(path)
    return found


def _listed(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; fetch the data set's split lists again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable list ({error}); fetch it again.") from None
    for name in names:
        if _CROP.fullmatch(name) is None:
            raise UserError(f'{path} lists "{name}", expected Scene_N_M; fetch it again.')
    return names


def _parts(crop: str) -> tuple[str, str]:
    scene, _, number = crop.rpartition("_")
    return scene, number


def _reflectance(path: Path, band: str) -> npt.NDArray[np.float32]:
    """One band at its own resolution; what is no number is its published mean."""
    values = read_tiff(path)
    side = CROP_SIDE * 10 // _RESOLUTION[band]
    if values.shape != (side, side) or not np.issubdtype(values.dtype, np.floating):
        raise UserError(
            f"{path} holds {values.dtype} of shape {values.shape}, expected reflectance (real "
            f"numbers) of ({side}, {side}) for band {band}; fetch it again."
        )
    filled = np.where(np.isfinite(values), values, MEANS[band])
    return filled.astype(np.float32)


def _enlarged(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """To 240 pixels a side, bilinear between the centres of pixels."""
    from scipy import ndimage  # noqa: PLC0415  (lists of data sets are shown without it)

    factor = CROP_SIDE // values.shape[0]
    if factor == 1:
        return values
    return ndimage.zoom(values, factor, order=1, mode="nearest", grid_mode=True)


def _map(path: Path) -> npt.NDArray[np.int8]:
    classes = read_tiff(path)
    if classes.shape != (CROP_SIDE, CROP_SIDE):
        raise UserError(
            f"{path} has shape {classes.shape}, but its crop is {CROP_SIDE} x {CROP_SIDE} pixels; "
            "fetch it again."
        )
    allowed = range(UNLABELLED, len(CLASSES) + 1)
    if not np.isin(classes, allowed).all():
        raise UserError(
            f"{path} holds {np.setdiff1d(classes, allowed)[0]:g}, expected 0 (no label) and classes"
            f" 1 to {len(CLASSES)}; fetch it again."
        )
    return np.where(classes == UNLABELLED, IGNORED, classes.astype(np.int64) - 1).astype(np.int8)
