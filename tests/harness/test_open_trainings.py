"""Runs of trainings that nobody could close: the same command, a launcher and `sync` close them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from filelock import FileLock

from harness.commands import launching
from harness.executors.board import DriverNote, WorkerNote
from harness.launching.driving import board_of, launch_key
from harness.pretraining import mirror
from harness.store import Store
from harness.tracking import LOCAL_DATABASE, TrackingAwayError, make_database
from models.errors import UserError
from tests.disturbed import begin, ended, environment, statuses, wait_for
from tests.harness.test_pretrain import SETTING, Place, StoppedError, place_in, tracked

Command = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, tokenrank: Any) -> Place:
    """A place to train in; the tracking server is a local database."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    (tmp_path / "place").mkdir()
    return place_in(tmp_path / "place")


@contextmanager
def away_at_the_end() -> Iterator[None]:
    """The server takes the curves, and does not answer when the run is to be closed."""

    def end(*_: object) -> None:
        raise TrackingAwayError("it cannot be reached")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror, "end_training", end)
        yield


@contextmanager
def killed() -> Iterator[None]:
    """When all steps are made and pushed the process is gone, and closes nothing."""

    def write(*_: object) -> None:
        raise StoppedError

    def finish(self: mirror.MlflowWatcher, *_: object) -> None:
        self._pool.shutdown()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.commands.pretrain.write_study_weights", write)
        patch.setattr(mirror.MlflowWatcher, "finish", finish)
        with pytest.raises(StoppedError):
            yield


def finished(uri: str, place: Place) -> None:
    """It stands as finished, with whole curves and the hash of its weights."""
    run, curves = tracked(uri)
    assert run.info.status == "FINISHED"
    assert "tokenrank.stopped" not in run.data.tags
    assert len(run.data.tags["tokenrank.weights_sha256"]) == 64
    for name in (*mirror.CURVES, "samples_per_second"):
        assert curves[name] == [48], name
    assert (place.run() / "card.yaml").exists()


def status_of(uri: str) -> tuple[str, str]:
    run, _ = tracked(uri)
    return run.info.status, run.data.tags.get("tokenrank.stopped", "")


@pytest.mark.parametrize("how", ["in this process", "by a launcher", "sync"])
def test_a_server_that_was_away_at_the_end_is_told_later(
    place: Place, tokenrank: Command, database: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with away_at_the_end():
        assert "MLflow at" in tokenrank(*place.command()).out
    assert status_of(database)[0] == "RUNNING"
    command = {
        "in this process": place.command(),
        "by a launcher": place.command("--executor", "local"),
        "sync": ["sync", "--store", str(place.folder / "store")],
    }[how]
    again = tokenrank(*command)
    assert again.code == 0, again.err
    assert ("mirrored now" if how == "sync" else "Already trained") in again.out
    finished(database, place)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the server was asked though it has everything")

    monkeypatch.setattr(mirror, "push_training", never)
    monkeypatch.setattr(mirror, "end_training", never)
    assert tokenrank(*command).code == 0


def test_a_server_that_was_away_all_the_time_gets_the_curves_of_the_folder(
    place: Place, tokenrank: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert "run tokenrank sync" in " ".join(tokenrank(*place.command()).out.split())
        assert "was not updated" in tokenrank(*place.command()).out  # it is still away
    assert "mirrored now" in tokenrank("sync", "--store", place.folder / "store").out
    finished(database, place)


def test_a_database_that_was_removed_and_made_anew_gets_the_training_again(
    place: Place, tokenrank: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite is published first: the file is there again, and what was noted of it is not."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    store = Store(place.folder / "store")
    command = [sys.executable, "-m", "harness.cli", *map(str, place.command())]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    (store.root / LOCAL_DATABASE).unlink()
    make_database(store)
    assert "mirrored now" in tokenrank("sync", "--store", store.root).out
    finished(f"sqlite:///{store.root / LOCAL_DATABASE}", place)


def test_a_push_that_fails_here_does_not_close_the_run(
    place: Place, tokenrank: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed, nobody would look at it again; so it is mended by the same command."""
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "read_probes", Mock(side_effect=OSError("a stale file handle")))
        assert "a stale file handle" in " ".join(tokenrank(*place.command()).out.split())
    assert tokenrank(*place.command()).code == 0
    finished(database, place)


def test_sync_closes_what_was_killed_and_the_same_command_goes_on_with_it(
    place: Place, tokenrank: Command, database: str
) -> None:
    with killed():
        tokenrank(*place.command())
    assert status_of(database) == ("RUNNING", "")
    sync = ("sync", "--store", place.folder / "store")
    with FileLock(place.run() / ".guard"):  # as who trains there holds it
        assert "small pico seed 0: goes on in" in tokenrank(*sync).out
        assert status_of(database) == ("RUNNING", "")
    assert "closed: its process is gone" in tokenrank(*sync).out
    assert status_of(database) == ("KILLED", "its process is gone")
    assert "not finished" in tokenrank(*sync).out
    assert tokenrank(*place.command()).code == 0
    finished(database, place)


def test_a_launcher_that_is_stopped_closes_what_it_ended(
    place: Place, tokenrank: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed():
        tokenrank(*place.command())

    def drive(*_: object) -> None:
        raise UserError("It was stopped.")

    monkeypatch.setattr(launching, "drive_launches", drive)
    assert tokenrank(*place.command("--executor", "local")).code == 2
    assert status_of(database) == ("KILLED", "It was stopped.")


def test_cancel_closes_what_a_driver_that_is_gone_left_with_slurm(
    place: Place, tokenrank: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed():
        tokenrank(*place.command())
    store = Store(place.folder / "store")
    board = board_of(store, "small", place.folder / "out")
    board.write_driver(DriverNote("driver", "small", "slurm", "login", 1, 1))
    board.write_worker(WorkerNote(launch_key(place.run()), "slurm", 0))
    monkeypatch.setattr("harness.commands.status.cancel_left", lambda _: ["7"])
    assert tokenrank("cancel", "small", "--store", store.root).code == 0
    assert status_of(database) == ("KILLED", "cancelled (tokenrank cancel)")


def children(of: int) -> list[int]:
    """Processes that this one started."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    fields = [(int(stat.split()[0]), stat.rpartition(")")[2].split()) for stat in stats]
    return [process for process, rest in fields if int(rest[1]) == of and rest[0] != "Z"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_training_that_is_given_up_is_failed_in_mlflow(place: Place) -> None:
    """Its process is killed, and has no second chance."""
    place.write("setting.yaml", {**SETTING, "samples": 400_000})
    profile = place.write("profile.yaml", {"executor": "local", "retries": 0})
    database = place.folder / "store" / LOCAL_DATABASE
    command = [sys.executable, "-m", "harness.cli"]
    command += place.command("--profile", profile)
    driver = begin(command, environment(OMP_NUM_THREADS="1"))
    wait_for(lambda: "RUNNING" in statuses(database), driver)
    for process in children(driver.pid):
        os.kill(process, signal.SIGKILL)
    assert "killed by SIGKILL" in ended(driver, code=2)
    status, why = status_of(f"sqlite:///{database}")
    assert status == "FAILED"
    assert "killed by SIGKILL" in why
