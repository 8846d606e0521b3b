"""What every data set gives the harness: cards, samples, splits; the same shape for all.

One module per data set implements `Dataset`. The harness sees only this file's
types, so a new data set is one new module. It must know nothing of models' input
order or normalisation: bands are delivered as stored, with their true names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Origin = Literal["real", "simulated"]
TargetKind = Literal["classes", "labels", "values", "maps", "value_maps"]
"""What is predicted for a sample: one class; any of several labels; a number; a class for each
pixel; a number for each pixel."""
MAP_KINDS: tuple[TargetKind, ...] = ("maps", "value_maps")
KIND_WORDS: Mapping[TargetKind, str] = {
    "classes": "one class a sample",
    "labels": "several labels a sample",
    "values": "a number a sample",
    "maps": "a class for each pixel",
    "value_maps": "a number for each pixel",
}
SPLITS = ("train", "val", "test")
IGNORED = -1
"""In a map of classes: a pixel that nobody is asked about. In one of numbers it is NaN."""


def is_asked(maps: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which pixels of maps, of classes or of numbers, a prediction is asked for."""
    asked: npt.NDArray[np.bool_] = (
        ~np.isnan(maps) if np.issubdtype(maps.dtype, np.floating) else maps != IGNORED
    )
    return asked


@dataclass(frozen=True)
class DatasetCard:
    """What a reader must know of a data set before believing a number measured on it.

    ``bands`` maps a modality name (`models.sensors`) to the true names of the bands on
    the last axis of its images, in stored order; names outside the modality (B10) are
    allowed and ignored by models that do not use them. ``units_per_dn`` converts stored
    values to Sentinel-2 digital numbers (reflectance x 10000): ``dn = stored * units_per_dn``.
    ``kind`` says what is to be predicted, ``unit`` in what a number is measured; ``classes`` are
    the names of classes or labels, none of numbers. ``notes`` are sentences that must show
    wherever the data are used (corrections made, processing level, assumed dates).
    """

    name: str
    title: str
    origin: Origin
    licence: str
    home: str
    level: str
    classes: tuple[str, ...]
    bands: Mapping[str, tuple[str, ...]]
    height: int
    width: int
    steps: int
    units_per_dn: float
    split_rule: str
    notes: tuple[str, ...]
    kind: TargetKind = "classes"
    unit: str = ""


@dataclass(frozen=True)
class Batch:
    """Consecutive samples. Images are channels-last in stored units.

    ``images[modality]``: float32 ``[B, H, W, T, D]``; ``timestamps``: int64 ``[B, T, 3]``
    = day, month (0-based), year.
    """

    images: Mapping[str, npt.NDArray[np.float32]]
    timestamps: npt.NDArray[np.int64]


class Dataset(Protocol):
    """A readable data set. Samples have stable string ids, and labels of the card's kind."""

    @property
    def card(self) -> DatasetCard:
        """Facts about the data set; no pixel is read for them."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that can change a result: ids, labels, pixels, band names."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """All sample ids, in a fixed order (the row order of every stored embedding)."""
        ...

    @property
    def labels(self) -> npt.NDArray[Any]:
        """What is to be predicted, in the order of ``ids``.

        Class indices int64 ``[N]``; labels uint8 ``[N, C]``, 0 or 1; numbers float64 ``[N]``;
        maps of class indices ``[N, H, W]``, -1 where nobody is asked, possibly memory-mapped; maps
        of numbers float32 ``[N, H, W]``, NaN where nobody is asked.
        """
        ...

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """Row numbers of train, val and test. Published splits ignore the seed."""
        ...

    def read(self, rows: Sequence[int]) -> Batch:
        """Load some samples; raises `UserError` naming the file that is broken."""
        ...
