"""The driver's loop: items out, accounts back, a bounded number of second chances.

One loop for all engines; an engine only hands out. The driver holds the items and counts, never
results: these are in the store. It must not know how cells are computed.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from harness.executors.board import Board, DriverNote, StoppedError, WorkerNote
from harness.executors.chances import Chances
from harness.executors.engine import Ended, Engine
from harness.executors.items import Item
from harness.executors.worker import Account
from models.errors import UserError

Stored = Callable[[Sequence[str]], Mapping[str, float]]
WAIT = 0.25  # seconds


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
    avoided: frozenset[str]  # nodes that had refused before it was handed out
    moves: frozenset[tuple[str, int]] = frozenset()  # of workers that say they are at it
    since: float = field(default_factory=time.monotonic)


def drive(
    items: Iterable[Item],
    engine: Engine,
    board: Board,
    policy: Policy,
    told: Told,
    suite: str = "",
    less_memory: Callable[[Item], None] = lambda item: None,
    stored: Stored = lambda cells: {},
) -> Driven:
    """Have all items computed; returns when each cell is stored or given up.

    ``stored`` tells the scores of those of the cells that are finished, whoever finished them.

    Raises `UserError` where workers refuse the run as a whole, and `StoppedError` on request.
    """
    return _Drive(engine, board, policy, told, suite, less_memory, stored).run(items)


class _Drive:
    def __init__(
        self,
        engine: Engine,
        board: Board,
        policy: Policy,
        told: Told,
        suite: str,
        less_memory: Callable[[Item], None],
        stored: Stored,
    ) -> None:
        self.engine, self.board, self.policy, self.told = engine, board, policy, told
        self.less_memory, self.stored = less_memory, stored
        self.waiting: deque[Item] = deque()
        self.flying: dict[str, _Flight] = {}
        self.chances = Chances(policy.retries)
        self.later = itertools.count(1)
        self.is_welcome = False  # some worker accepted the run
        self.refusing: set[str] = set()  # nodes
        self.driven = Driven()
        name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.note = DriverNote(name, suite, engine.name, os.uname().nodename, os.getpid(), 0)
        self.noted = float("-inf")

    def run(self, items: Iterable[Item]) -> Driven:
        self.waiting.extend(items)
        self.note = replace(self.note, cells=sum(len(item.cells) for item in self.waiting))
        self.board.write_driver(self.note)  # before the first item is out: somebody drives
        state = "failed"
        try:
            while self.waiting or self.flying:
                self._hand_out()
                for ended in self.engine.wait(WAIT):
                    self._take_back(ended)
                self._look_around()
            state = "finished"
        except (StoppedError, KeyboardInterrupt, SystemExit):  # the last: told to end (SIGTERM)
            state = "stopped"
            raise
        finally:
            self.note = replace(self.note, state=state)
            self.board.write_driver(self.note)
        return self.driven

    def _hand_out(self) -> None:
        while self.waiting and len(self.flying) < self.engine.slots:
            item = self.waiting.popleft()
            self.flying[item.key] = _Flight(item, frozenset(self.refusing))
            self.engine.submit(item)

    def _take_back(self, ended: Ended) -> None:
        flight = self.flying.pop(ended.item, None)
        if flight is None:
            return  # cancelled, and ended all the same
        account = ended.account
        if account is None:
            self._lost(flight.item, ended)
        elif account.refused:
            self._refused(flight, account)
        elif account.stopped:
            raise StoppedError
        else:
            self.is_welcome = True
            self._account(flight.item, account)

    def _account(self, item: Item, account: Account) -> None:
        self.driven.encoder += account.encoder
        self.driven.probe += account.probe
        self._done(account.scores)
        if account.elsewhere:  # last, when whoever has them may be done
            keys = tuple(account.elsewhere)
            key = f"{item.key}-{next(self.later)}"  # its others may come back again meanwhile
            self.waiting.append(replace(item, key=key, cells=keys, patient=True))
        if any(fault.of_node for fault in account.faults.values()):
            # Failing takes no time: it would be free, and take the next item, ever again.
            self.engine.avoid(account.node)
        again = []
        for cell, fault in account.faults.items():
            if fault.is_final or not self.chances.is_left(cell):
                self._give_up(cell, fault.reason)
            else:
                again.append((cell, fault.reason))
        if again:
            keys = tuple(cell for cell, _ in again)
            self._retry([replace(item, cells=keys)], again[0][1])

    def _refused(self, flight: _Flight, account: Account) -> None:
        """One node that came back without its disk or with other code must not end the others' run.

        At the start nobody has agreed yet, and a node that is given items though it had refused
        is the only one that is left.
        """
        if not self.is_welcome or not account.node or account.node in flight.avoided:
            raise UserError(account.refused)
        self.refusing.add(account.node)
        self.engine.avoid(account.node)
        self._retry([flight.item], account.refused)

    def _lost(self, item: Item, ended: Ended) -> None:
        """Its worker is gone, and did not say which of its cells are done."""
        if ended.how == "memory" and self._was_in_work(item):
            self.less_memory(item)
        self._again(item, ended.reason or "its worker is gone")

    def _was_in_work(self, item: Item) -> bool:
        """Not if it only shared a job with the item that needed more memory than there is."""
        try:
            at = {note.item for note in self.board.workers()}
        except OSError:
            return True
        return item.key in at

    def _again(self, item: Item, reason: str) -> None:
        self.board.forget_workers_at(item.key)
        known = self._known(item.cells)
        self._done(known)
        left = tuple(cell for cell in item.cells if cell not in known)
        again = self.chances.after_loss(replace(item, cells=left)) if left else []
        for cell in left if not again else ():
            self._give_up(cell, reason)
        if again:
            self._retry(again, reason)

    def _known(self, cells: Sequence[str]) -> Mapping[str, float]:
        try:
            return self.stored(cells)
        except OSError:  # the store is away; the next worker finds them
            return {}

    def _done(self, scores: Mapping[str, float]) -> None:
        for cell, score in scores.items():
            self._count(done=1)
            self.told.finished(cell, score)

    def _retry(self, items: list[Item], reason: str) -> None:
        self.driven.retried += 1
        self._count(retried=1)
        for item in items:
            self.told.retried(item, reason)
        self.waiting.extendleft(reversed(items))  # they were among the longest

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
        at: dict[str, set[tuple[str, int]]] = {}
        for note in notes:
            at.setdefault(note.item, set()).add((note.worker, note.moves))
        for key, flight in list(self.flying.items()):
            moves = frozenset(at.get(key, ()))
            if not moves or moves != flight.moves:
                # Not begun yet (a cluster's queue may be long), or somebody moves.
                flight.moves, flight.since = moves, now
            elif now - flight.since > self.policy.timeout:
                self.engine.cancel(key)
                del self.flying[key]
                self._again(flight.item, f"no progress for {self.policy.timeout:g} seconds")
