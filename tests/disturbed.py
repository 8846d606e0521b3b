"""One small suite, run undisturbed in one process, and the means to disturb it elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.executors.board import Board, WorkerNote
from harness.store_place import open_store

# Nothing listens there: MLflow is not what these tests are about. A commit that is made while they
# run would be an honest difference.
PATIENCE = 240.0  # seconds
ENV = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "GIT_DIR": "/no repository"}


@dataclass(frozen=True)
class Undisturbed:
    """The suite's file, and what its run in one process left."""

    suite: Path
    files: dict[str, bytes]


def kept_files(store: Path) -> dict[str, bytes]:
    """Everything that is a result or a view of one: not timings, caches, notes or provenance."""
    return {
        str(p.relative_to(store)): p.read_bytes()
        for folder in ("cells", "embeddings", "runs")
        for p in sorted((store / folder).rglob("*"))
        if p.is_file() and p.name not in ("manifest.json", "tracking.json")
    }


def command(suite: Path, store: Path | str, *more: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "run", str(suite), "--store", str(store), *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ENV, **more}


def computed(store: Path) -> Counter[str]:
    """How often each cell was computed, as the store's timings tell."""
    lines = (store / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter(json.loads(line)["cell"] for line in lines)


def assert_same(store: Path, undisturbed: Undisturbed) -> None:
    found = kept_files(store)
    assert found.keys() == undisturbed.files.keys()
    assert [name for name in found if found[name] != undisturbed.files[name]] == []


def run_undisturbed(folder: Path, suite: str, registry: str) -> Undisturbed:
    """A suite, computed by one process that nothing happens to."""
    (folder / "pico.yaml").write_text(registry)
    (folder / "small.yaml").write_text(suite)
    store = folder / "store"
    subprocess.run(
        command(folder / "small.yaml", store), check=True, env=environment(), capture_output=True
    )
    return Undisturbed(folder / "small.yaml", kept_files(store))


def start(suite: Path, store: Path | str, *more: str, **settings: str) -> subprocess.Popen[str]:
    """The command, as a process that tests do something to."""
    return subprocess.Popen(
        command(suite, store, *more), env=environment(**settings), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it said until its end, which must be with this code."""
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    return said


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until something is so, while the process lives."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def cells(store: Path) -> int:
    """How many are stored."""
    return len(list((store / "cells").rglob("[!.]*.json")))


def begun(store: Path | str) -> list[WorkerNote]:
    """Notes of workers that have an item, though they may still make the plan."""
    opened = open_store(store)
    runs = opened.files.names("work")
    notes = Board(opened, runs[0]).workers() if runs else []
    return [note for note in notes if note.item]


def at_work(store: Path | str) -> list[WorkerNote]:
    """Notes of workers that compute a cell."""
    return [note for note in begun(store) if note.cell]
