"""Launches as items of the driver's loop: it starts, watches and ends them, whoever launches.

What a training has written in its folder is its progress; the notes of it go to the run's board,
so that `tokenrank status` and a timeout see it. It must not know how weights are trained.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.executors.board import Board, WorkerNote
from harness.executors.engine import Ended
from harness.executors.items import Item, Need
from harness.executors.worker import Account, Fault
from harness.launching.launch import (
    Exit,
    Launch,
    Launcher,
    TakenError,
    end_of,
    forget_proofs,
    log_sizes,
    said_since,
    sentence_in,
)
from harness.pretraining.folder import SPEEDS
from harness.pretraining.watching import PROBES
from models.errors import UserError
from models.pretraining.checkpoint import CHECKPOINT, HISTORY, read_history

LOOK_EVERY = 0.1  # seconds
SHOWS_PROGRESS = (HISTORY, CHECKPOINT, SPEEDS, PROBES)
BUSY = "Another process is training in "  # one that ends just now, perhaps


def item_of(launch: Launch) -> Item:
    """A launch as the driver's loop hands it out."""
    return Item(launch.key, (launch.key,), Need(0.0, 0))


@dataclass
class _Watched:
    """What was seen of a launch that is with the launcher."""

    launch: Launch
    logs: Mapping[Path, int]
    files: tuple[tuple[int, int], ...] = ()
    moves: int = 0
    samples: int = 0
    runs: bool = False
    is_noted: bool = True
    noted: float = float("-inf")


class LaunchEngine:
    """Implements `harness.executors.engine.Engine`."""

    def __init__(self, launches: Mapping[str, Launch], launcher: Launcher, board: Board) -> None:
        self.name = launcher.name
        self._launches, self._launcher, self._board = launches, launcher, board
        self._flying: dict[str, _Watched] = {}
        self._refused: list[Ended] = []

    @property
    def slots(self) -> int:
        """Trainings at a time."""
        return self._launcher.slots

    def submit(self, item: Item) -> None:
        """Start the training."""
        launch = self._launches[item.key]
        launch.log().parent.mkdir(parents=True, exist_ok=True)
        watched = _Watched(launch, log_sizes(launch))
        watched.files = _files(launch.folder)
        try:
            self._launcher.start(launch)
        except TakenError as error:  # the next wait tells it, and the others go on
            self._refused.append(_failed(launch, Fault(str(error), is_final=True)))
        else:
            self._flying[item.key] = watched

    def wait(self, seconds: float) -> list[Ended]:
        """Trainings that ended; those that run have their notes written meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            ended, self._refused = self._refused, []
            for key, sight in self._launcher.look().items():
                if isinstance(sight, Exit):
                    ended.append(self._ended(self._flying.pop(key), sight))
                else:
                    self._goes_on(self._flying[key], sight == "runs")
            if ended or time.monotonic() > deadline:
                return ended
            time.sleep(LOOK_EVERY)

    def avoid(self, node: str) -> None:
        """Nobody asks: a training says itself what a disk refuses, and that is final."""

    def cancel(self, item: str) -> None:
        """End one that makes no progress."""
        self._launcher.stop(item)
        self._forget(self._flying.pop(item))

    def close(self) -> None:
        """End all."""
        self._launcher.close()
        for watched in self._flying.values():
            self._forget(watched)
        self._flying = {}

    def _goes_on(self, watched: _Watched, runs: bool) -> None:
        """Write its note if anything is new, but where it begins not more often than others do."""
        files = _files(watched.launch.folder)
        begins = runs != watched.runs
        if begins or files != watched.files:
            watched.files, watched.runs, watched.moves = files, runs, watched.moves + 1
            watched.is_noted = False
        late = time.monotonic() - watched.noted > self._board.every
        if not watched.is_noted and (begins or late):
            history = read_history(watched.launch.folder)
            watched.samples = history[-1].samples if history else 0
            self._write(watched)

    def _write(self, watched: _Watched) -> None:
        launch = watched.launch
        watched.is_noted, watched.noted = True, time.monotonic()
        note = WorkerNote(launch.key, self.name, 0)
        if watched.runs:
            note = WorkerNote(
                launch.key, self.name, 0, launch.key, launch.key, launch.title, "samples",
                watched.samples, launch.total, watched.moves,
            )  # fmt: skip
        self._board.write_worker(note)

    def _forget(self, watched: _Watched) -> None:
        watched.runs = False
        self._write(watched)

    def _ended(self, watched: _Watched, ended: Exit) -> Ended:
        launch = watched.launch
        self._forget(watched)
        try:
            done = ended.code == 0 or (ended.code is None and launch.is_done())
        except UserError as error:  # weights of other arguments are there
            return _failed(launch, Fault(str(error), is_final=True))
        if done:
            forget_proofs(launch)
            return Ended(launch.key, "done", Account(launch.key, scores={launch.key: 0.0}))
        lines = said_since(launch, watched.logs)
        sentence = sentence_in(lines)
        if sentence is None:
            return Ended(launch.key, "lost", reason=end_of(launch, ended, lines))
        return _failed(launch, Fault(sentence, is_final=not sentence.startswith(BUSY)))


def _failed(launch: Launch, fault: Fault) -> Ended:
    return Ended(launch.key, "done", Account(launch.key, faults={launch.key: fault}))


def _files(folder: Path) -> tuple[tuple[int, int], ...]:
    """Size and time of what grows while a training goes on."""
    found = []
    for name in SHOWS_PROGRESS:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)
