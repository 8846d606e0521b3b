"""What is handed to a worker at once: cells that share embeddings, so that these are made once.

Pure: cells in, items out, the longest first. It must not know who computes them, or where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.content import content_key
from harness.plan import Cell


@dataclass(frozen=True)
class GpuNeed:
    """Bytes of a GPU's memory: with batches as they are planned, and the least that it works with.

    A batch that does not fit is halved, down to one sample.
    """

    memory: int
    least: int


@dataclass(frozen=True)
class Need:
    """What an item is expected to take: seconds on one worker, bytes of memory.

    ``gpu``: where a GPU computes it; None: nobody can tell.
    """

    seconds: float
    memory: int
    gpu: GpuNeed | None = None


@dataclass(frozen=True)
class Item:
    """Cells (by key, in the suite's order) that one worker computes one after another.

    ``patient``: it waits for cells that others have in work; else it leaves them to a later turn.
    ``alone``: nothing else may be lost with it, should it end its worker.
    """

    key: str
    cells: tuple[str, ...]
    need: Need
    patient: bool = False
    alone: bool = False


Expect = Callable[[tuple[Cell, ...]], Need]


def items_of(cells: Iterable[Cell], expect: Expect) -> list[Item]:
    """Cells that share an embedding, directly or through another cell, are one item."""
    groups = _together(cells)
    items = []
    for group in groups:
        keys = tuple(cell.key for cell in group)
        items.append(Item(content_key(sorted(keys))[:32], keys, expect(group)))
    # Of equal length, in the suite's order.
    return sorted(items, key=lambda item: -item.need.seconds)


def _together(cells: Iterable[Cell]) -> list[tuple[Cell, ...]]:
    leader: dict[str, str] = {}  # embedding -> the embedding that its group is known by

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    distinct: Mapping[str, Cell] = {cell.key: cell for cell in cells}
    for cell in distinct.values():
        for job in cell.embeddings[1:]:
            leader[find(job.key)] = find(cell.embeddings[0].key)
    groups: dict[str, list[Cell]] = {}
    for cell in distinct.values():
        name = find(cell.embeddings[0].key) if cell.embeddings else cell.key
        groups.setdefault(name, []).append(cell)
    return [tuple(group) for group in groups.values()]
