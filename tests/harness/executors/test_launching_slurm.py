"""Trainings as Slurm jobs: what is asked of Slurm's commands, and what is made of their answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands import status
from harness.executors.board import Board, DriverNote, WorkerNote
from harness.executors.profile import PretrainingSection, SlurmSection
from harness.executors.slurm_commands import state_of
from harness.launching import slurm as launching
from harness.launching.driving import launch_key
from harness.launching.launch import Exit, Launch
from harness.launching.slurm import SlurmLauncher
from harness.launching.slurm_jobs import name_of
from harness.store import Store
from models.errors import UserError
from models.pretraining.checkpoint import CHECKPOINT

FAKE = """#!{python}
import json, os, pathlib, sys
name, place = pathlib.Path(sys.argv[0]).name, pathlib.Path({place!r})
with (place / 'asked').open('a') as file:
    script = sys.stdin.read() if name == 'sbatch' else ''
    file.write(json.dumps([name, *sys.argv[1:], script]) + '\\n')
answer = place / (name + '.said')
print(answer.read_text() if answer.exists() else '')
error = place / (name + '.error')
sys.exit(error.read_text() if error.exists() else 0)
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that answer what is in ``<command>.said``."""
    for name in ("sbatch", "squeue", "sinfo", "scancel", "scontrol"):
        path = tmp_path / name
        path.write_text(FAKE.format(python=sys.executable, place=str(tmp_path)))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    nodes = "gpu 64000 16 2 infinite gpu:a100:4(S:0-1)\ncpu 32000 8 9 infinite (null)"
    (tmp_path / "sinfo.said").write_text(nodes)
    return tmp_path


def test_a_job_of_two_nodes_and_one_that_a_killed_driver_left(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = SlurmSection(partition="gpu", cpus=4, gpus=1, setup=("module load cuda",))
    shape = PretrainingSection(nodes=2, processes=4, minutes=600, memory_gb=32)
    launch = Launch(launch_key(slurm / "one"), "one", slurm / "one", ("pretrain", "v 1"))
    (slurm / "sbatch.said").write_text("17;cluster")
    launcher = SlurmLauncher(section, shape, None)
    launcher.start(launch)
    name, *options, script = json.loads((slurm / "asked").read_text().splitlines()[-1])
    assert name == "sbatch"
    shaped = {"--nodes=2", "--gpus-per-node=4", "--cpus-per-task=16", "--time=600"}
    assert shaped | {"--mem=32768M", "--partition=gpu", "--requeue"} <= set(options)
    assert "module load cuda\n" in script
    assert '--nodes 2 --processes 4 --meet "$meet"' in script
    assert script.count("pretrain 'v 1'") == 1
    named = [option.partition("=")[2] for option in options if option.startswith("--job-name")]
    (slurm / "squeue.said").write_text(f"17 PENDING {named[0]}\n")
    assert launcher.look() == {launch.key: "waits"}

    with pytest.raises(UserError, match=r"job 17 trains in .*/one with other .*scancel 17"):
        SlurmLauncher(section, shape, None).start(replace(launch, arguments=("pretrain", "v 2")))
    other = SlurmLauncher(section, shape, None)
    other.start(launch)
    assert (slurm / "asked").read_text().count('["sbatch"') == 1
    (slurm / "squeue.said").write_text("")
    (slurm / "scontrol.error").write_text("Unable to contact slurm controller")
    assert other.look() == {}
    (slurm / "scontrol.error").unlink()
    (slurm / "scontrol.said").write_text("JobId=17 JobState=NODE_FAIL Reason=None")
    monkeypatch.setattr(launching, "LOOK_EVERY", 0.0)
    assert other.look() == {launch.key: Exit(None, "Slurm ended its job 17 (NODE_FAIL)")}


def test_cancel_reaches_jobs_whose_driver_is_gone_and_no_others(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "LOOK_AGAIN_AFTER", 0.0)
    launch = Launch(launch_key(slurm / "one"), "one", slurm / "one", ("pretrain", "v1"))
    board = Board(Store(slurm / "store"), "run")
    board.write_driver(DriverNote("driver", "tokens", "slurm", "here", 0, 1))
    board.write_worker(WorkerNote(launch.key, "slurm", 0))  # it waits for its turn
    (slurm / "squeue.error").write_text("Unable to contact slurm controller")
    with pytest.raises(UserError, match="where squeue answers"):
        status.cancel_command("tokens", str(slurm / "store"))
    (slurm / "squeue.error").unlink()
    other = name_of(replace(launch, key=launch_key(slurm / "two")))
    (slurm / "squeue.said").write_text(f"17 PENDING {name_of(launch)}\n18 RUNNING {other}\n")
    status.cancel_command("tokens", str(slurm / "store"))
    assert "left with Slurm: 17." in capsys.readouterr().out
    asked = [json.loads(line) for line in (slurm / "asked").read_text().splitlines()]
    assert [line[:-1] for line in asked if line[0] == "scancel"] == [["scancel", "17"]]
    (slurm / "squeue.said").write_text("")
    with pytest.raises(UserError, match="nothing to cancel"):
        status.cancel_command("tokens", str(slurm / "store"))


def test_a_job_that_slurm_has_forgotten_is_told_from_a_slurm_that_does_not_answer(
    slurm: Path,
) -> None:
    (slurm / "scontrol.error").write_text("slurm_load_jobs error: Invalid job id specified")
    assert state_of("17") == "no longer known"
    (slurm / "scontrol.said").write_text("Job 17_3 not found")
    (slurm / "scontrol.error").unlink()
    assert state_of("17_3") == "no longer known"
    (slurm / "scontrol.said").unlink()
    (slurm / "scontrol.error").write_text("slurm_load_jobs error: Socket timed out")
    assert state_of("17") is None


SRUN = """#!/bin/bash
{first}sleep 0.3
exit 7
"""
REQUEUES = """#!/bin/bash
if [ "$1" = requeue ]; then touch {place}/requeued; sleep 0.6; else echo here; fi
"""


@pytest.mark.parametrize(
    ("first", "requeued"),
    [
        ("exit 7\n", False),  # before anybody looks
        (
            "sleep 0.1; touch {checkpoint}; kill -USR1 $PPID\n",
            True,
        ),  # while the requeue is asked for
    ],
)
def test_a_job_ends_as_its_training_and_leaves_no_file(
    slurm: Path, first: str, requeued: bool
) -> None:
    folder = slurm / "one"
    launch = Launch(launch_key(folder), "one", folder, ("pretrain", "v1"))
    SlurmLauncher(SlurmSection(), PretrainingSection(), None).start(launch)
    script = json.loads((slurm / "asked").read_text().splitlines()[-1])[-1]
    (folder / ".began-16").touch()
    srun = SRUN.format(first=first.format(checkpoint=folder / CHECKPOINT))
    for name, text in (("srun", srun), ("scontrol", REQUEUES.format(place=folder))):
        (slurm / name).write_text(text)
        (slurm / name).chmod(0o755)
    env = {**os.environ, "SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "here"}
    done = subprocess.run(["bash"], input=script, text=True, env=env, check=False)
    assert done.returncode == 7
    assert (folder / "requeued").exists() == requeued
    assert not list(folder.glob(".began-*"))


@pytest.mark.parametrize(
    ("section", "asked", "sentence"),
    [
        ({"partition": "gpus"}, {}, 'no partition "gpus".*did you mean "gpu"'),
        (
            {"partition": "gpu", "gpus": 1, "cpus": 2},
            {"processes": 5},
            "5 processes .* need a GPU each",
        ),
        ({"partition": "cpu", "cpus": 4}, {"processes": 3}, "3 processes of 4 cores"),
        ({"partition": "gpu", "gpus": 1}, {"nodes": 3}, "3 nodes .* has 2 that hold"),
        ({}, {"memory_gb": 100}, "100 GB of memory on each node"),
    ],
)
def test_what_no_node_has_is_said_before_anything_starts(
    slurm: Path, section: dict[str, object], asked: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        SlurmLauncher(SlurmSection(**section), PretrainingSection(**asked), None)  # type: ignore[arg-type]
    assert "sbatch" not in (slurm / "asked").read_text()
