"""What a fine-tuned head's outputs are held to: targets of samples, or maps.

The same three questions for both: how many outputs, what loss, what prediction. It must not know
encoders, images or tuning.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harness.probes.base import Targets
from harness.probes.map_objective import MapObjective, map_objective
from harness.probes.objective import Objective, objective_of
from suites.datasets.base import MAP_KINDS, TargetKind

Rows = npt.NDArray[np.int64]


class Answers(Protocol):
    """How outputs are held to the targets of some samples, and read off."""

    def outputs(self, patch_size: int) -> int:
        """Numbers that a head gives for an embedding."""
        ...

    def loss(self, outputs: Tensor, rows: Rows) -> Tensor:
        """A scalar whose gradient is that of the mean loss over these samples."""
        ...

    def asked(self, rows: Rows) -> int:
        """How many targets that mean is taken over: a share of a batch weighs as many."""
        ...

    def found(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predictions as metrics want them; probabilities, where there are any to keep."""
        ...


def answers_of(
    kind: TargetKind,
    targets: Targets,
    train: Rows,
    outputs: int,
    grid: tuple[int, int] | None,
) -> Answers:
    """Of a kind of target. ``train``: the training rows, by which numbers are scaled."""
    if kind in MAP_KINDS:
        if grid is None:
            raise ValueError("maps are answered patch by patch: a grid is needed")
        return MapAnswers(targets, map_objective(kind, targets, train, outputs), grid)
    scale = torch.from_numpy(np.asarray(targets[train if kind == "values" else train[:1]]))
    return SampleAnswers(targets, objective_of(kind, scale, outputs), kind)


class SampleAnswers:
    """One class, several labels or a number of each sample: outputs ``[b, outputs]``."""

    def __init__(self, targets: Targets, objective: Objective, kind: TargetKind) -> None:
        self.targets, self.objective, self.kind = targets, objective, kind

    def outputs(self, patch_size: int) -> int:
        """As the objective has it."""
        return self.objective.outputs

    def loss(self, outputs: Tensor, rows: Rows) -> Tensor:
        """Cross-entropy, binary cross-entropy or squared error, as the linear probe learns."""
        encoded = self.objective.encode(torch.from_numpy(np.asarray(self.targets[rows])))
        error = self.objective.error(outputs.detach().T[None], encoded.T.to(outputs.device))
        return (outputs * error[0].T).sum()

    def asked(self, rows: Rows) -> int:
        """Samples: of each the same number of outputs counts."""
        return len(rows)

    def found(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predictions ``[b]`` or ``[b, C]``, and shares; of numbers none."""
        likely = self.objective.likely(outputs)
        return self.objective.decode(likely), None if self.kind == "values" else likely


class MapAnswers:
    """A class or a number for each pixel: ``[b, h, w, outputs x p x p]``, patch by patch."""

    def __init__(self, maps: Targets, objective: MapObjective, grid: tuple[int, int]) -> None:
        self.maps, self.objective, self.grid = maps, objective, grid
        self.side = int(maps.shape[1]), int(maps.shape[2])

    def outputs(self, patch_size: int) -> int:
        """Of each class, or the one number, each pixel of a patch."""
        high, wide = self._patch
        return self.objective.outputs * high * wide

    @property
    def _patch(self) -> tuple[int, int]:
        """Pixels of a map that a patch stands for; the model may have seen a resized image."""
        return -(-self.side[0] // self.grid[0]), -(-self.side[1] // self.grid[1])

    def _of_pixels(self, outputs: Tensor) -> Tensor:
        """``[b, 1, outputs, H x W]``, brought to the map's side where patches overhang it."""
        (rows, columns), (high, wide) = self.grid, self._patch
        cut = outputs.view(-1, rows, columns, self.objective.outputs, high, wide)
        whole = cut.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        if whole.shape[-2:] != self.side:
            whole = F.interpolate(whole, self.side, mode="bilinear")
        return whole.flatten(2)[:, None]

    def loss(self, outputs: Tensor, rows: Rows) -> Tensor:
        """Cross-entropy or squared error over the pixels that count, as the probe of pixels has."""
        each = self._of_pixels(outputs)
        encoded = self.objective.encode(self.maps[rows]).flatten(1).to(outputs.device)
        return (each * self.objective.error(each.detach().clone(), encoded)).sum()

    def asked(self, rows: Rows) -> int:
        """Pixels that count; an image may have none."""
        return int(self.objective.asked(self.objective.encode(self.maps[rows])).sum())

    def found(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps ``[b, H, W]``."""
        found = self.objective.decode(self._of_pixels(outputs)[:, 0])
        return found.view(-1, *self.side), None
