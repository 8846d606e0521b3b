"""Slurm runs the items as elements of job arrays, submitted through submitit.

Small items share an element, so that starting Python does not cost more than they do. A preempted
or timed-out element is requeued, and what it had finished is in the store. States come from squeue
alone: not every cluster keeps accounts. It must not know what an item is made of.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.executors.board import Board
from harness.executors.driving import Ended
from harness.executors.items import Item
from harness.executors.profile import SlurmSection
from harness.executors.slurm_commands import ask, nodes_of, quietly, refused, state_of
from harness.executors.spec import Spec
from harness.executors.worker import Account, Worker
from harness.store_place import open_store
from models.cache import cache_folder
from models.errors import UserError

try:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
except ImportError:  # an extra
    raise UserError(
        "The executor slurm needs the package submitit; install it with: pip install "
        '"tokenrank[slurm]".'
    ) from None

LOOK_EVERY = 2.0  # seconds between two questions to squeue
GONE_AFTER = 10.0  # an element that squeue does not know so long, without a result, is lost
ARRAY = 1000  # elements of one array; clusters allow 1001 if nobody raised it
LEAST_WORK = 120.0  # seconds
GRACE = 60  # seconds between the signal and the end
_MEMORY_STATES = ("OUT_OF_MEMORY",)


@dataclass(frozen=True)
class Element:
    """What one array element does: items, one after another. Requeued as a whole."""

    spec: str
    items: tuple[Item, ...]

    def __call__(self) -> list[Account]:
        """Accounts of all items; those finished before a requeue are found in the store."""
        worker = Worker(Spec.from_json(self.spec))
        node = os.environ.get("SLURMD_NODENAME", "")
        return [replace(worker.do(item), node=node) for item in self.items]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Asked by submitit when the element is about to be preempted, or runs out of time."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass
class _Flight:
    job: submitit.Job[list[Account]]
    items: tuple[Item, ...]
    unseen_since: float | None = None
    told: set[str] = field(default_factory=set)  # items that were cancelled


class SlurmEngine:
    """Implements `harness.executors.driving.Engine`."""

    name = "slurm"
    slots = 100_000  # Slurm keeps the queue

    def __init__(self, spec: Spec, section: SlurmSection, items: list[Item]) -> None:
        """Check the cluster. Raises `UserError` for what it does not have."""
        _require_cluster(section, items)
        self._spec, self._section = spec, section
        self._folder = _folder(spec)
        self._job_name = f"tokenrank-{spec.shake[:8]}"
        self._new: list[Item] = []
        self._flying: dict[str, _Flight] = {}  # by job id
        self._looked = float("-inf")
        self._sent = False
        self._avoided: set[str] = set()

    def submit(self, item: Item) -> None:
        """With the next call of `wait`, which sends many at once."""
        self._new.append(item)

    def wait(self, seconds: float) -> list[Ended]:
        """Items of elements that ended, or that Slurm knows no more."""
        if self._new:
            new, self._new = self._new, []
            self._send(new)
        deadline = time.monotonic() + seconds
        while True:
            ended = self._ended()
            if ended or time.monotonic() > deadline:
                return ended
            time.sleep(0.1)

    def avoid(self, node: str) -> None:
        """Elements that are queued already may still go there, once."""
        self._avoided |= {node} - {""}

    def _excluded(self) -> dict[str, str]:
        """Sbatch's option, with what the profile excludes; nothing where no node would be left."""
        if not self._avoided:
            return {}
        if len(self._avoided) >= sum(kind.count for kind in nodes_of(self._section.partition)):
            return {}
        given = self._section.options.get("exclude")
        return {"exclude": ",".join([*([str(given)] if given else []), *sorted(self._avoided)])}

    def cancel(self, item: str) -> None:
        """Cancel its element; the element's other items are told as lost."""
        for job_id, flight in self._flying.items():
            if any(each.key == item for each in flight.items):
                flight.told.add(item)
                quietly("scancel", job_id)

    def close(self) -> None:
        """Cancel whatever is queued or runs for this run.

        Also where all is done: an element that was preempted at its end is in the queue again.
        """
        if self._sent:
            quietly("scancel", "--name", self._job_name, "--user", getpass.getuser())
        self._flying = {}

    def _send(self, items: list[Item]) -> None:
        for bundle_class, bundles in _classes(_bundles(items, self._section), self._section):
            for start in range(0, len(bundles), ARRAY):
                self._send_array(bundles[start : start + ARRAY], *bundle_class)

    def _send_array(self, bundles: list[tuple[Item, ...]], minutes: int, gigabytes: int) -> None:
        excluded = self._excluded()
        try:
            self._submit(bundles, minutes, gigabytes, excluded)
        except UserError:
            if not excluded:
                raise
            self._submit(bundles, minutes, gigabytes, {})  # no other node holds it

    def _submit(
        self,
        bundles: list[tuple[Item, ...]],
        minutes: int,
        gigabytes: int,
        excluded: Mapping[str, str],
    ) -> None:
        section, self._sent = self._section, True
        executor = submitit.SlurmExecutor(folder=self._folder / "%j")
        executor.update_parameters(
            job_name=self._job_name,
            time=minutes,
            mem=f"{gigabytes}GB",
            cpus_per_task=section.cpus,
            array_parallelism=section.jobs,
            signal_delay_s=GRACE,
            **({"partition": section.partition} if section.partition else {}),
            **({"account": section.account} if section.account else {}),
            **({"qos": section.qos} if section.qos else {}),
            **({"gpus_per_node": section.gpus} if section.gpus else {}),
            setup=[f"export OMP_NUM_THREADS={section.cpus}", *section.setup],
            additional_parameters={"requeue": True, **section.options, **excluded},
        )
        try:
            with executor.batch():
                text = self._spec.to_json()
                jobs = [executor.submit(Element(text, bundle)) for bundle in bundles]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            raise refused(str(error)) from None
        for job, bundle in zip(jobs, bundles, strict=True):
            self._flying[job.job_id] = _Flight(job, bundle)

    def _ended(self) -> list[Ended]:
        ended: list[Ended] = []
        for job_id, flight in list(self._flying.items()):
            if flight.job.paths.result_pickle.exists():
                del self._flying[job_id]
                ended += _outcome(flight)
        now = time.monotonic()
        if ended or now - self._looked < LOOK_EVERY or not self._flying:
            return ended
        self._looked = now
        known = self._queued()
        if known is None:
            return ended  # slurmctld does not answer: it may again
        for job_id, flight in list(self._flying.items()):
            if job_id in known:
                flight.unseen_since = None
            elif flight.unseen_since is None:
                flight.unseen_since = now
            elif now - flight.unseen_since > GONE_AFTER and (state := state_of(job_id)):
                del self._flying[job_id]
                ended += _lost(flight, state)
        return ended

    def _queued(self) -> set[str] | None:
        """Ids of this run's elements that wait or run."""
        done = ask("squeue", "--noheader", "--array", "--name", self._job_name, "--format", "%i")
        return None if done is None else set(done.split())


