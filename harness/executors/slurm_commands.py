"""Slurm's commands, asked and told: what the cluster has, what became of a job.

States come from squeue and slurmctld's memory alone: not every cluster keeps accounts. It must not
know what a job computes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from dataclasses import dataclass

from models.errors import UserError, did_you_mean

ANSWER_WITHIN = 30  # seconds
UNKNOWN = "Invalid job id"  # says slurmctld of a job that it has forgotten


@dataclass(frozen=True)
class NodeKind:
    """``count`` nodes of a partition: megabytes, cores, and GPUs of each."""

    partition: str
    memory: int
    cores: int
    count: int
    gpus: int


def nodes_of(partition: str | None) -> list[NodeKind]:
    """The nodes of a partition, or of all. Raises `UserError` where there is no Slurm or partition.

    The partition is one that the profile names.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "There is no sbatch on this machine; start the run where Slurm's commands are, or use "
            "another executor (--executor local or ray)."
        )
    try:
        said = subprocess.run(
            ["sinfo", "--noheader", "--format", "%R %m %c %D %G"],
            capture_output=True, text=True, check=True, timeout=ANSWER_WITHIN,
        ).stdout  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise UserError(
            f"Slurm does not answer ({why}); check that slurmctld runs (scontrol ping)."
        ) from None
    found = [_kind(line) for line in said.splitlines()]
    names = sorted({kind.partition for kind in found})
    if partition is not None and partition not in names:
        raise UserError(
            f'Slurm has no partition "{partition}" (profile, slurm: partition): '
            f"{did_you_mean(partition, names)}."
        )
    return [kind for kind in found if partition in (None, kind.partition)]


def _kind(line: str) -> NodeKind:
    name, memory, processors, count, resources = line.split(maxsplit=4)
    gpus = sum(int(n) for n in re.findall(r"\bgpu(?::[\w.-]+)?:(\d+)", resources))
    return NodeKind(name, int(memory.rstrip("+")), int(processors.rstrip("+")), int(count), gpus)


def refused(said: str) -> UserError:
    """What sbatch said to a job that it does not take, as a sentence."""
    lines = said.strip().splitlines() or ["it says nothing"]
    return UserError(f"sbatch refuses the job ({lines[-1]}); mend the profile (slurm).")


def state_of(job_id: str) -> str | None:
    """What slurmctld remembers of a job that has left the queue; None where it does not answer."""
    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job_id],
            capture_output=True, text=True, check=False, timeout=ANSWER_WITHIN,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    for word in done.stdout.split():
        if word.startswith("JobState="):
            return word.partition("=")[2]
    return "no longer known" if UNKNOWN in done.stdout + done.stderr else None


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
