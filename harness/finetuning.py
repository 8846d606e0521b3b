"""What fine-tuning is given of a cell: its encoder, and its images by the row.

Images are read from the mapped copy as batches need them, and go through the same rules as
those that are embedded. It must not know how anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.encoders import build_encoder
from harness.inputs import InputRule, apply_rule
from harness.pixels import Pixels
from harness.plan import Cell
from harness.probes.base import Withheld
from harness.probes.finetune import FinetuneSettings
from harness.probes.finetune_model import FinetuneInputs, Images
from harness.suite_file import FinetuneProbe
from models.families import design_of
from models.tokens import patch_grid
from suites.datasets.base import MAP_KINDS, Dataset

Rows = npt.NDArray[np.int64]


class RowImages:
    """Images of any rows, by normalisation, as the encoder wants them."""

    def __init__(self, pixels: Pixels, rules: Mapping[str, Mapping[str, InputRule]]) -> None:
        self.pixels, self.rules = pixels, rules

    def __call__(self, normalisation: str, rows: Rows) -> tuple[Images, Tensor]:
        """``[b, H, W, T, D]`` per modality, and timestamps ``[b, T, 3]``."""
        images = {
            name: torch.from_numpy(apply_rule(self._stored(name, rows), rule))
            for name, rule in self.rules[normalisation].items()
        }
        dates = [self.pixels.timestamps(row, row + 1) for row in rows]
        return images, torch.from_numpy(np.concatenate(dates))

    def _stored(self, name: str, rows: Rows) -> npt.NDArray[np.generic]:
        return np.concatenate([self.pixels.images(name, row, row + 1) for row in rows])


def finetune_inputs(
    cell: Cell,
    dataset: Dataset,
    images: RowImages,
    splits: Mapping[str, Rows],
) -> FinetuneInputs:
    """All that the probe may know; an encoder that cannot be had is found when it is made."""
    card, given = dataset.card, cell.given
    is_map = card.kind in MAP_KINDS
    return FinetuneInputs(
        encoder=partial(build_encoder, cell.variant, cell.weights, given.channels),
        read=images,
        targets=Withheld(dataset.labels, splits),
        splits=splits,
        kind=card.kind,
        outputs=max(1, len(card.classes)),
        normalisations=cell.normalisations,
        poolings=cell.poolings,
        patch_size=cell.task.patch_size,
        width=design_of(cell.variant).width(given.shapes),
        grid=patch_grid(given.shapes[0], cell.task.patch_size) if is_map else None,
        precision=cell.task.precision,
    )


def finetune_settings(probe: FinetuneProbe, metric: str) -> FinetuneSettings:
    """The task's protocol."""
    return FinetuneSettings(
        trials=probe.trials,
        epochs=probe.epochs,
        frozen_epochs=probe.frozen_epochs,
        patience=probe.patience,
        batch_size=probe.batch_size,
        select_by=metric,
    )
