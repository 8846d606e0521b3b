"""Notes of those who work on a run, in the store: who does what, how far; logs; a request to stop.

One small file for each worker and driver, rewritten whole; whoever sees the store can read them
(`tokenrank status`), and no two machines' clocks are compared. It must not know how cells are
computed or who hands them out.

    work/<run>/workers/<worker>.json      what it is at
    work/<run>/drivers/<driver>.json      how far the run is
    work/<run>/broken/<cell>.json         why a cell could not be computed
    work/<run>/logs/<cell>.log            what was printed while it was computed
    work/<run>/stop                       workers and drivers end when they see it
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.store import Store, as_json

Made = TypeVar("Made")


class StoppedError(Exception):
    """Somebody asked for the run to be stopped."""


@dataclass(frozen=True)
class WorkerNote:
    """What a worker is at. ``moves`` grows with every sign of progress, and with nothing else."""

    worker: str
    host: str
    pid: int
    item: str = ""
    cell: str = ""
    what: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    moves: int = 0


@dataclass(frozen=True)
class DriverNote:
    """How far a driver's run is; ``state`` is running, finished, stopped or failed."""

    driver: str
    suite: str
    executor: str
    host: str
    pid: int
    cells: int
    done: int = 0
    broken: int = 0
    retried: int = 0
    state: str = "running"
    beats: int = 0


class Board:
    """The notes of one run. ``every``: seconds between two looks or two notes of one worker."""

    def __init__(self, store: Store, run_key: str) -> None:
        self._store, self._files = store, store.files
        self.name = f"work/{run_key[:16]}"
        self.folder = store.root / self.name  # of logs, until they are kept
        self.every = store.notes_every

    def write_worker(self, note: WorkerNote) -> None:
        """Replace a worker's note. What the disk refuses is lost: it is only a note."""
        with contextlib.suppress(OSError):
            self._write("workers", note.worker, asdict(note))

    def write_driver(self, note: DriverNote) -> None:
        """Replace a driver's note."""
        with contextlib.suppress(OSError):
            self._write("drivers", note.driver, asdict(note))

    def workers(self) -> list[WorkerNote]:
        """Notes of workers that have something to do, by name."""
        return list(self._notes("workers", WorkerNote))

    def drivers(self) -> list[DriverNote]:
        """All drivers' notes, by name."""
        return list(self._notes("drivers", DriverNote))

    def forget_worker(self, worker: str) -> None:
        """It has nothing to do."""
        with contextlib.suppress(OSError):
            self._files.remove(f"{self.name}/workers/{worker}.json")

    def forget_workers_at(self, item: str) -> None:
        """Workers that were lost with an item are at it no more; who is alive writes a new note."""
        with contextlib.suppress(OSError):
            for note in self.workers():
                if note.item == item:
                    self.forget_worker(note.worker)

    def forget_workers(self) -> None:
        """Notes of workers that were killed go; who is alive writes a new one soon."""
        self._forget("workers")

    def write_broken(self, cell: str, what: str, reason: str) -> None:
        """Why a cell could not be computed."""
        self._write("broken", cell, {"cell": what, "reason": reason})

    def forget_broken(self) -> None:
        """A new start gives every cell a new chance."""
        self._forget("broken")

    def broken(self) -> list[Mapping[str, str]]:
        """Cells that could not be computed, and why."""
        return list(self._notes("broken", dict))

    def log_file(self, name: str) -> Path:
        """Where what is printed meanwhile goes."""
        path = self.folder / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep_log(self, name: str) -> None:
        """The log is written: it goes to where the others see it."""
        self._store.keep_file(f"{self.name}/logs/{name}.log")

    @property
    def logs(self) -> str:
        """Where logs are, in words."""
        return f"{self._store}/{self.name}/logs"

    def stop(self) -> None:
        """Ask all who work on the run to end."""
        self._files.write(f"{self.name}/stop", b"")

    def go(self) -> None:
        """Take back an earlier request to stop."""
        self._files.remove(f"{self.name}/stop")

    def is_stopped(self) -> bool:
        """Whether somebody asked for it."""
        return self._files.read(f"{self.name}/stop") is not None

    def _write(self, kind: str, name: str, data: Mapping[str, Any]) -> None:
        self._files.write(f"{self.name}/{kind}/{name}.json", as_json(data))

    def _forget(self, kind: str) -> None:
        for name in self._files.names(f"{self.name}/{kind}"):
            self._files.remove(f"{self.name}/{kind}/{name}")

    def _notes(self, kind: str, make: Callable[..., Made]) -> Iterator[Made]:
        folder = f"{self.name}/{kind}"
        texts = self._files.read_many(f"{folder}/{name}" for name in self._files.names(folder))
        for _, text in sorted(texts.items()):
            with contextlib.suppress(ValueError, TypeError):  # torn, or of another version
                yield make(**json.loads(text))


class Working:
    """A worker's own note, kept up to date; also where it sees that it should stop."""

    def __init__(
        self, board: Board, worker: str, should_end: Callable[[], bool] = lambda: False
    ) -> None:
        self.board, self._should_end = board, should_end
        self.note = WorkerNote(worker, os.uname().nodename, os.getpid())
        self._written = self._looked = float("-inf")

    def begins(self, item: str, cell: str, what: str) -> None:
        """A cell begins."""
        self._move(replace(self.note, item=item, cell=cell, what=what, stage="", done=0, total=0))

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far the cell's stage is. Raises `StoppedError` where that was asked for."""
        self._move(replace(self.note, stage=stage, done=done, total=total))
        now = time.monotonic()
        if now - self._looked > self.board.every:
            self._looked = now
            stopped = self._should_end()
            with contextlib.suppress(OSError):  # the store is away: it looks again
                stopped = stopped or self.board.is_stopped()
            if stopped:
                raise StoppedError

    def idle(self) -> None:
        """Nothing to do."""
        self.note = replace(self.note, item="", cell="", what="", stage="", done=0, total=0)
        self.board.forget_worker(self.note.worker)

    def _move(self, note: WorkerNote) -> None:
        begins = note.cell != self.note.cell
        self.note = replace(note, moves=note.moves + 1)
        now = time.monotonic()
        if begins or now - self._written > self.board.every:
            self._written = now
            self.board.write_worker(self.note)
