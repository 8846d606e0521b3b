"""What probes that learn from stored patch embeddings share: their scale, and a step of AdamW.

Embeddings are read from disk some at a time: memory does not grow with the data set. It must not
know what is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_AT_ONCE = 64  # images whose moments are computed together
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Standardise:
    """``(x - mean) / deviation`` by feature; what never varies becomes 0."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: npt.NDArray[Any], rows: Rows) -> Standardise:
        """Moments over all patches of some samples, in double precision, block by block."""
        total, squares = torch.zeros(2, features.shape[-1], dtype=torch.float64)
        for block in _blocks(features, rows):
            total += block.flatten(0, 2).double().sum(dim=0)
        count = len(rows) * features.shape[1] * features.shape[2]
        mean = total / count
        for block in _blocks(features, rows):
            squares += (block.flatten(0, 2).double() - mean).square().sum(dim=0)
        deviation = (squares / count).sqrt()
        return cls(mean.float(), torch.where(deviation > 0, deviation, torch.inf).float())

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape."""
        return (x - self.mean.to(x.device)) / self.deviation.to(x.device)


def adamw(
    p: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    decay: float,
    number: int,
) -> None:
    """One step in place (Loshchilov and Hutter 2019); each head has its own learning rate."""
    mean.lerp_(gradient, 0.1)
    square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    deviation = (square / (1 - 0.999**number)).sqrt_().add_(1e-8)
    p.mul_(1 - rates * decay)
    p.sub_(rates * (mean / (1 - 0.9**number)) / deviation)


def _blocks(features: npt.NDArray[Any], rows: Rows) -> Iterator[Tensor]:
    for start in range(0, len(rows), _AT_ONCE):
        yield torch.from_numpy(
            np.asarray(features[rows[start : start + _AT_ONCE]], dtype=np.float32)
        )
