"""Sensitivity: omissions against a ranking made anew, ratings against closed forms, plain words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from reports.aggregation import aggregations, elo, improvability, wins
from reports.look import NARROW, WIDE, to_svg
from reports.predictions import predictions
from reports.ranking import RankingTable, rank, task_ranks
from reports.sensitivity import (
    aggregation_explanations,
    aggregation_table,
    sensitivity_sentences,
    stability_table,
)
from reports.sensitivity_figure import sensitivity_chart
from reports.stability import random_halves, resampled, without_each_task
from reports.table import SAMPLE_SCHEMA, SuiteResults

Make = Callable[..., SuiteResults]
QUALITY = {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.62, "olmoearth-v1-tiny": 0.64}


def _tasks(make_task: Callable[..., object], n: int) -> list[object]:
    return [make_task(f"task-{i}", n_test=50) for i in range(n)]


def _only(results: SuiteResults, names: set[str]) -> SuiteResults:
    tasks = tuple(task for task in results.run.tasks if task.name in names)
    kept = pl.col("task").is_in(names)
    return dataclasses.replace(
        results,
        run=dataclasses.replace(results.run, tasks=tasks),
        scores=results.scores.filter(kept),
        samples=results.samples.filter(kept),
    )


def test_each_omission_is_the_ranking_over_the_other_tasks(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = make_results(QUALITY, _tasks(make_task, 5), noise=0.4)
    ranking = rank(results, resamples=10)[0]
    names = {task.name for task in ranking.tasks}
    found = without_each_task(ranking)
    assert [o.task for o in found] == [task.name for task in ranking.tasks]
    for omission in found:
        anew = rank(_only(results, names - {omission.task}), resamples=10)[0]
        expected = {r.variant: r.average_rank for r in anew.ranked}
        order = [r.variant for r in ranking.ranked]
        assert omission.average_ranks == pytest.approx([expected[v] for v in order])
        best = min(expected.values())
        assert set(omission.first) == {v for v, x in expected.items() if x == best}
        full = [r.average_rank for r in ranking.ranked]
        tau = stats.kendalltau(full, omission.average_ranks).statistic
        assert omission.tau == pytest.approx(tau, nan_ok=True)


def _with_draws(ranking: RankingTable, draws: list[list[float]]) -> RankingTable:
    return dataclasses.replace(ranking, draws=np.array(draws))


def test_reversals_are_counted_over_the_draws(make_results: Make) -> None:
    results = make_results({"a-v1-nano": 0.2, "a-v1-tiny": 0.5, "a-v1-base": 0.9}, noise=0)
    ranking = rank(results, resamples=10)[0]
    drawn = _with_draws(ranking, [[1, 2, 3], [2, 1, 3], [1.5, 1.5, 3], [1, 3, 2]])
    found = resampled(drawn)
    assert found is not None
    assert found.first_lost == 0.25
    assert found.order_changed == 0.5
    assert found.reversed_pairs == (0.25, 0.25)


def test_a_clear_winner_survives_halving_and_a_coin_toss_does_not(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    tasks = _tasks(make_task, 2)
    clear = make_results({"a-v1-nano": 0.9, "a-v1-tiny": 0.3}, tasks, seeds=(0, 1), noise=0.05)
    halves = random_halves(predictions(clear), rank(clear, resamples=10)[0])
    assert halves is not None
    assert halves.still_first == 1.0
    toss = make_results({"a-v1-nano": 0.6, "a-v1-tiny": 0.6}, tasks, noise=0.5)
    halves = random_halves(predictions(toss), rank(toss, resamples=10)[0])
    assert halves is not None
    assert halves.still_first < 0.95


def test_published_numbers_have_no_halves(make_results: Make) -> None:
    results = make_results(QUALITY)
    bare = dataclasses.replace(results, samples=pl.DataFrame(schema=SAMPLE_SCHEMA))
    ranking = rank(bare, resamples=10)[0]
    assert random_halves(predictions(bare), ranking) is None
    assert sensitivity_sentences(ranking, predictions(bare))


def test_elo_of_two_is_the_log_of_the_odds() -> None:
    """Three of four duels, and one drawn one: odds 3.5 to 1.5."""
    a, b = elo(np.array([[0.0, 3.0], [1.0, 0.0]]))
    assert a - b == pytest.approx(400 * np.log10(3.5 / 1.5))
    assert a + b == pytest.approx(2000)


def test_elo_maximises_the_likelihood() -> None:
    rng = np.random.default_rng(5)
    won = wins(rng.permuted(np.tile(np.arange(1.0, 6), (9, 1)), axis=1))
    counted = won + 0.5 * (1 - np.eye(5))

    def loss(free: np.ndarray) -> float:
        s = np.concatenate([[0.0], free])
        return float((counted * np.logaddexp(0, s[None, :] - s[:, None])).sum())

    best = np.concatenate([[0.0], optimize.minimize(loss, np.zeros(4), tol=1e-10).x])
    expected = 1000 + 400 / np.log(10) * (best - best.mean())
    assert elo(won) == pytest.approx(expected, abs=0.05)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (4, 5), elements=st.integers(0, 5).map(float)))
def test_borda_win_rate_and_elo_keep_the_order_of_the_average_rank(scores: np.ndarray) -> None:
    """The theorem that the report states: in a complete table they cannot disagree."""
    ranks = task_ranks(scores)
    average = np.round(ranks.mean(axis=0), 9)
    rated = np.round(elo(wins(ranks)), 3)
    assert task_ranks(rated) == pytest.approx(task_ranks(average, higher_is_better=False))


def test_improvability_by_hand() -> None:
    scores = np.array([[0.9, 0.8], [2.0, 1.0], [1.0, 1.0]])
    up = np.array([True, False, True])
    assert improvability(scores, up) == pytest.approx(np.array([[0, 0.5], [0.5, 0], [0, 0]]))
    assert improvability(np.array([[30.0, 50.0]]), np.array([True])) is None


def test_metrics_that_cannot_be_averaged_are_not(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    tasks = [make_task("a"), make_task("b", metric="micro F1")]
    names = {a.name for a in aggregations(rank(make_results(QUALITY, tasks), resamples=10)[0])}
    assert "Mean score" not in names
    assert "Mean improvability" in names


def test_aggregations_that_disagree_are_named(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    """Two narrow wins against one landslide: the average rank and the mean score part."""
    results = make_results({"a-v1-nano": 0.5, "a-v1-tiny": 0.5}, _tasks(make_task, 3))
    wanted = {("a-v1-nano", t): s for t, s in zip(range(3), (0.52, 0.52, 0.1), strict=True)}
    wanted |= {("a-v1-tiny", t): s for t, s in zip(range(3), (0.5, 0.5, 0.9), strict=True)}
    rows = [
        {**row, "score": wanted[row["variant"], int(row["task"][-1])]}
        for row in results.scores.to_dicts()
    ]
    scores = pl.DataFrame(rows, schema=results.scores.schema)
    bare = dataclasses.replace(results, scores=scores, samples=results.samples.clear())
    ranking = rank(bare, resamples=10)[0]
    text = " ".join(sensitivity_sentences(ranking, predictions(bare)))
    assert "The aggregations disagree on the first place" in text
    assert "mean score puts a-v1-tiny first" in text
    table = aggregation_table(ranking)
    assert table is not None
    assert table.columns[1] == "Average rank"
    assert len(aggregation_explanations(ranking)) == len(table.columns) - 1


def test_the_figure_names_every_variant_and_hovers(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    results = make_results(QUALITY, _tasks(make_task, 4), noise=0.4)
    ranking = rank(results, resamples=10)[0]
    for frame in (WIDE, NARROW):
        spec = sensitivity_chart(results, ranking, frame)
        assert spec is not None
        svg = to_svg(spec)
        assert all(f">{name}</text>" in svg for name in ("v1 nano", "v1.1 nano", "v1 tiny"))
        assert svg.count(" without task-") >= 2 * len(QUALITY)
    assert stability_table(ranking) is not None


@pytest.mark.parametrize(("variants", "tasks"), [(1, 3), (3, 1)])
def test_one_variant_or_one_task_has_no_figure_and_says_why(
    make_results: Make, make_task: Callable[..., object], variants: int, tasks: int
) -> None:
    results = make_results(dict(list(QUALITY.items())[:variants]), _tasks(make_task, tasks))
    ranking = rank(results, resamples=10)[0]
    assert sensitivity_chart(results, ranking) is None
    said = sensitivity_sentences(ranking, predictions(results))[0]
    assert "two complete variants" in said or "With one task" in said
