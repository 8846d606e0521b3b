"""CropHarvest's HDF5 files: one of twelve steps for each training sample, one for each test.

It must know nothing of tasks, splits or models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.arrays import open_hdf5, stored_in
from suites.datasets.digital_numbers import check_digital_numbers

STEPS = 12
CHANNELS = (
    "VV", "VH", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12",
    "temperature", "precipitation", "elevation", "slope", "NDVI",
)  # fmt: skip
"""Of the arrays' last axis, in order. No sensor's are not read."""
BANDS = {"sentinel2_l2a": CHANNELS[2:13], "sentinel1": CHANNELS[:2]}
INDEX = {name: [CHANNELS.index(band) for band in bands] for name, bands in BANDS.items()}
SAME_PLACE = 0.01
"""Degrees by which a sample's place may differ between its array and the labels."""


@dataclass(frozen=True)
class Sample:
    """Where a sample's pixels are: a file of its own, or ``row`` of a file of tests."""

    name: str
    path: Path
    row: int | None
    label: int
    end: date
    lat: float = math.nan
    lon: float = math.nan


def array_names(folder: Path) -> set[str]:
    """The files of training samples there are, without suffix; none is opened."""
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; fetch the data set again.")
    return {path.stem for path in folder.glob("*.h5")}


def read_test_labels(path: Path) -> npt.NDArray[np.int64]:
    """Class of each pixel of a test ``[N]``, -1 where nobody knows; no pixel is read.

    Raises `UserError` for a broken file, another shape, another class.
    """
    with open_hdf5(path) as file:
        labels = np.asarray(stored_in(file, "y", path)[...])
        shape = stored_in(file, "x", path).shape
    if labels.ndim != 1 or shape != (len(labels), STEPS, len(CHANNELS)):
        raise UserError(
            f"{path} has pixels {shape} and labels {labels.shape}, expected (N, {STEPS}, "
            f"{len(CHANNELS)}) and (N,); fetch the data set again."
        )
    strange = ~np.isin(labels, (-1, 0, 1))
    if strange.any():
        raise UserError(
            f"{path} has class {labels[strange][0]}; allowed: 1, 0, and -1 for pixels without; "
            "fetch the data set again."
        )
    return labels.astype(np.int64)


def read_arrays(samples: Sequence[Sample]) -> list[npt.NDArray[np.float64]]:
    """Channels ``[12, 18]`` of samples of one file.

    Raises `UserError` for a broken file, another shape, another place than the labels', what is
    not finite, mixed units, or a time step that is there twice.
    """
    path = samples[0].path
    found = []
    with open_hdf5(path) as file:
        for sample in samples:
            if sample.row is None:
                series = np.asarray(stored_in(file, "array", path)[...], dtype=np.float64)
                _check_place(file.attrs, sample)
                _check_series(series, f"{path}")
            else:
                series = np.asarray(stored_in(file, "x", path)[sample.row], dtype=np.float64)
                _check_series(series, f"{path}, row {sample.row},")
            found.append(series)
    return found


def _check_series(series: npt.NDArray[np.float64], what: str) -> None:
    if series.shape != (STEPS, len(CHANNELS)):
        raise UserError(
            f"{what} has shape {series.shape}, expected ({STEPS}, {len(CHANNELS)}); fetch the data "
            "set again."
        )
    if not np.isfinite(series).all():
        raise UserError(f"{what} holds NaN or infinity; fetch the data set again.")
    check_digital_numbers(series[:, INDEX["sentinel2_l2a"]], what)
    if len(np.unique(series, axis=0)) < STEPS:  # weather and radar never repeat to the last bit
        raise UserError(f"{what} holds a time step twice; fetch the data set again.")


def _check_place(attributes: Any, sample: Sample) -> None:
    """Labels and arrays of different releases number their samples differently."""
    for key, said in (("label_lat", sample.lat), ("label_lon", sample.lon)):
        if key in attributes and not abs(float(attributes[key]) - said) <= SAME_PLACE:
            raise UserError(
                f"{sample.path} has {key} {attributes[key]:.4f}, but the labels say {said:.4f}: "
                "they are of different releases; fetch both again."
            )
