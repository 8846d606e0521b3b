"""The files of Sen1Floods11: lists of chips, radar, optical images and maps, each checked.

As published (version 1.1): one GeoTIFF of 512 pixels a chip and layer, lists without a header. It
must know nothing of windows' choice, of splits or of cards.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.arrays import read_tiff
from suites.datasets.base import IGNORED
from suites.datasets.digests import pixel_digest
from suites.datasets.windows import tiles

CHIP_SIDE, SIDE = 512, 64
"""Pixels of a chip and of a window."""
CLASSES = ("not water", "water")
NO_DATA = -1
LABELS = "LabelHand"
EVENTS = {
    "Bolivia": (2018, 2, 15), "Ghana": (2018, 9, 18), "India": (2016, 8, 12),
    "Mekong": (2018, 8, 5), "Nigeria": (2018, 9, 21), "Pakistan": (2017, 6, 28),
    "Paraguay": (2018, 10, 31), "Somalia": (2018, 5, 7), "Spain": (2019, 9, 17),
    "Sri-Lanka": (2017, 5, 30), "USA": (2019, 5, 22),
}  # fmt: skip
"""Year, month, day of each flood's Sentinel-1 image, from the published metadata (Mekong is called
Cambodia there); Sentinel-2 followed or went before by two days at most."""


@dataclass(frozen=True)
class Layer:
    """One sensor's files: their folder (and the end of their names), and bands in stored order."""

    folder: str
    bands: tuple[str, ...]
    kind: str  # of its numbers, as numpy's types have it: "f" or "iu"


LAYERS = {
    "sentinel1": Layer("S1Hand", ("VV", "VH"), "f"),
    "sentinel2_l2a": Layer(
        "S2Hand",
        ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
        "iu",
    ),
}
_LISTED = re.compile(r"((?P<event>[A-Za-z-]+)_\d+)_S1Hand\.tif")


def listed(path: Path) -> list[str]:
    """Names of chips, ``EVENT_NUMBER``: each line holds its radar and its label file.

    Raises `UserError` for a missing or damaged list, and a flood whose date is not known.
    """
    found = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if row:
                    found.append(_chip([cell.strip() for cell in row], path, number))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; fetch the data set's split lists again.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a readable list ({error}); fetch it again.") from None
    return found


def _chip(row: list[str], path: Path, number: int) -> str:
    name = _LISTED.fullmatch(row[0])
    if name is None or row[1:] != [f"{name[1]}_{LABELS}.tif"]:
        raise UserError(
            f'{path}: line {number} is "{",".join(row)}", expected '
            "EVENT_NUMBER_S1Hand.tif,EVENT_NUMBER_LabelHand.tif; fetch it again."
        )
    if name["event"] not in EVENTS:
        raise UserError(
            f'{path}: line {number} names the flood "{name["event"]}", whose date is not known: '
            f"{did_you_mean(name['event'], EVENTS)}."
        )
    return name[1]


def image(path: Path, layer: Layer) -> npt.NDArray[np.float32]:
    """``[512, 512, D]`` in stored units.

    `UserError` for a broken file, one of another form, and radar that is not in decibels.
    """
    stored = read_tiff(path)
    expected = (len(layer.bands), CHIP_SIDE, CHIP_SIDE)
    if stored.shape != expected or stored.dtype.kind not in layer.kind:
        kind = "real" if layer.kind == "f" else "whole"
        raise UserError(
            f"{path} holds {stored.dtype} of shape {stored.shape}, expected {kind} numbers of "
            f"{expected} ({', '.join(layer.bands)}); fetch it again."
        )
    known = stored[np.isfinite(stored)] if layer.kind == "f" else stored
    if layer.kind == "f" and known.size and known.min() >= 0 < known.max():
        raise UserError(
            f"{path} holds radar from {known.min():.3g} to {known.max():.3g}, which is power and "
            "no decibels; fetch it again."
        )
    return np.moveaxis(stored, 0, -1).astype(np.float32)


def radar_digest(path: Path) -> str:
    """SHA-256 of a chip's radar and, in hexadecimals, which of its windows are whole.

    Both come of one reading and are remembered together, so that a second look reads no pixel.
    """
    radar = image(path, LAYERS["sentinel1"])
    whole = np.isfinite(tiles(radar, SIDE)).all(axis=(1, 2, 3))
    return f"{pixel_digest(radar)} {np.packbits(whole).tobytes().hex()}"


def optical_digest(path: Path) -> str:
    """SHA-256 of a chip's Sentinel-2."""
    return pixel_digest(image(path, LAYERS["sentinel2_l2a"]))


def whole_windows(fact: str) -> npt.NDArray[np.bool_]:
    """Of a `radar_digest`: the windows ``[64]`` without a value that is no number."""
    bits = np.frombuffer(bytes.fromhex(fact.split()[1]), dtype=np.uint8)
    return np.unpackbits(bits, count=(CHIP_SIDE // SIDE) ** 2).astype(bool)


def class_map(path: Path) -> npt.NDArray[np.int8]:
    """Classes ``[512, 512]``, -1 where nobody is asked; `UserError` for other values or sizes."""
    classes = read_tiff(path)
    if classes.shape != (CHIP_SIDE, CHIP_SIDE):
        raise UserError(
            f"{path} has shape {classes.shape}, but its chip is {CHIP_SIDE} x {CHIP_SIDE} pixels; "
            "fetch it again."
        )
    if not np.isin(classes, (NO_DATA, *range(len(CLASSES)))).all():
        found = np.setdiff1d(classes, (NO_DATA, *range(len(CLASSES))))
        raise UserError(
            f"{path} holds {found[0]:g}, expected -1 (no data), 0 (not water) and 1 (water); fetch "
            "it again."
        )
    return np.where(classes == NO_DATA, IGNORED, classes).astype(np.int8)
