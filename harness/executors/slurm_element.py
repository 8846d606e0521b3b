"""What one element of a job array does on its node.

It must not know how elements are submitted or watched.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import submitit

from harness.executors.items import Item
from harness.executors.spec import Spec
from harness.executors.worker import Account, Worker


@dataclass(frozen=True)
class Element:
    """Items, one after another. Requeued as a whole."""

    spec: str
    items: tuple[Item, ...]

    def __call__(self) -> list[Account]:
        """Accounts of all items; those finished before a requeue are found in the store."""
        worker = Worker(Spec.from_json(self.spec), worker_of(submitit.JobEnvironment().job_id))
        node = os.environ.get("SLURMD_NODENAME", "")
        return [replace(worker.do(item), node=node) for item in self.items]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Asked by submitit when the element is about to be preempted, or runs out of time."""
        return submitit.helpers.DelayedSubmission(self)


def worker_of(job_id: str) -> str:
    """What its worker is called in the store's notes, requeued or not."""
    return f"slurm-{job_id}"
