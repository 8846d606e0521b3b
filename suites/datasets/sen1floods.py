"""Sen1Floods11: where water stands during a flood, at each pixel, from Sentinel-1 or Sentinel-2.

The hand-labelled chips of 512 pixels with their published split, cut into windows of 64 as the
field evaluates them. Source: D. Bonafilia, B. Tellman, T. Anderson, E. Issenberg (CVPR Workshops
2020). It must know nothing of models.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.arrays import read_tiff
from suites.datasets.base import IGNORED, Batch, DatasetCard
from suites.datasets.digests import (
    DigestCache,
    Progress,
    digest_files,
    fingerprint,
    pixel_digest,
)
from suites.datasets.windows import Window, Windows, images_of, keep, split_of_chips, tiles

READER = "sen1floods11-1"
FOLDER = "sen1floods11"
CHIPS = Path("data/flood_events/HandLabeled")
LISTS = Path("splits/flood_handlabeled")
CHIP_SIDE, SIDE = 512, 64
CLASSES = ("not water", "water")
WATER = 1
NO_DATA = -1
SENSORS = {
    "s1": ("sentinel1",),
    "s2": ("sentinel2_l2a",),
    "both": ("sentinel1", "sentinel2_l2a"),
}
TESTS = {"published": "flood_test_data.csv", "bolivia": "flood_bolivia_data.csv"}
EVENTS = {
    "Bolivia": (2018, 2, 15), "Ghana": (2018, 9, 18), "India": (2016, 8, 12),
    "Mekong": (2018, 8, 5), "Nigeria": (2018, 9, 21), "Pakistan": (2017, 6, 28),
    "Paraguay": (2018, 10, 31), "Somalia": (2018, 5, 7), "Spain": (2019, 9, 17),
    "Sri-Lanka": (2017, 5, 30), "USA": (2019, 5, 22),
}  # fmt: skip
"""Year, month, day of each flood's Sentinel-1 image, from the published metadata (Mekong is called
Cambodia there); Sentinel-2 followed or went before by two days at most."""
NOTES = (
    f"Chips of {CHIP_SIDE} pixels are cut into windows of {SIDE}. As in published evaluations, "
    "windows without a pixel of water are left out, and so are those with a radar value that is no "
    "number: scores do not speak of dry land far from water.",
    "Pixels labelled as no data (-1) are not asked about. Windows are the same whichever sensors "
    "are given.",
    "Dates are those of each flood's Sentinel-1 image; Sentinel-2 is of two days before to two days"
    " after.",
    "Read from one real chip; otherwise tested on files in the documented format.",
)
_LISTED = re.compile(r"((?P<event>[A-Za-z-]+)_\d+)_S1Hand\.tif")


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
LABELS = "LabelHand"


def find_folder(data_dir: Path) -> Path | None:
    """The folder that holds ``data`` and ``splits`` as published, or ``None``."""
    for root in (data_dir / FOLDER, data_dir):
        for folder in (root / "v1.1", root):
            if (folder / CHIPS / LABELS).is_dir():
                return folder
    return None


class Sen1Floods:
    """Windows of the hand-labelled chips. Implements `suites.datasets.base.Dataset`.

    ``sensors``: ``"s1"`` as published evaluations have it, ``"s2"`` (level L1C), ``"both"``;
    ``test``: ``"published"``, or ``"bolivia"``, a flood of which no chip is in the other splits.
    Raises `UserError` for an unknown option, damaged lists, a chip that is missing or listed twice,
    a broken file, another size, other bands, a class outside the list.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sensors: str = "s1",
        test: str = "published",
        cache_dir: Path | None = None,
    ) -> None:
        for option, said, allowed in (("sensors", sensors, SENSORS), ("test", test, TESTS)):
            if said not in allowed:
                raise UserError(
                    f'Option "{option}" of data set "sen1floods11" is "{said}": '
                    f"{did_you_mean(said, allowed)}."
                )
        self._folder = folder
        self._sensors, self._test = sensors, test
        self._cache = DigestCache.of(cache_dir, folder, READER)
        lists = {"train": "flood_train_data.csv", "val": "flood_valid_data.csv"}
        paths = {
            split: folder / LISTS / name for split, name in {**lists, "test": TESTS[test]}.items()
        }
        # Radar decides which windows are kept, so it must be there for every choice of sensors.
        needed = dict.fromkeys(
            (LABELS, "S1Hand", *(LAYERS[name].folder for name in SENSORS[sensors]))
        )
        self._split_of = split_of_chips(
            {split: (path, _listed(path)) for split, path in paths.items()},
            lambda chip: (self._path(part, chip) for part in needed),
        )

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these windows."""
        has_optical = "sentinel2_l2a" in SENSORS[self._sensors]
        named = {"s1": "Sentinel-1", "s2": "Sentinel-2", "both": "Sentinel-1 and -2"}[self._sensors]
        bolivia = self._test == "bolivia"
        return DatasetCard(
            name="sen1floods11"
            + ("" if self._sensors == "s1" else f"-{self._sensors}")
            + ("-bolivia" if bolivia else ""),
            title=f"Sen1Floods11 water during floods, {named}",
            origin="real",
            licence="not stated by the source; Copernicus data",
            home="https://github.com/cloudtostreet/Sen1Floods11",
            level="L1C" if has_optical else "GRD",
            classes=CLASSES,
            bands={name: LAYERS[name].bands for name in SENSORS[self._sensors]},
            height=SIDE,
            width=SIDE,
            steps=1,
            units_per_dn=1.0,
            split_rule="published lists of hand-labelled chips"
            + ("; the test chips are those of the flood in Bolivia" if bolivia else ""),
            notes=NOTES,
            kind="maps",
        )

    @cached_property
    def _radar(self) -> tuple[str, ...]:
        """Of each chip its radar's digest, and which windows are whole: bits in hexadecimals.

        Both come of one reading, and both are remembered, so that a second look reads no pixel.
        """
        return self._digested("S1Hand", None)

    def _digested(self, part: str, progress: Progress | None) -> tuple[str, ...]:
        paths = [self._path(part, chip) for chip in self._split_of]
        one = _radar_digest if part == "S1Hand" else _optical_digest
        return tuple(digest_files(paths, one, self._cache, progress))

    @cached_property
    def _windows(self) -> Windows:
        return keep(self._chips(), SIDE)

    def _chips(self) -> Iterator[tuple[str, npt.NDArray[np.int8], npt.NDArray[np.bool_]]]:
        for chip, fact in zip(self._split_of, self._radar, strict=True):
            classes = _map(self._path(LABELS, chip))
            has_water = (tiles(classes, SIDE) == WATER).any(axis=(1, 2))
            yield chip, classes, has_water & _whole_windows(fact)

    @cached_property
    def ids(self) -> Sequence[str]:
        """``chip/row-column`` of each window's first pixel; chips as listed, train first."""
        return tuple(place.name for place in self._windows.places)

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """Class of each pixel, ``[N, 64, 64]``; -1 where the label is no data."""
        return self._windows.maps

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each window's chip (the sensors that are given), and where in it it lies."""
        parts = [LAYERS[name].folder for name in SENSORS[self._sensors]]
        found = [
            self._radar if part == "S1Hand" else self._digested(part, progress) for part in parts
        ]
        by_chip = dict(zip(self._split_of, map(" ".join, zip(*found, strict=True)), strict=True))
        return [f"{by_chip[p.chip]}/{p.row}-{p.column}" for p in self._windows.places]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, windows, maps, the published split and pixels."""
        bands = [band for names in self.card.bands.values() for band in names]
        facts = (f"{name} {digest}" for name, digest in zip(self.ids, self.digests(), strict=True))
        splits = (f"{chip} {split}" for chip, split in self._split_of.items())
        return fingerprint([READER, *bands, pixel_digest(self.labels), *splits, *facts])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published lists; the seed changes nothing."""
        return self._windows.rows(self._split_of, self.card.name)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 64, 64, 1, D]``, radar in dB and digital numbers; the flood's date."""
        places = [self._windows.places[row] for row in rows]
        images = {name: self._images(LAYERS[name], places) for name in SENSORS[self._sensors]}
        dates = [EVENTS[place.chip.rpartition("_")[0]] for place in places]
        stamps = [[[day, month - 1, year]] for year, month, day in dates]
        return Batch(images, np.array(stamps, dtype=np.int64))

    def _images(self, layer: Layer, places: Sequence[Window]) -> npt.NDArray[np.float32]:
        return images_of(places, SIDE, lambda chip: _image(self._path(layer.folder, chip), layer))

    def _path(self, part: str, chip: str) -> Path:
        return self._folder / CHIPS / part / f"{chip}_{part}.tif"


