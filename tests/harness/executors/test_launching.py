"""Trainings as launches: each failure in its own words, second chances, interruptions, shapes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.commands.launching import without_weights
from harness.executors.board import Board
from harness.executors.driving import Policy
from harness.executors.profile import PretrainingSection
from harness.launching import local
from harness.launching.driving import drive_launches, launch_key
from harness.launching.launch import Exit, Launch, Shape, Sight, TakenError, write_proof
from harness.launching.local import LocalLauncher, local_shape
from harness.launching.node import unshared
from harness.store import Store
from models.errors import UserError

POLICY = Policy(retries=1, timeout=600)


@dataclass
class Listening:
    """Notes what it is told; may interrupt."""

    until: Callable[[], bool] = lambda: False
    told: list[tuple[str, str]] = field(default_factory=list)

    def started(self, launch: Launch) -> None:
        self.told.append(("started", launch.title))

    def running(self, launch: Launch) -> None:
        if self.until():
            raise KeyboardInterrupt

    def retried(self, launch: Launch, reason: str) -> None:
        self.told.append(("again", launch.title))

    def ended(self, launch: Launch, failure: str | None) -> None:
        self.told.append(("failed" if failure else "ended", launch.title))


def scripted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *scripts: str
) -> tuple[list[Launch], Board]:
    """Launches that are a few lines of Python each."""
    monkeypatch.setattr(
        local, "node_command", lambda launch, *_, **__: [sys.executable, "-c", launch.arguments[0]]
    )
    launches = [
        Launch(launch_key(tmp_path / f"{i}"), f"{i}", tmp_path / f"{i}", (script,))
        for i, script in enumerate(scripts)
    ]
    return launches, Board(Store(tmp_path / "store"), "run")


def test_one_after_the_other_and_each_failure_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the training itself gives as a reason is not tried again; all else is, so often."""
    scripts = (
        "import sys; print('Going on'); sys.exit('tokenrank: it diverged.')",
        "import os; print(os.environ['OMP_NUM_THREADS'])",
        "raise ValueError('a bug')",
        "import os\nif not os.path.exists('once'): open('once', 'x'); os.kill(os.getpid(), 9)",
    )
    monkeypatch.chdir(tmp_path)
    launches, board = scripted(monkeypatch, tmp_path, *scripts)
    watch = Listening()
    launcher = LocalLauncher(Shape(1, 1, 6), 1, [])
    failures = drive_launches(launches, launcher, board, POLICY, watch, "study")
    assert watch.told == [
        *(("started", "0"), ("failed", "0")),
        *(("started", "1"), ("ended", "1")),
        *(("started", "2"), ("again", "2"), ("failed", "2")),
        *(("started", "3"), ("again", "3"), ("ended", "3")),
    ]
    assert failures[launches[0].key] == "it diverged."
    assert "ValueError: a bug" in failures[launches[2].key]
    assert launches[1].log().read_text() == "6\n"
    assert not list(tmp_path.glob("*/.launch-*"))
    (note,) = board.drivers()
    assert (note.suite, note.done, note.broken, note.retried) == ("study", 2, 2, 2)


def test_an_interruption_stops_every_process_and_starts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's process sees the end of its input, whether it is asked or its driver is killed."""
    script = """
import os, pathlib, sys
place = pathlib.Path(os.environ['PLACE_OF_TEST'])
(place / f'running-{os.getpid()}').touch()
sys.stdin.read()
(place / f'ended-{os.getpid()}').touch()
"""
    monkeypatch.setenv("PLACE_OF_TEST", str(tmp_path))
    launches, board = scripted(monkeypatch, tmp_path, *[script] * 3)

    def both_run() -> bool:
        return len(list(tmp_path.glob("running-*"))) == 2

    launcher = LocalLauncher(Shape(), 2, [])
    with pytest.raises(KeyboardInterrupt):
        drive_launches(launches, launcher, board, POLICY, Listening(both_run), "study")
    started = {path.name.partition("-")[2] for path in tmp_path.glob("running-*")}
    assert {path.name.partition("-")[2] for path in tmp_path.glob("ended-*")} == started
    assert not (tmp_path / "2").exists()
    assert [note.state for note in board.drivers()] == ["stopped"]


def test_one_that_hangs_is_ended_and_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears no request either; its next start is seen to make progress."""
    script = """
import pathlib, time
history = pathlib.Path('history.jsonl')
if pathlib.Path('hung').exists():
    for _ in range(12):
        history.open('a').write('x')
        time.sleep(0.25)
else:
    pathlib.Path('hung').touch()
    time.sleep(600)
