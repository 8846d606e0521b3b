"""What every probe is given and what it hands back.

A probe sees embeddings and labels and nothing else: it must not know images,
encoders, variants, files or tracking. A *view* is one (normalisation, pooling) pair
of the same samples; all views of a task share their rows and labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.metrics import Metric
from harness.probes.objective import Objective, objective_of
from models.errors import UserError
from suites.datasets.base import TargetKind

View = tuple[str, str]
"""(normalisation, pooling), e.g. ``("pretraining", "mean")``."""

_SPLITS = ("train", "val", "test")
_CHECK_ROWS = 4096  # rows looked at together when a memory-mapped split is checked


@dataclass(frozen=True)
class EmbeddedSplit:
    """One view of the data: float32 ``[n_train, dim]``, ``[n_val, dim]``, ``[n_test, dim]``.

    Rows may be memory-mapped; probes read them in pieces.
    """

    train: Tensor
    val: Tensor
    test: Tensor


@dataclass(frozen=True)
class Labels:
    """What is to be predicted for each row of train and val; no probe is given that of test.

    int64 ``[n]`` of classes, uint8 ``[n, C]`` of labels, float64 ``[n]`` of numbers.
    """

    train: Tensor
    val: Tensor


class Withheld:
    """Targets ``[N, ...]`` of all samples, of which those outside train and val are not given out.

    So the test split is scored once, by who calls a probe, and no probe can look at it.
    """

    def __init__(
        self, targets: npt.NDArray[Any], splits: Mapping[str, npt.NDArray[np.int64]]
    ) -> None:
        self._targets = targets
        self._open = np.zeros(len(targets), dtype=np.bool_)
        for name in ("train", "val"):
            self._open[splits[name]] = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all targets."""
        return self._targets.shape

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        """Targets of some rows. `ValueError` where one is not of train or val."""
        if not self._open[rows].all():
            raise ValueError("a probe asked for targets outside its train and val splits")
        found: npt.NDArray[Any] = np.asarray(self._targets[rows])
        return found


Targets = npt.NDArray[Any] | Withheld


@dataclass(frozen=True)
class ProbeInputs:
    """All that a probe may know: every view of the embeddings, and what is to be predicted.

    ``outputs``: how many classes or labels there are; 1 of a number. ``views`` holds the full
    product of its normalisations and poolings, in the order in which ties between views are
    decided. Raises `ValueError` when shapes disagree (a mistake of the caller, not of the user)
    and `UserError` when an embedding is not finite or a split is empty.
    """

    views: Mapping[View, EmbeddedSplit]
    labels: Labels
    outputs: int
    kind: TargetKind = "classes"

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("a probe needs at least one (normalisation, pooling) view")
        if set(self.views) != set(product(self.normalisations, self.poolings)):
            raise ValueError("views must be every normalisation with every pooling")
        for view, split in self.views.items():
            self._check_shapes(view, split)
        for name, rows, labels in self._named_rows():
            _check_rows(name, rows, labels, self.kind, self.outputs)

    @property
    def normalisations(self) -> tuple[str, ...]:
        """Names of the normalisations, in order of first appearance."""
        return tuple(dict.fromkeys(normalisation for normalisation, _ in self.views))

    @property
    def poolings(self) -> tuple[str, ...]:
        """Names of the poolings, in order of first appearance."""
        return tuple(dict.fromkeys(pooling for _, pooling in self.views))

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return int(next(iter(self.views.values())).train.shape[1])

    @cached_property
    def objective(self) -> Objective:
        """How this kind of target is learned and read off."""
        return objective_of(self.kind, self.labels.train, self.outputs)

    def validated(self, chosen: Metric, likely: Tensor) -> float:
        """The validation split's score, of what is likely there (`Objective.likely`)."""
        said = likely if chosen.from_probabilities else self.objective.decode(likely)
        return chosen.value(self.labels.val.numpy(), said.numpy())

    def _check_shapes(self, view: View, split: EmbeddedSplit) -> None:
        for name in _SPLITS:
            rows, labels = getattr(split, name), getattr(self.labels, name, None)
            count = len(rows if labels is None else labels)
            if rows.dtype != torch.float32 or rows.shape != (count, self.dim):
                raise ValueError(
                    f"{name} embeddings of view {view} are {rows.dtype} {tuple(rows.shape)}, "
                    f"expected float32 {(count, self.dim)}"
                )

    def _named_rows(self) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        for (normalisation, pooling), split in self.views.items():
            for name in _SPLITS:
                title = f"the {name} embeddings ({normalisation} normalisation, {pooling} pooling)"
                yield title, getattr(split, name), getattr(self.labels, name, None)


@dataclass(frozen=True)
class TrialRecord:
    """One tuning trial: its number, its parameters and what it scored on validation."""

    number: int
    params: Mapping[str, str | float]
    val_score: float


@dataclass(frozen=True)
class ProbeResult:
    """A probe's answer: test predictions and how they were chosen.

    ``predictions``: ``[n_test]``, or ``[n_test, C]`` of labels, as metrics want them;
    ``probabilities``: float32 ``[n_test, C]``, of one class a sample rows sum to 1, ``None`` of
    numbers; ``chosen``: the settings that won on validation; ``val_score``: their
    score there; ``trials``: everything that was tried.
    """

    predictions: Tensor
    probabilities: Tensor | None
    chosen: Mapping[str, str | int | float]
    val_score: float
    trials: tuple[TrialRecord, ...] = field(default=())


def _check_rows(
    name: str, rows: Tensor, labels: Tensor | None, kind: TargetKind, outputs: int
) -> None:
    """Refuse what would otherwise become a wrong number without a word."""
    if not len(rows):
        raise UserError(f"There are no samples behind {name}; each split needs at least one.")
    if labels is not None:
        _check_labels(name, labels, kind, outputs)
    for start in range(0, len(rows), _CHECK_ROWS):
        bad = ~torch.isfinite(rows[start : start + _CHECK_ROWS]).all(dim=1)
        if bool(bad.any()):
            row = start + int(bad.nonzero()[0])
            raise UserError(
                f"Row {row} of {name} holds NaN or infinity; a probe needs finite embeddings: "
                "check that sample's pixels and the variant's weights."
            )


def _check_labels(name: str, labels: Tensor, kind: TargetKind, outputs: int) -> None:
    if kind == "classes" and (int(labels.min()) < 0 or int(labels.max()) >= outputs):
        raise ValueError(f"labels of {name} are outside 0..{outputs - 1}")
    if kind == "labels" and (labels.shape[1] != outputs or int(labels.max()) > 1):
        raise ValueError(f"labels of {name} are not {outputs} columns of 0 and 1")
    if kind == "values" and not bool(torch.isfinite(labels).all()):
        raise ValueError(f"values of {name} are not finite")
