"""Results class by class: which classes a variant confuses, and which a later version loses.

Confusion is pooled over seeds. A class's change between two variants is tested on its test
samples, paired; the samples are the unit, never samples times seeds. Numbers only, as pure
functions of predictions; `reports.per_class_tables` and `reports.confusion_figures` show them.
It must know nothing of pages or files.

Sources: recall, precision and F1 as usual (C. van Rijsbergen, Information Retrieval, 1979);
McNemar and Holm as in `reports.significance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from reports.pairs import Pair
from reports.predictions import Ints, Predictions
from reports.resampling import Floats
from reports.significance import ALPHA, holm, mcnemar

Verdict = Literal["worse", "not separated", "better"]
VERDICT_ORDER: tuple[Verdict, ...] = ("worse", "not separated", "better")


@dataclass(frozen=True, eq=False)
class ClassScores:
    """One variant on one task, class by class, pooled over seeds.

    ``confusion`` ``[C, C]`` counts (true class, predicted class). A score without any sample
    to take it from is NaN, as the precision of a class that is never predicted.
    """

    task: str
    variant: str
    classes: tuple[str, ...]
    confusion: Ints

    @property
    def support(self) -> Ints:
        """Test samples of each class, every seed counted."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def recall(self) -> Floats:
        """Share of a class's samples that are recognised."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> Floats:
        """Share of the predictions of a class that are right."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def f1(self) -> Floats:
        """Harmonic mean of both, 0 for a class that is there but never hit."""
        both = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return _share(2 * np.diag(self.confusion), both)


@dataclass(frozen=True)
class ClassChange:
    """A class's recall under a candidate against a reference, on the same samples.

    ``samples`` are distinct test samples. ``p_value`` is exact McNemar's on them (with several
    seeds: the sign test on a sample's mean over seeds), Holm-adjusted over the task's classes.
    """

    task: str
    label: str
    samples: int
    reference: float
    candidate: float
    p_value: float

    @property
    def value(self) -> float:
        """Candidate minus reference."""
        return self.candidate - self.reference

    @property
    def verdict(self) -> Verdict:
        """Worse or better where the adjusted p-value is below 5%."""
        if self.p_value >= ALPHA or self.value == 0:
            return "not separated"
        return "worse" if self.value < 0 else "better"


def class_names(task: Predictions) -> tuple[str, ...]:
    """The task's classes, numbered beyond those that it names."""
    highest = max(int(task.label.max()), int(task.prediction.max()))
    unnamed = range(len(task.task.classes), highest + 1)
    return (*task.task.classes, *(f"class {i}" for i in unnamed))


def class_scores(task: Predictions, variant: str) -> ClassScores | None:
    """Confusion of one variant; ``None`` where samples have no single class, or it has none."""
    if variant not in task.variants or not task.have_classes:
        return None
    names = class_names(task)
    predicted = task.prediction[task.variants.index(variant)][task.present]
    true = task.label[task.present]
    n = len(names)
    counts = np.bincount(true * n + predicted, minlength=n * n).reshape(n, n)
    return ClassScores(task.task.name, variant, names, counts)


def class_changes(task: Predictions, reference: str, candidate: str) -> tuple[ClassChange, ...]:
    """Every class that has test samples, the largest loss first; empty where there is none."""
    both = task.of((reference, candidate))
    if both is None or not both.have_classes:
        return ()
    hits = both.prediction == both.label  # [2, K, S]
    names = class_names(task)
    found = []
    for c in np.unique(both.label[both.present]):
        mine = both.present & (both.label == c)  # [K, S]
        right = (hits & mine).sum(axis=1)  # [2, S]
        recalls = right.sum(axis=1) / mine.sum()
        p = _mcnemar(int((right[0] > right[1]).sum()), int((right[1] > right[0]).sum()))
        samples = int(mine.any(axis=0).sum())
        found.append((names[c], samples, float(recalls[0]), float(recalls[1]), p))
    adjusted = holm([p for *_, p in found])
    changes = [
        ClassChange(task.task.name, *facts[:4], p) for facts, p in zip(found, adjusted, strict=True)
    ]
    return tuple(sorted(changes, key=lambda c: (c.value, c.label)))


_mcnemar = lru_cache(maxsize=None)(mcnemar)  # the same few counts come up in class after class


def version_changes(
    samples: Mapping[str, Predictions], pairs: Sequence[Pair]
) -> tuple[tuple[Pair, ClassChange], ...]:
    """All classes of all tasks under all pairs of versions: significant losses first."""
    found = [
        (pair, change)
        for pair in pairs
        if pair.kind == "version"
        for task in samples.values()
        for change in class_changes(task, pair.reference, pair.candidate)
    ]
    return tuple(sorted(found, key=lambda pc: (VERDICT_ORDER.index(pc[1].verdict), pc[1].value)))


def _share(part: Ints, whole: Ints) -> Floats:
    empty = np.full(len(part), np.nan)
    return np.asarray(np.divide(part, whole, out=empty, where=whole > 0), dtype=np.float64)
