"""What elements ask Slurm for, and what is said before anything is asked that no node has."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("submitit", reason="submitit is a development dependency")

import submitit
from submitit.core.utils import FailedJobError

from harness.executors import slurm, slurm_asking, slurm_commands
from harness.executors.board import Board, WorkerNote
from harness.executors.driving import Policy, drive
from harness.executors.engine import Ended
from harness.executors.items import Item, Need
from harness.executors.profile import SlurmSection
from harness.executors.slurm_asking import room_for
from harness.executors.slurm_commands import NOT_STARTED, End, NodeKind, nodes_of
from harness.executors.spec import Spec
from harness.store import Store
from models.errors import UserError

GIGABYTE = 2**30
HOUR = 3600.0


def item(key: str = "item", seconds: float = 1.0, memory: float = 0.0) -> Item:
    """``memory`` in Slurm's gigabytes."""
    return Item(key, ("cell",), Need(seconds, round(memory * GIGABYTE)))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def of(*kinds: NodeKind) -> None:
        for module in (slurm, slurm_asking):
            monkeypatch.setattr(module, "nodes_of", lambda _: list(kinds))

    of(NodeKind("main", 60_000, 16, 2, 0, minutes=24 * 60))
    return of


class Recorder:
    """Stands for submitit's executor: what it was asked for, and jobs that never end."""

    asked: list[tuple[dict[str, Any], tuple[str, ...]]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def update_parameters(self, **given: Any) -> None:
        self.given = given

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, element: Any) -> SimpleNamespace:
        self.asked.append((self.given, tuple(each.key for each in element.items)))
        number = str(len(self.asked))
        paths = SimpleNamespace(
            result_pickle=self.folder / "none", stdout=self.folder / f"{number}.out"
        )
        return SimpleNamespace(job_id=number, paths=paths)


@pytest.fixture
def engine(
    cluster: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., slurm.SlurmEngine]:
    monkeypatch.setattr(slurm.submitit, "SlurmExecutor", Recorder)
    monkeypatch.setattr(Recorder, "asked", [], raising=False)

    def of(*items: Item, **settings: Any) -> slurm.SlurmEngine:
        spec = Spec("small", {}, None, None, str(tmp_path), str(tmp_path), "p" * 64, "s" * 16, {})
        made = slurm.SlurmEngine(spec, SlurmSection(**settings), list(items))
        for each in items:
            made.submit(each)
        made.wait(0)
        return made

    return of


def asked_for(name: str) -> dict[str, Any]:
    """By item."""
    return {key: given[name] for given, keys in Recorder.asked for key in keys}


def test_time_and_memory_are_those_of_the_estimate_and_the_rest_is_the_profiles(
    engine: Callable[..., slurm.SlurmEngine],
) -> None:
    settings = {"cpus": 8, "jobs": 5, "minutes": 10, "memory_gb": 3, "setup": ("module load x",)}
    engine(
        item("long", 3 * HOUR), item("large", 200.0, memory=10), item("small"),
        time_factor=2.0, memory_factor=1.5, **settings,
    )  # fmt: skip
    assert asked_for("time") == {"long": 640, "large": 10, "small": 10}  # 360, doubled from 10
    memory = asked_for("mem")
    assert memory == {"long": "3072M", "large": f"{24 * 1024}M", "small": "3072M"}
    assert set(asked_for("cpus_per_task").values()) == {8}
    assert set(asked_for("array_parallelism").values()) == {5}
    assert all("export OMP_NUM_THREADS=8" in lines for lines in asked_for("setup").values())
    assert not any("gpus_per_node" in given for given, _ in Recorder.asked)


def test_gpus_are_asked_for_where_the_profile_has_them(
    engine: Callable[..., slurm.SlurmEngine], cluster: Callable[..., None]
) -> None:
    cluster(NodeKind("gpu", 60_000, 16, 1, 4))
    engine(item(), gpus=2)
    assert asked_for("gpus_per_node") == {"item": 2}


@pytest.mark.parametrize(
    ("settings", "need", "minutes", "megabytes"),
    [
        ({"minutes": 1440, "memory_gb": 48}, {}, 1440, 48 * 1024),
        ({"minutes": 45, "memory_gb": 7.3}, {}, 45, 7476),  # 7475.2
        # Doubled from the profile's own, it would be more than there is.
        ({"minutes": 300, "memory_gb": 20}, {"seconds": 21 * HOUR, "memory": 41}, 1260, 45_000),
        ({"minutes": 300, "memory_gb": 20}, {"seconds": 24 * HOUR, "memory": 58}, 1440, 60_000),
    ],
)
def test_nothing_is_rounded_beyond_the_profile_or_the_cluster(
    engine: Callable[..., slurm.SlurmEngine],
    settings: dict[str, float],
    need: dict[str, float],
    minutes: int,
    megabytes: int,
) -> None:
    engine(item(**need), time_factor=1.0, memory_factor=1.0, **settings)
    assert asked_for("time") == {"item": minutes}
    assert asked_for("mem") == {"item": f"{megabytes}M"}


