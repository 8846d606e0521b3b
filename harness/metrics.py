"""Scores with their uncertainty: a metric's value and its bootstrap 95% interval.

Pure functions of labels and predictions. Must not know probes, variants or files.
A resample is represented by how often it drew each sample, so that a metric over a
thousand resamples is a few matrix products and two models can be compared on the
very same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
_CONFIDENCE = 0.95
_DRAWS_IN_MEMORY = 4_000_000  # sample draws held at once: bounds memory, changes no result


@dataclass(frozen=True)
class Score:
    """A value and the ends of its 95% interval, all in the metric's own unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Metric:
    """One way to score predictions.

    ``weighted(labels, predictions, weights)`` returns one value per row of ``weights``
    ``[R, n]``, where ``weights[r, i]`` says how often resample r drew sample i.
    ``contributions(labels, predictions)`` returns ``[n]`` per-sample values whose mean is
    the score. ``worst`` is what a model that produced no usable prediction scores.
    """

    name: str
    title: str
    higher_is_better: bool
    worst: float
    weighted: Callable[[Classes, Classes, Floats], Floats]
    contributions: Callable[[Classes, Classes], Floats]

    def value(self, labels: Classes, predictions: Classes) -> float:
        """The score of ``predictions`` ``[n]`` against ``labels`` ``[n]``."""
        _check(labels, predictions)
        return float(self.weighted(labels, predictions, np.ones((1, len(labels))))[0])


def metric(name: str) -> Metric:
    """Look a metric up by name; a `UserError` names the valid ones."""
    try:
        return METRICS[name]
    except KeyError:
        raise UserError(f'Unknown metric "{name}": {did_you_mean(name, METRICS)}.') from None


def score(
    name: str, labels: Classes, predictions: Classes, *, resamples: int = RESAMPLES, seed: int = 0
) -> Score:
    """Score predictions ``[n]`` with a percentile bootstrap interval over the samples.

    The interval covers the chance of having drawn this test set, not the chance of
    having trained this model: that is what several seeds are for (Efron & Tibshirani,
    An Introduction to the Bootstrap, ch. 13).
    """
    chosen = metric(name)
    value = chosen.value(labels, predictions)
    draws = np.concatenate(
        [
            chosen.weighted(labels, predictions, weights)
            for weights in _resamples(len(labels), resamples, seed)
        ]
    )
    return _interval(value, draws)


def paired_difference(
    name: str,
    labels: Classes,
    a: Classes,
    b: Classes,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Score:
    """Score of predictions ``a`` minus score of ``b`` (both ``[n]``), on the same resamples.

    Pairing removes what both models find equally hard, so the interval is much narrower
    than the two separate intervals suggest.
    """
    chosen = metric(name)
    value = chosen.value(labels, a) - chosen.value(labels, b)
    draws = np.concatenate(
        [
            chosen.weighted(labels, a, weights) - chosen.weighted(labels, b, weights)
            for weights in _resamples(len(labels), resamples, seed)
        ]
    )
    return _interval(value, draws)


def sample_values(name: str, labels: Classes, predictions: Classes) -> Floats:
    """Per-sample values ``[n]`` whose mean is the score.

    Accuracy: 1 for a hit, 0 for a miss. Macro F1 is no mean over samples; its values are
    the score plus each sample's influence on it (Efron's infinitesimal jackknife), so
    their mean is exactly the score and differences between models are right to first order.
    """
    _check(labels, predictions)
    return metric(name).contributions(labels, predictions)


def _check(labels: Classes, predictions: Classes) -> None:
    if labels.shape != predictions.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and predictions {predictions.shape} must be one equal, "
            "non-empty axis"
        )


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


def _hits(labels: Classes, predictions: Classes) -> Floats:
    hits: Floats = (labels == predictions).astype(np.float64)
    return hits


def _accuracy(labels: Classes, predictions: Classes, weights: Floats) -> Floats:
    rates: Floats = weights @ _hits(labels, predictions) / weights.sum(axis=1)
    return rates


def _f1_parts(labels: Classes, predictions: Classes) -> tuple[Floats, Floats]:
    """F1 = 2 TP / (2 TP + FP + FN): numerator and denominator by sample and class, ``[n, C]``."""
    classes = np.union1d(labels, predictions)
    is_label = (labels[:, None] == classes).astype(np.float64)
    is_prediction = (predictions[:, None] == classes).astype(np.float64)
    return 2 * is_label * is_prediction, is_label + is_prediction


def _macro_f1(labels: Classes, predictions: Classes, weights: Floats) -> Floats:
    """Mean F1 over the classes that the (re)sample holds, as label or as prediction."""
    numerator, denominator = (weights @ part for part in _f1_parts(labels, predictions))
    present = denominator > 0
    per_class = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=present)
    means: Floats = per_class.sum(axis=1) / present.sum(axis=1)
    return means


def _macro_f1_contributions(labels: Classes, predictions: Classes) -> Floats:
    numerator, denominator = _f1_parts(labels, predictions)
    f1 = numerator.sum(axis=0) / denominator.sum(axis=0)
    influence = (numerator - f1 * denominator) / denominator.mean(axis=0)
    values: Floats = (f1 + influence).mean(axis=1)
    return values


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", "accuracy", True, 0.0, _accuracy, _hits),
        Metric("macro_f1", "macro F1", True, 0.0, _macro_f1, _macro_f1_contributions),
    )
}
