"""What a probe has to answer, by kind of target: how it is encoded, learned and read off.

The same three questions for a class, several labels and a number, so that kNN and the linear
probe are written once. It must not know embeddings, tuning or scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from suites.datasets.base import TargetKind


@dataclass(frozen=True)
class Objective:
    """How targets of one kind are encoded, learned and read off.

    ``outputs``: numbers that a head gives for a sample: one per class or label, one of a number.
    ``encode``: targets ``[n, ...]`` to float32 ``[n, outputs]``; neighbours average these.
    ``error``: gradient of the mean loss by the outputs ``[K, outputs, b]``, given the encoded
    targets ``[outputs, b]``. ``likely``: a head's outputs ``[n, outputs]`` on the scale of what is
    encoded (probabilities; numbers in units of deviations). ``decode``: those to predictions, as
    the metrics want them.
    """

    outputs: int
    encode: Callable[[Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]
    likely: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def objective_of(kind: TargetKind, train: Tensor, outputs: int) -> Objective:
    """The objective of a kind of target.

    ``train``: the training targets, by which numbers are brought to mean 0 and deviation 1.
    """
    if kind == "classes":
        return Objective(
            outputs,
            encode=partial(_one_hot, outputs),
            error=_cross_entropy_error,
            likely=partial(torch.softmax, dim=1),
            decode=partial(torch.argmax, dim=1),
        )
    if kind == "labels":
        return Objective(
            outputs,
            encode=torch.Tensor.float,
            error=_binary_error,
            likely=torch.sigmoid,
            decode=_above_half,
        )
    if kind == "values":
        mean, deviation = _moments(train)
        return Objective(
            1,
            encode=lambda values: ((values.double() - mean) / deviation).float()[:, None],
            error=_squared_error,
            likely=_as_they_are,
            decode=lambda scaled: scaled[:, 0].double() * deviation + mean,
        )
    raise ValueError(f"no objective for targets of kind {kind}")


def _moments(train: Tensor) -> tuple[float, float]:
    values = train.double()
    deviation = float(values.std(correction=0))
    # All equal: there is nothing to scale by, and the mean is the answer.
    return float(values.mean()), deviation if deviation > 0 else 1.0


def _one_hot(count: int, labels: Tensor) -> Tensor:
    return F.one_hot(labels, count).to(torch.float32)


def _above_half(shares: Tensor) -> Tensor:
    return (shares > 0.5).to(torch.uint8)


def _as_they_are(outputs: Tensor) -> Tensor:
    return outputs


def _cross_entropy_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.softmax(dim=1).sub_(targets).div_(targets.shape[1])


def _binary_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of binary cross-entropy, averaged over labels as over samples."""
    return outputs.sigmoid().sub_(targets).div_(targets.numel())


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.sub(targets).mul_(2 / targets.numel())
