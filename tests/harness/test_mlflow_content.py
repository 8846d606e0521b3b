"""What is logged, for names and tables as the world makes them."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient

from harness.mlflow_view.comparison import view_tag
from harness.mlflow_view.facts import SuiteRun
from harness.mlflow_view.names import metric_key
from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import publish
from reports.build import build_report
from reports.ranking import rank
from reports.table import SAMPLE_SCHEMA, SuiteResults

HOSTILE = [
    "x-v1-<script>alert(1)</script>",
    "x-v1-\"quoted\" and 'single'",
    "x-v1-two\nlines\ttab\x00nul",
    "x-v1-🛰️ emoji",
    "x-v1-" + "long" * 100,
    "x-v1-a|b`c`*d*[e](javascript:alert(1))",
    "x-v1-100% %s {0} \\ ../..",
    "x-v1-" + "long" * 100 + "er",
]


@pytest.fixture(autouse=True)
def to_a_database(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)


def mirrored(results: SuiteResults, tmp_path: Path) -> tuple[MlflowClient, str, list[Any]]:
    """Publish to the fresh database; the client, the experiment and its variants' runs."""
    manifest = Manifest("ab" * 32, results.run.suite, "tokenrank run it", "0" * 40, {}, {})
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("<p>The report.</p>")
    published = publish(results, manifest, Store(tmp_path / "store"), report)
    assert published.done, published.reason
    client = MlflowClient(published.uri)
    (found,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([found.experiment_id], "tags.`tokenrank.kind` = 'variant'")
    return client, found.experiment_id, list(runs)


def test_hostile_names_are_logged_and_none_falls_together(synthetic: Any, tmp_path: Path) -> None:
    names = ["task/one", "task:one", "..", "täsk 🛰️", "t" * 300, "t" * 301]
    tasks = [synthetic.make_task(name, dataset=f"d {name}") for name in names]
    results = synthetic.make_results({n: 0.5 + i / 20 for i, n in enumerate(HOSTILE)}, tasks)
    results = replace(results, run=replace(results.run, suite='it\'s <b>\n"odd"', title="<i>%"))
    client, experiment, runs = mirrored(results, tmp_path)

    assert len(runs) == len(HOSTILE)
    assert all(len(run.info.run_name) <= 250 and "\n" not in run.info.run_name for run in runs)
    assert "x-v1-<script>alert(1)</script>" in {run.info.run_name for run in runs}
    assert {run.data.params["variant"] for run in runs} == {
        name.replace("\x00", "") for name in HOSTILE
    }
    scored = [{k for k in run.data.metrics if k.startswith("score/")} for run in runs]
    assert all(len(keys) == len(names) for keys in scored)
    note = client.get_run(runs[0].info.run_id).data.tags["mlflow.note.content"]
    assert "<script" not in note
    for run in runs:
        place = client.download_artifacts(run.info.run_id, "confusion.html", str(tmp_path))
        assert "<script" not in Path(place).read_text()
    assert len(client.search_logged_models([experiment])) == len(HOSTILE)


@pytest.mark.parametrize("name", ["a", "a/b", "a:b", "..", ".", " ", "a" * 300, "é<>", "a\nb"])
def test_metric_keys_are_ones_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name  # noqa: PLC0415

    _validate_metric_name(metric_key("score", name))


def test_an_imported_table_needs_no_predictions(synthetic: Any, tmp_path: Path) -> None:
    own = synthetic.make_results(
        {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7},
        tiers={"olmoearth-v1-nano": "published", "olmoearth-v1.1-nano": "published"},
    )
    unknown = [pl.lit(None, pl.Float64).alias(c) for c in own.variants.columns if "macs" in c]
    results = replace(
        own,
        variants=own.variants.with_columns(
            *unknown,
            pl.lit(None, pl.Float64).alias("tokens"),
            pl.lit(None, pl.Int64).alias("params"),
            pl.lit(None, pl.Int64).alias("groups"),
            pl.lit(2.5).alias("published_gflops"),
        ),
        scores=own.scores.with_columns(pl.lit(None, pl.Int64).alias("seed")),
        samples=pl.DataFrame(schema=SAMPLE_SCHEMA),
    )
    client, _, runs = mirrored(results, tmp_path)
    assert {run.data.params["tier"] for run in runs} == {"published"}
    assert sorted(run.data.metrics["average_rank"] for run in runs) == [1, 2]
    assert all(run.data.metrics["published_gflops"] == 2.5 for run in runs)
    assert [f.path for f in client.list_artifacts(runs[0].info.run_id)] == ["scores.csv"]
    assert "imported, not run here" in runs[0].data.tags["mlflow.note.content"]


def test_the_saved_view_of_many_tasks_fits_the_tag_that_holds_it(synthetic: Any) -> None:
    tasks = [synthetic.make_task(f"a-rather-long-name-of-a-task-{i}", n_test=4) for i in range(90)]
    results = synthetic.make_results({"olmoearth-v1-nano": 0.5}, tasks)
    manifest = Manifest("ab" * 32, "eurosat", "tokenrank run it", "0" * 40, {}, {})
    run = SuiteRun(results, manifest, rank(results, resamples=10), "digest")
    _, tag = view_tag(run, now=0)
    assert len(tag) <= 20_000  # MLflow refuses longer ones
    method, _, packed = json.loads(tag)["state"].partition(";")
    assert method == "deflate"
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["searchFilter"] == "params.suite_run = 'abababab'"
    assert state["selectedColumns"][0] == "metrics.`average_rank`"


def test_the_report_of_fetched_results_is_the_same_report(
    synthetic: Any, tmp_path: Path, tokenrank: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = synthetic.make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)  # the command line's tests set another
    mirrored(results, tmp_path)
    direct = build_report(results, tmp_path / "direct")
    arguments = (
        "report",
        "--from-mlflow",
        "--tracking-uri",
        database,
        "--out",
        tmp_path / "fetched",
    )
    assert tokenrank(*arguments).code == 0
    fetched = tmp_path / "fetched"
    assert (fetched / "report.html").read_bytes() == direct.html.read_bytes()
    assert (fetched / "report.md").read_bytes() == direct.markdown.read_bytes()

    ended = tokenrank("report", "euroset", *arguments[1:])
    assert ended.code == 2
    assert 'no experiment "tokenrank/euroset": did you mean' in ended.err
    ended = tokenrank("report", "--from-mlflow", "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert ended.code == 2
    assert "There is no tracking database" in ended.err
    assert not (tmp_path / "none.db").exists()
    ended = tokenrank("report", "--from-mlflow", "--results", tmp_path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
