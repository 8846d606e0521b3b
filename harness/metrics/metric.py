"""What a metric is: a smooth function of means over samples. It must not know which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from suites.datasets.base import TargetKind

Targets = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One way to score predictions: a smooth function of means over the samples.

    ``statistics(targets, predictions)`` is ``[n, K]``, what each sample contributes;
    ``of_means`` turns their means ``[R, K]`` into scores ``[R]``; ``gradient`` is its
    derivative ``[K]`` at one mean ``[K]``. ``worst`` is what a model that produced no usable
    prediction scores. ``kind`` says which targets it is for.

    That is enough for a score over any resample, which only weighs the samples, and for
    what each sample does to the score.
    """

    name: str
    title: str
    higher_is_better: bool
    worst: float
    kind: TargetKind
    statistics: Callable[[Targets, Targets], Floats]
    of_means: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats]

    def value(self, targets: Targets, predictions: Targets) -> float:
        """The score of ``predictions`` against ``targets``, both ``[n, ...]``."""
        return self.value_of(self.of_samples(targets, predictions))

    def of_samples(self, targets: Targets, predictions: Targets) -> Floats:
        """Each sample's statistics ``[n, K]``. `ValueError` unless both are of one shape."""
        if targets.shape != predictions.shape or not targets.size:
            raise ValueError(
                f"targets {targets.shape} and predictions {predictions.shape} must be of one "
                "shape, and not empty"
            )
        return self.statistics(targets, predictions)

    def value_of(self, statistics: Floats) -> float:
        """The score of samples of which only the statistics ``[n, K]`` are known."""
        return float(self.of_means(statistics.mean(axis=0)[None])[0])

    def contributions(self, statistics: Floats) -> Floats:
        """Per-sample values ``[n]`` whose mean is the score: it plus each sample's influence.

        To first order, leaving a sample out moves the score by what its value departs from
        it (Efron's infinitesimal jackknife). Of a plain mean they are what is averaged.
        """
        means = statistics.mean(axis=0)
        slope = self.gradient(means)
        # Of a plain mean the second term is exactly zero: its values stay what they were.
        values: Floats = statistics @ slope + (float(self.of_means(means[None])[0]) - means @ slope)
        return values
