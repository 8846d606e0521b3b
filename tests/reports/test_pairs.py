"""Pairs: who is held against whom, cost ratios, and verdicts that need an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from reports.answer import answer
from reports.decision import outcome
from reports.pairs import Difference, Pair, compare, gain, regressions_first
from reports.ranking import RankingTable, rank
from reports.resampling import Interval
from reports.table import StudyWeights, SuiteResults, TaskInfo

Make = Callable[..., SuiteResults]


def test_pairs_are_the_ones_a_design_is_judged_by(make_results: Make) -> None:
    names = [
        "olmoearth-v1.1-nano",
        "olmoearth-v1-nano",
        "olmoearth-v1-nano:single",
        "olmoearth-v1.2-nano",
        "olmoearth-v1-tiny",
        "other-v1.1-tiny",
    ]
    found = {
        (p.kind, p.reference, p.candidate) for p in compare(make_results(dict.fromkeys(names, 0.7)))
    }
    assert found == {
        ("version", "olmoearth-v1-nano", "olmoearth-v1.1-nano"),
        ("version", "olmoearth-v1-nano", "olmoearth-v1.2-nano"),
        ("scheme", "olmoearth-v1-nano", "olmoearth-v1-nano:single"),
        ("recipe", "olmoearth-v1-nano:single", "olmoearth-v1.1-nano"),
        ("recipe", "olmoearth-v1-nano:single", "olmoearth-v1.2-nano"),
    }


def test_what_was_trained_longer_is_held_against_the_first_version_too(make_results: Make) -> None:
    """v1.1 with v1's training compute is there to be compared with v1; an ablation is not."""
    stem = "olmoearth-v1.1-nano"
    samples = {"olmoearth-v1-nano": 1, stem: 1, f"{stem}@v1.1-longer": 2, f"{stem}@v1.1-no-head": 1}
    results = make_results(
        dict.fromkeys(samples, 0.7),
        tiers=dict.fromkeys(samples, "study"),
        study=tuple(
            StudyWeights(name, "r", "h", (0,), 1, n, None, "t", 1, "real", "", "f", (), "c")
            for name, n in samples.items()
        ),
    )
    assert {(p.kind, p.reference, p.candidate) for p in compare(results)} == {
        ("version", "olmoearth-v1-nano", stem),
        ("pretraining", stem, f"{stem}@v1.1-longer"),
        ("pretraining", stem, f"{stem}@v1.1-no-head"),
        ("trained longer", "olmoearth-v1-nano", f"{stem}@v1.1-longer"),
    }


def test_other_tiers_are_not_paired(make_results: Make) -> None:
    quality = {"olmoearth-v1-nano": 0.7, "olmoearth-v1.1-nano": 0.7}
    results = make_results(quality, tiers={"olmoearth-v1-nano": "random"}, mix_tiers=True)
    assert compare(results) == ()


def test_cost_ratios_with_and_without_attention(make_results: Make) -> None:
    (pair,) = compare(make_results({"olmoearth-v1-nano": 0.7, "olmoearth-v1.1-nano": 0.7}))
    v1, v11 = 0.9e9, 0.3e9  # linear layers: three groups against one
    a1, a11 = 0.8 * 0.9e9, 0.8 * 0.9e9 / 9  # attention grows with the square
    assert pair.token_ratio == pytest.approx(3)
    assert pair.macs_ratio == pytest.approx((v1 + a1 + 1e6) / (v11 + a11 + 1e6))
    assert pair.macs_ratio_blind == pytest.approx((v1 + 1e6) / (v11 + 1e6))


def test_a_clear_loss_is_a_regression_and_stands_first(make_results: Make) -> None:
    quality = {
        "olmoearth-v1-nano": 0.7,
        "olmoearth-v1.1-nano": 0.7,
        "olmoearth-v1-tiny": 0.8,
        "olmoearth-v1.1-tiny": 0.4,
    }
    pairs = compare(make_results(quality))
    assert [p.size for p in pairs] == ["nano", "tiny"]
    worst, even = regressions_first(pairs)
    assert worst.size == "tiny"
    assert worst.count("worse") == 2
    assert even.count("not separated") == 2


