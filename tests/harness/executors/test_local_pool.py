"""The pool of local processes on a bad day: killed, stopped, restarted, doubled; the same bytes."""

from __future__ import annotations

import os
import re
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from harness.executors.engine import Ended
from harness.executors.items import Item, Need
from harness.executors.local import LocalPool, Place, cores, places
from harness.executors.spec import Spec
from harness.tracking import LOCAL_DATABASE
from models.errors import UserError
from tests.disturbed import (
    Undisturbed,
    assert_same,
    assert_untouched,
    at_work,
    begun,
    cells,
    ended,
    standing,
    start,
    statuses,
    wait_for,
)

TWO = ("--executor", "local", "--workers", "2")
needs_two_cores = pytest.mark.skipif(cores() < 2, reason="two workers need two processor cores")


def _ends_by(pipe: Connection, spec: Spec, place: Place) -> None:
    """A worker that is killed, where the spec names a file because the kernel lacked memory."""
    pipe.recv()
    if spec.folder:
        Path(spec.folder).write_text("oom_kill 3\n")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("how", ["memory", "lost"])
def test_the_kernels_want_of_memory_is_told_from_another_kill(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then batches are halved, which changes the last bits of an embedding."""
    events = tmp_path / "memory.events"
    events.write_text("oom 2\noom_kill 2\n")
    monkeypatch.setattr("harness.executors.local.KILLS", (events,))
    spec = Spec("", {}, None, None, "", str(events) if how == "memory" else "", "", "", {})
    pool = LocalPool(spec, [Place(1)], _ends_by)
    try:
        pool.submit(Item("x", ("cell",), Need(1.0, 0)))
        ended: list[Ended] = []
        while not ended:
            ended = pool.wait(1.0)
        assert [(each.item, each.how) for each in ended] == [("x", how)]
    finally:
        pool.close()


@needs_two_cores
def test_a_worker_killed_and_one_that_hangs(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Both lose what they had in work, others do it, and each cell is the same as ever."""
    store, profile = tmp_path / "store", tmp_path / "profile.yaml"
    profile.write_text("timeout: 30\n")
    process = start(undisturbed.suite, store, *TWO, "--profile", str(profile))
    wait_for(lambda: len(at_work(store)) == 2, process)
    killed, stopped = (note.pid for note in at_work(store))
    os.kill(stopped, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)
    before = standing(store)
    said = ended(process)
    assert re.search(r"again, because its worker ended with SIGKILL", said)
    assert re.search(r"again, because no progress for 30 seconds", said)
    assert_same(store, undisturbed)
    assert_untouched(before, store)
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)  # nothing is left behind
    assert list((store / "claims").iterdir()) == []


@needs_two_cores
def test_a_killed_driver_and_the_same_command_again(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    process = start(undisturbed.suite, store, *TWO)
    wait_for(lambda: cells(store) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = standing(store)
    ended(start(undisturbed.suite, store, *TWO))
    assert_same(store, undisturbed)
    assert_untouched(before, store)


@needs_two_cores
def test_a_driver_and_its_workers_killed_at_once(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """As by a power cut: what stood is used, and only what was in work is made again."""
    store = half_done(undisturbed.suite, tmp_path)
    before = standing(store)
    ended(start(undisturbed.suite, store, *TWO))
    assert_same(store, undisturbed)
    assert_untouched(before, store)


def half_done(suite: Path, folder: Path) -> Path:
    """A store in which an embedding stands and cells are missing, everybody being dead."""
    for attempt in range(10):  # a quick machine may have finished before it is stopped
        store = folder / f"store{attempt}"
        process = start(suite, store, *TWO)
        wait_for(lambda store=store: standing(store), process)  # type: ignore[misc]
        everybody = [process.pid, *(note.pid for note in begun(store))]
        for kind in (signal.SIGSTOP, signal.SIGKILL):
            for each in everybody:
                os.kill(each, kind)
        process.communicate()
        if cells(store) < len(list((suite.parent / "store" / "cells").rglob("*.json"))):
            return store
    raise AssertionError("all was done before anybody could be stopped")


def test_a_driver_killed_while_it_writes_to_mlflow(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """The same command again has nothing to compute, and leaves one whole mirror."""
    store, database = tmp_path / "store", tmp_path / "store" / LOCAL_DATABASE
    process = start(undisturbed.suite, store)
    wait_for(lambda: "RUNNING" in statuses(database), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "RUNNING" in statuses(database)  # else this test proves nothing
    assert "Nothing to compute" in ended(start(undisturbed.suite, store))
    assert_same(store, undisturbed, nobody_died=True)


@needs_two_cores
def test_two_drivers_of_one_suite_share_the_work(undisturbed: Undisturbed, tmp_path: Path) -> None:
    store = tmp_path / "store"
    both = [start(undisturbed.suite, store, "--executor", "local") for _ in range(2)]
    for process in both:
        ended(process)
    assert_same(store, undisturbed, nobody_died=True)


def test_cores_are_divided_and_never_promised_twice() -> None:
    assert sum(place.threads for place in places(None, [])) == cores()
    assert sum(place.threads for place in places(cores(), [])) == cores()
    with pytest.raises(UserError, match="at most"):
        places(cores() + 1, [])


@pytest.mark.skipif(cores() < 2, reason="two workers need two processor cores")
def test_each_gpu_has_a_worker_of_its_own() -> None:
    assert places(None, ["0", "1"]) == [Place(cores() // 2, "0"), Place(cores() // 2, "1")]
