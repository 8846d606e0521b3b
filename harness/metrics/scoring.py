"""Scores with their uncertainty: a metric's value and its bootstrap 95% interval.

A resample is represented by how often it drew each sample, so that a metric over a
thousand resamples is a few matrix products and two models can be compared on the
very same resamples. It must not know probes, variants or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.metrics.catalogue import metric
from harness.metrics.metric import Floats, Samples, Targets

RESAMPLES = 1000
_CONFIDENCE = 0.95
_DRAWS_IN_MEMORY = 4_000_000  # sample draws held at once: bounds memory, changes no result


@dataclass(frozen=True)
class Score:
    """A value and the ends of its 95% interval, all in the metric's own unit."""

    value: float
    low: float
    high: float


def score(
    name: str, targets: Targets, predictions: Targets, *, resamples: int = RESAMPLES, seed: int = 0
) -> Score:
    """Score predictions ``[n, ...]`` with a percentile bootstrap interval over the samples.

    The interval covers the chance of having drawn this test set, not the chance of
    having trained this model: that is what several seeds are for (Efron & Tibshirani,
    An Introduction to the Bootstrap, ch. 13).
    """
    samples = metric(name).samples(targets, predictions)
    return _interval(samples.score(), _draws(samples, resamples, seed))


def paired_difference(
    name: str,
    targets: Targets,
    a: Targets,
    b: Targets,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Score:
    """Score of predictions ``a`` minus score of ``b`` (both ``[n, ...]``), on the same resamples.

    Pairing removes what both models find equally hard, so the interval is much narrower
    than the two separate intervals suggest.
    """
    chosen = metric(name)
    both = [chosen.samples(targets, predictions) for predictions in (a, b)]
    values = [samples.score() for samples in both]
    draws = [_draws(samples, resamples, seed) for samples in both]
    return _interval(values[0] - values[1], draws[0] - draws[1])


def _draws(samples: Samples, resamples: int, seed: int) -> Floats:
    return np.concatenate(
        [samples.scores(counts) for counts in _resamples(len(samples), resamples, seed)]
    )


def sample_values(name: str, targets: Targets, predictions: Targets) -> Floats:
    """Per-sample values ``[n]`` whose mean is the score (`Samples.values`).

    Accuracy: 1 for a hit, 0 for a miss.
    """
    return metric(name).samples(targets, predictions).values()


def _resamples(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks ``[R', n]`` of draw counts; together `resamples` rows, whatever the block size."""
    generator = np.random.default_rng(seed)
    rows_in_memory = max(1, _DRAWS_IN_MEMORY // n)
    for start in range(0, resamples, rows_in_memory):
        rows = min(rows_in_memory, resamples - start)
        draws = generator.integers(0, n, size=(rows, n))
        draws += np.arange(rows)[:, None] * n
        counts = np.bincount(draws.ravel(), minlength=rows * n)
        yield counts.reshape(rows, n).astype(np.float64)


def _interval(value: float, draws: Floats) -> Score:
    tail = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Score(value, float(low), float(high))
