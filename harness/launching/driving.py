"""Trainings launched, watched and started again by the driver's loop, as a profile says.

It must not know studies' files, or how progress is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.content import content_key
from harness.executors.board import Board, StoppedError, WorkerNote
from harness.executors.driving import Policy, drive
from harness.executors.ending import told_to_end
from harness.executors.items import Item
from harness.executors.profile import Profile
from harness.launching.engine import LaunchEngine, item_of
from harness.launching.launch import Launch, Launcher
from harness.processors import cores
from harness.store import Store
from models.errors import UserError


class Watcher(Protocol):
    """Told how the trainings go."""

    def started(self, launch: Launch) -> None:
        """Its processes run."""

    def running(self, launch: Launch) -> None:
        """They still do; called about once a second."""

    def retried(self, launch: Launch, reason: str) -> None:
        """It starts again from its last checkpoint."""

    def ended(self, launch: Launch, failure: str | None) -> None:
        """It is over; ``failure`` is the sentence that it ended with, where it failed."""


@dataclass
class _Told:
    """`harness.executors.driving.Told`, with launches for keys."""

    launches: dict[str, Launch]
    watch: Watcher
    board: Board
    begun: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)

    def finished(self, cell: str, score: float) -> None:
        self._begin(cell)
        self.watch.ended(self.launches[cell], None)

    def broken(self, cell: str, reason: str) -> None:
        self._begin(cell)
        self.failures[cell] = reason
        self.board.write_broken(cell, self.launches[cell].title, reason)
        self.watch.ended(self.launches[cell], reason)

    def retried(self, item: Item, reason: str) -> None:
        self._begin(item.key)
        self.watch.retried(self.launches[item.key], reason)

    def workers(self, notes: list[WorkerNote]) -> None:
        for note in notes:
            self._begin(note.item)
            self.watch.running(self.launches[note.item])

    def _begin(self, key: str) -> None:
        if key not in self.begun:
            self.begun.add(key)
            self.watch.started(self.launches[key])


def drive_launches(
    launches: Sequence[Launch], launcher: Launcher, board: Board, policy: Policy, watch: Watcher,
    name: str,
) -> dict[str, str]:  # fmt: skip
    """Have all trainings done, in the order given; the sentences of those that failed, by key.

    ``name``: of the whole, for `tokenrank status`. On any exception, an interruption or a SIGTERM
    among them, all that run are ended first. Raises `UserError` where somebody asked for that.
    """
    by_key = {launch.key: launch for launch in launches}
    told = _Told(by_key, watch, board)
    board.go()
    board.forget_broken()
    board.forget_workers()
    engine = LaunchEngine(by_key, launcher, board)
    with told_to_end():
        try:
            drive([item_of(launch) for launch in launches], engine, board, policy, told, name)
        except StoppedError:
            raise UserError(
                f'"{name}" was stopped (tokenrank cancel); the same command goes on from the last '
                "checkpoints."
            ) from None
        finally:
            engine.close()
    return told.failures


def launch_key(folder: Path) -> str:
    """The same for whoever launches the training of a folder."""
    return content_key(["launch", str(folder.resolve())])


def board_of(store: Store, name: str, out: Path) -> Board:
    """Notes of the trainings of one name in one folder."""
    return Board(store, content_key(["launches", name, str(out.resolve())]))


def make_launcher(profile: Profile, workers: int | None, count: int) -> Launcher:
    """The launcher that the profile names, for ``count`` trainings, ``workers`` at a time.

    Raises `UserError` where it cannot be had, or has no room for one training's processes.
    """
    section = profile.pretraining
    if profile.executor == "local":
        from harness.executors.local import gpus  # noqa: PLC0415
        from harness.launching.local import LocalLauncher, local_shape  # noqa: PLC0415

        names = gpus()
        shape, slots = local_shape(section, workers, count, cores(), len(names))
        return LocalLauncher(shape, slots, names)
    if profile.executor == "ray":
        from harness.launching.ray import RayLauncher  # noqa: PLC0415

        return RayLauncher(profile.ray, section, workers)
    from harness.launching.slurm import SlurmLauncher  # noqa: PLC0415

    return SlurmLauncher(profile.slurm, section, workers)
