"""Cells computed, stored and noted, each by one worker at a time: what every executor runs.

It must know nothing of suites' files, ranking, tracking, or who hands out the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.cell import Notify, Seconds, compute
from harness.encoders import check_weights
from harness.plan import Cell, Plan
from harness.probes.study_database import DATABASE, require_database
from harness.store import CellResult, Store
from harness.suite_file import FinetuneProbe, LinearProbe


@dataclass(frozen=True)
class Done:
    """A finished cell and what it cost here: nothing where somebody else computed it."""

    cell: Cell
    seconds: Seconds
    score: float


def device() -> torch.device:
    """The accelerator if one is usable, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_first(cells: Sequence[Cell], store: Store) -> None:
    """Raise now what a checkpoint or the studies' database would when its cell's turn came."""
    address = os.environ.get(DATABASE)
    if address and any(isinstance(cell.task.probe, LinearProbe | FinetuneProbe) for cell in cells):
        require_database(address)
    known: dict[str, bool] = {}
    for cell in cells:
        for job in cell.embeddings:
            if job.key not in known:
                known[job.key] = store.has_embedding(job.key)
    check_weights(
        each
        for cell in cells
        for each in (cell.embeddings or [cell])  # without embeddings, the encoder is trained
        if isinstance(each, Cell) or not known[each.key]
    )


def try_cell(plan: Plan, cell: Cell, store: Store, notify: Notify) -> Done | None:
    """The cell, computed now unless it is stored; None while another process computes it."""
    name = _claim(cell)
    if not store.claims.take(name):
        return None
    try:
        return finish(plan, cell, store, notify)
    finally:
        store.claims.release(name)


def wait_cell(plan: Plan, cell: Cell, store: Store, notify: Notify) -> Done:
    """The cell, waiting for whoever computes it; computed here where they give up."""

    def known() -> CellResult | None:
        notify("waiting for another process", 0, 1)
        return store.cell(cell.key)

    with store.claims.first(_claim(cell), known):
        return finish(plan, cell, store, notify)


def _claim(cell: Cell) -> str:
    return f"cell-{cell.key}"


def finish(plan: Plan, cell: Cell, store: Store, notify: Notify) -> Done:
    """The cell, from the store or computed now and stored."""
    known = store.cell(cell.key)
    if known is not None:
        return Done(cell, Seconds(), known.scores[known.metric][0])
    started = time.perf_counter()
    where = device()
    dataset = plan.dataset_of(cell.task)
    result, seconds = compute(cell, dataset, store, where, notify)
    store.put_cell(result)
    store.note_timing(
        {
            "cell": cell.key,
            "variant": cell.variant.name,
            "task": cell.task.name,
            "seed": cell.seed,
            "device": where.type,
            "seconds": round(time.perf_counter() - started, 4),
            "encoder": round(seconds.encoder, 4),
            "probe": round(seconds.probe, 4),
            "pixels": round(seconds.pixels, 4),
            "embedded_samples": seconds.samples,
        }
    )
    return Done(cell, seconds, result.scores[result.metric][0])
