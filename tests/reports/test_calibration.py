"""Calibration against scikit-learn's curve and closed forms, and what chance alone gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import calibration_curve

from reports.calibration import calibration, calibrations
from reports.calibration_figure import reliability_chart
from reports.calibration_tables import calibration_sentences, calibration_table
from reports.look import NARROW, WIDE, to_svg
from reports.pairs import compare
from reports.predictions import predictions
from reports.ranking import rank
from reports.table import SAMPLE_SCHEMA, SuiteResults

Make = Callable[..., SuiteResults]
OLD, NEW = "olmoearth-v1-nano", "olmoearth-v1.1-nano"


def _with(results: SuiteResults, sure: np.ndarray, hit: np.ndarray) -> SuiteResults:
    """The same confidences and hits for every variant."""
    n = len(results.variants)
    samples = results.samples.with_columns(
        confidence=pl.Series(np.tile(sure, n)), value=pl.Series(np.tile(hit, n).astype(float))
    )
    return dataclasses.replace(results, samples=samples)


def _one_task(make_results: Make, make_task: Callable[..., object], n: int) -> SuiteResults:
    return make_results({OLD: 0.6, NEW: 0.8}, [make_task("lp", n_test=n, probe="linear-tpe")])


def test_bins_and_error_are_those_of_scikit_learn(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    rng = np.random.default_rng(2)
    sure = rng.uniform(0.05, 1, 900)
    hit = rng.uniform(size=900) < sure**2
    results = _with(_one_task(make_results, make_task, 900), sure, hit)
    found = calibration(predictions(results)["lp"], OLD)
    assert found is not None
    accuracy, confidence = calibration_curve(hit, sure, n_bins=10, strategy="uniform")
    assert [b.accuracy for b in found.bins] == pytest.approx(accuracy)
    assert [b.confidence for b in found.bins] == pytest.approx(confidence)
    counts = np.histogram(sure, bins=10, range=(0, 1))[0]
    assert [b.count for b in found.bins] == counts[counts > 0].tolist()
    assert found.error == pytest.approx(np.abs(accuracy - confidence) @ counts / 900)
    assert found.error in found.interval
    assert found.is_off
    assert found.direction == "overconfident"


def test_a_calibrated_probe_is_not_called_off_though_its_error_is_not_zero(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    """All in one bin: the error is |accuracy - 0.75|, of mean sqrt(2 p (1 - p) / (pi n))."""
    n = 400
    hit = np.arange(n) % 4 > 0  # exactly three of four
    results = _with(_one_task(make_results, make_task, n), np.full(n, 0.75), hit)
    found = calibration(predictions(results)["lp"], NEW, draws=4000)
    assert found is not None
    assert found.error == pytest.approx(0)
    assert found.expected == pytest.approx(np.sqrt(2 * 0.1875 / (np.pi * n)), rel=0.06)
    assert found.chance == pytest.approx(1.96 * np.sqrt(0.1875 / n), rel=0.08)
    assert not found.is_off


def test_figure_table_and_sentences_agree(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    tasks = [make_task('knn "<script>"', n_test=200), make_task("lp", probe="linear-tpe")]
    results = make_results({OLD: 0.6, NEW: 0.8, "other-v1-base": 0.7}, tasks)
    ranking, samples = rank(results, resamples=10)[0], predictions(results)
    found = calibrations(ranking, samples, compare(results))
    assert [c.variant for c in found[:2]] == [OLD, NEW]
    table = calibration_table(found)
    assert table is not None
    assert len(table.rows) == len(found) == 6
    text = " ".join(calibration_sentences(found))
    assert "biased upwards" in text
    assert 'On knn "<script>" the confidence is a share of weighted kNN votes' in text
    for frame in (WIDE, NARROW):
        spec = reliability_chart(results, ranking, found, frame)
        assert spec is not None
        svg = to_svg(spec)
        assert "<script" not in svg
        assert svg.count(": right in ") == sum(
            len(c.bins) for c in found if c.variant in {OLD, NEW}
        )


@pytest.mark.parametrize("lacks", ["samples", "confidence", "hits"])
def test_what_has_no_confidence_or_no_hits_is_left_out(make_results: Make, lacks: str) -> None:
    results = make_results({OLD: 0.6, NEW: 0.8})
    samples = {
        "samples": pl.DataFrame(schema=SAMPLE_SCHEMA),
        "confidence": results.samples.with_columns(confidence=pl.lit(None, dtype=pl.Float64)),
        "hits": results.samples.with_columns(value=pl.col("value") * 0.5),
    }[lacks]
    scores = results.scores.with_columns(score=pl.col("score") * (0.5 if lacks == "hits" else 1))
    bare = dataclasses.replace(results, samples=samples, scores=scores)
    ranking = rank(bare, resamples=10)[0]
    found = calibrations(ranking, predictions(bare), compare(bare))
    assert found == ()
    assert reliability_chart(bare, ranking, found) is None
    assert calibration_table(found) is None
    assert "hold none" in calibration_sentences(found)[0]
