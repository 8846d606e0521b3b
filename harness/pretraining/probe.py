"""A kNN probe of an encoder in training, on the validation split of a labelled data set.

It shows whether what is learned is worth anything, while it is learned. The test split is
never read: scores on it are for finished weights. It must not know the training loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.embed import batch_size, embed_into
from harness.inputs import InputRule, make_rules
from harness.model_input import InputPolicy, resolve
from harness.pixels import Pixels, open_pixels
from harness.probes.knn import OLMOEARTH_KNN, knn_votes
from harness.store import Store
from models.errors import UserError
from models.families import design_of
from models.registry import Variant
from suites.datasets import catalogue
from suites.datasets.base import KIND_WORDS

SPLIT_SEED = 0
POOLING = "mean"


@dataclass(frozen=True)
class ValidationProbe:
    """kNN accuracy (k = 20, cosine) on the validation split, given the training split."""

    name: str
    pixels: Pixels
    rules: Mapping[str, InputRule]
    labels: npt.NDArray[np.int64]
    splits: Mapping[str, npt.NDArray[np.int64]]
    classes: int
    patch_size: int
    batch: int
    width: int
    device: torch.device

    def score(self, encoder: nn.Module) -> float:
        """Accuracy of the encoder as it is now; its mode is left as it was found."""
        training = encoder.training
        arrays = {POOLING: np.empty((len(self.pixels), self.width), dtype=np.float32)}
        try:
            embed_into(
                arrays,
                encoder,
                self.pixels,
                dict(self.rules),
                self.patch_size,
                self.batch,
                self.device,
            )
        finally:
            encoder.train(training)
        embedded = torch.from_numpy(arrays[POOLING])
        train, val = (torch.from_numpy(self.splits[name]) for name in ("train", "val"))
        labels = torch.from_numpy(self.labels)
        votes = knn_votes(
            embedded[train],
            labels[train],
            embedded[val],
            self.classes,
            OLMOEARTH_KNN,
            device=self.device,
        )
        return float((votes.argmax(dim=1) == labels[val]).double().mean())


def validation_probe(
    variant: Variant,
    dataset_name: str,
    data_dir: Path | None,
    store: Store,
    patch_size: int,
    device: torch.device,
) -> ValidationProbe:
    """The probe of a variant on a catalogued data set, normalised by its training split.

    Raises `UserError` when the data cannot be found, or the variant cannot read them.
    """
    dataset = catalogue.resolve(dataset_name, data_dir, cache_dir=store.cache_folder)
    if dataset.card.kind != "classes":
        raise UserError(
            f"A training is probed on a data set with one class a sample; {dataset_name} asks "
            f"for {KIND_WORDS[dataset.card.kind]}."
        )
    design = design_of(variant)
    given = resolve(variant.name, design, dataset.card, InputPolicy(), patch_size)
    pixels = open_pixels(dataset, store)
    splits = dataset.splits(SPLIT_SEED)
    width = design.width(given.shapes)
    tokens = design.layout(given.shapes, patch_size).tokens
    return ValidationProbe(
        name=dataset.card.name,
        pixels=pixels,
        rules=make_rules(dataset.card, given, "dataset", pixels, splits["train"]),
        labels=dataset.labels,
        splits=splits,
        classes=len(dataset.card.classes),
        patch_size=patch_size,
        batch=batch_size(tokens, width, device),
        width=width,
        device=device,
    )
