"""Cells computed by workers of an engine, as the profile says; the same results as in one process.

It joins engine, items and driver, and knows nothing of ranking, reports or tracking.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from harness.executors.board import Board, StoppedError, WorkerNote
from harness.executors.driving import Driven, drive
from harness.executors.engine import Engine
from harness.executors.items import Item, items_of
from harness.executors.needs import Needs
from harness.executors.profile import Profile
from harness.executors.spec import Spec, forget_hands, shake_hands
from harness.plan import Cell, Places, Plan, shown_name
from harness.store import Store
from harness.suite import Overrides
from harness.suite_file import FinetuneProbe
from models.errors import UserError

MakeEngine = Callable[[Profile, Spec, list[Item]], Engine]


class Watcher(Protocol):
    """Told how a run of many workers goes."""

    def finished(self, cell: Cell, score: float) -> None:
        """A cell is stored."""

    def broken(self, cell: Cell, reason: str) -> None:
        """A cell is given up."""

    def retried(self, cells: list[Cell], reason: str) -> None:
        """Cells start again."""

    def workers(self, notes: list[WorkerNote]) -> None:
        """What everyone is at, about once a second."""


@dataclass(frozen=True)
class _Told:
    """`harness.executors.driving.Told`, with cells for keys."""

    plan: Plan
    cells: Mapping[str, Cell]
    watch: Watcher
    board: Board

    def finished(self, cell: str, score: float) -> None:
        self.watch.finished(self.cells[cell], score)

    def broken(self, cell: str, reason: str) -> None:
        found = self.cells[cell]
        self.board.write_broken(cell, label(self.plan, found), reason)
        self.watch.broken(found, reason)

    def retried(self, item: Item, reason: str) -> None:
        self.watch.retried([self.cells[key] for key in item.cells], reason)

    def workers(self, notes: list[WorkerNote]) -> None:
        self.watch.workers(notes)


def label(plan: Plan, cell: Cell) -> str:
    """A cell in words."""
    return f"{shown_name(plan, cell)} · {cell.task.name} · seed {cell.seed}"


def compute_on(
    profile: Profile,
    plan: Plan,
    to_do: list[Cell],
    places: Places,
    store: Store,
    overrides: Overrides,
    watch: Watcher,
) -> Driven:
    """Have workers compute the cells that are not in the store.

    Raises `UserError` where the engine cannot be had, workers see another store, code or data, or
    somebody asked for the run to be stopped.
    """
    board = Board(store, plan.key)
    board.go()
    board.forget_broken()
    board.forget_workers()
    items = items_of(to_do, Needs(plan, store, to_do, _threads(profile)).of)
    told = _Told(plan, {cell.key: cell for cell in to_do}, watch, board)
    with _shaken(store) as shake:
        spec = Spec.of(plan, overrides, places, store, shake)
        engine = make_engine(profile, spec, items)
        try:
            return drive(
                items,
                engine,
                board,
                profile.policy,
                told,
                plan.suite.name,
                lambda item: in_smaller_batches(item, told.cells, store),
                lambda cells: _scores(cells, store),
            )
        except StoppedError:
            raise UserError(
                f'The run of "{plan.suite.name}" was stopped (tokenrank cancel); finished cells '
                "are kept, and the same command goes on from here."
            ) from None
        finally:
            engine.close()


def _threads(profile: Profile) -> int:
    """Of a worker, where its memory is asked for."""
    return {"ray": max(1, int(profile.ray.cpus)), "slurm": profile.slurm.cpus}.get(
        profile.executor, 1
    )


def make_engine(profile: Profile, spec: Spec, items: list[Item]) -> Engine:
    """The engine that the profile names; `UserError` where it cannot be had."""
    if profile.executor == "local":
        from harness.executors.local import LocalPool, gpus, places  # noqa: PLC0415

        return LocalPool(spec, places(profile.local.workers, gpus()))
    if profile.executor == "ray":
        from harness.executors.ray import RayEngine  # noqa: PLC0415

        return RayEngine(spec, profile.ray, items)
    from harness.executors.slurm import SlurmEngine  # noqa: PLC0415

    return SlurmEngine(spec, profile.slurm, items)


def in_smaller_batches(item: Item, cells: Mapping[str, Cell], store: Store) -> None:
    """A worker was ended for want of memory: what it made is made in smaller batches now."""
    from harness.memory import halve  # noqa: PLC0415  (torch loads)

    keys = {job.key for key in item.cells for job in cells[key].embeddings}
    trained = {key for key in item.cells if isinstance(cells[key].task.probe, FinetuneProbe)}
    for key in sorted(keys):
        if not store.has_embedding(key):
            halve(store, key)
    for key in sorted(trained):
        if not store.has_cell(key):
            halve(store, key)


def _scores(cells: Sequence[str], store: Store) -> dict[str, float]:
    """Of those of the cells that are finished."""
    store.fetch_cells(cells)
    found = {key: store.cell(key, with_predictions=False) for key in cells if store.has_cell(key)}
    return {key: cell.scores[cell.metric][0] for key, cell in found.items() if cell is not None}


@contextmanager
def _shaken(store: Store) -> Iterator[str]:
    token = shake_hands(store, uuid.uuid4().hex)
    try:
        yield token
    finally:
        forget_hands(store, token)
