"""A real Slurm of one node: job arrays, a preempted job, what a cluster does not have."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disturbed import Undisturbed, assert_same, begun, cells, computed, ended, start, wait_for
from tests.harness.cluster.one_node_slurm import missing, one_node_slurm

pytest.importorskip("submitit", reason="submitit is a development dependency")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster with one partition, ``main``."""
    if missing():
        pytest.skip(f"Slurm is not installed: {', '.join(missing())}")
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as env:
        yield {**env, "PYTHONPATH": str(Path(__file__).parents[3])}


def profile(folder: Path, **settings: object) -> Path:
    path = folder / "profile.yaml"
    given = {"partition": "main", "cpus": 1, "memory_gb": 1, "memory_factor": 1, **settings}
    listed = ", ".join(f"{name}: {value}" for name, value in given.items())
    path.write_text(f"executor: slurm\nslurm: {{{listed}}}\n")
    return path


def job_ids(env: dict[str, str], state: str) -> list[str]:
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--states", state, "--format", "%A"],
        env={**os.environ, **env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_a_job_that_is_killed_in_the_middle(
    slurm: dict[str, str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Its items start again, in a job of their own, and nothing is left in the queue."""
    store = tmp_path / "store"
    process = start(undisturbed.suite, store, "--profile", str(profile(tmp_path)), **slurm)
    wait_for(lambda: begun(store), process)
    # On a busy machine the job could end while Slurm is asked which it is: hold it where it is.
    for note in begun(store):
        os.kill(note.pid, signal.SIGSTOP)
    running = job_ids(slurm, "running")
    assert running
    subprocess.run(
        ["scancel", "--signal", "KILL", *running], env={**os.environ, **slurm}, check=True
    )
    said = ended(process)
    assert "again, because Slurm ended its job" in said
    assert_same(store, undisturbed)
    assert set(computed(store).values()) == {1}
    assert job_ids(slurm, "pending,running") == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"partition": "gpus"}, 'Slurm has no partition "gpus"'),
        ({"memory_gb": 4000}, "needs 4000.0 GB of memory as the profile asks for it"),
        ({"cpus": 4000}, "asks for 4000 cores for each job"),
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
