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

from harness.store import Store, write_json

NOTE_EVERY = 1.0  # seconds
LOOK_EVERY = 1.0

Note = TypeVar("Note", "WorkerNote", "DriverNote")


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
    """The notes of one run."""

    def __init__(self, store: Store, run_key: str) -> None:
        self.folder = store.root / "work" / run_key[:16]

    def write_worker(self, note: WorkerNote) -> None:
        """Replace a worker's note. What the disk refuses is lost: it is only a note."""
        with contextlib.suppress(OSError):
            write_json(self.folder / "workers" / f"{note.worker}.json", asdict(note))

    def write_driver(self, note: DriverNote) -> None:
        """Replace a driver's note."""
        with contextlib.suppress(OSError):
            write_json(self.folder / "drivers" / f"{note.driver}.json", asdict(note))

    def workers(self) -> list[WorkerNote]:
        """All workers' notes, by name."""
        return [WorkerNote(**data) for data in self._notes("workers")]

    def drivers(self) -> list[DriverNote]:
        """All drivers' notes, by name."""
        return [DriverNote(**data) for data in self._notes("drivers")]

    def forget_workers(self) -> None:
        """Notes of workers that were killed go; who is alive writes a new one soon."""
        for path in (self.folder / "workers").glob("*.json"):
            path.unlink(missing_ok=True)

    def write_broken(self, cell: str, what: str, reason: str) -> None:
        """Why a cell could not be computed."""
        write_json(self.folder / "broken" / f"{cell}.json", {"cell": what, "reason": reason})

    def forget_broken(self) -> None:
        """A new start gives every cell a new chance."""
        for path in (self.folder / "broken").glob("*.json"):
            path.unlink(missing_ok=True)

    def broken(self) -> list[Mapping[str, str]]:
        """Cells that could not be computed, and why."""
        return list(self._notes("broken"))

    def log_file(self, name: str) -> Path:
        """Where what is printed meanwhile goes."""
        path = self.folder / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stop(self) -> None:
        """Ask all who work on the run to end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "stop").touch()

    def go(self) -> None:
        """Take back an earlier request to stop."""
        (self.folder / "stop").unlink(missing_ok=True)

    def is_stopped(self) -> bool:
        """Whether somebody asked for it."""
        return (self.folder / "stop").exists()

    def _notes(self, kind: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / kind).glob("[!.]*.json")):
            with contextlib.suppress(OSError, ValueError):  # gone, or of another version
                yield json.loads(path.read_text(encoding="utf-8"))


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
        if now - self._looked > LOOK_EVERY:
            self._looked = now
            if self._should_end() or self.board.is_stopped():
                raise StoppedError

    def idle(self) -> None:
        """Nothing to do."""
        self.note = replace(self.note, item="", cell="", what="", stage="", done=0, total=0)
        self.board.write_worker(self.note)

    def _move(self, note: WorkerNote) -> None:
        begins = note.cell != self.note.cell
        self.note = replace(note, moves=note.moves + 1)
        now = time.monotonic()
        if begins or now - self._written > NOTE_EVERY:
            self._written = now
            self.board.write_worker(self.note)
