"""MLflow as a view: complete in itself, never doubled, and never in the way."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient

from harness.commands.views import sync_command
from harness.objects import ObjectsAwayError
from harness.plan import Cell, Places, Plan
from harness.provenance import load_or_create_manifest
from harness.results import results_digest
from harness.run import Outcome, run_suite
from harness.store import Store
from harness.suite import load_suite
from harness.tracking import Published, make_database, publish
from reports.io import load_results
from tests.harness.conftest import REGISTRY, SUITE


class Quiet:
    """Watches a run without a word."""

    def planned(self, plan: Plan, to_do: list[Cell]) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def progress(self, what: str, done: int, total: int) -> None: ...
    def finished(self, cell: Cell, score: float) -> None: ...


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("ran")
    (folder / "pico.yaml").write_text(REGISTRY)
    (folder / "small.yaml").write_text(SUITE)
    store = Store(folder / "store")
    places = Places(None, None, store.cache_folder)
    suite = load_suite(folder / "small.yaml")
    return run_suite(suite, places, store, "tokenrank run small", Quiet()), store.root


@pytest.fixture
def ran(ran_once: tuple[Outcome, Path], tmp_path: Path) -> tuple[Outcome, Store]:
    """A finished run in a store of the test's own."""
    outcome, made = ran_once
    store = Store(shutil.copytree(made, tmp_path / "store"))
    report = store.root / outcome.report.relative_to(made)
    return replace(outcome, report=report), store


def publish_to(outcome: Outcome, store: Store) -> Published:
    manifest = load_or_create_manifest(store, outcome.plan, "tokenrank run small")
    return publish(outcome.results, manifest, store, outcome.report)


def all_runs(uri: str) -> list[Any]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tokenrank/small")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_a_flat_search_finds_each_variant_complete(
    ran: tuple[Outcome, Store], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    uri = database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    outcome, store = ran
    assert publish_to(outcome, store).fresh
    assert not publish_to(outcome, store).fresh  # the second time there is nothing to do

    # A second machine, or a lost note of what was sent: still nothing is doubled.
    for note in store.root.rglob("tracking.json"):
        note.unlink()
    assert publish_to(outcome, store).done
    # `tokenrank sync` reads results from the store: they must be the same, or they are sent anew.
    stored = load_results(outcome.report.parent / "results")
    assert results_digest(stored) == results_digest(outcome.results)
    runs = all_runs(uri)
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs(
        [runs[0].info.experiment_id],
        "params.token_scheme = 'single' and metrics.average_rank < 3",
    )
    (single,) = found
    assert single.info.run_name == "olmoearth-one-pico"
    assert single.data.params["tier"] == "random"
    assert single.data.params["data_origin"] == "simulated"
    scores = outcome.results.scores.filter(
        outcome.results.scores["variant"] == single.info.run_name
    )
    knn = scores.filter(scores["task"] == "sim-knn")["score"].mean()
    assert single.data.metrics["score/sim-knn"] == pytest.approx(knn, abs=1e-6)
    assert single.data.metrics["average_rank_low"] <= single.data.metrics["average_rank"]
    dataset = single.inputs.dataset_inputs[0].dataset
    assert dataset.name == "simulated"
    (suite_run,) = (r for r in runs if r.data.tags["tokenrank.kind"] == "suite run")
    assert single.data.tags["mlflow.parentRunId"] == suite_run.info.run_id
    for tag in ("mlflow.source.git.commit", "tokenrank.suite_hash", "tokenrank.version.torch"):
        assert suite_run.data.tags[tag]

    # The variant is a logged model too, with its metrics on the data set they were measured on.
    models = client.search_logged_models([single.info.experiment_id])
    assert len(models) == 2
    (model,) = (m for m in models if m.source_run_id == single.info.run_id)
    assert model.status == "READY"
    assert model.params["token_scheme"] == "single"
    measured = {m.key: m for m in model.metrics}
    assert measured["score/sim-knn"].value == single.data.metrics["score/sim-knn"]
    assert measured["score/sim-knn"].dataset_name == "simulated"
    assert measured["score/sim-knn"].dataset_digest == dataset.digest
    assert [o.model_id for o in single.outputs.model_outputs] == [model.model_id]


