"""Token budgets: points, what is marked and what is shown to pay, against plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from reports.budgets import budget_sentences, budget_table, budgets
from reports.ranking import rank
from reports.table import SuiteResults, TaskInfo

Make = Callable[..., SuiteResults]
INPUTS = {"p8-s32": (8, 32), "p4-s32": (4, 32), "p4-s64": (4, 64)}
QUALITY = {"olmoearth-v1-nano": 0.5, "olmoearth-v1.1-nano": 0.6}


def swept(make_results: Make, make_task: Callable[..., TaskInfo], **facts: Any) -> SuiteResults:
    """Two variants at three inputs; what a patch costs is one MAC, three of the first variant."""
    tasks = [
        make_task(name, patch_size=patch, height=side, width=side, n_test=400, **facts)
        for name, (patch, side) in INPUTS.items()
    ]
    made = make_results(QUALITY, tasks)
    tokens = [
        (INPUTS[task][1] // INPUTS[task][0]) ** 2 * (3 if variant == "olmoearth-v1-nano" else 1)
        for variant, task in made.scores.select("variant", "task").iter_rows()
    ]
    cost = pl.Series("tokens", tokens)
    return replace(made, scores=made.scores.with_columns(cost, cost.cast(pl.Float64).alias("macs")))


def test_points_and_marks_are_those_of_a_plain_search(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    results = swept(make_results, make_task)
    (ranking,) = rank(results, resamples=200)
    (found,) = budgets(results, ranking)
    stored = results.scores.to_dicts()
    assert {(p.variant, p.task.name, p.macs) for p in found.points} == {
        (row["variant"], row["task"], row["macs"]) for row in stored
    }
    assert [p.macs for p in found.points] == sorted(row["macs"] for row in stored)
    for point in found.points:
        rivals = [p for p in found.points if p is not point and p.macs <= point.macs]
        best = all(rival.score.value < point.score.value for rival in rivals)
        assert point.is_cheapest == best
    assert budget_table(found).rows[0][4].text == "16"


def test_a_step_is_a_paired_difference_that_excludes_zero(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    results = swept(make_results, make_task)
    # At the dearest input both are right nearly always: that is worth its MACs.
    right = (pl.col("task") == "p4-s64") & (pl.col("sample") > "s00020")
    samples = results.samples.with_columns(
        value=pl.when(right).then(1.0).otherwise(pl.col("value"))
    )
    means = samples.group_by("variant", "task").agg(score=pl.col("value").mean())
    scores = results.scores.drop("score").join(means, on=["variant", "task"])
    results = replace(results, samples=samples, scores=scores.select(results.scores.columns))
    (ranking,) = rank(results, resamples=200)
    (found,) = budgets(results, ranking)
    assert found.steps[-1].end.task.name == "p4-s64"
    for step in found.steps:
        values = [
            samples.filter((pl.col("variant") == p.variant) & (pl.col("task") == p.task.name))
            .sort("sample")["value"]
            .to_numpy()
            for p in (step.start, step.end)
        ]
        differences = values[1] - values[0]
        assert step.gain == pytest.approx(differences.mean())
        assert differences.mean() > 1.5 * differences.std() / np.sqrt(len(differences))
        assert step.end.macs > step.start.macs
    text = " ".join(budget_sentences(found))
    assert (
        "shown to buy more with olmoearth-v1.1-nano at 64 x 64 pixels, patch 4 (256 tokens" in text
    )


def test_other_questions_are_not_one_group(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    """Maps of a smaller image are asked about other pixels; another probe asks something else."""
    of_maps = swept(make_results, make_task, metric="miou")
    (ranking,) = rank(of_maps, resamples=50)
    (found,) = budgets(of_maps, ranking)
    assert {point.task.height for point in found.points} == {32}
    probes = [make_task("a", probe="knn"), make_task("b", probe="linear", patch_size=8)]
    apart = make_results(QUALITY, probes)
    (ranking,) = rank(apart, resamples=50)
    assert budgets(apart, ranking) == ()
