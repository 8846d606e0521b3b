"""Slurm runs the items as elements of job arrays, submitted through submitit.

Small items share an element, so that starting Python does not cost more than they do. A preempted
or timed-out element is requeued, and what it had finished is in the store. States come from squeue
and slurmctld alone: not every cluster keeps accounts. It must not know what an item is made of.
"""

from __future__ import annotations

import getpass
import re
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.executors.board import Board
from harness.executors.engine import Ended
from harness.executors.items import Item
from harness.executors.profile import SlurmSection
from harness.executors.slurm_asking import Size, in_sizes, room_for
from harness.executors.slurm_commands import (
    AWAY,
    HELD,
    NEVER,
    NO_SUCH_NODE,
    NOT_STARTED,
    End,
    ask,
    end_of,
    jobs_begin,
    nodes_of,
    quietly,
    refused,
    run_key,
)
from harness.executors.slurm_left import cancel_waiting
from harness.executors.spec import Spec
from harness.executors.worker import Account
from harness.store import Store
from harness.store_place import open_store
from models.cache import cache_folder
from models.errors import UserError

try:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

    from harness.executors.slurm_element import Element, worker_of
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


@dataclass
class _Flight:
    job: submitit.Job[list[Account]]
    items: tuple[Item, ...]
    unseen_since: float | None = None
    stuck_since: float | None = None
    has_run: bool = False  # and its worker may have left a note
    told: set[str] = field(default_factory=set)  # items that were cancelled


class SlurmEngine:
    """Implements `harness.executors.engine.Engine`."""

    name = "slurm"
    slots = 100_000  # Slurm keeps the queue

    def __init__(self, spec: Spec, section: SlurmSection, items: list[Item]) -> None:
        """Check the cluster. Raises `UserError` for what it does not have."""
        self._room = room_for(section, items)
        self._nodes = sum(kind.count for kind in nodes_of(section.partition))
        store = open_store(spec.store)
        self._spec, self._section = spec, section
        self._board = Board(store, spec.plan_key)
        self._folder = _folder(store, self._board)
        run = run_key(spec.plan_key, store.place)
        self._job_name = f"{jobs_begin(run)}-{spec.shake[:8]}"
        self._new: list[Item] = []
        self._flying: dict[str, _Flight] = {}  # by job id
        self._looked = float("-inf")
        self._sent = self._is_seen = False  # whether any element could write to the folder
        self._avoided: set[str] = set()
        cancel_waiting(run, self._board)

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
        if not self._avoided or len(self._avoided) >= self._nodes:
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
        bundles = _bundles(items, self._section)
        for size, alike in in_sizes(bundles, self._section, self._room):
            for start in range(0, len(alike), ARRAY):
                self._send_array(alike[start : start + ARRAY], size)

    def _send_array(self, bundles: list[tuple[Item, ...]], size: Size) -> None:
        excluded = self._excluded()
        try:
            self._submit(bundles, size, excluded)
        except UserError as error:
            if (self._flying or self._is_seen) and AWAY.search(str(error)):
                self._new += [item for bundle in bundles for item in bundle]  # it is asked again
            elif excluded and NO_SUCH_NODE in str(error):
                self._submit(bundles, size, {})  # no other node holds it
            else:
                raise

    def _submit(
        self, bundles: list[tuple[Item, ...]], size: Size, excluded: Mapping[str, str]
    ) -> None:
        section, self._sent = self._section, True
        # There before sbatch is asked, which is at once: an element opens its log in it first.
        executor = submitit.SlurmExecutor(folder=self._folder / uuid.uuid4().hex[:12])
        executor.update_parameters(
            job_name=self._job_name,
            time=size.minutes,
            mem=f"{size.megabytes}M",
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
                self._is_seen = True
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
                state, reason = known[job_id]
                self._note_state(flight, state)
                ended += self._waits(flight, reason, now)
            elif flight.unseen_since is None:
                flight.unseen_since = now
            elif now - flight.unseen_since > GONE_AFTER and (end := end_of(job_id)):
                ended += self._gone(flight, end)
        return ended

    def _queued(self) -> dict[str, tuple[str, str]] | None:
        """State of each of this run's elements that wait or run, and why they wait."""
        done = ask(
            "squeue", "--noheader", "--array", "--name", self._job_name, "--format", "%i %T %r"
        )
        if done is None:
            return None
        lines = (line.split(maxsplit=2) for line in done.splitlines() if line.strip())
        return {job_id: (state, reason.strip()) for job_id, state, reason in lines}

    def _note_state(self, flight: _Flight, state: str) -> None:
        """One that ran and waits again was requeued: its worker makes no progress, nor should it.

        It had no time to take its note away where its node died.
        """
        if flight.has_run and state == "PENDING":
            self._board.forget_worker(worker_of(flight.job.job_id))
        flight.has_run = state == "RUNNING"

    def _waits(self, flight: _Flight, reason: str, now: float) -> list[Ended]:
        """Whether it does so for ever. Raises `UserError` where others like it would as well."""
        if reason not in HELD and not NEVER.fullmatch(reason):
            flight.stuck_since = None
            return []
        if flight.stuck_since is None:
            flight.stuck_since = now
        if now - flight.stuck_since < GONE_AFTER:  # it may be of a moment, as nodes come and go
            return []
        job_id = flight.job.job_id
        if reason in HELD:
            quietly("scancel", job_id)
            return self._gone(flight, End(reason))
        raise UserError(
            f"Slurm has taken job {job_id} and will never start it (squeue: {reason}); mend the "
            "profile (slurm), or have the limit changed."
        )

    def _gone(self, flight: _Flight, end: End) -> list[Ended]:
        """Its items are lost. Raises `UserError` where no node sees the folder of the jobs."""
        job, folder = flight.job, self._folder
        del self._flying[job.job_id]
        if end.reason != NOT_STARTED or job.paths.stdout.exists():
            return _lost(flight, end.state)
        flights = self._flying.values()
        node = end.node or "A node"
        self._is_seen |= any(each.job.paths.stdout.exists() for each in flights)
        if not self._is_seen:
            how = "--store" if folder.is_relative_to(self._board.folder) else "TOKENRANK_CACHE"
            raise UserError(
                f"{node} cannot write to {folder}, where Slurm's job {job.job_id} was to have "
                f"its log; give a folder that all nodes share ({how})."
            )
        self.avoid(end.node)
        return _lost(flight, f"{node} cannot write to {folder}")


def _folder(store: Store, board: Board) -> Path:
    """Where submitit keeps its files, which all nodes must see: the store, or the user's cache."""
    if store.root.resolve() == Path(store.place):
        return board.folder / "slurm"
    return cache_folder() / "slurm" / board.folder.name


def _outcome(flight: _Flight) -> list[Ended]:
    try:
        accounts = {account.item: account for account in flight.job.result()}
    except UncompletedJobError as error:
        return _lost(flight, _last_of_trace(str(error)))
    return [
        Ended(item.key, "done", accounts[item.key])
        for item in flight.items
        if item.key not in flight.told
    ]


def _last_of_trace(said: str) -> str:
    """What submitit says of an exception: the end of the trace, which is between two lines."""
    _, *trace = re.split(r"^-+$", said, flags=re.MULTILINE)
    return (trace[0] if trace else said).strip().splitlines()[-1]


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
