"""What a probe has to answer for each pixel: a class or a number; how it is learned and read off.

The pixels' counterpart of `harness.probes.objective`, so that the segmentation probe and that of
pixel regression are one. It must not know embeddings, heads or scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.probes.base import Targets
from models.errors import UserError
from suites.datasets.base import IGNORED, TargetKind, is_asked

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MapObjective:
    """How maps of one kind are learned and read off.

    ``outputs``: numbers that a head gives for a pixel: one per class, or one. ``encode``: maps
    ``[b, H, W]`` to what is learned: int64 classes, -1 where nobody is asked; float32 numbers in
    deviations, NaN there. ``asked``: where somebody is, of what is encoded. ``error``: gradient of
    each head's mean loss over the asked pixels, by its outputs ``[n, K, outputs, L]``, given the
    encoded pixels ``[n, L]``; it may reuse the outputs' memory. ``decode``: outputs
    ``[..., outputs, L]`` to classes or numbers ``[..., L]``.
    """

    outputs: int
    encode: Callable[[npt.NDArray[Any]], Tensor]
    asked: Callable[[Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def map_objective(kind: TargetKind, maps: Targets, train: Rows, classes: int) -> MapObjective:
    """The objective of a kind of maps ``[N, H, W]``.

    ``train``: the training rows, by whose asked pixels numbers are brought to mean 0 and
    deviation 1.
    """
    if kind == "maps":
        return MapObjective(
            classes,
            encode=lambda maps: torch.from_numpy(np.asarray(maps, dtype=np.int64)),
            asked=_asked_classes,
            error=_cross_entropy_error,
            decode=lambda logits: logits.argmax(dim=-2).to(torch.int16),
        )
    if kind == "value_maps":
        mean, deviation = pixel_moments(maps, train)
        return MapObjective(
            1,
            encode=partial(_scaled, mean, deviation),
            asked=_asked_numbers,
            error=_squared_error,
            decode=partial(_unscaled, mean, deviation),
        )
    raise ValueError(f"no objective for pixels of kind {kind}")


def require_pixels(maps: Targets, splits: Mapping[str, Rows], kind: TargetKind) -> None:
    """`UserError` for a split without a pixel that counts."""
    for name, rows in splits.items():
        if not any(is_asked(maps[row]).any() for row in rows):
            what = "class" if kind == "maps" else "number"
            raise UserError(
                f"The {name} split has no pixel with a {what}: all are marked as not to be "
                "asked; check the masks (tokenrank data check)."
            )


def pixel_moments(maps: Targets, rows: Rows) -> tuple[float, float]:
    """Mean and deviation of the asked pixels of some maps, image by image, in double precision.

    The deviation is 1 where all are equal: there is nothing to scale by, and the mean is the
    answer.
    """
    count, total, squares = 0, 0.0, 0.0
    for row in rows:
        values = _asked_values(maps[row])
        count, total = count + len(values), total + float(values.sum())
    mean = total / max(1, count)
    for row in rows:
        squares += float(np.square(_asked_values(maps[row]) - mean).sum())
    deviation = float(np.sqrt(squares / max(1, count)))
    return mean, deviation if deviation > 0 else 1.0


def _asked_values(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    asked: npt.NDArray[np.float64] = values[is_asked(values)].astype(np.float64)
    return asked


def _scaled(mean: float, deviation: float, values: npt.NDArray[Any]) -> Tensor:
    scaled = (np.asarray(values, dtype=np.float64) - mean) / deviation
    return torch.from_numpy(scaled.astype(np.float32))


def _unscaled(mean: float, deviation: float, outputs: Tensor) -> Tensor:
    # In double precision, which not every accelerator has.
    return (outputs.squeeze(-2).cpu().double() * deviation + mean).float()


def _asked_classes(maps: Tensor) -> Tensor:
    return maps != IGNORED


def _asked_numbers(values: Tensor) -> Tensor:
    return ~values.isnan()


def _cross_entropy_error(logits: Tensor, maps: Tensor) -> Tensor:
    asked = _asked_classes(maps)
    classes = torch.arange(logits.shape[2], device=maps.device)[:, None]
    truth = (maps[:, None] == classes).to(logits.dtype)
    share = asked / asked.sum().clamp(min=1)
    return logits.softmax(dim=2).sub_(truth[:, None]).mul_(share[:, None, None])


def _squared_error(outputs: Tensor, values: Tensor) -> Tensor:
    asked = _asked_numbers(values)
    truth = values.nan_to_num(nan=0.0)
    share = 2 * asked / asked.sum().clamp(min=1)
    return outputs.sub(truth[:, None, None]).mul_(share[:, None, None])
