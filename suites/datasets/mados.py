"""MADOS: marine debris, oil spills and what resembles them, at each pixel of Sentinel-2 crops.

Crops of 240 pixels of which few are labelled, one file a band, cut into windows of 80 as the field
evaluates them. Source: K. Kikaki, I. Kakogeorgiou, I. Hoteit, K. Karantzalos (ISPRS Journal 2024).
It must know nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.arrays import read_tiff
from suites.datasets.base import IGNORED, Batch, DatasetCard
from suites.datasets.digests import (
    DigestCache,
    Progress,
    digest_files,
    fingerprint,
    pixel_digest,
)
from suites.datasets.mados_bands import (
    BANDS,
    CROP_SIDE,
    BandFiles,
    band_files,
    enlarged,
    paths_of,
    reflectance,
)
from suites.datasets.windows import Windows, images_of, keep, split_of_chips, tiles

READER = "mados-1"
FOLDERS = ("MADOS", "mados")
SIDE = 80
CLASSES = (
    "Marine Debris", "Dense Sargassum", "Sparse Floating Algae", "Natural Organic Material", "Ship",
    "Oil Spill", "Marine Water", "Sediment-Laden Water", "Foam", "Turbid Water", "Shallow Water",
    "Waves & Wakes", "Oil Platform", "Jellyfish", "Sea snot",
)  # fmt: skip
UNLABELLED = 0
"""In a mask; the classes follow, from 1 on."""
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
_CROP = re.compile(r"(?P<scene>Scene_\d+)_(?P<number>\d+)")


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
        self._scenes: dict[str, BandFiles] = {}
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
            image[..., place] = enlarged(reflectance(path, band))
        return image

    def _band_paths(self, crop: str) -> list[Path]:
        scene, number = _parts(crop)
        folder = self._folder / scene
        if scene not in self._scenes:
            self._scenes[scene] = band_files(folder)
        return paths_of(self._scenes[scene], folder, number)

    def _mask_path(self, crop: str) -> Path:
        scene, number = _parts(crop)
        return self._folder / scene / "10" / f"{scene}_L2R_cl_{number}.tif"


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
