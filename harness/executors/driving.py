"""The driver's loop: items out, accounts back, a bounded number of second chances.

One loop for all engines; an engine only hands out. The driver holds the items and counts, never
results: these are in the store. It must not know how cells are computed.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from harness.executors.board import Board, DriverNote, StoppedError, WorkerNote
from harness.executors.items import Item
from harness.executors.worker import Account
from models.errors import UserError

How = Literal["done", "lost", "memory"]
WAIT = 0.25  # seconds


@dataclass(frozen=True)
class Ended:
    """An item that is with its worker no more.

    "done": the account says what came of its cells; "lost": the worker, its node or the engine is
    gone; "memory": it was ended for want of memory.
    """

    item: str
    how: How
    account: Account | None = None
    reason: str = ""


class Engine(Protocol):
    """Hands items to workers; one module per engine. ``slots``: how many at the same time."""

    name: str

    @property
    def slots(self) -> int:
        """Items that it takes now, at most, those in work included."""

    def submit(self, item: Item) -> None:
        """Give an item to a worker, now or when one is free."""

    def wait(self, seconds: float) -> list[Ended]:
        """Items that ended, waiting for at most so long for the first."""

    def avoid(self, node: str) -> None:
        """Give a node nothing more, if there is another; as an account names it."""

    def cancel(self, item: str) -> None:
        """End its worker, if it is in work; `wait` tells it as lost."""

    def close(self) -> None:
        """End all workers; nothing is left behind."""


@dataclass(frozen=True)
class Policy:
    """How much patience: second chances of an item or cell, and seconds without any progress."""

    retries: int = 2
    timeout: float = 1800.0


class Told(Protocol):
    """Told how it goes."""

    def finished(self, cell: str, score: float) -> None:
        """A cell is stored."""

    def broken(self, cell: str, reason: str) -> None:
        """A cell is given up."""

    def retried(self, item: Item, reason: str) -> None:
        """An item starts again."""

    def workers(self, notes: list[WorkerNote]) -> None:
        """What everyone is at, every few seconds at most."""


@dataclass
class Driven:
    """What came of it: broken cells with their reasons, and where time went."""

    broken: dict[str, str] = field(default_factory=dict)
    retried: int = 0
    encoder: float = 0.0
    probe: float = 0.0


@dataclass
class _Flight:
    item: Item
    moves: tuple[str, int] | None = None
    since: float = field(default_factory=time.monotonic)


def drive(
    items: Iterable[Item],
    engine: Engine,
    board: Board,
    policy: Policy,
    told: Told,
    suite: str = "",
    less_memory: Callable[[Item], None] = lambda item: None,
) -> Driven:
    """Have all items computed; returns when each cell is stored or given up.

    Raises `UserError` where workers refuse the run as a whole, and `StoppedError` on request.
    """
    return _Drive(engine, board, policy, told, suite, less_memory).run(items)


class _Drive:
    def __init__(
        self,
        engine: Engine,
        board: Board,
        policy: Policy,
        told: Told,
        suite: str,
        less_memory: Callable[[Item], None],
    ) -> None:
        self.engine, self.board, self.policy, self.told = engine, board, policy, told
        self.less_memory = less_memory
        self.waiting: deque[Item] = deque()
        self.flying: dict[str, _Flight] = {}
        self.tries: dict[str, int] = {}  # by item or cell, where there was more than one
        self.driven = Driven()
        name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.note = DriverNote(name, suite, engine.name, os.uname().nodename, os.getpid(), 0)
        self.noted = float("-inf")

    def run(self, items: Iterable[Item]) -> Driven:
        self.waiting.extend(items)
        self.note = replace(self.note, cells=sum(len(item.cells) for item in self.waiting))
        state = "failed"
        try:
            while self.waiting or self.flying:
                self._hand_out()
                for ended in self.engine.wait(WAIT):
                    self._take_back(ended)
                self._look_around()
            state = "finished"
        except (StoppedError, KeyboardInterrupt):
            state = "stopped"
            raise
        finally:
            self.note = replace(self.note, state=state)
            self.board.write_driver(self.note)
        return self.driven

    def _hand_out(self) -> None:
        while self.waiting and len(self.flying) < self.engine.slots:
            item = self.waiting.popleft()
            self.flying[item.key] = _Flight(item)
            self.engine.submit(item)

    def _take_back(self, ended: Ended) -> None:
        flight = self.flying.pop(ended.item, None)
        if flight is None:
            return  # cancelled, and ended all the same
        account = ended.account
        if account is None:
            if ended.how == "memory":
                self.less_memory(flight.item)
            self._again(flight.item, ended.reason or "its worker is gone")
            return
        if account.refused:
            raise UserError(account.refused)
        if account.stopped:
            raise StoppedError
        self.driven.encoder += account.encoder
        self.driven.probe += account.probe
        for cell, score in account.scores.items():
            self._count(done=1)
            self.told.finished(cell, score)
        if account.elsewhere:  # last, when whoever has them may be done
            keys = tuple(account.elsewhere)
            key = f"{flight.item.key}-later"
            self.waiting.append(replace(flight.item, key=key, cells=keys, patient=True))
        if any(fault.of_node for fault in account.faults.values()):
            # Failing takes no time: it would be free, and take the next item, ever again.
            self.engine.avoid(account.node)
        again = []
        for cell, fault in account.faults.items():
            if fault.is_final or self._tried(cell) > self.policy.retries:
                self._give_up(cell, fault.reason)
            else:
                again.append((cell, fault.reason))
        if again:
            keys = tuple(cell for cell, _ in again)
            self._retry(replace(flight.item, cells=keys), again[0][1])

    def _again(self, item: Item, reason: str) -> None:
        """An item whose worker is gone: nobody knows which of its cells are done."""
        if self._tried(item.key) > self.policy.retries:
            for cell in item.cells:
                self._give_up(cell, reason)
        else:
            self._retry(item, reason)

    def _tried(self, key: str) -> int:
        self.tries[key] = self.tries.get(key, 0) + 1
        return self.tries[key]

    def _retry(self, item: Item, reason: str) -> None:
        self.driven.retried += 1
        self._count(retried=1)
        self.told.retried(item, reason)
        self.waiting.appendleft(item)  # it was among the longest

    def _give_up(self, cell: str, reason: str) -> None:
        self.driven.broken[cell] = reason
        self._count(broken=1)
        self.told.broken(cell, reason)

    def _count(self, done: int = 0, broken: int = 0, retried: int = 0) -> None:
        note = self.note
        self.note = replace(
            note,
            done=note.done + done,
            broken=note.broken + broken,
            retried=note.retried + retried,
        )

    def _look_around(self) -> None:
        """Once in a while: tell, end workers that hang, stop if that was asked for."""
        now = time.monotonic()
        if now - self.noted < self.board.every:
            return
        self.noted = now
        self.note = replace(self.note, beats=self.note.beats + 1)
        self.board.write_driver(self.note)
        try:
            if self.board.is_stopped():
                raise StoppedError
            notes = [note for note in self.board.workers() if note.item in self.flying]
        except OSError:  # the store is away: those who work go on, and nobody is judged meanwhile
            for flight in self.flying.values():
                flight.since = time.monotonic()
            return
        self.told.workers(notes)
        at = {note.item: (note.worker, note.moves) for note in notes}
        for key, flight in list(self.flying.items()):
            moves = at.get(key)
            if moves is None or moves != flight.moves:
                # Not begun yet (a cluster's queue may be long), or it moves.
                flight.moves, flight.since = moves, now
            elif now - flight.since > self.policy.timeout:
                self.engine.cancel(key)
                del self.flying[key]
                self._again(flight.item, f"no progress for {self.policy.timeout:g} seconds")
