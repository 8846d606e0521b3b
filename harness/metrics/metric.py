"""What a metric is: a score of samples that count more or less. It must not know which there are.

Every score here is a smooth function of how much each sample counts. That is enough for a score
over any resample, which only weighs the samples, and for what each sample does to the score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from suites.datasets.base import TargetKind

Targets = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class Samples(Protocol):
    """Targets and predictions of n samples, of which only how much each counts is still open."""

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def score(self) -> float:
        """The score where each counts once."""
        ...

    def scores(self, counts: Floats) -> Floats:
        """Scores ``[R]`` of R resamples in which the samples come up ``counts`` ``[R, n]`` times.

        In all n times, as every resample's do.
        """
        ...

    def values(self) -> Floats:
        """Per-sample values ``[n]`` whose mean is the score: it plus each sample's influence.

        To first order, leaving a sample out moves the score by what its value departs from
        it (Efron's infinitesimal jackknife).
        """
        ...


@dataclass(frozen=True)
class Metric(ABC):
    """One way to score predictions.

    ``worst`` is what a model that produced no usable prediction scores; ``kind`` says which
    targets it is for. Where it is ``from_probabilities``, predictions are those, float ``[n, C]``.
    """

    name: str
    title: str
    higher_is_better: bool
    worst: float
    kind: TargetKind

    from_probabilities: ClassVar[bool] = False

    @abstractmethod
    def of(self, targets: Targets, predictions: Targets) -> Samples:
        """The samples as they are scored; both ``[n, ...]``, of one shape."""

    def samples(self, targets: Targets, predictions: Targets) -> Samples:
        """`of` what fits together. `ValueError` unless both are of one shape."""
        if targets.shape != predictions.shape or not targets.size:
            raise ValueError(
                f"targets {targets.shape} and predictions {predictions.shape} must be of one "
                "shape, and not empty"
            )
        return self.of(targets, predictions)

    def value(self, targets: Targets, predictions: Targets) -> float:
        """The score of ``predictions`` against ``targets``, both ``[n, ...]``."""
        return self.samples(targets, predictions).score()


@dataclass(frozen=True)
class MeanMetric(Metric):
    """A smooth function of means over the samples.

    ``statistics(targets, predictions)`` is ``[n, K]``, what each sample contributes;
    ``of_means`` turns their means ``[R, K]`` into scores ``[R]``; ``gradient`` is its
    derivative ``[K]`` at one mean ``[K]``.
    """

    statistics: Callable[[Targets, Targets], Floats]
    of_means: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats]

    def of(self, targets: Targets, predictions: Targets) -> Samples:
        """What each sample contributes."""
        return _Contributions(self, self.statistics(targets, predictions))


@dataclass(frozen=True)
class _Contributions:
    """Samples by their statistics ``[n, K]``."""

    metric: MeanMetric
    statistics: Floats

    def __len__(self) -> int:
        return len(self.statistics)

    def score(self) -> float:
        return float(self.metric.of_means(self.statistics.mean(axis=0)[None])[0])

    def scores(self, counts: Floats) -> Floats:
        return self.metric.of_means(counts @ self.statistics / len(self))

    def values(self) -> Floats:
        means = self.statistics.mean(axis=0)
        slope = self.metric.gradient(means)
        # Of a plain mean the second term is exactly zero: its values stay what they were.
        score = float(self.metric.of_means(means[None])[0])
        values: Floats = self.statistics @ slope + (score - means @ slope)
        return values
