"""A suite that says nothing of baselines has them: run, told in the terminal and in MLflow."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient
from rich.console import Console

from harness.comparison import compare
from harness.outcome_view import ranking_tables
from harness.provenance import Manifest
from harness.run import Outcome
from harness.store import Store
from harness.suite_file import DEFAULT_BASELINES
from harness.tracking import publish
from reports.build import build_report
from reports.io import load_results
from reports.ranking import rank
from reports.table import SuiteResults

Tokenrank = Callable[..., Any]
BASELINES = DEFAULT_BASELINES[:-1]
MARK = "baseline-statistics-mean_std"


def test_the_users_path(small_suite: Path, tmp_path: Path, tokenrank: Tokenrank) -> None:
    small_suite.write_text(small_suite.read_text().replace("baselines: []\n", ""))
    store = tmp_path / "store"
    ended = tokenrank("run", small_suite, "--store", store, "--seed", "0")
    assert ended.code == 0, ended.err
    (folder,) = store.glob("runs/*")
    results = load_results(folder / "results")
    assert results.variants.filter(tier="baseline")["variant"].to_list() == BASELINES
    assert set(BASELINES) <= set(results.scores["variant"])
    assert "BASELINES (nothing trained)" in ended.out
    lines = ended.out.splitlines()
    for name in BASELINES:  # whole, in a table
        short = name.removeprefix("baseline-")
        assert any(line.split()[:1] == [short] for line in lines), short
    told = " ".join(ended.out.split())
    assert "Baselines: " in told
    assert "the best baseline" in told
    markdown = (folder / "report" / "report.md").read_text()
    assert "**Against the baselines.**" in markdown[: markdown.index("## Ranking")]

    ended = tokenrank("compare", "one-pico", "three-pico", "--store", store)
    assert ended.code == 0, ended.err
    assert "olmoearth-one-pico beats the best baseline on" in " ".join(ended.out.split())


def test_short_names_mean_what_is_trained(synthetic: Any) -> None:
    """Neither baselines, nor other families, nor an untrained self stand in a short name's way."""
    quality = {
        **{"olmoearth-v1-nano@official": 0.8, "olmoearth-v1.1-nano": 0.7, MARK: 0.5},
        **{"olmoearth-v1-nano@random": 0.5, "galileo-v1-nano": 0.8},
    }
    tiers = {MARK: "baseline", "olmoearth-v1-nano@random": "random"}
    results = synthetic.make_results(quality, tiers=tiers)
    names = pl.col("variant").str.split("@").list.first().str.split("-")
    results = replace(results, variants=results.variants.with_columns(size=names.list.last()))
    for asked in (("v1", "v1.1"), ("v1-nano", "v1.1-nano")):
        found = compare(results, *asked)
        (pair,) = found.pairs
        assert (pair.reference, pair.candidate) == (
            "olmoearth-v1-nano@official",
            "olmoearth-v1.1-nano",
        )
        assert found.unpaired == ()


def shown(results: SuiteResults) -> str:
    console = Console(file=io.StringIO(), width=80)
    for ranking in rank(results, resamples=50):
        for table in ranking_tables(ranking, results):
            console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("n_tasks", [2, 3, 7])
