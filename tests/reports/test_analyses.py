"""All analyses on what a suite run or an import may hold: nothing, one of a kind, or no order."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from reports.calibration import calibrations
from reports.calibration_figure import reliability_chart
from reports.calibration_tables import calibration_sentences, calibration_table
from reports.confusion_figures import (
    changes_to_draw,
    confusion_change_chart,
    confusion_chart,
    tasks_to_draw,
)
from reports.cost_curve_figures import cost_ratio_chart, macs_chart
from reports.cost_curves import cost_curve_sentences, cost_curve_table
from reports.critical_difference import critical_difference_sentences
from reports.critical_difference_diagram import critical_difference_chart
from reports.look import NARROW, WIDE, Frame
from reports.pairs import compare
from reports.per_class_tables import (
    class_change_table,
    per_class_sentences,
    per_class_table,
    version_class_changes,
)
from reports.predictions import predictions
from reports.ranking import rank
from reports.resampling import bootstrap
from reports.sensitivity import aggregation_table, sensitivity_sentences, stability_table
from reports.sensitivity_figure import sensitivity_chart
from reports.table import CURVE_SCHEMA, TRIAL_SCHEMA, SuiteResults
from reports.tables import Table
from reports.tuning import searches, tried_ranges
from reports.tuning_figures import chosen_chart, tuning_chart
from reports.tuning_tables import tuning_sentences, tuning_table

Make = Callable[..., SuiteResults]
QUALITY = {
    "olmoearth-v1-nano": 0.6,
    "olmoearth-v1.1-nano": 0.7,
    "olmoearth-v1-nano:single": 0.5,
    "olmoearth-v1-tiny": 0.65,
    "olmoearth-v1.1-tiny": 0.75,
}


def full(make_results: Make, make_task: Callable[..., object], **more: Any) -> SuiteResults:
    """Results with everything in them: samples, trials, curves."""
    tasks = [make_task(f"task-{i}", n_test=60, classes=tuple("abcdefghij")) for i in range(3)]
    results = make_results(QUALITY, tasks, seeds=(0, 1), **more)
    trials = [
        (v, t, k, n, json.dumps({"learning_rate": 10.0**-n, "weight_decay": 0.1 / n}), 0.5 + n / 99)
        for v, t, k in results.scores.select("variant", "task", "seed").iter_rows()
        for n in range(1, 11)
    ]
    curves = [
        (v, axis, at, 4, at * g, 1e6 * at * g + (at * g) ** 2, float((at * g) ** 2))
        for v, g in results.variants.select("variant", "groups").iter_rows()
        for axis in ("side", "steps")
        for at in (4, 16, 64)
    ]
    return dataclasses.replace(
        results,
        trials=pl.DataFrame(trials, schema=TRIAL_SCHEMA, orient="row"),
        curves=pl.DataFrame(curves, schema=CURVE_SCHEMA, orient="row"),
    )


def analyses(results: SuiteResults, *frames: Frame) -> Iterator[tuple[str, Any]]:
    """Everything a page takes from the analyses, by name."""
    scores = bootstrap(results, 40)
    pairs, samples = compare(results, scores), predictions(results)
    yield "cost words", cost_curve_sentences(results, pairs)
    yield "cost table", cost_curve_table(results, pairs)
    for frame in frames:
        yield "ratio", cost_ratio_chart(results, pairs, frame)
        yield "macs", macs_chart(results, frame)
    for ranking in rank(results, scores=scores):
        changes = version_class_changes(samples, pairs, ranking)
        calibrated = calibrations(ranking, samples, pairs)
        found, ranges = searches(results, ranking), tried_ranges(results, ranking)
        yield "difference words", critical_difference_sentences(ranking)
        yield "stability words", sensitivity_sentences(ranking, samples)
        yield "aggregations", aggregation_table(ranking)
        yield "stability", stability_table(ranking)
        yield "class words", per_class_sentences(ranking, samples, changes)
        yield "classes", per_class_table(ranking, samples)
        yield "changes", class_change_table(changes)
        yield "calibration words", calibration_sentences(calibrated)
        yield "calibration", calibration_table(calibrated)
        yield "tuning words", tuning_sentences(found, ranges)
        yield "tuning", tuning_table(found, ranges)
        for frame in frames:
            yield "diagram", critical_difference_chart(results, ranking, frame)
            yield "omissions", sensitivity_chart(results, ranking, frame)
            yield "reliability", reliability_chart(results, ranking, calibrated, frame)
            yield "progress", tuning_chart(results, ranking, found, frame)
            yield "chosen", chosen_chart(results, ranking, found, ranges, frame)
            for task in tasks_to_draw(ranking, samples):
                yield "confusion", confusion_chart(results, ranking, task, frame)
            for pair, name in changes_to_draw(changes):
                task = samples[name]
                yield "change", confusion_change_chart(results, ranking, task, pair, frame)


def _published(results: SuiteResults) -> SuiteResults:
    """As an imported table: one number per task, no samples, no costs."""
    null = pl.lit(None, dtype=pl.Float64)
    return dataclasses.replace(
        results,
        variants=results.variants.with_columns(
            tier=pl.lit("published"), macs=null, macs_attention=null, tokens=null
        ),
        scores=results.scores.filter(seed=0).with_columns(
            seed=pl.lit(None, dtype=pl.Int64), val_score=null
        ),
        samples=results.samples.clear(),
        trials=results.trials.clear(),
        curves=results.curves.clear(),
    )


def test_full_results_give_every_piece_and_the_order_of_rows_changes_none(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = full(make_results, make_task)
    shuffled = dataclasses.replace(
        results,
        **{
            name: getattr(results, name).sample(fraction=1, shuffle=True, seed=3)
            for name in ("scores", "samples", "trials", "curves")
        },
    )
    one, two = list(analyses(results, WIDE)), list(analyses(shuffled, WIDE))
    assert all(piece for _, piece in one), [name for name, piece in one if not piece]
    assert json.dumps(one, default=repr) == json.dumps(two, default=repr)


@pytest.mark.parametrize("kind", ["published", "one variant", "none complete", "empty", "no class"])
def test_what_is_lacking_is_left_out_and_said(
    make_results: Make, make_task: Callable[..., object], kind: str
) -> None:
    results = full(make_results, make_task)
    if kind == "published":
        results = _published(results)
    elif kind == "one variant":
        name = next(iter(QUALITY))
        frames = ("variants", "scores", "samples", "trials", "curves")
        kept = {f: getattr(results, f).filter(variant=name) for f in frames}
        results = dataclasses.replace(results, **kept)
    elif kind == "none complete":
        results = full(make_results, make_task, without=[(v, "task-0", 1) for v in QUALITY])
    elif kind == "empty":
        frames = ("scores", "samples", "trials", "curves")
        results = dataclasses.replace(results, **{f: getattr(results, f).clear() for f in frames})
    else:
        none = pl.lit(None, dtype=pl.Int64)
        samples = results.samples.with_columns(label=none, prediction=none)
        results = dataclasses.replace(results, samples=samples)
    for name, piece in analyses(results, NARROW):
        if isinstance(piece, list):
            assert piece, name
            assert all(sentence.endswith(".") for sentence in piece), piece
            assert not re.search(r"\bnan\b", " ".join(piece)), piece
        elif isinstance(piece, Table):
            assert piece.rows
            assert all(len(row) == len(piece.columns) == len(piece.numeric) for row in piece.rows)
        else:
            assert piece is None or piece["$schema"], name
