"""Our jobs in Slurm's queue: which they are, how they are, how they ended, and whose is left.

A job is known by its name, so that whoever sees the queue finds it: no file has to say its number.
It must not know what a job runs.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable
from dataclasses import dataclass

from harness.executors.slurm_commands import ask, jobs_begin, quietly, state_of
from harness.launching.launch import Exit, Launch

LOOK_EVERY = 2.0  # seconds between two questions to squeue
RUNS = ("RUNNING", "COMPLETING")


@dataclass(frozen=True)
class Job:
    """One that waits or runs, or elements of an array that do."""

    number: str
    state: str
    name: str


def name_of(launch: Launch) -> str:
    """A job's name: what it trains where."""
    return f"{jobs_begin(launch.key)}-{launch.asked[:16]}"


def jobs_of(key: str, jobs: Iterable[Job]) -> list[Job]:
    """Those of a launch's key, whatever their arguments, or of a run's, whoever drives it."""
    return [job for job in jobs if job.name.startswith(jobs_begin(key))]


def queue() -> list[Job]:
    """This user's jobs that wait or run; asks until slurmctld answers."""
    while (jobs := _asked()) is None:
        time.sleep(LOOK_EVERY)
    return jobs


def _asked() -> list[Job] | None:
    said = ask("squeue", "--noheader", "--user", getpass.getuser(), "--format", "%F %T %j")
    if said is None:
        return None
    lines = (line.split(maxsplit=2) for line in said.splitlines() if line.strip())
    return [Job(number, state, name) for number, state, name in lines]


def exit_of(number: str) -> Exit | None:
    """How a job ended that has left the queue; None where it is in it, or nobody knows now."""
    state = state_of(number)
    if state in (None, "PENDING", *RUNS):
        return None
    if state == "COMPLETED":
        return Exit(0)
    return Exit(None, f"Slurm ended its job {number} ({state})")


def cancel_left(keys: Iterable[str]) -> list[str] | None:
    """Cancel jobs whose driver is gone, by the keys of their launches or runs; their numbers.

    None where Slurm cannot be asked from this machine.
    """
    jobs = _asked()
    if jobs is None:
        return None
    numbers = list(dict.fromkeys(job.number for key in keys for job in jobs_of(key, jobs)))
    if numbers:
        quietly("scancel", *numbers)
    return numbers
