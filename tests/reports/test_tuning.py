"""Tuning: what was chosen, read as Optuna reads it; warnings where a search ran into its edge."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import optuna
import polars as pl
import pytest

from reports.look import NARROW, WIDE, to_svg
from reports.ranking import rank
from reports.table import TRIAL_SCHEMA, SuiteResults
from reports.tuning import TriedRange, median_progress, searches, tried_ranges
from reports.tuning_figures import chosen_chart, tuning_chart
from reports.tuning_tables import tuning_sentences, tuning_table

Make = Callable[..., SuiteResults]
QUALITY = {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7}


def _with_trials(
    results: SuiteResults, best_rate: float, n: int = 32, **fixed: object
) -> SuiteResults:
    """Random searches of which the score peaks at a learning rate."""
    rng = np.random.default_rng(0)
    rows = []
    for variant, task, seed in results.scores.select("variant", "task", "seed").iter_rows():
        for number in range(n):
            rate, decay = 10 ** rng.uniform(-4, -0.3), 10 ** rng.uniform(-4, 0)
            params = {"learning_rate": rate, "pooling": "mean", "weight_decay": decay, **fixed}
            score = 0.8 - 0.1 * abs(np.log10(rate / best_rate)) + rng.normal(0, 0.001)
            rows.append((variant, task, seed, number, json.dumps(params), score))
    trials = pl.DataFrame(rows, schema=TRIAL_SCHEMA, orient="row")
    return dataclasses.replace(results, trials=trials)


def test_best_and_progress_are_those_of_optuna(make_results: Make) -> None:
    results = _with_trials(make_results(QUALITY, seeds=(0, 1)), 1e-2)
    ranking = rank(results, resamples=10)[0]
    found = searches(results, ranking)
    assert len(found) == 8
    for search in found:
        mine = results.trials.filter(
            variant=search.variant, task=search.task, seed=search.seed
        ).sort("number")
        study = optuna.create_study(direction="maximize")
        for score in mine["score"]:
            study.add_trial(optuna.trial.create_trial(value=score))
        assert search.validation == study.best_value
        assert search.chosen == json.loads(mine["params"][study.best_trial.number])
        assert search.best_so_far.tolist() == mine["score"].cum_max().to_list()
        test = results.scores.filter(variant=search.variant, task=search.task, seed=search.seed)[
            "score"
        ][0]
        assert search.overstated == pytest.approx(search.validation - test)
    pair = [s for s in found if (s.variant, s.task) == (found[0].variant, found[0].task)]
    both = np.array([s.best_so_far for s in pair])
    assert median_progress(pair) == pytest.approx(both.mean(axis=0))


def test_where_lower_is_better_the_lowest_trial_is_chosen(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    task = make_task("rmse", metric="RMSE", higher_is_better=False)
    results = _with_trials(make_results(QUALITY, [task]), 1e-2)
    (search, *_) = searches(results, rank(results, resamples=10)[0])
    assert search.validation == min(search.scores)
    assert search.test is not None
    assert search.overstated == pytest.approx(search.test - search.validation)


@pytest.mark.parametrize(("best", "warned"), [(1e-2, False), (5.0, True)])
def test_a_search_that_ends_at_its_edge_is_warned_of(
    make_results: Make, best: float, warned: bool
) -> None:
    results = _with_trials(make_results(QUALITY, seeds=(0, 1, 2)), best, n=64)
    ranking = rank(results, resamples=10)[0]
    said = tuning_sentences(searches(results, ranking), tried_ranges(results, ranking))
    first = "the chosen learning rate lies at the upper edge" in said[0]
    assert first == warned


@pytest.mark.parametrize(
    ("value", "edge"), [(1e-4, "lower"), (1.2e-4, "lower"), (1e-2, ""), (0.9, "upper"), (0, "")]
)
def test_edges_are_taken_on_a_log_scale(value: float, edge: str) -> None:
    assert TriedRange("t", "weight_decay", 1e-4, 1.0).edge(value) == edge


def test_figures_and_table_show_what_was_chosen(make_results: Make) -> None:
    results = _with_trials(make_results(QUALITY, seeds=(0, 1)), 1e-2)
    ranking = rank(results, resamples=10)[0]
    found, ranges = searches(results, ranking), tried_ranges(results, ranking)
    for frame in (WIDE, NARROW):
        progress = tuning_chart(results, ranking, found, frame)
        chosen = chosen_chart(results, ranking, found, ranges, frame)
        assert progress is not None
        assert chosen is not None
        svg = to_svg(progress)
        assert all(svg.count(f">{name}</text>") == 2 for name in ("v1 nano", "v1.1 nano"))
        assert svg.count("after 32 trials, median over 2 seeds") == 4
        assert to_svg(chosen).count(": learning rate ") == len(found)
    table = tuning_table(found, ranges)
    assert table is not None
    gaps = [row[5].key for row in table.rows]
    assert gaps == sorted(gaps, reverse=True)


def test_knn_trials_have_a_table_but_no_curve_and_imported_results_nothing(
    make_results: Make,
) -> None:
    results = make_results(QUALITY)
    rows = [
        (variant, task, seed, n, json.dumps({"normalisation": norm, "pooling": "mean"}), 0.5 + n)
        for variant, task, seed in results.scores.select("variant", "task", "seed").iter_rows()
        for n, norm in enumerate(("dataset", '<script>"'))
    ]
    votes = dataclasses.replace(
        results, trials=pl.DataFrame(rows, schema=TRIAL_SCHEMA, orient="row")
    )
    ranking = rank(votes, resamples=10)[0]
    found, ranges = searches(votes, ranking), tried_ranges(votes, ranking)
    assert ranges == ()
    assert tuning_chart(votes, ranking, found) is None
    assert chosen_chart(votes, ranking, found, ranges) is None
    table = tuning_table(found, ranges)
    assert table is not None
    assert table.rows[0][8].text == '<script>"'
    assert searches(results, ranking) == ()
    assert tuning_table((), ()) is None
    assert tuning_sentences((), ()) == ["The results hold no tuning history."]


def test_a_figure_of_some_tasks_says_of_how_many(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    for count, said in (
        (4, "Progress of the tuning:"),
        (6, "Progress of the tuning (4 of 6 tasks):"),
    ):
        tasks = [make_task(f"task-{i}") for i in range(count)]
        results = _with_trials(make_results(QUALITY, tasks), 1e-2)
        (ranking,) = rank(results, resamples=10)
        found = searches(results, ranking)
        chart = tuning_chart(results, ranking, found)
        assert chart is not None
        assert said in json.dumps(chart)
