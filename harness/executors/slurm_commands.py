"""Slurm's commands, asked and told: what the cluster has, what became of a job.

States come from squeue and slurmctld's memory alone: not every cluster keeps accounts. It must not
know what a job computes.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from harness.content import content_key
from models.errors import UserError, did_you_mean

ANSWER_WITHIN = 30  # seconds
# Of a job that slurmctld has forgotten, and of an element that was cancelled while it waited.
UNKNOWN = re.compile(r"Invalid job id|^Job \S+ not found", re.MULTILINE)
DEFAULT = "*"  # after the name of the partition that sbatch takes by itself
NEVER = re.compile(  # why a job waits, where no time changes that
    r"(QOS|Assoc)Max\w+Per(Job|Node)(Limit)?|QOSMin\w+|MaxMemPerLimit|PartitionTimeLimit"
    r"|(QOS|Account)NotAllowed|Invalid(QOS|Account)|BadConstraints|DependencyNeverSatisfied"
)
HELD = ("JobHoldMaxRequeue", "launch failed requeued held")  # by Slurm, which gave it up
NO_SUCH_NODE = "Requested node configuration is not available"
AWAY = re.compile("Unable to contact|timed out|Connection refused")  # slurmctld; it may be back
NOT_STARTED = "JobLaunchFailure"  # slurmd could not so much as open the job's log


@dataclass(frozen=True)
class NodeKind:
    """``count`` nodes of a partition: megabytes, cores, and GPUs of each.

    ``minutes``: the most that a job may ask for there.
    """

    partition: str
    memory: int
    cores: int
    count: int
    gpus: int
    minutes: float = math.inf


@dataclass(frozen=True)
class End:
    """What slurmctld remembers of a job that has left the queue."""

    state: str
    reason: str = ""
    node: str = ""


def nodes_of(partition: str | None) -> list[NodeKind]:
    """The nodes of a partition. Raises `UserError` where there is no Slurm or partition.

    The partition is one that the profile names; else it is the one that sbatch takes then.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "There is no sbatch on this machine; start the run where Slurm's commands are, or use "
            "another executor (--executor local or ray)."
        )
    try:
        said = subprocess.run(
            # Not exact, nodes of one state would be told as one kind: that of the smallest.
            ["sinfo", "--noheader", "--exact", "--format", "%P %m %c %D %l %G"],
            capture_output=True, text=True, check=True, timeout=ANSWER_WITHIN,
        ).stdout  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise UserError(
            f"Slurm does not answer ({why}); check that slurmctld runs (scontrol ping)."
        ) from None
    lines = [line for line in said.splitlines() if line.strip()]
    found = [_kind(line) for line in lines]
    names = sorted({kind.partition for kind in found})
    if partition is None:
        starred = [line.split()[0][:-1] for line in lines if line.split()[0].endswith(DEFAULT)]
        partition = os.environ.get("SBATCH_PARTITION", next(iter(starred), None))
    elif partition not in names:
        raise UserError(
            f'Slurm has no partition "{partition}" (profile, slurm: partition): '
            f"{did_you_mean(partition, names)}."
        )
    return [kind for kind in found if kind.partition == partition] or found


def _kind(line: str) -> NodeKind:
    name, memory, cores, count, limit, resources = line.split(maxsplit=5)
    gpus = sum(int(n) for n in re.findall(r"\bgpu(?::[\w.-]+)?:(\d+)", resources))
    name = name.removesuffix(DEFAULT)
    return NodeKind(name, _number(memory), _number(cores), _number(count), gpus, _minutes(limit))


def _number(text: str) -> int:
    """Slurm says 1K for 1024 nodes or cores, and 1023 for 1023."""
    return 1024 * int(text[:-1]) if text.endswith("K") else int(text)


def _minutes(limit: str) -> float:
    """Whole minutes of days-hours:minutes:seconds, the first of which may lack."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return math.inf  # "infinite"
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return 24 * 60 * int(days or 0) + seconds // 60


def run_key(plan_key: str, place: str) -> str:
    """What a run's jobs are known by, whoever drives it: its plan, and the place of its store."""
    return content_key(["elements", plan_key[:16], place])


def jobs_begin(key: str) -> str:
    """How names of jobs begin, by the key of a run or of a training."""
    return f"tokenrank-{key[:16]}"


def refused(said: str) -> UserError:
    """What sbatch said to a job that it does not take, as a sentence."""
    lines = said.strip().splitlines() or ["it says nothing"]
    return UserError(f"sbatch refuses the job ({lines[-1]}); mend the profile (slurm).")


def state_of(job_id: str) -> str | None:
    """The state of a job that has left the queue; None where slurmctld does not answer."""
    end = end_of(job_id)
    return None if end is None else end.state


def end_of(job_id: str) -> End | None:
    """What slurmctld remembers of a job that has left the queue; None where it does not answer."""
    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job_id],
            capture_output=True, text=True, check=False, timeout=ANSWER_WITHIN,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    said = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    if "JobState" in said:
        return End(said["JobState"], said.get("Reason", ""), said.get("BatchHost", ""))
    return End("no longer known") if UNKNOWN.search(f"{done.stdout}\n{done.stderr}") else None


def ask(*command: str) -> str | None:
    """What a command answers; None where it does not."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ANSWER_WITHIN
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def quietly(*command: str) -> None:
    """Tell Slurm something that it may know already."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, capture_output=True, check=False, timeout=ANSWER_WITHIN)