def test_lower_is_better_turns_the_verdict(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    quality = {"olmoearth-v1-nano": 0.8, "olmoearth-v1.1-nano": 0.4}
    (pair,) = compare(make_results(quality, [make_task("error", higher_is_better=False)]))
    assert pair.differences[0].value < 0
    assert pair.differences[0].verdict == "better"


def test_paired_interval_against_the_closed_form(make_results: Make) -> None:
    """The interval of a mean difference, from the per-sample differences' spread."""
    names = ("olmoearth-v1-nano", "olmoearth-v1.1-nano")
    results = make_results({names[0]: 0.7, names[1]: 0.6})
    (pair,) = compare(results)
    difference = next(d for d in pair.differences if d.task == "eurosat-knn")
    knn = results.samples.filter(task="eurosat-knn")
    a, b = (knn.filter(variant=name).sort("sample")["value"].to_numpy() for name in names)
    half = 1.96 * np.std(b - a) / np.sqrt(len(a))
    assert difference.value == pytest.approx(np.mean(b - a))
    assert difference.interval is not None
    assert difference.interval.low == pytest.approx(difference.value - half, abs=0.012)
    assert difference.interval.high == pytest.approx(difference.value + half, abs=0.012)


def test_a_missing_cell_is_not_compared(make_results: Make) -> None:
    quality = {"olmoearth-v1-nano": 0.7, "olmoearth-v1.1-nano": 0.7}
    gap = ("olmoearth-v1.1-nano", "eurosat-knn", 0)
    (pair,) = compare(make_results(quality, without=[gap]))
    assert [d.task for d in pair.differences] == ["eurosat-linear"]
    assert pair.not_compared == ("eurosat-knn",)


def test_one_seed_of_hits_is_tested_by_mcnemar_and_corrected_over_tasks(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    """Against statsmodels, from the stored samples alone."""
    names = ("olmoearth-v1-nano", "olmoearth-v1.1-nano")
    tasks = [make_task(f"task-{i}", n_test=n) for i, n in enumerate((60, 140, 400))]
    results = make_results({names[0]: 0.7, names[1]: 0.63}, tasks)
    (pair,) = compare(results)
    expected = {}
    for task in tasks:
        mine = results.samples.filter(task=task.name)
        a, b = (mine.filter(variant=n).sort("sample")["value"].to_numpy() > 0 for n in names)
        table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
        expected[task.name] = contingency_tables.mcnemar(table, exact=True).pvalue
    found = {d.task: d for d in pair.differences}
    assert {d.test for d in pair.differences} == {"McNemar"}
    for name, p_value in expected.items():
        assert found[name].p_value == pytest.approx(p_value)
    corrected = multipletests(list(expected.values()), method="holm")[1]
    assert [found[name].p_adjusted for name in expected] == pytest.approx(corrected.tolist())


def test_several_seeds_are_tested_by_paired_bootstrap_and_published_scores_are_not_paired(
    make_results: Make,
) -> None:
    names = ("olmoearth-v1-nano", "olmoearth-v1.1-nano")
    (pair,) = compare(make_results({names[0]: 0.8, names[1]: 0.4}, seeds=(0, 1)))
    assert {(d.test, d.p_value) for d in pair.differences} == {("paired bootstrap", 2 / 1001)}
    results = make_results({names[0]: 0.8, names[1]: 0.4})
    alone = replace(results, samples=results.samples.clear())
    (pair,) = compare(alone)
    assert {d.test for d in pair.differences} == {"unpaired draws"}
    bare = replace(
        alone, scores=alone.scores.with_columns(ci_low=pl.lit(None), ci_high=pl.lit(None))
    )
    (pair,) = compare(bare)
    assert {(d.test, d.p_value, d.p_adjusted) for d in pair.differences} == {("none", None, None)}


def test_a_score_without_interval_takes_nothing_from_the_others(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    """Two own variants keep their paired test when a published one knows no interval."""
    names = ("olmoearth-v1-nano", "olmoearth-v1.1-nano")
    own = make_results({names[0]: 0.8, names[1]: 0.5}, [make_task("knn")])
    row = own.variants.head(1).with_columns(variant=pl.lit("theirs"), tier=pl.lit("published"))
    bare = pl.DataFrame({"variant": ["theirs"], "task": ["knn"], "score": [0.7]})
    together = replace(
        own,
        run=replace(own.run, mix_tiers=True),
        variants=pl.concat([own.variants, row]),
        scores=pl.concat([own.scores, bare], how="diagonal"),
    )
    (alone,), (beside,) = compare(own), compare(together)
    assert beside.differences == alone.differences
    assert beside.differences[0].test == "McNemar"
    (table,) = rank(together)
    assert {r.interval for r in table.ranked} == {None}  # a rank rests on all scores
    said = " ".join(statement.text for statement in answer(table, [beside]))
    assert "Worse in 1 of 1" in said


def test_one_score_without_interval_hides_no_regression(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    names = ("olmoearth-v1-nano", "olmoearth-v1.1-nano")
    tasks = [make_task(f"task-{i}") for i in range(3)]
    results = make_results({names[0]: 0.9, names[1]: 0.4}, tasks)
    bare = pl.col("task") == "task-0"
    holed = replace(
        results,
        samples=results.samples.filter(~bare),
        scores=results.scores.with_columns(
            ci_low=pl.when(~bare).then("ci_low"), ci_high=pl.when(~bare).then("ci_high")
        ),
    )
    (pair,) = compare(holed)
    (table,) = rank(holed)
    said = " ".join(statement.text for statement in answer(table, [pair]))
    assert "Worse in 2 of 3" in said
    assert "No interval, hence no verdict, in 1." in said


def test_losses_in_different_units_are_put_in_order_by_what_they_are_of_the_score(
    make_task: Callable[..., TaskInfo],
) -> None:
    """An error of 3 more in 300 is less than ten points of accuracy, though 3 is more than 0.1."""
    error = make_task("error", metric="rmse", unit="t/ha", higher_is_better=False)
    share = make_task("share")
    differences = (
        Difference("error", 300.0, 303.0, 3.0, Interval(1.0, 6.0), "worse"),
        Difference("share", 0.8, 0.7, -0.1, Interval(-0.15, -0.05), "worse"),
    )
    assert gain(3.0, differences[0], error) == pytest.approx(-0.01)
    assert gain(-0.1, differences[1], share) == -0.1
    pair = Pair(
        "version", "olmoearth-v1-nano", "olmoearth-v1.1-nano", "nano", "study", 3, 3, 3,
        differences, (),
    )  # fmt: skip
    table = RankingTable(("study",), "real", (error, share), (), (), 0)
    said = outcome([pair], table, named=1)
    assert "Most: nano on share (−0.100" in said
    both = outcome([pair], table)
    assert "nano on error (+3.000 rmse in t/ha, 95% interval +1.000 to +6.000" in both
