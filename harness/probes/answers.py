"""What a fine-tuned head's outputs are held to: targets of samples, or maps of classes.

The same three questions for both: how many outputs, what loss, what prediction. It must not know
encoders, images or tuning.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harness.probes.objective import Objective, objective_of
from suites.datasets.base import IGNORED, TargetKind

Rows = npt.NDArray[np.int64]


class Answers(Protocol):
    """How outputs are held to the targets of some samples, and read off."""

    def outputs(self, patch_size: int) -> int:
        """Numbers that a head gives for an embedding."""
        ...

    def loss(self, outputs: Tensor, rows: Rows) -> Tensor:
        """A scalar whose gradient is that of the mean loss over these samples."""
        ...

    def found(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predictions as metrics want them; probabilities, where there are any to keep."""
        ...


def answers_of(
    kind: TargetKind,
    targets: npt.NDArray[Any],
    train: npt.NDArray[Any] | None,
    outputs: int,
    grid: tuple[int, int] | None,
) -> Answers:
    """Of a kind of target. ``train``: the training split's, by which numbers are scaled."""
    if kind == "maps":
        if grid is None:
            raise ValueError("maps are answered patch by patch: a grid is needed")
        return MapAnswers(targets, outputs, grid)
    scale = torch.from_numpy(np.asarray(targets[:1] if train is None else train))
    return SampleAnswers(targets, objective_of(kind, scale, outputs), kind)


class SampleAnswers:
    """One class, several labels or a number of each sample: outputs ``[b, outputs]``."""

    def __init__(self, targets: npt.NDArray[Any], objective: Objective, kind: TargetKind) -> None:
        self.targets, self.objective, self.kind = targets, objective, kind

    def outputs(self, patch_size: int) -> int:
        """As the objective has it."""
        return self.objective.outputs

    def loss(self, outputs: Tensor, rows: Rows) -> Tensor:
        """Cross-entropy, binary cross-entropy or squared error, as the linear probe learns."""
        encoded = self.objective.encode(torch.from_numpy(np.asarray(self.targets[rows])))
        error = self.objective.error(outputs.detach().T[None], encoded.T.to(outputs.device))
        return (outputs * error[0].T).sum()

    def found(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predictions ``[b]`` or ``[b, C]``, and shares; of numbers none."""
        likely = self.objective.likely(outputs)
        return self.objective.decode(likely), None if self.kind == "values" else likely


class MapAnswers:
    """A class for each pixel: outputs ``[b, h, w, classes x p x p]``, patch by patch."""

    def __init__(self, maps: npt.NDArray[Any], classes: int, grid: tuple[int, int]) -> None:
        self.maps, self.classes, self.grid = maps, classes, grid
        self.side = int(maps.shape[1]), int(maps.shape[2])

    def outputs(self, patch_size: int) -> int:
        """Of each class, each pixel of a patch."""
        high, wide = self._patch
        return self.classes * high * wide

    @property
    def _patch(self) -> tuple[int, int]:
        """Pixels of a map that a patch stands for; the model may have seen a resized image."""
        return -(-self.side[0] // self.grid[0]), -(-self.side[1] // self.grid[1])

    def _logits(self, outputs: Tensor) -> Tensor:
        """``[b, classes, H, W]``, brought to the map's side where patches overhang it."""
        (rows, columns), (high, wide) = self.grid, self._patch
        cut = outputs.view(-1, rows, columns, self.classes, high, wide)
        whole = cut.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        if whole.shape[-2:] == self.side:
            return whole
        return F.interpolate(whole, self.side, mode="bilinear")

    def loss(self, outputs: Tensor, rows: Rows) -> Tensor:
        """Mean cross-entropy over the pixels that count."""
        maps = torch.from_numpy(np.asarray(self.maps[rows], dtype=np.int64)).to(outputs.device)
        asked = (maps != IGNORED).sum().clamp(min=1)
        logits = self._logits(outputs)
        return F.cross_entropy(logits, maps, ignore_index=IGNORED, reduction="sum") / asked

    def found(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps int16 ``[b, H, W]``."""
        return self._logits(outputs).argmax(dim=1).to(torch.int16), None
