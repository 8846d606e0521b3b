"""Elements that a driver which was killed left in Slurm's queue.

Those that run go on, and share their work with the next driver's through claims; those that wait
would find nothing to do. It must not know what an element is made of.
"""

from __future__ import annotations

import getpass
import os
import time

from harness.executors.board import Board, DriverNote
from harness.executors.slurm_commands import ask, jobs_begin, quietly

LOOK_AGAIN_AFTER = 2.5  # times the seconds after which a driver's note changes
SENDS_WITHIN = 30.0  # seconds: no note changes while sbatch takes an array


def cancel_waiting(run: str, board: Board) -> None:
    """Cancel a run's elements that wait, unless a driver is alive; asked before another is."""
    said = ask(
        "squeue", "--noheader", "--user", getpass.getuser(), "--states", "PENDING",
        "--format", "%F %j",
    )  # fmt: skip
    jobs = [line.split(maxsplit=1) for line in (said or "").splitlines() if line.strip()]
    left = sorted({job for job, name in jobs if name.startswith(jobs_begin(run))})
    if left and not _is_driven(board):
        quietly("scancel", "--state", "PENDING", *left)


def _is_driven(board: Board) -> bool:
    """Whether a driver's note changes: clocks of several machines may differ."""
    running = [note for note in board.drivers() if note.state == "running" and not _is_dead(note)]
    if not running:
        return False
    deadline = time.monotonic() + LOOK_AGAIN_AFTER * board.every + SENDS_WITHIN
    while time.monotonic() < deadline:
        time.sleep(board.every)
        if any(note not in running and note.state == "running" for note in board.drivers()):
            return True
    return False


def _is_dead(driver: DriverNote) -> bool:
    """Whether it was a process of this machine that is no more."""
    if driver.host != os.uname().nodename:
        return False
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
