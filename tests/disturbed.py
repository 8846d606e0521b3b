"""One small suite, run undisturbed in one process, and the means to disturb it elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.executors.board import Board, WorkerNote
from harness.object_store import ObjectStore
from harness.store_place import open_store
from harness.tracking import LOCAL_DATABASE, URI_VARIABLE

PATIENCE = 240.0  # seconds
GO_WITHIN = 20.0  # seconds, for who is told to end
# A commit that is made while they run would be an honest difference.
ENV = {"GIT_DIR": "/no repository"}
AWAY = {URI_VARIABLE: "http://127.0.0.1:9"}  # nothing listens there
OPEN = ("RUNNING", "SCHEDULED")


@dataclass(frozen=True)
class Mirror:
    """A local MLflow's runs by title, with parameters and metrics, and its logged models."""

    runs: dict[str, dict[str, object]]
    models: Counter[tuple[str, int]]


@dataclass(frozen=True)
class Undisturbed:
    """The suite's file, and what its run in one process left.

    ``embedded``: samples that went through an encoder, by variant.
    """

    suite: Path
    files: dict[str, bytes]
    embedded: Counter[str]
    mirror: Mirror

    @property
    def store(self) -> Path:
        """For tests to copy, never to write to."""
        return self.suite.parent / "store"


def kept_files(store: Path | str) -> dict[str, bytes]:
    """Everything that is a result or a view of one: not timings, caches, notes or provenance."""
    opened = open_store(store)
    names = [
        f"{folder}/{name}"
        for folder in ("cells", "embeddings", "runs")
        for name in _listing(store, folder)
        if Path(name).name not in ("manifest.json", "tracking.json", "tracking.json.guard")
    ]
    return opened.files.read_many(names)


