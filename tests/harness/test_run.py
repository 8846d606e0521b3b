"""A suite run from file to report: repeatable, resumable after kill -9, the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from harness.plan import Cell, Places, Plan
from harness.run import Outcome, run_suite
from harness.store import Store
from harness.suite import Overrides, load_suite

NO_MLFLOW = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}  # nothing listens there


class Quiet:
    """Watches a run without a word."""

    def planned(self, plan: Plan, to_do: list[Cell]) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def progress(self, what: str, done: int, total: int) -> None: ...
    def finished(self, cell: Cell, score: float) -> None: ...


def run(path: Path, store: Path, overrides: Overrides | None = None) -> Outcome:
    suite = load_suite(path, overrides or Overrides())
    places = Places(None, None, store / "cache")
    return run_suite(suite, places, Store(store), "tokenrank run small", Quiet())


def kept_files(store: Path) -> dict[str, bytes]:
    """Everything that is a result or a view of one: not timings, caches or provenance."""
    folders = ("cells", "embeddings", "runs")
    return {
        str(p.relative_to(store)): p.read_bytes()
        for folder in folders
        for p in sorted((store / folder).rglob("*"))
        if p.is_file() and p.name not in ("manifest.json", "tracking.json")
    }


def test_a_finished_suite_computes_nothing_again(small_suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = run(small_suite, store)
    assert first.computed == 8
    before = kept_files(store)
    second = run(small_suite, store)
    assert second.computed == 0
    assert second.results.scores.equals(first.results.scores)
    assert kept_files(store) == before


def test_results_do_not_depend_on_the_store_or_the_order(small_suite: Path, tmp_path: Path) -> None:
    """Two stores, the variants in another order: the same cells, byte for byte."""
    run(small_suite, tmp_path / "a")
    swapped = Overrides(variants=("olmoearth-three-pico", "olmoearth-one-pico"))
    run(small_suite, tmp_path / "b", swapped)
    a = {k: v for k, v in kept_files(tmp_path / "a").items() if not k.startswith("runs")}
    b = {k: v for k, v in kept_files(tmp_path / "b").items() if not k.startswith("runs")}
    assert a == b


def test_only_what_changes_a_result_is_computed_again(small_suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(small_suite, store)
    small_suite.write_text(small_suite.read_text().replace("k: 5", "k: 7").replace("small s", "s"))
    assert run(small_suite, store).computed == 4  # the kNN cells; the title changes nothing
    assert len(list((store / "embeddings").rglob("*.safetensors"))) == 8  # 2 x 2 seeds x 2 norms


def test_only_the_poolings_that_a_task_names_are_probed(small_suite: Path, tmp_path: Path) -> None:
    small_suite.write_text(
        small_suite.read_text().replace("{patch_size: 8,", "{patch_size: 8, poolings: [max],")
    )
    outcome = run(small_suite, tmp_path / "store")
    tried = [json.loads(params)["pooling"] for params in outcome.results.trials["params"]]
    assert set(tried) == {"max"}


def test_the_score_is_that_of_the_stored_predictions(small_suite: Path, tmp_path: Path) -> None:
    outcome = run(small_suite, tmp_path / "store")
    for cell, score in outcome.results.scores.select("cell", "score").iter_rows():
        table = pl.read_parquet(tmp_path / "store" / "cells" / cell[:2] / f"{cell}.parquet")
        assert score == pytest.approx((table["label"] == table["prediction"]).mean())


def command(path: Path, store: Path) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "run", str(path), "--store", str(store)]


def test_kill_9_at_any_moment_then_the_same_command(small_suite: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    # A commit made while this runs would be an honest difference between the two.
    env = {**os.environ, **NO_MLFLOW, "GIT_DIR": str(tmp_path / "no repository")}
    subprocess.run(command(small_suite, undisturbed), check=True, env=env, capture_output=True)
    for cells_before_the_kill in (1, 3):
        process = subprocess.Popen(
            command(small_suite, killed),
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        finished = set[Path]()
        deadline = time.monotonic() + 120
        while len(finished) < cells_before_the_kill and time.monotonic() < deadline:
            finished = set((killed / "cells").rglob("[!.]*.json"))
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(finished) >= cells_before_the_kill
    written = {p: p.stat().st_mtime_ns for p in (killed / "cells").rglob("[!.]*.json")}
    subprocess.run(command(small_suite, killed), check=True, env=env, capture_output=True)
    resumed, whole = kept_files(killed), kept_files(undisturbed)
    assert resumed.keys() == whole.keys()
    assert [name for name in whole if resumed[name] != whole[name]] == []
    # What was finished before the kill was not computed again.
    assert {p: p.stat().st_mtime_ns for p in written} == written


def test_a_damaged_cell_is_computed_again(small_suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(small_suite, store)
    before = kept_files(store)
    table = next((store / "cells").rglob("*.parquet"))
    table.write_bytes(b"not a table")
    assert run(small_suite, store).computed == 1
    assert kept_files(store) == before


def test_timings_are_no_part_of_a_result(small_suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(small_suite, store)
    lines = (store / "timings.jsonl").read_text().splitlines()
    assert len(lines) == 8
    assert all(json.loads(line)["seconds"] > 0 for line in lines)
    for path in (store / "cells").rglob("*.json"):
        assert "seconds" not in path.read_text()


def test_tiers_are_not_mixed_and_missing_weights_are_incomplete(
    small_suite: Path, tmp_path: Path
) -> None:
    """A scheme that nobody trained has no official weights: listed so, never substituted."""
    text = small_suite.read_text()
    text = text.replace(
        "variants: [olmoearth-one-pico, olmoearth-three-pico]",
        "variants:\n  - olmoearth-one-pico\n  - {variant: olmoearth-three-pico, tier: official}",
    )
    small_suite.write_text(text)
    outcome = run(small_suite, tmp_path / "store")
    missing = outcome.results.run.missing
    assert {m.variant for m in missing} == {"olmoearth-three-pico"}
    assert "no official weights exist" in missing[0].reason
    assert set(outcome.results.scores["variant"]) == {"olmoearth-one-pico"}
