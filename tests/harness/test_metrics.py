"""Scores against scikit-learn; intervals against closed forms and their own promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from harness.metrics import (
    METRICS,
    metric,
    metrics_of,
    paired_difference,
    sample_values,
    score,
)
from models.errors import UserError
from suites.datasets.base import IGNORED, KIND_WORDS, is_asked


def draw(n: int, classes: int, hit_rate: float, seed: int):
    """Labels and two sets of predictions; the classes are unbalanced."""
    g = np.random.default_rng(seed)
    labels = np.minimum(g.geometric(0.4, n) - 1, classes - 1)
    guesses = [np.where(g.random(n) < hit_rate, labels, g.integers(0, classes, n)) for _ in "ab"]
    return labels, *guesses


def draw_of(name: str, n: int, classes: int, hit_rate: float, seed: int):
    """`draw` for any kind of target: labels, maps (some pixels ignored), numbers."""
    labels, a, b = draw(n, classes, hit_rate, seed)
    g = np.random.default_rng(seed + 1)
    kind = metric(name).kind
    if kind == "labels":
        truth = g.random((n, classes)) < np.linspace(0.1, 0.6, classes)
        said = [np.where(g.random((n, classes)) < hit_rate, truth, ~truth) for _ in "ab"]
        if metric(name).from_probabilities:  # of one decimal: most are tied
            truth[:, 0] = False  # a label that nobody has
            said = [np.round(0.6 * g.random(truth.shape) + 0.4 * x, 1) for x in said]
            return truth.astype(np.uint8), *(x.astype(np.float32) for x in said)
        return truth.astype(np.uint8), *(x.astype(np.uint8) for x in said)
    if kind == "values":
        return labels + g.normal(size=n), *(labels + g.normal(size=n) for _ in "ab")
    if kind == "value_maps":  # far from zero, as temperatures are
        grid = (n, 3, 2)
        truth = 290 + np.repeat(labels, 6).reshape(grid) + g.normal(size=grid)
        said = [(truth + g.normal(size=grid)).astype(np.float32) for _ in "ab"]
        truth[g.random(grid) < 0.2] = np.nan
        truth[0] = np.nan  # an image that nobody is asked about
        return truth.astype(np.float32), *said
    if kind == "maps":
        grid = (n, 3, 2)
        truth = np.repeat(labels, 6).reshape(grid)
        said = [
            np.where(g.random(grid) < hit_rate, truth, g.integers(0, classes, grid)) for _ in "ab"
        ]
        truth[g.random(grid) < 0.2] = IGNORED
        truth[:, 0, 0] = labels  # no image without a pixel that counts
        return truth, *said
    return labels, a, b


def _on_pixels(oracle):
    def scored(maps, predictions):
        asked = is_asked(maps)
        return oracle(maps[asked].astype(np.float64), predictions[asked].astype(np.float64))

    return scored


def _over_present(labels, predictions):
    """Labels that occur nowhere do not count; scikit-learn lets them count as zero."""
    present = (labels + predictions).any(axis=0)
    return f1_score(labels[:, present], predictions[:, present], average="macro")


def _mean_over_present(labels, probabilities):
    """A label without a positive has no recall; scikit-learn gives it zero, and a warning."""
    present = labels.any(axis=0)
    return average_precision_score(labels[:, present], probabilities[:, present], average="macro")


ORACLES = {
    "accuracy": accuracy_score,
    "macro_f1": lambda y, p: f1_score(y, p, average="macro", zero_division=0),
    "micro_f1": lambda y, p: f1_score(y, p, average="micro", zero_division=0),
    "macro_f1_labels": _over_present,
    "micro_map": lambda y, p: average_precision_score(y, p, average="micro"),
    "macro_map": _mean_over_present,
    "miou": _on_pixels(lambda y, p: jaccard_score(y, p, average="macro", zero_division=0)),
    "pixel_accuracy": _on_pixels(accuracy_score),
    "rmse": root_mean_squared_error,
    "mae": mean_absolute_error,
    "r2": r2_score,
    "pixel_rmse": _on_pixels(root_mean_squared_error),
    "pixel_mae": _on_pixels(mean_absolute_error),
    "pixel_r2": _on_pixels(r2_score),
}


def test_every_metric_has_an_oracle_and_every_kind_a_metric():
    assert set(ORACLES) == set(METRICS)
    assert [metrics_of(k)[0] for k in KIND_WORDS] == [
        "accuracy",
        "micro_f1",
        "rmse",
        "miou",
        "pixel_rmse",
    ]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("n", "classes", "hit_rate"), [(3, 3, 1), (7, 5, 0), (300, 6, 0.6)])
def test_value_is_scikit_learns(name, n, classes, hit_rate):
    targets, predictions, _ = draw_of(name, n, classes, hit_rate, seed=n)
    expected = ORACLES[name](targets, predictions)
    assert metric(name).value(targets, predictions) == pytest.approx(expected, abs=1e-10)
    assert sample_values(name, targets, predictions).mean() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", METRICS)
def test_interval_is_the_percentile_of_scored_resamples(name):
    """The vectorised bootstrap equals scoring each drawn sample with scikit-learn."""
    targets, predictions, _ = draw_of(name, 60, 4, 0.5, seed=1)
    rows = np.random.default_rng(9).integers(0, 60, size=(200, 60))
    draws = [ORACLES[name](targets[row], predictions[row]) for row in rows]
    got = score(name, targets, predictions, resamples=200, seed=9)
    assert (got.low, got.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])))


def test_the_values_of_accuracy_are_exactly_hits_and_misses():
    labels, predictions, _ = draw(97, 5, 0.7, seed=8)
    np.testing.assert_array_equal(
        sample_values("accuracy", labels, predictions), labels == predictions
    )


@pytest.mark.parametrize("name", [n for n in METRICS if n != "accuracy"])
def test_a_samples_value_says_what_it_does_to_the_score(name):
    """First-order: dropping a sample moves the score by what its value departs from it."""
    targets, predictions, _ = draw_of(name, 2000, 4, 0.7, seed=7)
    whole = metric(name).value(targets, predictions)
    values = sample_values(name, targets, predictions)
    for row in np.argsort(-np.abs(values - whole))[:3]:
        keep = np.delete(np.arange(2000), row)
        dropped = metric(name).value(targets[keep], predictions[keep])
        assert dropped - whole == pytest.approx(-(values[row] - whole) / 1999, rel=0.05)


def test_perfect_and_constant_predictions_of_numbers():
    values = np.array([1.0, 2.0, 4.0])
    assert metric("rmse").value(values, values) == 0
    assert sample_values("rmse", values, values).tolist() == [0, 0, 0]
    assert metric("r2").value(values, np.full(3, values.mean())) == pytest.approx(0)
    # Nothing to explain: exact is 1, anything else 0, as scikit-learn has it.
    same = np.ones(3)
    assert [metric("r2").value(same, p) for p in (same, values)] == [1, 0]


def test_an_ignored_pixel_counts_neither_as_hit_nor_as_miss():
    truth = np.array([[[0, 1], [IGNORED, IGNORED]]])
    said = np.array([[[0, 1], [1, 0]]])
    assert metric("miou").value(truth, said) == metric("pixel_accuracy").value(truth, said) == 1


def test_a_ranking_without_order_or_without_a_positive():
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=np.uint8)
    same = np.full((4, 3), 0.25, dtype=np.float32)
    # Nothing is told apart: precision is how common a label is; nobody has the last one.
    assert metric("micro_map").value(labels, same) == pytest.approx(3 / 12)
    assert metric("macro_map").value(labels, same) == pytest.approx((1 / 4 + 2 / 4) / 2)
    for name in ("micro_map", "macro_map"):
        nobody = score(name, np.zeros_like(labels), same)
        assert (nobody.value, nobody.low, nobody.high) == (0, 0, 0)
        assert sample_values(name, np.zeros_like(labels), same).tolist() == [0, 0, 0, 0]


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
    monkeypatch.setattr("harness.metrics.scoring._DRAWS_IN_MEMORY", 333)
    assert score("macro_f1", labels, predictions, seed=1) == whole


@pytest.mark.parametrize("name", METRICS)
def test_paired_difference(name):
    targets, a, b = draw_of(name, 500, 4, 0.6, seed=5)
    got = paired_difference(name, targets, a, b)
    assert got.value == metric(name).value(targets, a) - metric(name).value(targets, b)
    assert got.low < got.value < got.high
    same = paired_difference(name, targets, a, a)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    opposite = paired_difference(name, targets, b, a)
    assert (opposite.low, opposite.high) == pytest.approx((-got.high, -got.low))


def test_pairing_is_narrower_than_two_intervals():
    """Two models that differ on few samples: the paired interval sees only those."""
    labels, a, _ = draw(1000, 4, 0.6, seed=6)
    b = a.copy()
    b[:30] = (labels[:30] + 1) % 4
    paired = paired_difference("accuracy", labels, a, b)
    alone = score("accuracy", labels, a)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_unknown_metric_names_the_closest():
    with pytest.raises(UserError, match='did you mean "accuracy"'):
        metric("acuracy")