def _listed(path: Path) -> list[str]:
    """Names of chips, ``EVENT_NUMBER``: each line holds its radar and its label file."""
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


def _image(path: Path, layer: Layer) -> npt.NDArray[np.float32]:
    """``[512, 512, D]`` in stored units."""
    image = read_tiff(path)
    expected = (len(layer.bands), CHIP_SIDE, CHIP_SIDE)
    if image.shape != expected or image.dtype.kind not in layer.kind:
        kind = "real" if layer.kind == "f" else "whole"
        raise UserError(
            f"{path} holds {image.dtype} of shape {image.shape}, expected {kind} numbers of "
            f"{expected} ({', '.join(layer.bands)}); fetch it again."
        )
    return np.moveaxis(image, 0, -1).astype(np.float32)


def _radar_digest(path: Path) -> str:
    image = _image(path, LAYERS["sentinel1"])
    whole = np.isfinite(tiles(image, SIDE)).all(axis=(1, 2, 3))
    return f"{pixel_digest(image)} {np.packbits(whole).tobytes().hex()}"


def _optical_digest(path: Path) -> str:
    return pixel_digest(_image(path, LAYERS["sentinel2_l2a"]))


def _whole_windows(fact: str) -> npt.NDArray[np.bool_]:
    bits = np.frombuffer(bytes.fromhex(fact.split()[1]), dtype=np.uint8)
    return np.unpackbits(bits, count=(CHIP_SIDE // SIDE) ** 2).astype(bool)


def _map(path: Path) -> npt.NDArray[np.int8]:
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
