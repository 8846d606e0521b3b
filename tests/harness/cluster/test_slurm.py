"""A real Slurm of one node: job arrays, a preempted job, what a cluster does not have."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.tracking import URI_VARIABLE
from models.pretraining.checkpoint import CHECKPOINT
from tests.disturbed import (
    PATIENCE,
    Undisturbed,
    assert_same,
    begun,
    cells,
    computed,
    ended,
    start,
    statuses,
    wait_for,
)
from tests.harness.cluster.one_node_slurm import job_ids, profile
from tests.launched import Training, gone, ranks, weights

pytest.importorskip("submitit", reason="submitit is a development dependency")


def test_a_job_that_is_killed_in_the_middle(
    slurm: dict[str, str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Its items start again, in a job of their own, and nothing is left in the queue.

    It asks for more than half of the node's memory, which is not rounded to what no node has.
    """
    store = tmp_path / "store"
    path = profile(tmp_path, memory_gb=7.8)
    process = start(undisturbed.suite, store, "--profile", str(path), **slurm)
    wait_for(lambda: begun(store), process)
    # Not by scancel, which asks first: on a quiet machine the worker is done before it is killed.
    for note in begun(store):
        os.kill(note.pid, signal.SIGKILL)
    said = ended(process)
    assert "again, because Slurm ended its job" in said
    assert_same(store, undisturbed)
    assert set(computed(store).values()) == {1}
    assert job_ids(slurm, "pending,running") == []


def preempted(env: dict[str, str], worker: int, job: str, driver: subprocess.Popen[str]) -> None:
    """Somebody's urgent job takes the whole node, and Slurm requeues who was there."""
    urgent = ["sbatch", "--partition", "urgent", "--exclusive", "--output", "/dev/null"]
    subprocess.run([*urgent, "--wrap", "true"], env=env, check=True, capture_output=True)

    def requeued() -> bool:
        # Slurm wakes the worker for two seconds, in which it could finish all of this suite.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGSTOP)
        return job in job_ids(env, "pending")

    wait_for(requeued, driver)


def told(env: dict[str, str], worker: int, job: str, driver: subprocess.Popen[str]) -> None:
    """What Slurm sends before it takes a node or an element's time is up; it requeues itself."""
    subprocess.run(["scancel", "--signal", "USR2", job], env=env, check=True)
    wait_for(lambda: waits(worker, signal.SIGUSR2), driver)
    os.kill(worker, signal.SIGCONT)
    wait_for(lambda: job in job_ids(env, "pending"), driver)


def waits(worker: int, kind: signal.Signals) -> bool:
    """Whether a stopped process will have this signal when it goes on."""
    said = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines()
    )
    return bool((int(said["SigPnd"], 16) | int(said["ShdPnd"], 16)) >> (kind - 1) & 1)


@pytest.mark.parametrize(("happens", "when"), [(preempted, begun), (told, cells)])
def test_a_job_that_is_preempted_goes_on(
    slurm: dict[str, str],
    undisturbed: Undisturbed,
    tmp_path: Path,
    happens: Callable[[dict[str, str], int, str, subprocess.Popen[str]], None],
    when: Callable[[Path], object],
) -> None:
    """In the same job, where it was: what it had finished is not computed again."""
    store, env = tmp_path / "store", {**os.environ, **slurm}
    process = start(undisturbed.suite, store, "--profile", str(profile(tmp_path)), **slurm)
    wait_for(lambda: when(store), process)
    worker = begun(store)[0].pid
    os.kill(worker, signal.SIGSTOP)  # so that it is still there when it happens
    happens(env, worker, job_ids(slurm, "running")[0], process)
    for job in job_ids(slurm, "pending"):  # Slurm itself would wait for two minutes
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=env, check=True)
    ended(process)
    assert_same(store, undisturbed)
    assert set(computed(store).values()) == {1}
    assert job_ids(slurm, "pending,running") == []


def training_profile(training: Training, **more: object) -> Path:
    settings = {"partition": "main", "memory_gb": 2, "cpus": 1}
    return training.profile(executor="slurm", slurm=settings, **more)


