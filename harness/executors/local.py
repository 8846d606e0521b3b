"""Runs cells one after another in this process, on the GPU if there is one.

On a laptop an encoder already uses every core, so cells do not run side by side; what
is shared (decoded images, embeddings) is found in the store. It must know nothing of
suites, ranking or tracking.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from harness.cell import Notify, Seconds, compute
from harness.encoders import check_weights
from harness.plan import Cell, Plan
from harness.store import Store


@dataclass(frozen=True)
class Done:
    """A finished cell and what it cost."""

    cell: Cell
    seconds: Seconds
    score: float


def device() -> torch.device:
    """The accelerator if one is usable, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_first(cells: Iterable[Cell], store: Store) -> None:
    """Raise now what a checkpoint would raise when its cell's turn came."""
    check_weights(
        each
        for cell in cells
        for each in (cell.embeddings or [cell])  # without embeddings, the encoder is trained
        if isinstance(each, Cell) or store.embedding(each.key) is None
    )


def run_cells(plan: Plan, cells: Iterable[Cell], store: Store, notify: Notify) -> Iterator[Done]:
    """Compute cells, store each as soon as it is done, and yield it.

    Raises what a cell raises: what stands in the store by then stays valid.
    """
    where = device()
    for cell in cells:
        started = time.perf_counter()
        dataset = plan.dataset_of(cell.task)
        result, seconds = compute(cell, dataset, store, where, notify)
        store.put_cell(result)
        wall = time.perf_counter() - started
        store.note_timing(
            {
                "cell": cell.key,
                "variant": cell.variant.name,
                "task": cell.task.name,
                "seed": cell.seed,
                "device": where.type,
                "seconds": round(wall, 4),
                "encoder": round(seconds.encoder, 4),
                "probe": round(seconds.probe, 4),
                "pixels": round(seconds.pixels, 4),
                "embedded_samples": seconds.samples,
            }
        )
        yield Done(cell, seconds, result.scores[result.metric][0])
