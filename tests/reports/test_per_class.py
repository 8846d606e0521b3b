"""Per-class results against scikit-learn and statsmodels; heatmaps that hold every class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from reports.confusion_figures import (
    MOST_CLASSES,
    changes_to_draw,
    confusion_change_chart,
    confusion_chart,
    tasks_to_draw,
)
from reports.look import NARROW, WIDE, to_svg
from reports.pairs import compare
from reports.per_class import class_changes, class_scores
from reports.per_class_tables import (
    class_change_table,
    per_class_sentences,
    per_class_table,
    version_class_changes,
)
from reports.predictions import predictions
from reports.ranking import rank
from reports.table import SAMPLE_SCHEMA, SuiteResults

Make = Callable[..., SuiteResults]
OLD, NEW = "olmoearth-v1-nano", "olmoearth-v1.1-nano"
CLASSES = tuple(f"Class {c}" for c in range(10))


def _results(make_results: Make, make_task: Callable[..., object], **more: object) -> SuiteResults:
    task = make_task("knn", classes=CLASSES, n_test=400)
    return make_results({OLD: 0.9, NEW: 0.4}, [task], noise=0.1, **more)


def test_scores_and_confusion_are_those_of_scikit_learn(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = _results(make_results, make_task, seeds=(0, 1))
    found = class_scores(predictions(results)["knn"], OLD)
    mine = results.samples.filter(variant=OLD)
    true, predicted = mine["label"].to_numpy(), mine["prediction"].to_numpy()
    assert found is not None
    assert (found.confusion == metrics.confusion_matrix(true, predicted)).all()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(true, predicted)
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f1 == pytest.approx(f1)
    assert (found.support == support).all()


def test_changes_are_mcnemar_per_class_with_holm(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = _results(make_results, make_task)
    changes = class_changes(predictions(results)["knn"], OLD, NEW)
    wide = results.samples.pivot("variant", index=["sample", "label"], values="value")
    expected = []
    for c in range(10):
        mine = wide.filter(label=c)
        a, b = mine[OLD].to_numpy() > 0, mine[NEW].to_numpy() > 0
        table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        expected.append(mcnemar(table, exact=True).pvalue)
    adjusted = multipletests(expected, method="holm")[1]
    assert {c.label: c.p_value for c in changes} == pytest.approx(
        {f"Class {c}": p for c, p in enumerate(adjusted)}
    )
    assert [c.value for c in changes] == sorted(c.value for c in changes)
    assert changes[0].verdict == "worse"


def test_more_seeds_on_the_same_samples_are_no_new_evidence(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    one = _results(make_results, make_task)
    again = one.samples.with_columns(seed=pl.lit(1, dtype=pl.Int64))
    two = dataclasses.replace(
        one,
        run=dataclasses.replace(one.run, seeds=(0, 1)),
        samples=pl.concat([one.samples, again]),
    )
    first = class_changes(predictions(one)["knn"], OLD, NEW)
    second = class_changes(predictions(two)["knn"], OLD, NEW)
    assert [c.p_value for c in first] == [c.p_value for c in second]
    assert [c.value for c in first] == pytest.approx([c.value for c in second])


def test_losses_come_first_and_are_named(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = _results(make_results, make_task)
    ranking, samples = rank(results, resamples=10)[0], predictions(results)
    changes = version_class_changes(samples, compare(results), ranking)
    table = class_change_table(changes)
    assert table is not None
    assert table.rows[0][7].text == "worse"
    assert table.rows[0][7].tone == "bad"
    text = " ".join(per_class_sentences(ranking, samples, changes))
    assert changes[0][1].label in text
    worst = per_class_table(ranking, samples)
    assert worst is not None
    f1 = [row[3].key for row in worst.rows]
    assert f1 == sorted(f1)
    assert changes_to_draw(changes)[0][1] == "knn"


def test_many_classes_are_cut_to_the_weakest_and_the_rest_counted(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = _results(make_results, make_task)
    rng = np.random.default_rng(0)
    labels = {f"s{i:05d}": int(c) for i, c in enumerate(rng.integers(0, 43, 400))}
    label = pl.col("sample").replace_strict(labels, return_dtype=pl.Int64)
    wrong = (label + 5) % 43
    many = results.samples.with_columns(
        label=label, prediction=pl.when(pl.col("value") > 0).then(label).otherwise(wrong)
    )
    task = dataclasses.replace(results.run.tasks[0], classes=tuple(map(str, range(43))))
    results = dataclasses.replace(
        results, run=dataclasses.replace(results.run, tasks=(task,)), samples=many
    )
    ranking, samples = rank(results, resamples=10)[0], predictions(results)
    spec = confusion_chart(results, ranking, samples["knn"], WIDE)
    assert spec is not None
    assert f">{43 - MOST_CLASSES + 1} other classes</text>" in to_svg(spec)
    assert confusion_chart(results, ranking, samples["knn"], NARROW) is None
    assert "classes are left out" in " ".join(per_class_sentences(ranking, samples, ()))


def test_heatmaps_show_every_class_and_say_what_a_cell_is(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    names = (*CLASSES[:9], '"<script>alert(1)</script>')
    task = make_task("knn", classes=names, n_test=300)
    results = make_results({OLD: 0.8, NEW: 0.6}, [task], noise=0.3)
    ranking, samples = rank(results, resamples=10)[0], predictions(results)
    (drawn,) = tasks_to_draw(ranking, samples)
    pair = compare(results)[0]
    for frame in (WIDE, NARROW):
        for spec in (
            confusion_chart(results, ranking, drawn, frame),
            confusion_change_chart(results, ranking, drawn, pair, frame),
        ):
            assert spec is not None
            svg = to_svg(spec)
            assert "<script" not in svg
            assert all(svg.count(f">{name}</text>") == 2 for name in CLASSES[:9])
            assert "Class 0 taken for Class 1: " in svg


def test_without_classes_there_is_nothing_to_show(make_results: Make) -> None:
    results = make_results({OLD: 0.8, NEW: 0.6})
    without = results.samples.with_columns(label=pl.lit(None, dtype=pl.Int64))
    for samples in (without, pl.DataFrame(schema=SAMPLE_SCHEMA)):
        bare = dataclasses.replace(results, samples=samples)
        ranking, found = rank(bare, resamples=10)[0], predictions(bare)
        assert per_class_table(ranking, found) is None
        assert tasks_to_draw(ranking, found) == ()
        assert version_class_changes(found, compare(bare), ranking) == ()
        assert "no predicted classes" in per_class_sentences(ranking, found, ())[0]
