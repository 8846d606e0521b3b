"""Live fuel moisture: how wet living plants are, from three months of single pixels.

A regression task: water in living vegetation in percent of its dry weight, sampled in the field at
sites of the western United States. Each sample is one pixel at three monthly steps of Sentinel-1
and Sentinel-2. Source of the samples: K. Rao et al., SAR-enhanced mapping of live fuel moisture
content (Remote Sensing of Environment, 2020); of the files: the Presto repository (G. Tseng et al.
2023). It must know nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.arrays import read_npy
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.digests import Progress, fingerprint, pixel_digest
from suites.datasets.digital_numbers import check_digital_numbers
from suites.datasets.splits import split_of_groups

READER = "fuel-moisture-2"
FOLDER = "fuel_moisture"
STEPS = 3
CHANNELS = (
    "VV", "VH", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12",
    "temperature", "precipitation", "elevation", "slope", "NDVI",
)  # fmt: skip
"""Of the array's last axis, in order (inferred from the values). No sensor's are not read."""
BANDS = {"sentinel2_l2a": CHANNELS[2:13], "sentinel1": CHANNELS[:2]}
ASSUMED_DAY, ASSUMED_YEAR = 1, 2017
VALIDATION = 0.2
NOTES = (
    "The order of the channels was inferred from their values; B01 is not among them.",
    "Months are given; the first of the month, and 2017 as the first step's year, are assumed. Two "
    "steps may be of one month.",
    "Test sites are the published ones and share no site with training.",
)


def find_folder(data_dir: Path) -> Path | None:
    """Where the arrays lie under a data directory, or ``None``."""
    for folder in (data_dir / FOLDER, data_dir):
        if (folder / "s1_s2_era5_srtm.npy").is_file():
            return folder
    return None


class FuelMoisture:
    """The arrays, read once. Implements `suites.datasets.base.Dataset`.

    Raises `UserError` for an array that is missing, damaged, or of another shape than the others,
    mixed units, months that are out of order, and a split without a sample.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pixels = read_npy(folder / "s1_s2_era5_srtm.npy")
        count = len(self._pixels)
        self._shape_is("s1_s2_era5_srtm", self._pixels, (count, STEPS, len(CHANNELS)))
        self._months = self._beside("month", (count, STEPS))
        self._values = self._beside("target", (count,)).astype(np.float64)
        self._is_test = self._beside("is_test", (count,)).astype(bool)
        self._sites = self._beside("site", (count,))
        self._check_values()

    def _beside(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        array = read_npy(self._folder / f"{name}.npy")
        self._shape_is(name, array, shape)
        return array

    def _shape_is(self, name: str, array: npt.NDArray[np.generic], shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise UserError(
                f"{self._folder / name}.npy has shape {array.shape}, expected {shape}; fetch the "
                "data set again."
            )

    def _check_values(self) -> None:
        for name, array in (("target", self._values), ("s1_s2_era5_srtm", self._pixels)):
            bad = ~np.isfinite(array.astype(np.float64)).reshape(len(array), -1).all(axis=1)
            if bad.any():
                raise UserError(
                    f"{self._folder / name}.npy holds NaN or infinity in row {int(bad.argmax())}; "
                    "fetch the data set again."
                )
        optical = [CHANNELS.index(band) for band in BANDS["sentinel2_l2a"]]
        for row, series in enumerate(self._pixels.astype(np.float64)[:, :, optical]):
            check_digital_numbers(series, f"{self._folder / 's1_s2_era5_srtm'}.npy, row {row},")
        for side, name in ((self._is_test, "test"), (~self._is_test, "training")):
            if not side.any():
                raise UserError(
                    f"{self._folder / 'is_test.npy'} has no {name} sample; fetch the data set "
                    "again."
                )
        shared = set(self._sites[self._is_test]) & set(self._sites[~self._is_test])
        if shared:
            raise UserError(
                f"{self._folder / 'is_test.npy'} puts site {min(map(str, shared))} on both sides; "
                "fetch the data set again."
            )
        months = self._months.astype(np.int64)
        if months.min() < 0 or months.max() > 11:
            raise UserError(
                f"{self._folder / 'month.npy'} holds months outside 0 to 11 (0 is January)."
            )
        # Steps of 30 days: the next one is of the same month at times, or of the next but one.
        disordered = (np.diff(months, axis=1) % 12 > 2).any(axis=1)
        if disordered.any():
            row = int(disordered.argmax())
            raise UserError(
                f"{self._folder / 'month.npy'} holds the months {months[row].tolist()} in row {row}"
                " (0 is January), which do not follow one another; fetch the data set again."
            )

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these samples."""
        return DatasetCard(
            name="fuel-moisture",
            title="Live fuel moisture of western US sites",
            origin="real",
            licence="MIT (files); see the source for the field data",
            home="https://github.com/nasaharvest/presto",
            level="L2A",
            classes=(),
            bands=BANDS,
            height=1,
            width=1,
            steps=STEPS,
            units_per_dn=1.0,
            split_rule=f"published test sites; of the others {VALIDATION:.0%} validate, seeded",
            notes=NOTES,
            kind="values",
            unit="% of dry weight",
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """Row numbers: sites were sampled many times."""
        return tuple(f"{row:04d}" for row in range(len(self._pixels)))

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        """Percent of dry weight, ``[N]``."""
        return self._values

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over channels, pixels, months, values, sites and the published split."""
        arrays = (self._pixels, self._months, self._values, self._is_test)
        return fingerprint(
            [READER, *CHANNELS, *(pixel_digest(a) for a in arrays), *map(str, self._sites)]
        )

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each sample's pixels and months."""
        found = [
            pixel_digest(pixels) + pixel_digest(months)
            for pixels, months in zip(self._pixels, self._months, strict=True)
        ]
        if progress is not None:
            progress(len(found), len(found))
        return found

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published test rows; the other sites are dealt to train and val, each whole."""
        others = np.flatnonzero(~self._is_test)
        train, val = split_of_groups([str(self._sites[row]) for row in others], VALIDATION, seed)
        return {
            "train": others[train],
            "val": others[val],
            "test": np.flatnonzero(self._is_test),
        }

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 1, 1, 3, D]`` float32 and their months."""
        pixels = self._pixels[list(rows)].astype(np.float32)[:, None, None]
        index = {name: [CHANNELS.index(band) for band in bands] for name, bands in BANDS.items()}
        months = self._months[list(rows)].astype(np.int64)
        turns = np.cumsum(np.diff(months, axis=1, prepend=months[:, :1]) < 0, axis=1)
        dates = np.stack([np.full_like(months, ASSUMED_DAY), months, ASSUMED_YEAR + turns], axis=-1)
        return Batch({name: pixels[..., places] for name, places in index.items()}, dates)
