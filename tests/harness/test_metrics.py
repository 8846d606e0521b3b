"""Scores against scikit-learn; intervals against closed forms and their own promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from harness.metrics import METRICS, metric, paired_difference, sample_values, score
from models.errors import UserError


def draw(n: int, classes: int, hit_rate: float, seed: int):
    """Labels and two sets of predictions; the classes are unbalanced."""
    g = np.random.default_rng(seed)
    labels = np.minimum(g.geometric(0.4, n) - 1, classes - 1)
    guesses = [np.where(g.random(n) < hit_rate, labels, g.integers(0, classes, n)) for _ in "ab"]
    return labels, *guesses


ORACLES = {
    "accuracy": accuracy_score,
    "macro_f1": lambda y, p: f1_score(y, p, average="macro", zero_division=0),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("n", "classes", "hit_rate"), [(1, 3, 1), (7, 5, 0), (300, 6, 0.6)])
def test_value_is_scikit_learns(name, n, classes, hit_rate):
    labels, predictions, _ = draw(n, classes, hit_rate, seed=n)
    expected = ORACLES[name](labels, predictions)
    assert metric(name).value(labels, predictions) == pytest.approx(expected, abs=1e-12)
    assert sample_values(name, labels, predictions).mean() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_interval_is_the_percentile_of_scored_resamples(name):
    """The vectorised bootstrap equals scoring each drawn sample with scikit-learn."""
    labels, predictions, _ = draw(60, 4, 0.5, seed=1)
    rows = np.random.default_rng(9).integers(0, 60, size=(200, 60))
    draws = [ORACLES[name](labels[row], predictions[row]) for row in rows]
    got = score(name, labels, predictions, resamples=200, seed=9)
    assert (got.low, got.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])))


def test_accuracy_interval_matches_the_binomial():
    labels, predictions, _ = draw(2000, 5, 0.7, seed=2)
    got = score("accuracy", labels, predictions)
    half_width = 1.96 * (got.value * (1 - got.value) / 2000) ** 0.5
    assert got.value - got.low == pytest.approx(half_width, rel=0.15)
    assert got.high - got.value == pytest.approx(half_width, rel=0.15)


def test_accuracy_interval_covers_the_truth_as_often_as_it_says():
    """400 test sets of a model that is right 70% of the time; binomial slack on the count."""
    g = np.random.default_rng(3)
    labels = np.zeros(250, dtype=np.int64)
    covered = 0
    for seed in range(400):
        predictions = (g.random(250) > 0.7).astype(np.int64)
        got = score("accuracy", labels, predictions, resamples=400, seed=seed)
        covered += got.low <= 0.7 <= got.high
    assert 0.91 <= covered / 400 <= 0.98


def test_resamples_do_not_depend_on_the_memory_bound(monkeypatch):
    labels, predictions, _ = draw(50, 3, 0.5, seed=4)
    whole = score("macro_f1", labels, predictions, seed=1)
    monkeypatch.setattr("harness.metrics._DRAWS_IN_MEMORY", 333)
    assert score("macro_f1", labels, predictions, seed=1) == whole


@pytest.mark.parametrize("name", METRICS)
def test_paired_difference(name):
    labels, a, b = draw(500, 4, 0.6, seed=5)
    got = paired_difference(name, labels, a, b)
    assert got.value == metric(name).value(labels, a) - metric(name).value(labels, b)
    assert got.low < got.value < got.high
    same = paired_difference(name, labels, a, a)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    opposite = paired_difference(name, labels, b, a)
    assert (opposite.low, opposite.high) == pytest.approx((-got.high, -got.low))


def test_pairing_is_narrower_than_two_intervals():
    """Two models that differ on few samples: the paired interval sees only those."""
    labels, a, _ = draw(1000, 4, 0.6, seed=6)
    b = a.copy()
    b[:30] = (labels[:30] + 1) % 4
    paired = paired_difference("accuracy", labels, a, b)
    alone = score("accuracy", labels, a)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_influence_values_predict_macro_f1_differences():
    """First-order: dropping a sample moves macro F1 by what its value says."""
    labels, predictions, _ = draw(400, 4, 0.6, seed=7)
    whole = metric("macro_f1").value(labels, predictions)
    values = sample_values("macro_f1", labels, predictions)
    keep = np.delete(np.arange(400), 11)
    dropped = metric("macro_f1").value(labels[keep], predictions[keep])
    assert dropped - whole == pytest.approx(-(values[11] - whole) / 399, rel=0.05)


def test_unknown_metric_names_the_closest():
    with pytest.raises(UserError, match='did you mean "accuracy"'):
        metric("acuracy")
