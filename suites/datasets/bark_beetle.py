"""Bark beetle: which pixels of a forest are damaged, from Sentinel-2 of one date or of two.

A segmentation task. Sites are rectangles of any size; they are cut into windows of 64 pixels, and
what is missing of a window is mirrored and not asked about. It must know nothing of models.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from suites.datasets.splits import split_of_groups

READER = "bark-beetle-1"
FOLDER = "bark_beetle"
YEARS = (2019, 2020)
DATES = ("last", "both")
SIDE = 64
CLASSES = ("healthy", "damaged")
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
VALIDATION = 0.2
NOTES = (
    "The order of the bands was inferred from their means; 1 July of each year is assumed.",
    f"Sites are cut into windows of {SIDE} pixels; windows that reach beyond a site are mirrored, "
    "and their pixels out there are not asked about.",
    "The mask belongs to 2020.",
)


@dataclass(frozen=True)
class Window:
    """A square of a site: its first row and column."""

    site: str
    row: int
    column: int


def find_folder(data_dir: Path) -> Path | None:
    """Where the sites lie under a data directory, or ``None``."""
    folder = data_dir / FOLDER
    return folder if (folder / "splits.json").is_file() else None


class BarkBeetle:
    """The windows of all sites. Implements `suites.datasets.base.Dataset`.

    ``dates``: ``"last"`` gives 2020 alone, ``"both"`` 2019 and 2020 (T = 2). Raises `UserError`
    for a missing or broken file, a mask of another size than its images, other classes than 0 and
    1, and a split without a site.
    """

    def __init__(self, folder: Path, *, dates: str = "last", cache_dir: Path | None = None) -> None:
        if dates not in DATES:
            raise UserError(f'Unknown dates "{dates}" of bark-beetle. Allowed: {", ".join(DATES)}.')
        self._folder = folder
        self._years = YEARS if dates == "both" else YEARS[-1:]
        self._split_of = _splits(folder / "splits.json")
        self._cache = DigestCache.of(cache_dir, folder, READER)

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these windows."""
        return DatasetCard(
            name="bark-beetle" + ("-2-dates" if len(self._years) == 2 else ""),
            title="Bark beetle damage in forests, "
            + ("2019 and 2020" if len(self._years) == 2 else "2020"),
            origin="real",
            licence="Copernicus data; masks: see the source",
            home="",
            level="L2A",
            classes=CLASSES,
            bands={"sentinel2_l2a": BANDS},
            height=SIDE,
            width=SIDE,
            steps=len(self._years),
            units_per_dn=1.0,
            split_rule=f"published test sites; of the others {VALIDATION:.0%} validate, seeded; "
            "windows of one site stay in one split",
            notes=NOTES,
            kind="maps",
        )

    @cached_property
    def _masks(self) -> Mapping[str, npt.NDArray[np.int64]]:
        return {site: _mask(self._folder / "mask" / f"{site}.tif") for site in self._split_of}

    @cached_property
    def _windows(self) -> tuple[Window, ...]:
        return tuple(
            Window(site, row, column)
            for site, mask in self._masks.items()
            for row in range(0, mask.shape[0], SIDE)
            for column in range(0, mask.shape[1], SIDE)
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``site/row-column`` of each window's first pixel."""
        return tuple(f"{w.site}/{w.row}-{w.column}" for w in self._windows)

    @cached_property
    def labels(self) -> npt.NDArray[np.int8]:
        """Class of each pixel, ``[N, 64, 64]``; -1 beyond the site."""
        maps = np.full((len(self._windows), SIDE, SIDE), IGNORED, dtype=np.int8)
        for window, found in zip(self._windows, maps, strict=True):
            cut = _cut(self._masks[window.site], window)
            found[: cut.shape[0], : cut.shape[1]] = cut
        return maps

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each window's site (all its years), and where in it the window lies."""
        paths = [self._path(year, site) for site in self._split_of for year in self._years]
        found = digest_files(paths, lambda path: pixel_digest(_image(path)), self._cache, progress)
        many = len(self._years)
        by_site = {
            site: "".join(found[i * many : (i + 1) * many]) for i, site in enumerate(self._split_of)
        }
        return [f"{by_site[w.site]}/{w.row}-{w.column}" for w in self._windows]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, windows, masks, the published split and pixels."""
        facts = (f"{name} {digest}" for name, digest in zip(self.ids, self.digests(), strict=True))
        splits = (f"{site} {part}" for site, part in self._split_of.items())
        return fingerprint([READER, *BANDS, pixel_digest(self.labels), *splits, *facts])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published test sites; the others are dealt to train and val, each whole."""
        parts = np.array([self._split_of[w.site] for w in self._windows])
        others, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
        sites = [self._windows[row].site for row in others]
        train, val = split_of_groups(sites, VALIDATION, seed)
        return {"train": others[train], "val": others[val], "test": test}

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 64, 64, T, 12]`` float32 digital numbers."""
        images = np.empty((len(rows), SIDE, SIDE, len(self._years), len(BANDS)), dtype=np.float32)
        whole: dict[Path, npt.NDArray[np.uint16]] = {}  # of one site at a time
        for place, row in enumerate(rows):
            window = self._windows[row]
            paths = [self._path(year, window.site) for year in self._years]
            whole = {path: whole[path] if path in whole else _image(path) for path in paths}
            for step, path in enumerate(paths):
                image, mask = whole[path], self._masks[window.site]
                if image.shape[:2] != mask.shape:
                    raise UserError(
                        f"{path} is {image.shape[0]} x {image.shape[1]} pixels, but its mask is "
                        f"{mask.shape[0]} x {mask.shape[1]}; restore both or remove the site from "
                        "splits.json."
                    )
                images[place, :, :, step] = _whole(_cut(image, window))
        dates = np.array([[1, 6, year] for year in self._years], dtype=np.int64)
        return Batch({"sentinel2_l2a": images}, np.tile(dates, (len(rows), 1, 1)))

    def _path(self, year: int, site: str) -> Path:
        return self._folder / str(year) / f"{site}.tif"


def _splits(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch the data set again.") from None
    if not isinstance(found, dict) or any(p not in ("train", "test") for p in found.values()):
        raise UserError(f'{path} must map each site to "train" or "test"; fetch it again.')
    many = Counter(found.values())
    if many["test"] < 1 or many["train"] < 2:
        raise UserError(
            f"{path} has {many['train']} sites for training and {many['test']} for the test, but "
            "two and one are needed to train, validate and test; fetch it again."
        )
    return dict(sorted(found.items()))


def _image(path: Path) -> npt.NDArray[np.uint16]:
    """``[H, W, 12]`` digital numbers."""
    image = read_tiff(path)
    if image.ndim == 3 and image.shape[-1] == len(BANDS) != len(image):  # as published
        image = np.moveaxis(image, -1, 0)
    if image.ndim != 3 or len(image) != len(BANDS) or image.dtype != np.uint16:
        raise UserError(
            f"{path} holds {image.dtype} of shape {image.shape}, expected uint16 of "
            f"({len(BANDS)}, rows, columns) or (rows, columns, {len(BANDS)}); fetch it again."
        )
    return np.moveaxis(image, 0, -1).astype(np.uint16, copy=False)


def _mask(path: Path) -> npt.NDArray[np.int64]:
    mask = read_tiff(path)
    if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
        raise UserError(
            f"{path} must hold rows x columns of 0 (healthy) and 1 (damaged), but has shape "
            f"{mask.shape} and values {sorted(set(np.unique(mask).tolist()))[:5]}."
        )
    return mask.astype(np.int64)


def _cut(image: npt.NDArray[np.generic], window: Window) -> npt.NDArray[np.generic]:
    return image[window.row : window.row + SIDE, window.column : window.column + SIDE]


def _whole(cut: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """A part of a window, mirrored into a whole one."""
    missing = [(0, SIDE - side) for side in cut.shape[:2]]
    return np.pad(cut, [*missing, (0, 0)], mode="symmetric")