def _folder(spec: Spec) -> Path:
    """Where submitit keeps its files, which all nodes must see: the store, or the user's cache."""
    store = open_store(spec.store)
    board = Board(store, spec.plan_key)
    if store.root.resolve() == Path(store.place):
        return board.folder / "slurm"
    return cache_folder() / "slurm" / board.folder.name


def _outcome(flight: _Flight) -> list[Ended]:
    try:
        accounts = {account.item: account for account in flight.job.result()}
    except UncompletedJobError:
        return _lost(flight, "TIMEOUT")
    except FailedJobError as error:
        return _lost(flight, str(error).strip().splitlines()[-1])
    return [
        Ended(item.key, "done", accounts[item.key])
        for item in flight.items
        if item.key not in flight.told
    ]


def _lost(flight: _Flight, state: str) -> list[Ended]:
    how: Any = "memory" if state in _MEMORY_STATES else "lost"
    return [
        Ended(item.key, how, reason=f"Slurm ended its job {flight.job.job_id} ({state})")
        for item in flight.items
        if item.key not in flight.told
    ]


def _bundles(items: Iterable[Item], section: SlurmSection) -> list[tuple[Item, ...]]:
    """Items in the order given: enough in one element to be worth its start, no more than need be.

    All elements that may run at once have something to do, unless that is less than two minutes
    each, which starting Python and reading the plan would be too much for. What must be alone is.
    """
    items = list(items)
    total = sum(item.need.seconds for item in items) * section.time_factor
    most = min(30 * section.minutes, max(LEAST_WORK, total / section.jobs))
    bundles: list[tuple[Item, ...]] = []
    current: list[Item] = []
    seconds = 0.0
    for item in items:
        taken = item.need.seconds * section.time_factor
        if current and (item.alone or current[-1].alone or seconds + taken > most):
            bundles.append(tuple(current))
            current, seconds = [], 0.0
        current.append(item)
        seconds += taken
    return [*bundles, tuple(current)] if current else bundles


def _classes(
    bundles: list[tuple[Item, ...]], section: SlurmSection
) -> list[tuple[tuple[int, int], list[tuple[Item, ...]]]]:
    """Bundles that ask for the same minutes and gigabytes, both rounded up to a power of two."""
    found: dict[tuple[int, int], list[tuple[Item, ...]]] = {}
    for bundle in bundles:
        seconds = sum(item.need.seconds for item in bundle) * section.time_factor
        minutes = _power_of_two(max(section.minutes, seconds / 60))
        memory = max(item.need.memory for item in bundle) * section.memory_factor / 1e9
        key = (max(section.minutes, minutes), _power_of_two(max(section.memory_gb, memory)))
        found.setdefault(key, []).append(bundle)
    return list(found.items())


def _power_of_two(least: float) -> int:
    size = 1
    while size < least:
        size *= 2
    return size


def _require_cluster(section: SlurmSection, items: list[Item]) -> None:
    nodes = nodes_of(section.partition)
    room = max((node.memory for node in nodes), default=0)
    cores = max((node.cores for node in nodes), default=0)
    widest = max((item.need.memory for item in items), default=0) * section.memory_factor
    needed = max(section.memory_gb, widest / 1e9)
    if needed * 1024 > room:
        raise UserError(
            f"A cell of this suite needs {needed:.1f} GB of memory as the profile asks for it, and "
            f"the largest node of the cluster has {room / 1024:.1f} GB; lower slurm: memory_gb "
            "or memory_factor, or leave out the task or variant."
        )
    if section.cpus > cores:
        raise UserError(
            f"The profile asks for {section.cpus} cores for each job (slurm: cpus), and the "
            f"largest node of the cluster has {cores}."
        )
