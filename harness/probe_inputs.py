"""What a probe is given of a cell: views of its embeddings, and the targets that it may see.

The test split's targets stay here. It must not know how anything is embedded, trained or scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.plan import Cell
from harness.probes.attention import TokenInputs
from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs, View, Withheld
from harness.probes.segmentation import MapInputs
from harness.store import Embedding, scratch_matrix
from suites.datasets.base import SPLITS, Dataset
from suites.datasets.splits import few_labels

GATHERED = 4096  # rows copied at a time
Rows = npt.NDArray[np.int64]


def splits_of(cell: Cell, dataset: Dataset) -> Mapping[str, Rows]:
    """Rows of each split; of the training split those whose labels the probe is given."""
    splits = dict(dataset.splits(cell.task.split_seed))
    if cell.task.label_fraction is not None:
        splits["train"] = few_labels(
            dataset.labels, dataset.card.kind, splits["train"], cell.task.label_fraction, cell.seed
        )
    return splits


def probe_inputs(
    embeddings: Mapping[str, Embedding],
    dataset: Dataset,
    splits: Mapping[str, Rows],
    poolings: tuple[str, ...],
    scratch: Path,
) -> ProbeInputs:
    """Every (normalisation, pooling) view that the task asks for, cut into its splits."""
    return ProbeInputs(
        views={
            (normalisation, pooling): EmbeddedSplit(
                *(_rows(embedding.poolings[pooling], splits[s], scratch) for s in SPLITS)
            )
            for normalisation, embedding in embeddings.items()
            for pooling in poolings
        },
        labels=_labels(dataset, splits),
        outputs=max(1, len(dataset.card.classes)),
        kind=dataset.card.kind,
    )


def map_inputs(
    embeddings: Mapping[str, Embedding],
    dataset: Dataset,
    splits: Mapping[str, Rows],
    poolings: tuple[str, ...],
) -> MapInputs:
    """Every view's patches, left where they lie on disk."""
    return MapInputs(
        views=_patches(embeddings, poolings),
        maps=Withheld(dataset.labels, splits),
        splits=splits,
        classes=len(dataset.card.classes),
        kind=dataset.card.kind,
    )


def token_inputs(
    embeddings: Mapping[str, Embedding],
    dataset: Dataset,
    splits: Mapping[str, Rows],
    poolings: tuple[str, ...],
) -> TokenInputs:
    """Every view's patches, left where they lie on disk, and each sample's target."""
    return TokenInputs(
        views=_patches(embeddings, poolings),
        labels=_labels(dataset, splits),
        splits=splits,
        outputs=max(1, len(dataset.card.classes)),
        kind=dataset.card.kind,
    )


def _patches(
    embeddings: Mapping[str, Embedding], poolings: tuple[str, ...]
) -> dict[View, npt.NDArray[Any]]:
    """Every (normalisation, pooling) view, left where it lies on disk."""
    return {
        (normalisation, pooling): embedding.poolings[pooling]
        for normalisation, embedding in embeddings.items()
        for pooling in poolings
    }


def _labels(dataset: Dataset, splits: Mapping[str, Rows]) -> Labels:
    return Labels(*(torch.from_numpy(dataset.labels[splits[name]]) for name in ("train", "val")))


def _rows(matrix: npt.NDArray[Any], rows: Rows, scratch: Path) -> Tensor:
    """A split's rows, gathered into a nameless file that is mapped: memory does not grow with N."""
    if not len(rows):
        return torch.empty(0, matrix.shape[1])
    gathered = scratch_matrix(scratch, len(rows), matrix.shape[1])
    for start in range(0, len(rows), GATHERED):
        gathered[start : start + GATHERED] = matrix[rows[start : start + GATHERED]]
    return torch.from_numpy(gathered)