"""
    monkeypatch.setattr(local, "HANGS_WITHIN", 0.1)
    launches, board = scripted(monkeypatch, tmp_path, script)
    (tmp_path / "0").mkdir()
    launches = [Launch(launches[0].key, "0", Path(), launches[0].arguments, cwd=tmp_path / "0")]
    monkeypatch.chdir(tmp_path / "0")
    watch = Listening()
    launcher = LocalLauncher(Shape(), 1, [])
    assert drive_launches(launches, launcher, board, Policy(1, 2.0), watch, "study") == {}
    assert watch.told == [("started", "0"), ("again", "0"), ("ended", "0")]


@dataclass
class Gone:
    """A launcher whose training is gone at the third look; its file grows at each."""

    folder: Path
    name: str = "gone"
    slots: int = 1
    looks: int = 0

    def start(self, launch: Launch) -> None:
        self.key = launch.key

    def look(self) -> Mapping[str, Sight]:
        self.looks += 1
        with (self.folder / "history.jsonl").open("a") as file:
            file.write("\n")
        return {self.key: "runs" if self.looks < 3 else Exit(None, "gone")}

    def stop(self, key: str) -> None: ...

    def close(self) -> None: ...


def refuses() -> bool:
    raise UserError("These are other weights.")


@pytest.mark.parametrize(
    ("is_done", "said"),
    [(lambda: True, None), (lambda: False, "gone"), (refuses, "These are other weights.")],
)
def test_what_is_gone_is_done_where_its_own_weights_are_there_and_notes_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_done: Callable[[], bool], said: str | None
) -> None:
    notes = list[str]()
    board = Board(Store(tmp_path / "store"), "run")
    board.every = 600.0
    monkeypatch.setattr(board, "write_worker", lambda note: notes.append(note.item))
    launch = Launch("key", "one", tmp_path, (), is_done=is_done)
    (tmp_path / ".launch-of-a-driver-that-was-killed").touch()
    found = drive_launches([launch], Gone(tmp_path), board, Policy(0), Listening(), "study")
    assert found.get("key", "").partition(" (")[0] == (said or "")
    assert notes == ["key", ""]
    assert bool(list(tmp_path.glob(".launch-*"))) == (said is not None)


class Elsewhere(LocalLauncher):
    """In the folder of the first launch trains somebody else."""

    def start(self, launch: Launch) -> None:
        if launch.title == "0":
            raise TakenError("Job 17 trains there.")
        super().start(launch)


def test_a_folder_that_is_taken_costs_its_own_training_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launches, board = scripted(monkeypatch, tmp_path, "", "")
    watch = Listening()
    launcher = Elsewhere(Shape(), 1, ())
    found = drive_launches(launches, launcher, board, POLICY, watch, "study")
    assert found == {launches[0].key: "Job 17 trains there."}
    assert watch.told == [("started", "0"), ("failed", "0"), ("started", "1"), ("ended", "1")]


@pytest.mark.parametrize(
    ("is_done", "said"), [(lambda: False, "are not there"), (refuses, "other")]
)
def test_one_that_ended_well_without_its_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_done: Callable[[], bool], said: str
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert said in without_weights(Launch("key", "one", tmp_path, (), is_done=is_done))


def test_two_drivers_of_one_folder_have_a_proof_each(tmp_path: Path) -> None:
    launch = Launch("key", "one", tmp_path, ())
    first, second = write_proof(launch), write_proof(launch)
    second.unlink()
    assert unshared(first) == ""


@dataclass
class Cancelling:
    """A launcher whose trainings never end; somebody asks for the run to be stopped."""

    board: Board
    name: str = "endless"
    slots: int = 1
    stopped: bool = False

    def start(self, launch: Launch) -> None:
        self.key = launch.key

    def look(self) -> Mapping[str, Sight]:
        self.board.stop()
        return {self.key: "waits"}

    def stop(self, key: str) -> None: ...

    def close(self) -> None:
        self.stopped = True


def test_whoever_sees_the_store_can_stop_a_study(tmp_path: Path) -> None:
    board = Board(Store(tmp_path), "run")
    launcher = Cancelling(board)
    launch = Launch("key", "one", tmp_path / "one", ())
    with pytest.raises(UserError, match='"study" was stopped'):
        drive_launches([launch], launcher, board, POLICY, Listening(), "study")
    assert launcher.stopped


@pytest.mark.parametrize(
    ("asked", "workers", "count", "cores", "gpus", "found"),
    [
        ({}, None, 17, 2, 0, (Shape(1, 1, 1), 2)),
        ({}, None, 17, 32, 0, (Shape(1, 1, 8), 4)),
        ({}, None, 1, 32, 0, (Shape(1, 1, 32), 1)),
        ({}, None, 17, 32, 8, (Shape(1, 8, 4), 1)),
        ({}, 4, 17, 32, 8, (Shape(1, 2, 4), 4)),
        ({"processes": 1}, None, 17, 32, 8, (Shape(1, 1, 4), 8)),
        ({"processes": 2}, None, 17, 8, 0, (Shape(1, 2, 1), 4)),
        ({"processes": 4}, None, 1, 2, 0, "share 2 processor cores"),
        ({"processes": 4}, 3, 17, 32, 8, "share 8 GPUs"),
        ({"nodes": 2}, None, 1, 32, 8, "local has this one"),
    ],
)
def test_cores_and_gpus_are_divided_and_never_shared(
    asked: dict[str, int], workers: int | None, count: int, cores: int, gpus: int, found: object
) -> None:
    section = PretrainingSection(**asked)
    if isinstance(found, str):
        with pytest.raises(UserError, match=found):
            local_shape(section, workers, count, cores, gpus)
    else:
        assert local_shape(section, workers, count, cores, gpus) == found


def test_each_training_sees_gpus_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES']); sys.stdin.read()"
    launches, _ = scripted(monkeypatch, tmp_path, script, script)
    launcher = LocalLauncher(Shape(1, 2, 1), 2, ["0", "1", "GPU-a", "GPU-b"])
    for launch in launches:
        launcher.start(launch)
    while not all(launch.log().read_text() for launch in launches):
        time.sleep(0.01)
    launcher.close()
    assert [launch.log().read_text() for launch in launches] == ["0,1\n", "GPU-a,GPU-b\n"]
