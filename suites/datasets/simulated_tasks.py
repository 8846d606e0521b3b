"""Built-in SIMULATED tasks of every other kind: labels, numbers, maps, change, time series.

They come from the landscapes of the simulated set (`suites.datasets.simulated`), whose ground truth
is known exactly, so that every probe and metric runs on a bare machine. A score on them says
nothing about the Earth and is marked as simulated wherever it appears. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from suites.datasets import simulated
from suites.datasets.base import Batch, DatasetCard, TargetKind
from suites.datasets.digests import fingerprint, pixel_digest
from suites.datasets.overpass import SIDE, overpass
from suites.datasets.patterns import F32
from suites.datasets.scenes_in_time import CROPS, MONTHS, crop_year, felling
from suites.datasets.simulated import seen_tile
from suites.datasets.spectra import BANDS
from suites.datasets.splits import split_rule, stratified_split

GENERATOR = "simulated-tasks-1"
"""Raised whenever the output changes: it is part of the fingerprint."""

COVERS: Mapping[str, tuple[str, ...]] = {
    "water": ("clear_water", "turbid_water"),
    "trees": ("conifer", "broadleaf"),
    "grass and shrub": ("grass", "dry_grass", "shrub"),
    "crops": ("green_crop",),
    "bare soil": ("bright_soil", "dark_soil"),
    "built": ("asphalt", "concrete", "tile_roof", "metal_roof"),
}
COVERED = 0.1
"""A tile has the label of a cover from this share of its area on."""


@dataclass(frozen=True)
class Sample:
    """``image`` ``[H, W, T, 13]`` L1C digital numbers, and what is asked of it."""

    image: npt.NDArray[np.generic]
    target: Any


@dataclass(frozen=True)
class Posed:
    """A simulated task. ``draw(index, seed)`` makes a sample.

    ``strata``: the scene of sample ``i`` is number ``i % strata``; splits keep each scene's share.
    """

    title: str
    kind: TargetKind
    classes: tuple[str, ...]
    dates: tuple[tuple[int, int, int], ...]
    side: int
    strata: int
    draw: Callable[[int, int], Sample]
    note: str
    unit: str = ""


@lru_cache(maxsize=256)  # 50 MB: a small set's targets, its images, and other tasks show the same
def _tile(index: int, seed: int) -> tuple[npt.NDArray[np.uint16], F32]:
    """A tile of the simulated set, and the share ``[6, 64, 64]`` of each cover in its pixels."""
    seen = seen_tile(index, seed)
    shares = np.zeros((len(COVERS), SIDE, SIDE), dtype=np.float32)
    for place, materials in enumerate(COVERS.values()):
        for material in materials:
            if material in seen.cover:
                shares[place] += seen.cut(seen.cover[material])
    return seen.pixels, shares


def _cover_map(index: int, seed: int) -> Sample:
    pixels, shares = _tile(index, seed)
    return Sample(pixels[:, :, None], shares.argmax(axis=0).astype(np.int8))


def _cover_labels(index: int, seed: int) -> Sample:
    pixels, shares = _tile(index, seed)
    return Sample(pixels[:, :, None], (shares.mean(axis=(1, 2)) >= COVERED).astype(np.uint8))


def _tree_share(index: int, seed: int) -> Sample:
    pixels, shares = _tile(index, seed)
    trees = shares[list(COVERS).index("trees")]
    return Sample(pixels[:, :, None], 100 * float(trees.mean(dtype=np.float64)))


def _tree_map(index: int, seed: int) -> Sample:
    pixels, shares = _tile(index, seed)
    return Sample(pixels[:, :, None], 100 * shares[list(COVERS).index("trees")])


def _felling(index: int, seed: int) -> Sample:
    rng = np.random.Generator(np.random.PCG64([seed, index, 2]))
    scene = felling(rng)
    before = overpass(scene.before, rng)
    after = overpass(scene.after, rng, before.corner)
    image = np.stack([before.pixels, after.pixels], axis=2)
    return Sample(image, (before.cut(scene.felled) > 0.5).astype(np.int8))


def _crop(index: int, seed: int) -> Sample:
    rng = np.random.Generator(np.random.PCG64([seed, index, 12]))
    number = index % len(CROPS)
    return Sample(crop_year(tuple(CROPS)[number], rng)[None, None], number)


_JULY = ((1, 6, 2020),)
_OF_TILES = (
    "Tiles of the set simulated; what covers the ground is known exactly, 64 x 64 pixels of 10 m."
)
TASKS: Mapping[str, Posed] = {
    "simulated-cover": Posed(
        "land cover of pixels", "maps", tuple(COVERS), _JULY, SIDE, 10, _cover_map, _OF_TILES
    ),
    "simulated-labels": Posed(
        "covers of tiles",
        "labels",
        tuple(COVERS),
        _JULY,
        SIDE,
        10,
        _cover_labels,
        f"{_OF_TILES} A label stands for a cover of {COVERED:.0%} of the tile or more.",
    ),
    "simulated-trees": Posed(
        "tree cover", "values", (), _JULY, SIDE, 10, _tree_share, _OF_TILES, "percent"
    ),
    "simulated-tree-map": Posed(
        "tree cover of pixels", "value_maps", (), _JULY, SIDE, 10, _tree_map, _OF_TILES, "percent"
    ),
    "simulated-felling": Posed(
        "felled trees, two dates",
        "maps",
        ("unchanged", "felled"),
        ((1, 6, 2019), (1, 6, 2020)),
        SIDE,
        1,
        _felling,
        "Forests with stands felled between the dates, among older clearings.",
    ),
    "simulated-crops": Posed(
        "crops by their year, single pixels",
        "classes",
        tuple(CROPS),
        tuple((15, month, 2020) for month in range(MONTHS)),
        1,
        len(CROPS),
        _crop,
        "Months of one pixel, some under thin cloud.",
    ),
}


class SimulatedTask:
    """A simulated task. Implements `suites.datasets.base.Dataset`.

    ``size`` samples, drawn when they are read: nothing is stored. The same size and seed give the
    same samples. Raises `UserError` for a size below 100 or a negative seed.
    """

    def __init__(self, name: str, size: int = simulated.DEFAULT_SIZE, seed: int = 0) -> None:
        simulated.require_size(size, seed, name)
        self._name, self._posed, self._size, self._seed = name, TASKS[name], size, seed

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know, first of all that nothing here is real."""
        posed = self._posed
        return DatasetCard(
            name=self._name,
            title=f"SIMULATED {posed.title} ({self._size:,} samples)",
            origin="simulated",
            licence="Apache-2.0",
            home="built in (docs/simulated.md)",
            level="L1C",
            classes=posed.classes,
            bands={"sentinel2_l2a": BANDS},
            height=posed.side,
            width=posed.side,
            steps=len(posed.dates),
            units_per_dn=1.0,
            split_rule=split_rule().replace("by class", "by kind of scene"),
            notes=(
                "SIMULATED: no pixel of this set was measured by a satellite; scores on it say "
                "nothing about the Earth.",
                posed.note,
            ),
            kind=posed.kind,
            unit=posed.unit,
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``sim-N`` by number."""
        return tuple(f"sim-{i:06d}" for i in range(self._size))

    def _drawn(self, row: int) -> Sample:
        return self._posed.draw(row, self._seed)

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """What is asked of each sample, as its kind has it."""
        if self._posed.kind == "classes":
            return np.arange(self._size, dtype=np.int64) % self._posed.strata
        targets = np.stack([self._drawn(row).target for row in range(self._size)])
        return targets.astype(np.float64) if self._posed.kind == "values" else targets

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over generator, task, size, seed, names and some samples, one a scene.

        The samples are in it because a future NumPy may draw other numbers from the same seed.
        """
        drawn = [self._drawn(row) for row in range(max(4, self._posed.strata))]
        facts = [pixel_digest(np.asarray(x)) for each in drawn for x in (each.image, each.target)]
        said = [GENERATOR, self._name, str(self._size), str(self._seed)]
        return fingerprint([*said, *BANDS, *self._posed.classes, *facts])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """A seeded split in which every kind of scene keeps its share."""
        scenes = np.arange(self._size, dtype=np.int64) % self._posed.strata
        return stratified_split(scenes, seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, H, W, T, 13]`` float32 digital numbers."""
        images = np.stack([self._drawn(int(row)).image for row in rows]).astype(np.float32)
        dates = np.array(self._posed.dates, dtype=np.int64)
        return Batch({"sentinel2_l2a": images}, np.tile(dates, (len(rows), 1, 1)))
