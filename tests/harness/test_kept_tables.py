"""A finished run is shown from its folder; whatever may have changed is read from the cells."""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from harness.cell_tables import streamed_tables_of, tables_of
from harness.commands.measure import RunOptions, measure
from harness.estimates import estimate
from harness.object_store import ObjectStore
from harness.plan import Places
from harness.provenance import load_or_create_manifest
from harness.results import collect
from harness.run import Outcome, run_suite
from harness.store import Store
from harness.suite import load_suite
from reports.io import save_results
from reports.samples import parts_by
from tests.harness.conftest import REGISTRY, SUITE
from tests.harness.test_estimates import machine
from tests.harness.test_run import Quiet, run


@pytest.fixture(scope="module", autouse=True)
def no_drawing() -> Iterator[None]:
    """Reports take seconds to draw, and none is looked at here."""

    def blank(_: object, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text("")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.build.build_report", blank)
        yield


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A suite with its store beside it, run once."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "pico.yaml").write_text(REGISTRY)
    (folder / "small.yaml").write_text(SUITE)
    return folder, run(folder / "small.yaml", folder / "store")


@pytest.fixture
def finished(once: tuple[Path, Outcome], tmp_path: Path) -> tuple[Path, Outcome]:
    """The same, for a test to write into: times of files are as they were."""
    # MLflow's database may still be in the making, beside the run.
    shutil.copytree(
        once[0], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*mlflow*")
    )
    return tmp_path, once[1]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each cell's files were read."""
    counted: Counter[str] = Counter()
    real = Store._read_cell

    def read(self: Store, key: str, with_predictions: bool) -> object:
        counted[key] += 1
        return real(self, key, with_predictions)

    monkeypatch.setattr(Store, "_read_cell", read)
    return counted


def same(a: Outcome, b: Outcome) -> None:
    assert_frame_equal(a.results.scores, b.results.scores)
    assert_frame_equal(a.results.trials, b.results.trials)
    assert_frame_equal(a.results.samples.lazy().collect(), b.results.samples.lazy().collect())


def test_a_finished_run_reads_no_cell_and_shows_the_same(
    finished: tuple[Path, Outcome], reads: Counter[str]
) -> None:
    folder, first = finished
    second = run(folder / "small.yaml", folder / "store")
    assert not reads
    same(first, second)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("pattern", "harm", "computed"),
    [
        ("cells/*/*.parquet", _cut, 1),
        ("cells/*/*.json", Path.unlink, 1),
        ("cells/*/*.parquet", _flip, 1),
        ("runs/*/results/samples.parquet", _flip, 0),
        ("runs/*/results/scores.parquet", Path.unlink, 0),
        ("cache/tables/*.json", _cut, 0),
    ],
)
def test_what_was_damaged_since_is_made_again(
    finished: tuple[Path, Outcome], pattern: str, harm: Callable[[Path], None], computed: int
) -> None:
    folder, first = finished
    store = folder / "store"
    path = sorted(store.glob(pattern))[0]
    before = path.read_bytes()
    harm(path)
    second = run(folder / "small.yaml", store)
    assert second.computed == computed
    assert path.read_bytes() == before
    same(first, second)


def _of_objects(suite: Path, address: str, mirror: Path) -> Outcome:
    store = ObjectStore(address, mirror)
    places = Places(None, None, mirror / "cache")
    return run_suite(load_suite(suite), places, store, "tokenrank run small", Quiet())


@pytest.fixture(scope="module")
def shared(once: tuple[Path, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An object store in which one machine finished the suite: from a folder's cells."""
    address = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe(f"{address}/there", b"")
    folder, outcome = once
    mirror = tmp_path_factory.mktemp("mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.object_store.FEW", 0)
        ours = ObjectStore(address, mirror)
        ours.prepare()
        for cell in outcome.plan.cells:
            found = Store(folder / "store").cell(cell.key)
            assert found is not None
            ours.put_cell(found)
        assert _of_objects(folder / "small.yaml", address, mirror).computed == 0
        yield address
    fsspec.filesystem("memory").rm(address.removeprefix("memory:/"), recursive=True)


def test_a_machine_without_a_copy_needs_no_cell_for_a_finished_run(
    once: tuple[Path, Outcome], shared: str, tmp_path: Path
) -> None:
    folder, first = once
    second = _of_objects(folder / "small.yaml", shared, tmp_path)
    assert second.computed == 0
    same(first, second)
    assert not (tmp_path / "cells").exists()
    estimates = estimate(second.plan, ObjectStore(shared, tmp_path), machine(lambda *_: 1.0))
    assert sum(each.to_do for each in estimates) == 0
    assert not (tmp_path / "cells").exists()


def test_a_machine_without_a_copy_judges_a_finished_run_without_its_cells(
    once: tuple[Path, Outcome], shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `tokenrank baseline` and `tokenrank check` go by."""
    folder, first = once
    monkeypatch.setenv("TOKENRANK_MIRROR", str(tmp_path))
    options = RunOptions(None, shared, None)
    found = measure(Console(quiet=True), folder / "small.yaml", "small", options).results
    assert_frame_equal(first.results.scores, found.scores)
    assert_frame_equal(first.results.samples.lazy().collect(), found.samples.lazy().collect())
    assert not list(tmp_path.rglob("cells"))


@pytest.mark.parametrize("harm", ["rewritten", "gone"])
def test_a_cell_elsewhere_that_changed_is_looked_at(
    once: tuple[Path, Outcome], shared: str, tmp_path: Path, harm: str
) -> None:
    folder, first = once
    objects = ObjectStore(shared, tmp_path).objects
    name = f"cells/{sorted(objects.listing('cells'))[1]}"
    before = objects.read(name)
    assert before is not None
    if harm == "gone":
        objects.remove(name)
    else:
        objects.write(name, before[:-5])
    second = _of_objects(folder / "small.yaml", shared, tmp_path)
    assert second.computed == 1
    assert objects.read(name) == before
    same(first, second)


def test_streamed_tables_are_those_that_memory_would_hold(
    finished: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved by a few rows at a time or at once: the same bytes; asked for in part: that part."""
    monkeypatch.setattr("harness.cell_tables.ROWS_TOGETHER", 70)  # two cells and a bit
    monkeypatch.setattr("reports.io.ROWS_TOGETHER", 70)
    folder, outcome = finished
    plan, store = outcome.plan, Store(folder / "store")
    manifest = load_or_create_manifest(store, plan, "tokenrank run small")
    whole, streamed = tables_of(plan, store), streamed_tables_of(plan, store)
    assert_frame_equal(whole.scores, streamed.scores)
    assert_frame_equal(whole.trials, streamed.trials)
    assert isinstance(whole.samples, pl.DataFrame)
    save_results(collect(plan, store, manifest, whole), folder / "whole")
    save_results(collect(plan, store, manifest, streamed), folder / "streamed")
    for path in sorted((folder / "whole").iterdir()):
        assert path.read_bytes() == (folder / "streamed" / path.name).read_bytes(), path.name
    few = streamed.samples.lazy().filter(pl.col("seed") == 1).select("sample", "value").head(90)
    mine = whole.samples.sort("variant", "task", "seed", "sample").filter(pl.col("seed") == 1)
    assert_frame_equal(few.collect(), mine.select("sample", "value").head(90))
    read, split = (parts_by(each, "task") for each in (streamed.samples, whole.samples))
    by = ("variant", "seed", "sample")
    assert_frame_equal(read("sim-knn").sort(by), split("sim-knn").sort(by))
    assert read("no task") is split("no task") is None