def test_artifacts_hold_predictions_tuning_confusion_and_the_report(
    ran: tuple[Outcome, Store], monkeypatch: pytest.MonkeyPatch, database: str, tmp_path: Path
) -> None:
    uri = database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    outcome, store = ran
    publish_to(outcome, store)
    client = MlflowClient(tracking_uri=uri)
    by_name = {run.info.run_name: run.info.run_id for run in all_runs(uri)}
    variant = Path(client.download_artifacts(by_name["olmoearth-one-pico"], "", str(tmp_path)))

    mine = pl.col("variant") == "olmoearth-one-pico"
    predictions = pl.read_parquet(variant / "predictions.parquet")
    assert len(predictions) == len(outcome.results.samples.lazy().filter(mine).collect())
    confusion = pl.read_csv(variant / "confusion.csv")
    # The diagonal is the accuracy: an independent way to the score that was logged.
    knn = confusion.filter(pl.col("task") == "sim-knn")
    right = knn.filter(pl.col("label") == pl.col("prediction"))["count"].sum()
    scores = outcome.results.scores.filter(mine, pl.col("task") == "sim-knn")["score"]
    assert right / knn["count"].sum() == pytest.approx(scores.mean())
    assert "<table>" in (variant / "confusion.html").read_text()
    tuning = pl.read_csv(variant / "tuning.csv").filter(pl.col("task") == "sim-linear")
    assert sorted(tuning["number"].unique()) == [0, 1, 2, 3]

    (suite_run,) = (run_id for name, run_id in by_name.items() if name.startswith("small"))
    report = client.download_artifacts(suite_run, "report/report.html", str(tmp_path))
    assert Path(report).read_bytes() == (outcome.report / "report.html").read_bytes()


def test_a_mirror_cut_short_is_completed_without_doubles(
    ran: tuple[Outcome, Store], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    uri = database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    outcome, store = ran
    with monkeypatch.context() as broken:

        def cut(*_: object, **__: object) -> None:
            raise OSError("the connection was reset")

        broken.setattr(MlflowClient, "log_outputs", cut)
        published = publish_to(outcome, store)
    assert not published.done
    assert "connection was reset" in published.reason
    assert all_runs(uri) == []  # what was begun is taken back at once, if it can be
    assert publish_to(outcome, store).fresh
    runs = all_runs(uri)
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(MlflowClient(uri).search_logged_models([runs[0].info.experiment_id])) == 2


def test_a_server_that_is_away_loses_nothing(
    ran: tuple[Outcome, Store], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    outcome, store = ran
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    published = publish_to(outcome, store)
    assert not published.done
    assert "cannot be reached" in published.reason

    uri = database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    sync_command(store.root)
    sync_command(store.root)
    assert len(all_runs(uri)) == 3


@pytest.mark.parametrize("made_anew", [False, True], ids=["missing", "a new one is there"])
def test_a_local_database_that_was_removed_is_written_again(
    ran: tuple[Outcome, Store], monkeypatch: pytest.MonkeyPatch, made_anew: bool
) -> None:
    """Though it is noted that the run was mirrored: a new run makes a database, or finds none."""
    outcome, store = ran
    uri = f"sqlite:///{store.root / 'mlflow.db'}"
    make_database(store)
    with monkeypatch.context() as patch:  # MLflow itself would keep the file open in this process
        patch.setattr("harness.tracking._mirror", lambda *_: True)
        assert publish_to(outcome, store).fresh
        assert not publish_to(outcome, store).fresh  # it is noted
    (store.root / "mlflow.db").unlink()
    if made_anew:
        make_database(store)
    assert publish_to(outcome, store).fresh
    assert len(all_runs(uri)) == 3
    assert not publish_to(outcome, store).fresh


def test_a_store_that_is_away_after_the_run_is_mirrored_is_no_error(
    ran: tuple[Outcome, Store], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """The note for other machines is lost, and they find the run in MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    outcome, store = ran

    def away(_: str) -> None:
        raise ObjectsAwayError(errno.EIO, "the object store s3://bucket/folder answers: no")

    monkeypatch.setattr(store, "keep_file", away)
    published = publish_to(outcome, store)
    assert published.done
    assert published.fresh
    assert len(all_runs(database)) == 3


def test_an_empty_database_that_was_kept_is_the_one_that_mlflow_makes_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENRANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    first = new_database(tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient.search_experiments", None)
        copied = new_database(tmp_path / "second")
    (kept,) = (tmp_path / "cache").rglob("*.db")
    kept.write_bytes(b"cut short")
    made = new_database(tmp_path / "third")
    assert first != copied == made


def new_database(store: Path) -> list[str]:
    """What a new store's database holds, all but the times; MLflow orders its indices at random."""
    store.mkdir()
    make_database(Store(store))
    with contextlib.closing(sqlite3.connect(store / "mlflow.db")) as opened:
        opened.execute("UPDATE experiments SET creation_time = 0, last_update_time = 0")
        names = opened.execute("SELECT type, name FROM sqlite_master").fetchall()
        rows = [line for line in opened.iterdump() if line.startswith("INSERT")]
        return [*sorted(map(str, names)), *rows]