def test_a_training_whose_time_is_up_and_whose_driver_is_killed(
    slurm: dict[str, str], training: Training, tmp_path: Path
) -> None:
    """The job requeues itself when it is told; the next driver takes up the job that is there."""
    path, folder = training_profile(training), training.folder("slurm")
    driver = training.start("slurm", "--profile", str(path), **slurm)
    wait_for(lambda: (folder / CHECKPOINT).exists() and len(ranks(folder)) == 2, driver)
    (job,) = job_ids(slurm, "running")
    env = {**os.environ, **slurm}
    first = ranks(folder)
    subprocess.run(["scancel", "--batch", "--signal", "USR1", job], env=env, check=True)
    wait_for(lambda: gone(first), driver)
    driver.kill()
    driver.communicate()
    again = training.start("slurm", "--profile", str(path), **slurm)
    wait_for(lambda: job_ids(slurm, "pending") == [job], again)
    # Slurm itself would wait for two minutes.
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=env, check=True)
    ended(again)
    assert weights(folder) == training.sha256
    assert "Going on after" in (folder / "training.log").read_text()
    assert job_ids(slurm, "pending,running") == []


def test_an_interrupted_driver_leaves_no_job(
    slurm: dict[str, str], training: Training, tmp_path: Path
) -> None:
    path = training_profile(training)
    driver = training.start("cancelled", "--profile", str(path), **slurm)
    wait_for(lambda: job_ids(slurm, "pending,running"), driver)
    driver.send_signal(signal.SIGTERM)
    driver.communicate()
    deadline = time.monotonic() + PATIENCE
    while job_ids(slurm, "pending,running,completing"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ranks(training.folder("cancelled")) == []


def test_a_training_whose_job_somebody_cancels_is_open_nowhere(
    slurm: dict[str, str], training: Training, database: str
) -> None:
    """By scancel, and it is not to start again: the driver closes its run in MLflow."""
    settings, mlflow = {**slurm, URI_VARIABLE: database}, Path(database.removeprefix("sqlite:///"))
    path = training_profile(training, retries=0)
    driver = training.start("scancelled", "--profile", str(path), **settings)
    wait_for(lambda: statuses(mlflow) == ["RUNNING"], driver)
    (job,) = job_ids(slurm, "running")
    subprocess.run(["scancel", job], env={**os.environ, **slurm}, check=True)
    assert f"job {job}" in ended(driver, code=2)
    assert statuses(mlflow) == ["FAILED"]
    assert ranks(training.folder("scancelled")) == []
    assert job_ids(slurm, "pending,running") == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"partition": "gpus"}, 'Slurm has no partition "gpus"'),
        ({"memory_gb": 4000}, "needs 4000.0 GB of memory as the profile asks for it"),
        ({"cpus": 4000}, "asks for 4000 cores for each job"),
        ({"gpus": 1}, 'the node of partition "main" with the most has 0'),
        ({"partition": "mixed", "memory_gb": 59}, "has 58.6 GB"),
        ({"partition": "short", "minutes": 31}, 'partition "short" allows 30'),
        (
            {"partition": "short", "minutes": 9, "options": "{time: 31}"},
            "will never start it (squeue: PartitionTimeLimit)",
        ),
        ({"options": "{nodelist: nowhere}"}, "sbatch refuses the job"),
        ({"partitions": "main"}, 'unknown key "partitions"'),
    ],
)
def test_what_the_cluster_does_not_have(
    slurm: dict[str, str],
    undisturbed: Undisturbed,
    tmp_path: Path,
    settings: dict[str, object],
    sentence: str,
) -> None:
    path = profile(tmp_path, **settings)
    process = start(undisturbed.suite, tmp_path / "store", "--profile", str(path), **slurm)
    said = ended(process, code=2)
    assert sentence in said
    assert "Traceback" not in said
    assert cells(tmp_path / "store") == 0


def test_without_slurm(undisturbed: Undisturbed, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    process = start(
        undisturbed.suite, tmp_path / "store", "--executor", "slurm", PATH=str(tmp_path / "bin")
    )
    assert "There is no sbatch on this machine" in ended(process, code=2)
