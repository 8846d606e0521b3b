"""A built-in SIMULATED Sentinel-2 land-cover set: ten classes, no download, no real pixel.

It exists so that the whole path runs on a bare machine; a score measured on it says
nothing about the Earth and is marked as simulated wherever it appears. Bands, their
order, units, tile size and class names are EuroSAT's, so that either set can stand in a
suite unchanged. It was calibrated against real EuroSAT tiles (docs/simulated.md): per-band
mean and standard deviation solve it about as badly as they solve the real tiles, and
features that see spatial structure do better on both. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.digests import fingerprint, pixel_digest
from suites.datasets.overpass import SIDE, Seen, overpass
from suites.datasets.scenes import CLASS_SCENES
from suites.datasets.spectra import BANDS
from suites.datasets.splits import split_rule, stratified_split

GENERATOR = "simulated-1"
"""Raised whenever the generator's output changes: it is part of the fingerprint."""

CLASSES = tuple(CLASS_SCENES)
DEFAULT_SIZE = 800
ASSUMED_DATE = (1, 6, 2020)  # day, month (0-based), year


def tile(index: int, seed: int) -> npt.NDArray[np.uint16]:
    """Tile number ``index`` of a seed: ``[64, 64, 13]`` L1C digital numbers in `BANDS` order.

    Its class is ``index % 10``. It depends on nothing but the two numbers, so a larger
    set starts with the same tiles as a smaller one.
    """
    return seen_tile(index, seed).pixels


def seen_tile(index: int, seed: int) -> Seen:
    """The tile, and where in its landscape it lies."""
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    return overpass(CLASS_SCENES[CLASSES[index % len(CLASSES)]](rng), rng)


def require_size(size: int, seed: int, who: str) -> None:
    """`UserError` for a size or seed that ``who`` cannot have."""
    if not 100 <= size <= 1_000_000:
        raise UserError(f"{who} cannot have size {size}; allowed: 100 to 1,000,000 samples.")
    if seed < 0:
        raise UserError(f"{who} cannot have seed {seed}; allowed: 0 and above.")


class Simulated:
    """The simulated set. Implements `suites.datasets.base.Dataset`.

    ``size`` samples (at least 100, so that every split has every class), generated when
    they are read: nothing is stored. The same size and seed give the same tiles.
    """

    def __init__(self, size: int = DEFAULT_SIZE, seed: int = 0) -> None:
        require_size(size, seed, "The simulated set")
        self._size = size
        self._seed = seed

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know, first of all that nothing here is real."""
        return DatasetCard(
            name="simulated",
            title=f"SIMULATED Sentinel-2 land cover ({self._size:,} tiles)",
            origin="simulated",
            licence="Apache-2.0",
            home="built in (docs/simulated.md)",
            level="L1C",
            classes=CLASSES,
            bands={"sentinel2_l2a": BANDS},
            height=SIDE,
            width=SIDE,
            steps=1,
            units_per_dn=1.0,
            split_rule=split_rule(),
            notes=(
                "SIMULATED: no pixel of this set was measured by a satellite; "
                "scores on it say nothing about real land cover.",
                "Top-of-atmosphere digital numbers (L1C), with B10 (cirrus); B8A is stored last, "
                "as in EuroSAT.",
                "1 July 2020 is assumed as the date of every sample.",
            ),
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``sim-N`` by number."""
        return tuple(f"sim-{i:06d}" for i in range(self._size))

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index per tile, ``[N]``: the classes take turns."""
        return np.arange(self._size, dtype=np.int64) % len(CLASSES)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over generator version, size, seed, band and class names, and one tile a class.

        The tiles are in it because a future NumPy may draw other numbers from the same seed.
        """
        drawn = (pixel_digest(tile(i, self._seed)) for i in range(len(CLASSES)))
        return fingerprint([GENERATOR, str(self._size), str(self._seed), *BANDS, *CLASSES, *drawn])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """A seeded stratified split; no two tiles are alike."""
        return stratified_split(self.labels, seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 64, 64, 1, 13]`` float32 digital numbers."""
        images = np.empty((len(rows), SIDE, SIDE, 1, len(BANDS)), dtype=np.float32)
        for i, row in enumerate(rows):
            images[i, :, :, 0] = tile(int(row), self._seed)
        dates = np.tile(np.array(ASSUMED_DATE, dtype=np.int64), (len(rows), 1, 1))
        return Batch({"sentinel2_l2a": images}, dates)
