"""The built-in simulated set as chips, so that pretraining runs where there are no data.

Wraps `suites.datasets.simulated`: canonical bands, no cirrus, one assumed date. Generated
tile by tile, or once into a packed copy where a cache folder is given. It must know nothing of
how chips are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.pretraining.chips import Chip
from models.sensors import SENTINEL2_L2A
from suites.chips.card import ChipCard
from suites.chips.packed import Index, PackedChips, keeping, packing
from suites.datasets import simulated
from suites.datasets.base import Origin
from suites.datasets.digests import Progress, fingerprint
from suites.datasets.overpass import SIDE
from suites.datasets.spectra import BANDS

_ORDER = [BANDS.index(band) for band in SENTINEL2_L2A.band_names]


class SimulatedChips:
    """Simulated chips. Implements `models.pretraining.chips.Chips`.

    ``packed`` is a copy on disk; without one a tile is generated whenever it is asked for.
    """

    def __init__(self, size: int, seed: int, packed: PackedChips | None = None) -> None:
        self._dataset = simulated.Simulated(size, seed)
        self._size, self._seed, self._packed = size, seed, packed

    def __len__(self) -> int:
        return self._size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the simulated set's own, band names and date."""
        date = " ".join(str(part) for part in simulated.ASSUMED_DATE)
        return fingerprint([self._dataset.fingerprint, *SENTINEL2_L2A.band_names, date])

    @property
    def origin(self) -> Origin:
        """Simulated: no satellite measured a pixel of these."""
        return "simulated"

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """``[N, 3]``: H, W, T of each chip."""
        return np.tile(np.array([SIDE, SIDE, 1], np.int64), (self._size, 1))

    @property
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        """Modality -> band names, canonical and complete."""
        return {SENTINEL2_L2A.name: SENTINEL2_L2A.band_names}

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """None: every tile can be used."""
        return ()

    def chip(self, row: int) -> Chip:
        """Chip number ``row``."""
        if self._packed is not None:
            return self._packed.chip(row)
        if not 0 <= row < self._size:
            raise IndexError(f"chip {row} of {self._size}")
        return _generated(row, self._seed)

    @cached_property
    def card(self) -> ChipCard:
        """What a reader must know, first of all that nothing here is real."""
        card = self._dataset.card
        return ChipCard(
            title=card.title,
            folder=card.home,
            count=self._size,
            origin="simulated",
            licence=card.licence,
            bands=self.bands,
            sides=(SIDE, SIDE),
            steps=(1, 1),
            formats=("generated",),
            notes=card.notes,
            skipped=0,
        )


def _generated(row: int, seed: int) -> Chip:
    image = np.ascontiguousarray(simulated.tile(row, seed)[:, :, None, _ORDER])
    return Chip({SENTINEL2_L2A.name: image}, np.array([simulated.ASSUMED_DATE], dtype=np.int64))


def simulated_chips(
    size: int = simulated.DEFAULT_SIZE,
    seed: int = 0,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> SimulatedChips:
    """The simulated set as chips; the same size and seed give the same ones.

    With ``cache_dir`` they are generated once and memory-mapped. Raises `UserError` for a size
    or seed out of range, and when the packed copy cannot be written.
    """
    chips = SimulatedChips(size, seed)
    if cache_dir is None:
        return chips

    place = cache_dir / f"chips-{chips.fingerprint[:16]}"

    def pack() -> Index:
        index = Index(chips.fingerprint, {name: list(names) for name, names in chips.bands.items()})
        with packing(place, index) as writer:
            for row in range(size):
                writer.add(f"sim-{row:06d}", _generated(row, seed))
                if progress is not None:
                    progress(row + 1, size)
        return index

    return SimulatedChips(size, seed, keeping(place, chips.fingerprint, pack)[0])