@pytest.mark.parametrize(
    ("settings", "need", "sentence"),
    [
        ({"cpus": 17}, {}, "asks for 17 cores .* the cluster has 16"),
        ({"gpus": 5}, {}, r"5 GPUs for each job \(slurm: gpus\), .* the most has 4"),
        ({"partition": "gpu", "gpus": 5}, {}, 'node of partition "gpu" with the most has 4'),
        ({"gpus": 1, "cpus": 12}, {}, r"No node .* both .*cpus: 12, gpus: 1"),
        ({"memory_gb": 58.7}, {}, r"needs 58\.7 GB .* largest node of the cluster has 58\.6 GB"),
        ({}, {"memory": 29.4}, r"needs 58\.8 GB"),
        ({"gpus": 1, "memory_gb": 40}, {}, r"of the cluster that has the GPUs has 31\.2 GB"),
        ({"minutes": 1441}, {}, r"1441 minutes .*\(slurm: minutes\), and the cluster allows 1440"),
        ({}, {"seconds": 7 * HOUR}, "need 1680 minutes .* time_factor"),
    ],
)
def test_what_no_node_has_is_one_sentence_at_the_start(
    cluster: Callable[..., None], settings: dict[str, Any], need: dict[str, float], sentence: str
) -> None:
    cluster(
        NodeKind("main", 60_000, 16, 2, 0, minutes=1440),
        NodeKind("gpu", 32_000, 8, 2, 4, minutes=600),
    )
    with pytest.raises(UserError, match=sentence):
        room_for(SlurmSection(**settings), [item(**need)])


def test_what_a_node_just_has_is_not_refused(cluster: Callable[..., None]) -> None:
    cluster(NodeKind("main", 60_000, 16, 2, 4, minutes=1440))
    section = SlurmSection(cpus=16, gpus=4, minutes=1440, memory_gb=60_000 / 1024)
    just = item("just", 6 * HOUR, 60_000 / 1024 / 2)  # factors 4 and 2
    assert room_for(section, [just]) == slurm.Size(1440, 60_000)


SINFO = """#!{python}
import sys
exact = "--exact" in sys.argv or "-e" in sys.argv
print(open({lines!r}).read() if exact else "main* 1000+ 1+ 3 infinite (null)")
"""


def test_nodes_of_several_sizes_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sinfo 22.05 says it: 1K for 1024, the default partition with a star, times in days."""
    lines = tmp_path / "lines"
    lines.write_text(
        "main* 1000 1 2 1-12:30:00 (null)\n"
        "main* 65536 1K 1K 1-12:30:00 gpu:a100:4(S:0-1),gpu:h100:2\n"
        "short 1000 1 2 30:00 (null)\nother 1000 1 2 2:00:00 (null)\n"
        "long 1000 1 2 infinite (null)\n"
    )
    for name in ("sinfo", "sbatch"):
        (tmp_path / name).write_text(SINFO.format(python=sys.executable, lines=str(lines)))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    small, large = nodes_of("main")
    assert small == NodeKind("main", 1000, 1, 2, 0, minutes=36 * 60 + 30)
    assert large == NodeKind("main", 65_536, 1024, 1024, 6, minutes=36 * 60 + 30)
    assert nodes_of(None) == [small, large]  # what sbatch takes by itself
    limits = [nodes_of(name)[0].minutes for name in ("short", "other", "long")]
    assert limits == [30, 120, math.inf]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What squeue and scontrol say, and no time between two questions."""
    answers: dict[str, Any] = {"squeue": "", "end": End("FAILED"), "told": []}
    monkeypatch.setattr(slurm, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(slurm, "GONE_AFTER", 0.0)
    monkeypatch.setattr(slurm, "ask", lambda *_: answers["squeue"])
    monkeypatch.setattr(slurm, "end_of", lambda _: answers["end"])
    monkeypatch.setattr(slurm, "quietly", lambda *command: answers["told"].append(command))
    return answers


def waited(engine: slurm.SlurmEngine) -> list[Ended]:
    """What comes of several looks."""
    return [ended for _ in range(4) for ended in engine.wait(0)]


TEMPORARY = [
    "None", "Priority", "Resources", "JobArrayTaskLimit", "AssocMaxJobsLimit", "QOSGrpCpuLimit",
    "PartitionNodeLimit",  # also where the nodes are drained
    "QOSMaxCpuPerUserLimit", "ReqNodeNotAvail, UnavailableNodes:vm", "BeginTime", "JobHeldUser",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
]  # fmt: skip
FOR_EVER = [
    "PartitionTimeLimit", "BadConstraints", "InvalidQOS", "AccountNotAllowed",
    "AssocMaxWallDurationPerJobLimit", "QOSMaxMemoryPerJob", "QOSMinGRES", "QOSMaxCpuPerNode",
]  # fmt: skip


@pytest.mark.parametrize("reason", TEMPORARY)
def test_a_job_that_waits_is_waited_for(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any], reason: str
) -> None:
    made = engine(item())
    said["squeue"] = f"1 PENDING {reason}\n"
    assert waited(made) == []


