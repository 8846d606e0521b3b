"""A suite's driver on a real Slurm of one node: killed, stopped; and a worker that hangs.

Each suite is several elements, of which one runs at a time.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.disturbed import (
    PATIENCE,
    Undisturbed,
    assert_same,
    at_work,
    begun,
    computed,
    ended,
    environment,
    start,
    wait_for,
)
from tests.harness.cluster.one_node_slurm import job_ids, profile
from tests.launched import gone

pytest.importorskip("submitit", reason="submitit is a development dependency")

# An item is too long to share an element, and an element has the node for itself.
APART = {"time_factor": 10_000, "minutes": 1, "memory_gb": 4}


@pytest.fixture(autouse=True)
def empty_queue(slurm: dict[str, str]) -> Iterator[None]:
    """What a test leaves that fails is not the next one's."""
    yield
    told = ["scancel", "--user", getpass.getuser()]
    subprocess.run(told, env={**os.environ, **slurm}, check=True)
    wait_until(lambda: is_empty(slurm))


def started(slurm: dict[str, str], undisturbed: Undisturbed, folder: Path) -> subprocess.Popen[str]:
    """A driver with one element in work and one in the queue."""
    path = profile(folder, **APART)
    driver = start(undisturbed.suite, folder / "store", "--profile", str(path), **slurm)
    wait_for(lambda: at_work(folder / "store") and job_ids(slurm, "pending"), driver)
    return driver


def cancel(undisturbed: Undisturbed, folder: Path, slurm: dict[str, str], code: int = 0) -> str:
    """What the command says."""
    command = [sys.executable, "-m", "harness.cli", "cancel", undisturbed.suite.stem]
    done = subprocess.run(
        [*command, "--store", str(folder / "store")],
        env=environment(**slurm), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_empty(slurm: dict[str, str]) -> bool:
    return not job_ids(slurm, "pending,running,completing")


def test_the_same_command_after_its_driver_was_killed(
    slurm: dict[str, str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """The element in work goes on; those that waited are cancelled, as there are new ones."""
    driver = started(slurm, undisturbed, tmp_path)
    waited = set(job_ids(slurm, "pending", "%i"))
    store, path = tmp_path / "store", tmp_path / "profile.yaml"
    workers = [note.pid for note in begun(store)]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # so that the node has no room for another
    driver.kill()
    driver.communicate()
    again = start(undisturbed.suite, store, "--profile", str(path), **slurm)
    wait_for(lambda: not waited.intersection(job_ids(slurm, "pending", "%i")), again)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    ended(again)
    assert_same(store, undisturbed)
    assert set(computed(store).values()) == {1}
    wait_until(lambda: is_empty(slurm))


def test_elements_that_somebody_cancels_while_they_wait(
    slurm: dict[str, str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Slurm keeps nothing of them: their items start again."""
    driver = started(slurm, undisturbed, tmp_path)
    told = ["scancel", "--state", "PENDING", "--user", getpass.getuser()]
    subprocess.run(told, env={**os.environ, **slurm}, check=True)
    assert "again, because Slurm ended its job" in ended(driver)
    assert_same(tmp_path / "store", undisturbed)


def test_what_a_killed_driver_left_is_cancelled(
    slurm: dict[str, str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    driver = started(slurm, undisturbed, tmp_path)
    workers = [note.pid for note in begun(tmp_path / "store")]
    driver.kill()
    driver.communicate()
    other = ["sbatch", "--hold", "--output", "/dev/null", "--wrap", "true"]
    subprocess.run(other, env={**os.environ, **slurm}, check=True, capture_output=True)
    assert "gone left with Slurm: " in cancel(undisturbed, tmp_path, slurm)
    wait_until(lambda: gone(workers))
    (held,) = job_ids(slurm, "pending,running")  # somebody else's
    subprocess.run(["scancel", held], env={**os.environ, **slurm}, check=True)
    assert "nothing to cancel" in cancel(undisturbed, tmp_path, slurm, code=2)


@pytest.mark.parametrize(
    ("how", "code", "sentence"),
    [
        ("cancel", 2, "was stopped (tokenrank cancel); finished cells are kept"),
        ("SIGTERM", 128 + signal.SIGTERM, ""),
    ],
)
def test_a_driver_that_is_told_to_end_leaves_no_job(
    slurm: dict[str, str],
    undisturbed: Undisturbed,
    tmp_path: Path,
    how: str,
    code: int,
    sentence: str,
) -> None:
    driver = started(slurm, undisturbed, tmp_path)
    workers = [note.pid for note in begun(tmp_path / "store")]
    if how == "cancel":
        assert "Asked all who work" in cancel(undisturbed, tmp_path, slurm)
    else:
        driver.send_signal(signal.SIGTERM)
    said = ended(driver, code)
    assert sentence in said
    assert "Traceback" not in said
    wait_until(lambda: gone(workers) and is_empty(slurm))


def test_a_worker_that_hangs(
    slurm: dict[str, str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """It is cancelled, and its item starts again once: not for the old worker's note."""
    store = tmp_path / "store"
    path = profile(tmp_path, timeout=30.0, **APART)
    driver = start(undisturbed.suite, store, "--profile", str(path), **slurm)
    wait_for(lambda: begun(store), driver)
    hung = begun(store)[0].pid

    def ends() -> bool:
        # Slurm wakes it for two seconds: it could take claims, which others would then wait for.
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung, signal.SIGSTOP)
        return gone([hung])

    wait_for(ends, driver)
    said = ended(driver)
    assert said.count("no progress for 30 seconds") == 1
    assert_same(store, undisturbed)
    assert set(computed(store).values()) == {1}
    assert is_empty(slurm)
