"""What a pretraining loop sees of its data: chips in canonical bands and units, one at a time.

`suites.chips` reads folders into this shape; the loop crops, masks and normalises what it is
given here. It must know nothing of files, formats or caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Chip:
    """One chip, decoded.

    ``images``: per modality ``[H, W, T, D]`` in the canonical band order of `models.sensors`;
    Sentinel-2 in digital numbers (reflectance x 10000). ``timestamps``: ``[T, 3]`` = day,
    month (0-based), year.
    """

    images: Mapping[str, npt.NDArray[np.uint16 | np.float32]]
    timestamps: npt.NDArray[np.int64]


class Chips(Protocol):
    """A readable set of chips; sizes may differ from chip to chip."""

    def __len__(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, pixels, band names and dates."""
        ...

    @property
    def origin(self) -> Literal["real", "simulated"]:
        """Whether a satellite measured the pixels."""
        ...

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """``[N, 3]``: H, W, T of each chip, known without decoding one."""
        ...

    @property
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        """Modality -> band names, canonical and complete."""
        ...

    def chip(self, row: int) -> Chip:
        """One chip, by its number."""
        ...
