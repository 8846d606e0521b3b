"""A suite small enough to run in seconds: two tiny variants, simulated data, two probes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import cli
from harness.store import Store
from reports import rendering
from tests.disturbed import Undisturbed, end_all, run_undisturbed

if TYPE_CHECKING:
    from tests.launched import Training

SUITE = """\
name: small
title: A small suite
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100}
tier: random
seeds: [0, 1]
variants: [olmoearth-one-pico, olmoearth-three-pico]
tasks:
  - name: sim-knn
    dataset: simulated
    data: {size: 100}
    probe: {kind: knn, k: 5}
  - name: sim-linear
    dataset: simulated
    data: {size: 100}
    probe: {kind: linear, trials: 4, epochs: 2}
baselines: []
"""
REGISTRY = """\
family: olmoearth
sizes:
  pico: {dim: 32, depth: 1, heads: 4}
versions:
  one: {scheme: single, sizes: [pico]}
  three: {scheme: per-resolution, sizes: [pico]}
"""


_drawn: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    """A process that a failed test began ends with it."""
    yield
    end_all()


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> Iterator[None]:
    """Drawing is a third of a small report, and hundreds of tests here make the same few.

    That a specification is always drawn alike is for the tests of reports, which this is not for.
    """

    def once(draw: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*asked: Any) -> Any:
            key = json.dumps([draw.__name__, *asked], sort_keys=True)
            digest = hashlib.sha256(key.encode()).hexdigest()
            if digest not in _drawn:
                _drawn[digest] = draw(*asked)
            return _drawn[digest]

        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "to_svg", once(rendering.to_svg))
        patch.setattr(rendering, "to_png", once(rendering.to_png))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    found = Store(tmp_path / "store")
    found.prepare()
    return found


@pytest.fixture
def small_suite(tmp_path: Path) -> Path:
    """The path of the small suite's YAML."""
    (tmp_path / "pico.yaml").write_text(REGISTRY)
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The small suite as one process computes it: what every executor has to come to."""
    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"), SUITE, REGISTRY)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"needs the mount command: {error}")
    if done.returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database as MLflow makes it: its tables take seconds, so once for all tests."""
    from harness.tracking import make_database  # noqa: PLC0415

    store = Store(tmp_path_factory.mktemp("empty"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_database(store)
    return store.root / "mlflow.db"


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> str:
    """The URI of a tracking database of the test's own; set nowhere yet."""
    shutil.copy(empty_database, tmp_path / "tracking.db")
    return f"sqlite:///{tmp_path}/tracking.db"


@dataclass(frozen=True)
class SmallRun:
    """The small suite, run once: its file, the store, and its results as a saved folder."""

    suite: Path
    store: Path
    results: Path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Shared by all tests that only read results; do not write into its folders."""
    from rich.console import Console  # noqa: PLC0415

    from harness.commands.measure import RunOptions, measure  # noqa: PLC0415
    from reports.io import save_results  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("small")
    (folder / "pico.yaml").write_text(REGISTRY)
    suite = folder / "small.yaml"
    suite.write_text(SUITE)
    options = RunOptions(data_dir=None, store=folder / "store", weights_dir=None)
    found = measure(Console(quiet=True), suite, str(suite), options)
    save_results(found.results, folder / "results")
    return SmallRun(suite, folder / "store", folder / "results")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A tiny pretraining by two processes: what every launcher has to come to."""
    from tests.launched import training_in  # noqa: PLC0415

    return training_in(tmp_path_factory.mktemp("training"))


@pytest.fixture
def tokenrank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Call the command line as a user would, in this process; no tracking server is up."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for name in ("TOKENRANK_DATA", "TOKENRANK_STORE", "TOKENRANK_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tokenrank", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call