def test_tables_of_eighty_columns_lose_nothing(synthetic: Any, n_tasks: int) -> None:
    """Long names of several families, a variant without costs: no letter or digit is cut."""
    names = [f"m-eurosat-linear-patch{2 + i}-side32" for i in range(n_tasks)]
    tasks = [synthetic.make_task(name) for name in names]
    long = "olmoearth-v1.1-base:per-resolution-of-all"
    quality = {long: 0.8, "galileo-v1-nano": 0.7, MARK: 0.6, "baseline-convolutions-512": 0.5}
    tiers = {name: "baseline" for name in quality if name.startswith("baseline")}
    results = synthetic.make_results(quality, tasks, tiers=tiers)
    known = pl.col("variant") != "galileo-v1-nano"
    costs = [pl.when(known).then(pl.col(name)).alias(name) for name in ("macs", "tokens")]
    results = replace(results, variants=results.variants.with_columns(costs))
    text = shown(results)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    # A folded name goes on in its own column, below, and from a joint: no word is cut.
    width = next(line for line in text.splitlines() if "average" in line).index("average")
    first = [line[:width].strip() for line in text.splitlines()]
    assert long in "".join(first)
    assert all(any(word in line for line in first) for word in re.split("[-:.]", long))
    assert all(f"patch{2 + i}-" in text for i in range(n_tasks))
    for score in results.scores["score"]:
        assert f"{score:.3f}" in text
    for ranking in rank(results, resamples=50):
        for entry in ranking.entries:
            for score in entry.scores.values():
                assert score.interval is not None
                assert f"{score.interval.low:.2f}–{score.interval.high:.2f}" in text


def test_a_tier_that_was_not_run_has_no_table_and_one_line(
    synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.outcome_view import show_outcome  # noqa: PLC0415

    quality = {"olmoearth-v1-nano": 0.5, "galileo-v1-nano": 0.7}
    tiers = {"olmoearth-v1-nano": "random", "galileo-v1-nano": "official"}
    gaps = [("galileo-v1-nano", t, s) for t in ("eurosat-knn", "eurosat-linear") for s in (0, 1)]
    results = synthetic.make_results(quality, seeds=(0, 1), tiers=tiers, without=gaps)
    outcome = Outcome(None, results, tmp_path, 0)  # type: ignore[arg-type]  # no plan is shown
    show_outcome(Console(width=80), outcome)
    said = capsys.readouterr().out
    assert "OFFICIAL" not in said
    assert said.count("out of memory") == 1
    assert "galileo-v1-nano was not run: out of memory." in said


def test_mlflow_finds_who_fails_to_beat_them(
    synthetic: Any, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a flat search over metrics, which is how a user of MLflow asks."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    quality = {"olmoearth-v1-nano": 0.9, "olmoearth-v1.1-nano": 0.5, MARK: 0.5}
    results = synthetic.make_results(
        quality, [synthetic.make_task("knn")], tiers={MARK: "baseline"}
    )
    manifest = Manifest("ab" * 32, "eurosat", "tokenrank run it", "0" * 40, {}, {})
    build_report(results, tmp_path / "report", resamples=50)
    published = publish(results, manifest, Store(tmp_path), tmp_path / "report")
    assert published.done, published.reason
    client = MlflowClient(database)
    (experiment,) = client.search_experiments(filter_string="name = 'tokenrank/eurosat'")

    def found(search: str) -> set[str]:
        runs = client.search_runs([experiment.experiment_id], search)
        return {run.data.params["variant"] for run in runs}

    assert found("metrics.beats_baselines = 1") == {"olmoearth-v1-nano"}
    assert found("metrics.beats_baselines = 0") == {"olmoearth-v1.1-nano"}
    assert found("metrics.`margin_over_baseline/knn` > 0.2") == {"olmoearth-v1-nano"}
    assert found("params.tier = 'baseline'") == {MARK}
    # Sorted by rank, a baseline must not stand among those that it is the mark for.
    assert found("metrics.average_rank < 9") == {"olmoearth-v1-nano", "olmoearth-v1.1-nano"}
    scores = dict(results.scores.select("variant", "score").iter_rows())
    (best,) = client.search_runs([experiment.experiment_id], "metrics.beats_baselines = 1")
    margin = best.data.metrics["margin_over_baseline/knn"]
    assert margin == pytest.approx(scores["olmoearth-v1-nano"] - scores[MARK], abs=1e-6)
    assert best.data.params["beats_baselines"] == "on all of 1 task"
    note = best.data.tags["mlflow.note.content"]
    assert "**Against the best baseline:** beats on 1 task." in note