def _listing(store: Path | str, folder: str) -> dict[str, object]:
    """Files below a folder, each with what changes when it is written anew."""
    opened = open_store(store)
    if isinstance(opened, ObjectStore):
        return dict(opened.objects.listing(folder))
    facts: dict[str, object] = {}
    for path in (opened.root / folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # what is being written has another name soon
            if path.is_file():
                status = path.stat()
                name = path.relative_to(opened.root / folder).as_posix()
                facts[name] = (status.st_ino, status.st_mtime_ns)
    return facts


def standing(store: Path | str) -> dict[str, object]:
    """Cells and embeddings that are stored now, to be held against `assert_untouched` later."""
    listed = {f: _listing(store, f) for f in ("cells", "embeddings")}
    return {
        f"{folder}/{name}": facts
        for folder, names in listed.items()
        for name, facts in names.items()
        if not Path(name).name.startswith(".")  # in the middle of being written
    }


def assert_untouched(before: dict[str, object], store: Path | str) -> None:
    """What stood when something happened was not made anew after it."""
    after = standing(store)
    assert {name: after.get(name) for name in before} == before


def command(suite: Path, store: Path | str, *more: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "run", str(suite), "--store", str(store), *more]


_BEGUN: list[subprocess.Popen[str]] = []


def environment(**more: str) -> dict[str, str]:
    """Runs are mirrored into the store's own database, unless a test says otherwise."""
    given = {name: value for name, value in os.environ.items() if name != URI_VARIABLE}
    return {**given, **ENV, **more}


def computed(store: Path | str) -> Counter[str]:
    """How often each cell was computed, as the store's timings tell."""
    return Counter(str(line["cell"]) for line in _timings(store))


def embedded(store: Path | str) -> Counter[str]:
    """Samples that went through an encoder, by variant, as far as their cells were finished."""
    found: Counter[str] = Counter()
    for line in _timings(store):
        found[str(line["variant"])] += int(str(line["embedded_samples"]))
    return found


def _timings(store: Path | str) -> list[dict[str, object]]:
    """Of all machines, from where they are kept: not by the copy of any."""
    opened = open_store(store)
    text = opened.timings() if not isinstance(opened, ObjectStore) else _objects_lines(opened)
    return [json.loads(line) for line in text.splitlines()]


def _objects_lines(store: ObjectStore) -> str:
    names = [f"timings/{name}" for name in store.objects.listing("timings")]
    return b"".join(store.objects.read_many(names).values()).decode()


def databases(*places: Path | str) -> list[Path]:
    """Local MLflow databases of stores, and of copies of them in folders."""
    folders = [Path(place) for place in places if "://" not in str(place)]
    return [path for folder in folders for path in sorted(folder.rglob(LOCAL_DATABASE))]


def statuses(database: Path) -> list[str]:
    """Of all runs of a local MLflow, deleted ones too; none where it is not made yet."""
    return [row[0] for row in _rows(database, "SELECT status FROM runs")]


def mirror_in(database: Path) -> Mirror:
    """What is shown to people: not what was removed."""
    active = "FROM {} JOIN runs r USING (run_uuid) WHERE r.lifecycle_stage = 'active'"
    names = _rows(database, "SELECT name FROM runs WHERE lifecycle_stage = 'active'")
    assert len(set(names)) == len(names), "a run stands there twice"
    runs: dict[str, dict[str, object]] = {name: {} for (name,) in names}
    for table in ("latest_metrics", "params"):
        for run, key, value in _rows(database, f"SELECT r.name, key, value {active.format(table)}"):
            runs[run][f"{table}/{key}"] = value
    models = "SELECT name, status FROM logged_models WHERE lifecycle_stage = 'active'"
    return Mirror(runs, Counter(_rows(database, models)))


def _rows(database: Path, query: str) -> list[tuple[object, ...]]:
    if not database.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        return opened.execute(query).fetchall()


def assert_mirrored(undisturbed: Undisturbed, *places: Path | str) -> None:
    """Each local MLflow holds the undisturbed run's runs, all closed, once and with its numbers."""
    found = databases(*places)
    assert found
    for database in found:
        assert not set(statuses(database)) & set(OPEN)
        assert mirror_in(database) == undisturbed.mirror


def assert_same(
    store: Path | str,
    undisturbed: Undisturbed,
    *mirrors: Path,
    nobody_died: bool = False,
) -> None:
    """The three things that hold after every fault.

    The same bytes; nothing computed twice; in MLflow the same runs, and none of them open.
    ``mirrors``: folders of machines' copies, where the store is an object store.
    ``nobody_died``: no process was ended in the middle of a cell. Where one was, what it had
    embedded for that cell is noted nowhere, though the embedding may stand: the sum is smaller.
    """
    found = kept_files(store)
    assert found.keys() == undisturbed.files.keys()
    assert [name for name in found if found[name] != undisturbed.files[name]] == []
    assert set(computed(store).values()) == {1}
    noted = embedded(store)
    assert noted <= undisturbed.embedded
    if nobody_died:
        assert noted == undisturbed.embedded
    assert_mirrored(undisturbed, store, *mirrors)


def run_undisturbed(folder: Path, suite: str, registry: str) -> Undisturbed:
    """A suite, computed by one process that nothing happens to."""
    (folder / "pico.yaml").write_text(registry)
    (folder / "small.yaml").write_text(suite)
    store = folder / "store"
    subprocess.run(
        command(folder / "small.yaml", store), check=True, env=environment(), capture_output=True
    )
    (database,) = databases(store)
    left = (kept_files(store), embedded(store), mirror_in(database))
    return Undisturbed(folder / "small.yaml", *left)


def start(suite: Path, store: Path | str, *more: str, **settings: str) -> subprocess.Popen[str]:
    """The command, as a process that tests do something to."""
    return begin(command(suite, store, *more), environment(**settings))


def begin(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    """A process that does not outlive the test that began it (see `end_all`)."""
    process = subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    _BEGUN.append(process)
    return process


def end_all() -> None:
    """What a test that failed in the middle left would disturb all tests after it."""
    while _BEGUN:
        process = _BEGUN.pop()
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=GO_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


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


def cells(store: Path | str) -> int:
    """How many are stored."""
    return sum(name.startswith("cells/") and name.endswith(".json") for name in standing(store))


def begun(store: Path | str) -> list[WorkerNote]:
    """Notes of workers that have an item, though they may still make the plan."""
    opened = open_store(store)
    runs = opened.files.names("work")
    notes = Board(opened, runs[0]).workers() if runs else []
    return [note for note in notes if note.item]


def at_work(store: Path | str) -> list[WorkerNote]:
    """Notes of workers that compute a cell."""
    return [note for note in begun(store) if note.cell]
