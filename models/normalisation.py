"""Bring bands to the range that encoders expect, by the pretraining's or the data's statistics.

Most families bring every band to ``(x - (mean - 2 std)) / (4 std)``, so that mean plus or minus
two standard deviations becomes 0 to 1. It must not know data sets or encoders: arrays in,
arrays out, bands on the last axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from models.errors import UserError, did_you_mean
from models.sensors import modality

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BandStatistics:
    """Mean and (population) standard deviation per band, float64 ``[D]``."""

    mean: Array
    std: Array


def pretraining_statistics(
    modality_name: str, channels: Sequence[str] | None = None, family: str = "olmoearth"
) -> tuple[Array, Array]:
    """Mean and standard deviation ``[D]`` of a family's pretraining data.

    ``channels``: in which order; None stands for the sensor's canonical one. Source and units
    are stated in the family's ``statistics.yaml``.

    Raises `UserError` when the family has none of the modality or of a channel.
    """
    table = known_statistics(family)
    if modality_name not in table:
        raise UserError(
            f'There are no pretraining statistics for "{modality_name}": '
            f"{did_you_mean(modality_name, table)}."
        )
    rows = table[modality_name]
    names = modality(modality_name).band_names if channels is None else channels
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise UserError(
            f"{family} has no pretraining statistics of {', '.join(unknown)} of {modality_name}; "
            f"it knows {', '.join(rows)}."
        )
    mean = np.array([rows[band]["mean"] for band in names], dtype=np.float64)
    std = np.array([rows[band]["std"] for band in names], dtype=np.float64)
    return mean, std


@lru_cache(maxsize=8)
def known_statistics(family: str) -> dict[str, dict[str, dict[str, float]]]:
    """``mean`` and ``std`` per modality and channel, in the order of the family's file."""
    text = resources.files("models").joinpath(f"{family}/statistics.yaml").read_text()
    statistics: dict[str, dict[str, dict[str, float]]] = yaml.safe_load(text)["statistics"]
    return statistics


def two_sigma(mean: Array, std: Array) -> tuple[Array, Array]:
    """Shift and divisor that bring mean plus or minus two standard deviations to 0 and 1."""
    return mean - 2 * std, 4 * std


def normalise(x: NDArray[Any], shift: Array, divisor: Array) -> NDArray[np.float32]:
    """``(x - shift) / divisor`` per band (last axis), as float32; ``x`` is left alone.

    A band that never varies (divisor 0) carries nothing, and becomes 0.5, the middle of the
    range and what `two_sigma` gives any other band at its mean: never NaN or infinite.
    """
    if x.shape[-1] != len(shift) or len(shift) != len(divisor):
        raise UserError(
            f"Images have {x.shape[-1]} bands but the statistics are of {len(shift)}; "
            "use the statistics of the same bands."
        )
    varies = divisor > 0
    scale = np.where(varies, 1.0 / np.where(varies, divisor, 1.0), 0.0)
    # x * scale + offset, with the constants in float64 and the arrays in float32: one rounding
    # of each constant, and no float64 copy of the images.
    offset = np.where(varies, -shift * scale, 0.5)
    y = x.astype(np.float32)
    y *= scale.astype(np.float32)
    y += offset.astype(np.float32)
    return y


@dataclass
class StatisticsAccumulator:
    """Streaming mean and standard deviation per band; parts computed apart can be merged.

    Chan, Golub and LeVeque 1983: each batch is reduced by itself in two passes (no
    cancellation for bands with a large mean and a small spread), then merged.
    """

    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))

    def update(self, batch: NDArray[Any]) -> None:
        """Take in a batch ``[..., D]``."""
        rows = np.asarray(batch, dtype=np.float64).reshape(-1, batch.shape[-1])
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        centred = rows - mean
        squares = np.einsum("nd,nd->d", centred, centred)
        self.merge(StatisticsAccumulator(len(rows), mean, squares))

    def merge(self, other: StatisticsAccumulator) -> None:
        """Take in what another accumulator has seen."""
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self.squares = other.count, other.mean, other.squares
            return
        if len(self.mean) != len(other.mean):
            raise UserError(
                f"Images of {len(self.mean)} and of {len(other.mean)} bands are mixed; "
                "statistics need the same bands throughout."
            )
        total = self.count + other.count
        delta = other.mean - self.mean
        self.squares = self.squares + other.squares + delta**2 * (self.count * other.count / total)
        self.mean = self.mean + delta * (other.count / total)
        self.count = total

    def result(self) -> BandStatistics:
        """Statistics of everything seen; a `UserError` when that is nothing or not finite."""
        if not self.count:
            raise UserError("There are no images to compute band statistics from.")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.squares).all()):
            raise UserError("Images hold NaN or infinite values; band statistics need finite ones.")
        return BandStatistics(self.mean, np.sqrt(self.squares / self.count))


def dataset_statistics(batches: Iterable[NDArray[Any]]) -> BandStatistics:
    """Statistics per band over batches ``[..., D]``, read once, one in memory at a time."""
    accumulator = StatisticsAccumulator()
    for batch in batches:
        accumulator.update(batch)
    return accumulator.result()
