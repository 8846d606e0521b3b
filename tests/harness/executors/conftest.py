"""One small suite, run undisturbed in one process: what every executor has to come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.conftest import REGISTRY, SUITE

# Nothing listens there: MLflow is not what these tests are about. A commit that is made while they
# run would be an honest difference.
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


def command(suite: Path, store: Path, *more: str) -> list[str]:
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


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The small suite, computed by one process that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "pico.yaml").write_text(REGISTRY)
    (folder / "small.yaml").write_text(SUITE)
    store = folder / "store"
    subprocess.run(
        command(folder / "small.yaml", store), check=True, env=environment(), capture_output=True
    )
    return Undisturbed(folder / "small.yaml", kept_files(store))
