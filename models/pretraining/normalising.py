"""By which statistics images are normalised before an encoder in training sees them.

Those of the variant's family (what its published weights were trained with), or those of the
chips themselves. They go into the weights' card: whoever uses the weights must use the same.
It must not know recipes or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.normalisation import (
    BandStatistics,
    StatisticsAccumulator,
    normalise,
    pretraining_statistics,
    two_sigma,
)
from models.pretraining.chips import Chips

Whose = Literal["family", "chips"]
Statistics = Mapping[str, BandStatistics]
LOOKED_AT = 10_000
"""Chips that statistics are taken of, evenly spaced over the set; all of them where they are
fewer."""


def statistics_of(
    whose: Whose, chips: Chips, modalities: Sequence[str]
) -> dict[str, BandStatistics]:
    """Mean and standard deviation per band, for each modality."""
    if whose == "family":
        return {name: BandStatistics(*pretraining_statistics(name)) for name in modalities}
    totals = {name: StatisticsAccumulator() for name in modalities}
    count = min(len(chips), LOOKED_AT)
    for row in np.linspace(0, len(chips) - 1, count).astype(int):
        images = chips.chip(int(row)).images
        for name, total in totals.items():
            total.update(images[name])
    return {name: total.result() for name, total in totals.items()}


def normalised(images: NDArray[np.float32], statistics: BandStatistics) -> Tensor:
    """``(x - (mean - 2 std)) / (4 std)`` of ``[..., D]``, float32."""
    return torch.from_numpy(normalise(images, *two_sigma(statistics.mean, statistics.std)))
