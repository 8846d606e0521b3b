"""What one element of a job array does on its node.

It must not know how elements are submitted or watched.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from threading import Event

import submitit

from harness.executors.items import Item
from harness.executors.spec import Spec
from harness.executors.worker import Account, Worker

_leaves = Event()  # the job goes back to the queue: this process has nothing more to say
BACK_IN_THE_QUEUE = 255  # exit code, as submitit's own


@dataclass(frozen=True)
class Element:
    """Items, one after another. Requeued as a whole."""

    spec: str
    items: tuple[Item, ...]

    def __call__(self) -> list[Account]:
        """Accounts of all items; those finished before a requeue are found in the store."""
        name = worker_of(submitit.JobEnvironment().job_id)
        worker = Worker(Spec.from_json(self.spec), name, should_end=_leaves.is_set)
        node = os.environ.get("SLURMD_NODENAME", "")
        found = []
        for item in self.items:
            found.append(replace(worker.do(item), node=node))
            # Submitit raises `SystemExit` in whatever is at work just then. Where that makes
            # another error of it (Optuna, at its journal's lock), a cell would be called broken.
            if _leaves.is_set():
                sys.exit(BACK_IN_THE_QUEUE)
        return found

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Asked by submitit when the element is about to be preempted, or runs out of time."""
        _leaves.set()
        return submitit.helpers.DelayedSubmission(self)


def worker_of(job_id: str) -> str:
    """What its worker is called in the store's notes, requeued or not."""
    return f"slurm-{job_id}"