@pytest.mark.parametrize("reason", FOR_EVER)
def test_a_job_that_would_wait_for_ever_ends_the_run(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any], reason: str
) -> None:
    made = engine(item())
    said["squeue"] = f"1 PENDING {reason}\n"
    with pytest.raises(UserError, match=rf"job 1 and will never start it \(squeue: {reason}\)"):
        waited(made)


def test_a_job_that_slurm_holds_after_failed_starts_is_cancelled_and_lost(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any]
) -> None:
    made = engine(item())
    said["squeue"] = "1 PENDING launch failed requeued held\n"
    (ended,) = waited(made)
    assert ended.how == "lost"
    assert "launch failed requeued held" in ended.reason
    assert ("scancel", "1") in said["told"]


def test_a_node_that_does_not_see_the_folder_is_avoided_where_others_do(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any]
) -> None:
    """Where none does the run ends: the real Slurm's tests have that."""
    made = engine(item("a", HOUR), item("b", HOUR))
    log = made._flying["2"].job.paths.stdout
    log.parent.mkdir(parents=True)
    log.touch()
    said["squeue"] = "2 RUNNING None\n"
    said["end"] = End("FAILED", NOT_STARTED, "blind")
    (ended,) = waited(made)
    assert ended.item == "a"
    assert "blind cannot write to" in ended.reason
    made.submit(item("a", HOUR))
    made.wait(0)
    assert Recorder.asked[-1][0]["additional_parameters"]["exclude"] == "blind"


class Silent:
    """Told what nobody asks for here."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


def test_a_requeued_element_is_not_judged_by_the_note_that_it_left(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any], tmp_path: Path
) -> None:
    """Its node died: it waits, longer perhaps than a worker may be without progress."""
    made, board = engine(item()), Board(Store(tmp_path), "p" * 64)
    board.write_worker(WorkerNote("slurm-1", "node", 1, item="item"))
    for state, notes in (("PENDING", 1), ("RUNNING", 1), ("PENDING", 0)):
        said["squeue"] = f"1 {state} None\n"
        assert waited(made) == []
        assert len(board.workers()) == notes


def test_a_slurmctld_that_is_away_in_the_middle_is_asked_again(
    engine: Callable[..., slurm.SlurmEngine],
    said: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a node is avoided: that sbatch fails does not mean that no other holds it."""
    made = engine(item("first"))
    made.avoid("full")
    submit = Recorder.submit
    away = FailedJobError("sbatch: error: Unable to contact slurm controller (connect failure)")
    monkeypatch.setattr(Recorder, "submit", Mock(side_effect=away))
    said["squeue"] = "1 RUNNING None\n2 PENDING None\n"
    made.submit(item("second"))
    assert waited(made) == []
    monkeypatch.setattr(Recorder, "submit", submit)
    assert waited(made) == []
    assert [keys for _, keys in Recorder.asked] == [("first",), ("second",)]
    assert Recorder.asked[-1][0]["additional_parameters"]["exclude"] == "full"


def test_want_of_memory_halves_the_batch_of_what_was_in_work_alone(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any], tmp_path: Path
) -> None:
    """The other item of the element had to share its job."""
    said["end"] = End("OUT_OF_MEMORY")
    board = Board(Store(tmp_path), "p" * 64)
    board.write_worker(WorkerNote("slurm-1", "node", 1, item="b"))
    halved: list[str] = []
    drive(
        [item("a"), item("b")], engine(jobs=1), board, Policy(retries=0), Silent(),
        less_memory=lambda each: halved.append(each.key),
    )  # fmt: skip
    assert [keys for _, keys in Recorder.asked] == [("a", "b")]
    assert halved == ["b"]


def test_what_an_element_raised_is_told(
    engine: Callable[..., slurm.SlurmEngine], said: dict[str, Any], tmp_path: Path
) -> None:
    """As where the node's Python has no tokenrank."""
    made = engine(item())
    job = made._flying["1"].job = submitit.SlurmJob(tmp_path, "1")
    trace = "Traceback:\n  a line\nModuleNotFoundError: No module named 'harness'\n"
    submitit.core.utils.cloudpickle_dump(("error", trace), job.paths.result_pickle)
    (ended,) = waited(made)
    assert ended.reason == f"Slurm ended its job 1 ({trace.splitlines()[-1]})"


def test_what_slurmctld_remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `scontrol --oneliner` of 22.05 says it of a log that could not be opened."""
    line = "JobId=10 JobName=wrap JobState=FAILED Reason=JobLaunchFailure Dependency=(null) "
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho '{line} BatchHost=vm StdOut=/a/b=c.out'\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert slurm_commands.end_of("10") == End("FAILED", NOT_STARTED, "vm")
