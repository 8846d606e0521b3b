"""Running statistics over the images of a data set, for the audit.

It accumulates in one pass and keeps only a few tiles, so that its memory does not grow
with the data set. It must know nothing of cards, labels or verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_OFFSET = 1000.0
_REFLECTANCE, _DIGITAL = 4.0, 255.0  # below, above: the 99th percentile of an image


@dataclass(frozen=True)
class Units:
    """What stored values mean: ``dn = stored * units_per_dn``, judged from their range."""

    name: str
    units_per_dn: float


@dataclass(frozen=True)
class BandStatistics:
    """One channel over all pixels, in stored units."""

    name: str
    minimum: float
    mean: float
    deviation: float
    maximum: float


@dataclass
class Survey:
    """Statistics of images fed in by `add`; one in ``stride`` tiles is kept for band order."""

    stride: int = 1
    ids: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    not_numbers: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    odd_sizes: list[str] = field(default_factory=list)
    order_tiles: list[F32] = field(default_factory=list)
    depth: int = 0
    negative: int = 0
    _size: tuple[int, ...] = ()
    _pixels: int = 0
    _empty: int = 0
    _sum: F64 = field(default_factory=lambda: np.zeros(0))
    _squares: F64 = field(default_factory=lambda: np.zeros(0))
    _low: F64 = field(default_factory=lambda: np.zeros(0))
    _high: F64 = field(default_factory=lambda: np.zeros(0))
    _dim: list[str] = field(default_factory=list)
    _dark: list[float] = field(default_factory=list)
    _bright: list[float] = field(default_factory=list)
    _whole: bool = True

    def add(
        self, ids: Sequence[str], images: npt.NDArray[np.floating], digests: Sequence[str]
    ) -> None:
        """Take in images ``[B, H, W, T, D]`` with their ids and pixel digests."""
        for name, image, digest in zip(ids, images, digests, strict=True):
            if self.depth and image.shape[-1] != self.depth:
                self.broken.append(
                    f"{name} has {image.shape[-1]} bands, but the first image has {self.depth}."
                )
                continue
            self.ids.append(name)
            self.digests.append(digest)
            self._take(name, image)

    def _take(self, name: str, image: npt.NDArray[np.floating]) -> None:
        flat = image.reshape(-1, image.shape[-1]).astype(np.float64)
        if not np.isfinite(flat).all():
            self.not_numbers.append(name)
            return
        low, high = flat.min(axis=0), flat.max(axis=0)
        if len(flat) > 1 and np.array_equal(low, high):
            self.constant.append(name)
            return
        if not self.depth:
            self._begin(image.shape)
        if image.shape[:2] != self._size:
            self.odd_sizes.append(name)
        if self._is_kept(len(self.ids) - 1):
            self.order_tiles.append(image[:, :, 0].astype(np.float32))
        self._pixels += len(flat)
        self._sum += flat.sum(axis=0)
        self._squares += np.square(flat).sum(axis=0)
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        empty = (flat == 0).all(axis=1)
        self._empty += int(empty.sum())
        self.negative += int((flat < 0).sum())
        if not empty.all():
            self._dark.append(float(flat[~empty].min()))
        bright = float(np.percentile(flat, 99))
        self._bright.append(bright)
        if 0 < bright <= _REFLECTANCE:
            self._dim.append(name)
        self._whole = self._whole and bool((flat[:64] == np.floor(flat[:64])).all())

    def _is_kept(self, number: int) -> bool:
        # Spread by the golden ratio, not by counting: classes often take turns in a data set.
        return (number * 0.6180339887498949) % 1.0 < 1 / self.stride

    def _begin(self, shape: tuple[int, ...]) -> None:
        self.depth, self._size = shape[-1], shape[:2]
        self._sum, self._squares = np.zeros(self.depth), np.zeros(self.depth)
        self._low, self._high = np.full(self.depth, np.inf), np.full(self.depth, -np.inf)

    @property
    def empty_share(self) -> float:
        """Share of pixels that are zero in every band."""
        return self._empty / max(1, self._pixels)

    def units(self) -> Units:
        """Digital numbers, reflectance or 8-bit, from the range of the values.

        Bright values lie near 3000 in digital numbers, 0.3 in reflectance; 8-bit values
        are whole numbers up to 255, stretched in some unknown way (taken as 0 to 4000).
        """
        if not self._bright:
            return Units("digital numbers", 1.0)
        bright, highest = float(np.median(self._bright)), float(self._high.max())
        if bright <= _REFLECTANCE and not (self._whole and highest > _REFLECTANCE):
            return Units("reflectance", 10_000.0)
        if self._whole and highest <= 255:
            return Units("8-bit values", 4000 / 255)
        return Units("digital numbers", 1.0)

    def in_other_units(self) -> list[str]:
        """Images in reflectance, where others are in digital numbers."""
        return self._dim if max(self._bright, default=0.0) > _DIGITAL else []

    def offset_suspected(self, level: str) -> bool:
        """Whether digital numbers seem to carry the +1000 of processing baseline 04.00.

        Without it, some pixel of nearly every tile is darker than 900 in some band: water
        and shade in the SWIR, and B10 everywhere in L1C.
        """
        if self.units().name != "digital numbers" or not self._dark:
            return False
        limit = 0.95 if level == "L1C" else 0.9
        return float(np.median(self._dark)) >= limit * _OFFSET

    def statistics(self, bands: Sequence[str]) -> tuple[BandStatistics, ...]:
        """Per channel, named by ``bands`` (or by number where there are none)."""
        if not self._pixels:
            return ()
        names = bands if len(bands) == self.depth else [f"channel {i}" for i in range(self.depth)]
        mean = self._sum / self._pixels
        deviation = np.sqrt(np.maximum(self._squares / self._pixels - np.square(mean), 0))
        return tuple(
            BandStatistics(name, float(lo), float(m), float(d), float(hi))
            for name, lo, m, d, hi in zip(
                names, self._low, mean, deviation, self._high, strict=True
            )
        )
