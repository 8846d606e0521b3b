"""`tokenrank status` and `tokenrank cancel`: what the notes in a store say, and a request to stop.

They read and write small files in the store, so that they work from any machine that sees it.
Whether somebody is alive is seen by looking twice: clocks of several machines may differ.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.executors.board import Board, DriverNote, WorkerNote
from harness.executors.slurm_commands import run_key
from harness.launching.driving import launch_key
from harness.launching.slurm_jobs import cancel_left
from harness.pretraining.tracked import tracked
from harness.provenance import MANIFEST
from harness.store import Store, run_name
from harness.store_place import open_store
from harness.terminal import plain_table
from models.errors import UserError, did_you_mean

LOOK_AGAIN_AFTER = 2.5  # times the seconds after which notes of who is alive change


@dataclass(frozen=True)
class _Run:
    """A run's notes, read twice."""

    key: str
    suite: str
    board: Board
    drivers: list[tuple[DriverNote, bool]]
    workers: list[tuple[WorkerNote, bool]]
    has_logs: bool
    queued: list[str]
    """Keys of what was given to Slurm, and may be with it whether or not it moves."""

    @property
    def is_driven(self) -> bool:
        """Whether a driver is alive."""
        return any(alive and note.state == "running" for note, alive in self.drivers)

    @property
    def is_going_on(self) -> bool:
        """Whether a driver is alive, or a worker, which may outlive its driver."""
        return self.is_driven or any(alive for _, alive in self.workers)


def status_command(suite: str | None, store: str) -> None:
    """Print how far runs are and who is at what."""
    console = Console()
    runs = _runs(open_store(store), suite)
    if not runs:
        console.print(
            f"Nobody has worked on {'a suite' if suite is None else escape(suite)} in {store} with "
            "workers; a run in one process shows its progress where it was started.",
            soft_wrap=True,
        )
        return
    for run in runs:
        _show(console, run)


def cancel_command(suite: str, store: str) -> None:
    """Ask drivers and workers of a suite's runs to end, and do not wait for it.

    What a killed driver left with Slurm is cancelled there. Raises `UserError` where no driver is
    alive, no worker moves, and nothing is left.
    """
    console = Console()
    kept = open_store(store)
    runs = _runs(kept, suite)
    going = [run for run in runs if run.is_going_on]
    left = sorted({key for run in runs if not run.is_driven for key in run.queued})
    cancelled = cancel_left(left) if left else []
    if not going and not cancelled:
        raise UserError(
            f'No run of "{suite}" is going on in {store} (tokenrank status); nothing to cancel.'
            if cancelled is not None
            else f'No driver of "{suite}" is alive, and Slurm, where its jobs may still be '
            "queued, cannot be asked from this machine; run the same command where squeue answers."
        )
    for run in going:
        run.board.stop()
        console.print(
            f'Asked all who work on "{run.suite}" to stop; they do within seconds, and finished '
            "work is kept.",
            soft_wrap=True,
        )
    if cancelled:
        console.print(
            f'Cancelled what a driver of "{suite}" that is gone left with Slurm: '
            f"{', '.join(cancelled)}. Finished cells and the last checkpoints are kept.",
            soft_wrap=True,
        )
        _close_in_mlflow(kept, left)


def _close_in_mlflow(store: Store, launches: list[str]) -> None:
    """Nobody else does: their drivers are gone, and Slurm ended them without notice."""
    folders = [each.folder for each in tracked(store) if launch_key(each.folder) in launches]
    if folders:
        from harness.pretraining.closing import close_left  # noqa: PLC0415  (torch loads)

        close_left(store, folders, "KILLED", "cancelled (tokenrank cancel)")


def _runs(store: Store, suite: str | None) -> list[_Run]:
    keys = store.files.names("work")
    boards = {key: Board(store, key) for key in keys}
    names = {key: _suite_of(store, boards[key], key) for key in keys}
    if suite is not None:
        asked = Path(suite).stem if suite.endswith((".yaml", ".yml")) else suite
        if names and asked not in names.values():
            raise UserError(
                f'Nobody has worked on "{suite}" in {store}: '
                f"{did_you_mean(asked, set(names.values()))}."
            )
        boards = {key: board for key, board in boards.items() if names[key] == asked}
    before = {key: (board.drivers(), board.workers()) for key, board in boards.items()}
    if any(_may_be_alive(*notes) for notes in before.values()):
        time.sleep(LOOK_AGAIN_AFTER * store.notes_every)
    runs = []
    for key, board in boards.items():
        old = {each for kind in before[key] for each in kind}
        drivers = [(note, note not in old) for note in board.drivers()]
        noted = board.workers()
        queued = [note.worker for note in noted if note.host == "slurm"]
        if any(note.executor == "slurm" and note.state == "running" for note, _ in drivers):
            queued.append(run_key(key, store.place))
        workers = [(note, note not in old) for note in noted if note.item]
        if not any(alive for _, alive in drivers):  # notes of who was killed or stopped with it
            workers = [each for each in workers if each[1]]
        has_logs = bool(store.files.names(f"{board.name}/logs"))  # trainings have none there
        runs.append(_Run(key, names[key], board, drivers, workers, has_logs, queued))
    return runs


def _may_be_alive(drivers: list[DriverNote], workers: list[WorkerNote]) -> bool:
    """Whether anybody says so: a second look tells."""
    return any(note.state == "running" for note in drivers) or any(note.item for note in workers)


def _suite_of(store: Store, board: Board, key: str) -> str:
    """The suite of a run, or what its driver calls it: a study's trainings have no manifest."""
    try:
        text = store.files.read(f"{run_name(key)}/{MANIFEST}")
        return str(json.loads(text or b"")["suite"])
    except (OSError, ValueError, KeyError):
        return next((note.suite for note in board.drivers() if note.suite), "unknown")


def _show(console: Console, run: _Run) -> None:
    console.print(f"[bold]{escape(run.suite)}[/] ({run.key})", highlight=False)
    latest = [each for each in run.drivers if each[1]] or run.drivers[-1:]
    for note, alive in latest:
        word = note.state
        if note.state == "running" and not alive:
            word = "no news (killed? start the same command again)"
        line = f"  {note.executor} on {note.host}: {word}, {note.done} of {note.cells} done"
        if note.retried:
            line += f", {note.retried} started again"
        if note.broken:
            line += f", {note.broken} broken"
        console.print(line, highlight=False, soft_wrap=True)
    if run.workers:
        rows = [
            (
                f"{note.host} {note.pid}",
                escape(note.what),
                f"{note.stage} {note.done}/{note.total}" if note.total else note.stage,
                "moves" if alive else "no news",
            )
            for note, alive in run.workers
        ]
        console.print(plain_table(("worker", "cell", "stage", ""), rows))
    for broken in run.board.broken():
        console.print(
            f"  [red]✗[/] {escape(broken['cell'])}: {escape(broken['reason'])}",
            highlight=False,
            soft_wrap=True,
        )
    if run.board.broken() and run.has_logs:
        console.print(f"  Logs: {run.board.logs}", highlight=False, soft_wrap=True)
