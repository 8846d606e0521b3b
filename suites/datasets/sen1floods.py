"""Sen1Floods11: where water stands during a flood, at each pixel, from Sentinel-1 or Sentinel-2.

The hand-labelled chips of 512 pixels with their published split, cut into windows of 64 as the
field evaluates them. Source: D. Bonafilia, B. Tellman, T. Anderson, E. Issenberg (CVPR Workshops
2020). It must know nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.digests import (
    DigestCache,
    Progress,
    digest_files,
    fingerprint,
    pixel_digest,
)
from suites.datasets.sen1floods_files import (
    CHIP_SIDE,
    CLASSES,
    EVENTS,
    LABELS,
    LAYERS,
    SIDE,
    Layer,
    class_map,
    image,
    listed,
    optical_digest,
    radar_digest,
    whole_windows,
)
from suites.datasets.windows import Window, Windows, images_of, keep, split_of_chips, tiles

READER = "sen1floods11-1"
FOLDER = "sen1floods11"
CHIPS = Path("data/flood_events/HandLabeled")
LISTS = Path("splits/flood_handlabeled")
WATER = CLASSES.index("water")
SENSORS = {
    "s1": ("sentinel1",),
    "s2": ("sentinel2_l2a",),
    "both": ("sentinel1", "sentinel2_l2a"),
}
TESTS = {"published": "flood_test_data.csv", "bolivia": "flood_bolivia_data.csv"}
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
            {split: (path, listed(path)) for split, path in paths.items()},
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
        """The `radar_digest` of each chip."""
        return self._digested("S1Hand", None)

    def _digested(self, part: str, progress: Progress | None) -> tuple[str, ...]:
        paths = [self._path(part, chip) for chip in self._split_of]
        one = radar_digest if part == "S1Hand" else optical_digest
        return tuple(digest_files(paths, one, self._cache, progress))

    @cached_property
    def _windows(self) -> Windows:
        return keep(self._chips(), SIDE)

    def _chips(self) -> Iterator[tuple[str, npt.NDArray[np.int8], npt.NDArray[np.bool_]]]:
        for chip, fact in zip(self._split_of, self._radar, strict=True):
            classes = class_map(self._path(LABELS, chip))
            has_water = (tiles(classes, SIDE) == WATER).any(axis=(1, 2))
            yield chip, classes, has_water & whole_windows(fact)

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
        return images_of(places, SIDE, lambda chip: image(self._path(layer.folder, chip), layer))

    def _path(self, part: str, chip: str) -> Path:
        return self._folder / CHIPS / part / f"{chip}_{part}.tif"
