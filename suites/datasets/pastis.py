"""PASTIS-R: which crop grows at each pixel, from a year of Sentinel-2 and Sentinel-1.

Patches of 128 pixels with some forty dates each are brought to twelve monthly means and cut into
four quarters of 64 pixels, as the field evaluates them. Source: V. Sainte Fare Garnot and
L. Landrieu (ICCV 2021); with radar: V. Sainte Fare Garnot et al. (2022). It must know nothing of
models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.arrays import read_npy
from suites.datasets.base import IGNORED, Batch, DatasetCard
from suites.datasets.digests import (
    DigestCache,
    Progress,
    digest_files,
    fingerprint,
    pixel_digest,
)
from suites.datasets.digital_numbers import check_digital_numbers

READER = "pastis-1"
FOLDER = "PASTIS-R"
SIDE, PATCH_SIDE, MONTHS = 64, 128, 12
VOID = 19
FIRST_MONTH = (2018, 9)
CLASSES = (
    "background", "meadow", "soft winter wheat", "corn", "winter barley", "winter rapeseed",
    "spring barley", "sunflower", "grapevine", "beet", "winter triticale", "winter durum wheat",
    "fruits, vegetables, flowers", "potatoes", "leguminous fodder", "soybeans", "orchard",
    "mixed cereal", "sorghum",
)  # fmt: skip
FOLDS = {"train": (1, 2, 3), "val": (4,), "test": (5,)}
NOTES = (
    "Images of a month are averaged (clouds included), the first twelve months with images are "
    "given, the first of each month assumed; whole digital numbers.",
    "Patches of 128 pixels are cut into quarters of 64; the class void is not asked about.",
    "B01 and B09 are not among the bands. Radar: ascending orbit, VV and VH in dB.",
)


@dataclass(frozen=True)
class Series:
    """One modality's files: folder and prefix, bands in stored order, the key of their dates."""

    stem: str
    bands: tuple[str, ...]
    dates: str


SERIES = {
    "sentinel2_l2a": Series(
        "DATA_S2/S2_",
        ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        "dates-S2",
    ),
    "sentinel1": Series("DATA_S1A/S1A_", ("VV", "VH"), "dates-S1A"),
}


@dataclass(frozen=True)
class Patch:
    """A patch of the metadata: ``days`` maps each modality to the day of each of its images."""

    name: str
    fold: int
    days: Mapping[str, tuple[int, ...]]  # 20180917

    @property
    def months(self) -> Mapping[str, tuple[int, ...]]:
        """Of each modality, the month of each of its images, counted from year 0."""
        return {
            name: tuple(day // 10_000 * 12 + day // 100 % 100 - 1 for day in days)
            for name, days in self.days.items()
        }


def find_folder(data_dir: Path) -> Path | None:
    """Where ``metadata.geojson`` lies under a data directory, or ``None``."""
    for folder in (data_dir / FOLDER, data_dir):
        if (folder / "metadata.geojson").is_file() and (folder / "DATA_S2").is_dir():
            return folder
    return None


class Pastis:
    """Quarters of all patches. Implements `suites.datasets.base.Dataset`.

    Raises `UserError` for damaged metadata, a patch of no published fold or a fold without any, a
    missing or broken file, another size or number of dates than of images, an image that is there
    twice, mixed units, fewer than twelve months, a class outside the list.
    """

    def __init__(self, folder: Path, *, cache_dir: Path | None = None) -> None:
        self._folder = folder
        self._patches = _patches(folder / "metadata.geojson")
        self._cache = DigestCache.of(cache_dir, folder, READER)

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these quarters."""
        return DatasetCard(
            name="pastis-r",
            title="PASTIS-R crops of French parcels",
            origin="real",
            licence="see the source",
            home="https://github.com/VSainteuf/pastis-benchmark",
            level="L2A",
            classes=CLASSES,
            bands={name: series.bands for name, series in SERIES.items()},
            height=SIDE,
            width=SIDE,
            steps=MONTHS,
            units_per_dn=1.0,
            split_rule="published folds: 1 to 3 train, 4 val, 5 test",
            notes=NOTES,
            kind="maps",
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``patch/row-column`` of each quarter's first pixel."""
        return tuple(f"{p.name}/{r}-{c}" for p in self._patches for r, c in _CORNERS)

    @cached_property
    def labels(self) -> npt.NDArray[np.int8]:
        """Class of each pixel, ``[N, 64, 64]``; -1 where it is void."""
        maps = np.empty((len(self.ids), SIDE, SIDE), dtype=np.int8)
        for place, patch in enumerate(self._patches):
            maps[4 * place : 4 * place + 4] = _quarters(self._map(patch))
        return maps

    def _map(self, patch: Patch) -> npt.NDArray[np.int8]:
        path = self._folder / "ANNOTATIONS" / f"TARGET_{patch.name}.npy"
        values = read_npy(path)
        if values.ndim != 3 or values.shape[1:] != (PATCH_SIDE, PATCH_SIDE):
            raise UserError(
                f"{path} has shape {values.shape}, expected (3, 128, 128); fetch it again."
            )
        classes = values[0].astype(np.int64)
        if classes.min() < 0 or classes.max() > VOID:
            raise UserError(f"{path} holds classes outside 0 to {VOID}; fetch it again.")
        return np.where(classes == VOID, IGNORED, classes).astype(np.int8)

    def _paths(self, patch: Patch) -> list[Path]:
        return [self._folder / f"{series.stem}{patch.name}.npy" for series in SERIES.values()]

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each quarter's patch (both sensors, its dates), and where in it it lies."""
        paths = [path for patch in self._patches for path in self._paths(patch)]
        found = digest_files(
            paths, lambda path: pixel_digest(read_npy(path)), self._cache, progress
        )
        many = len(SERIES)
        return [
            "".join(found[many * i : many * i + many]) + f"/{patch.months}/{corner}"
            for i, patch in enumerate(self._patches)
            for corner in _CORNERS
        ]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, quarters, maps, folds, dates and pixels."""
        bands = [band for series in SERIES.values() for band in series.bands]
        folds = [f"{patch.name} {patch.fold}" for patch in self._patches]
        facts = (f"{name} {digest}" for name, digest in zip(self.ids, self.digests(), strict=True))
        return fingerprint([READER, *bands, pixel_digest(self.labels), *folds, *facts])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published folds; the seed changes nothing."""
        fold = np.repeat([patch.fold for patch in self._patches], len(_CORNERS))
        return {name: np.flatnonzero(np.isin(fold, folds)) for name, folds in FOLDS.items()}

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 64, 64, 12, D]`` and the first of each month."""
        images: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in SERIES}
        dates = np.empty((len(rows), MONTHS, 3), dtype=np.int64)
        patch: Patch | None = None
        whole: Mapping[str, npt.NDArray[np.float32]] = {}
        for place, row in enumerate(rows):
            if patch is not self._patches[row // 4]:  # quarters of a patch are read together
                patch = self._patches[row // 4]
                kept = _first_months(patch)
                whole = {name: self._monthly(patch, name, kept) for name in SERIES}
                first = [(1, month % 12, month // 12) for month in kept]
            dates[place] = first
            r, c = _CORNERS[row % 4]
            for name, x in whole.items():
                images[name].append(x[r : r + SIDE, c : c + SIDE])
        return Batch({name: np.stack(x) for name, x in images.items()}, dates)

    def _monthly(self, patch: Patch, name: str, kept: Sequence[int]) -> npt.NDArray[np.float32]:
        """Means ``[128, 128, 12, D]`` of a modality's images by month.

        A month without images of this modality has those of the nearest month that has some.
        """
        series, months = SERIES[name], np.array(patch.months[name])
        path = self._folder / f"{series.stem}{patch.name}.npy"
        stored = read_npy(path)
        if (
            stored.ndim != 4
            or len(stored) != len(months)
            or stored.shape[1] < len(series.bands)
            or stored.shape[2:] != (PATCH_SIDE, PATCH_SIDE)
        ):
            raise UserError(
                f"{path} has shape {stored.shape}, but {len(months)} dates in metadata.geojson, "
                f"{len(series.bands)} bands or more and {PATCH_SIDE} x {PATCH_SIDE} pixels are "
                "expected; fetch it again."
            )
        _check_values(stored[:, : len(series.bands)], patch.days[name], name, path)
        means = []
        for month in kept:
            nearest = months[np.abs(months - month).argmin()]
            of_month = stored[months == nearest, : len(series.bands)]
            means.append(of_month.mean(axis=0, dtype=np.float64))
        found = np.stack(means).transpose(2, 3, 0, 1)
        if name == "sentinel2_l2a":
            found = np.rint(found).clip(0)  # a few stored values are negative
        return found.astype(np.float32)


_CORNERS = tuple((r, c) for r in (0, SIDE) for c in (0, SIDE))


def _quarters(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.stack([image[r : r + SIDE, c : c + SIDE] for r, c in _CORNERS])


def _check_values(images: npt.NDArray[Any], days: Sequence[int], name: str, path: Path) -> None:
    """``images`` ``[T, D, 128, 128]``: numbers, in one unit, none there twice."""
    if name == "sentinel2_l2a":
        check_digital_numbers(images.max(axis=(2, 3)), f"{path}")
    elif not np.isfinite(images).all():
        raise UserError(f"{path} holds NaN or infinity; fetch it again.")
    seen: dict[int, int] = {}
    for place, day in enumerate(days):
        # A day may have two images, of two orbits; the same image twice is a mistake.
        if day in seen and np.array_equal(images[seen[day]], images[place]):
            raise UserError(f"{path} holds the image of {day} twice; fetch it again.")
        seen.setdefault(day, place)


def _first_months(patch: Patch) -> list[int]:
    """The first twelve months, counted from year 0, in which Sentinel-2 has images."""
    start = FIRST_MONTH[0] * 12 + FIRST_MONTH[1] - 1
    found = sorted({month for month in patch.months["sentinel2_l2a"] if month >= start})[:MONTHS]
    if len(found) < MONTHS:
        raise UserError(
            f"Patch {patch.name} of PASTIS-R has images in {len(found)} months, expected {MONTHS}; "
            "fetch the data set again."
        )
    return found


def _patches(path: Path) -> tuple[Patch, ...]:
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        found = [_patch(feature["properties"]) for feature in features]
        found.sort(key=lambda patch: (patch.fold, int(patch.name)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no metadata of PASTIS-R ({type(error).__name__}: {error}); fetch it again."
        ) from None
    names = [patch.name for patch in found]
    if len(set(names)) != len(names):
        raise UserError(f"{path} names a patch twice; fetch it again.")
    known = {fold: name for name, folds in FOLDS.items() for fold in folds}
    for patch in found:
        if patch.fold not in known:
            raise UserError(
                f"{path} puts patch {patch.name} into fold {patch.fold}, but the published folds "
                f"are 1 to {len(known)}; fetch it again."
            )
    for name, folds in FOLDS.items():
        if not any(patch.fold in folds for patch in found):
            raise UserError(
                f"{path} has no patch of the {name} split (fold {', '.join(map(str, folds))}); "
                "fetch it again."
            )
    return tuple(found)


def _patch(properties: Mapping[str, Any]) -> Patch:
    days = {}
    for name, series in SERIES.items():
        dates = properties[series.dates]
        days[name] = tuple(int(dates[key]) for key in sorted(dates, key=int))
        for day in days[name]:
            # ValueError where there is no such day.
            datetime.strptime(f"{day:08d}", "%Y%m%d")
    return Patch(str(properties["ID_PATCH"]), int(properties["Fold"]), days)
