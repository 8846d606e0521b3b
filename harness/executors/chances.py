"""Second chances of items whose worker is gone: how many, and the last one for each cell alone.

A cell that kills its worker (a crash of a library, no memory) takes with it what was computed
beside it; alone it can break nothing but itself. Pure; it must not know who computes anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from harness.executors.items import Item


@dataclass
class Chances:
    """Counts the tries of items and cells; ``retries`` are the second chances of each."""

    retries: int
    _tries: Counter[str] = field(default_factory=Counter)

    def is_left(self, key: str) -> bool:
        """Whether an item or cell that went wrong, once more now, may be tried again."""
        self._tries[key] += 1
        return self._tries[key] <= self.retries

    def after_loss(self, item: Item) -> list[Item]:
        """What to try again of an item whose worker is gone; nothing if that was the last time."""
        if not self.is_left(item.key):
            return []
        if self._tries[item.key] < self.retries:
            return [item]
        return [self._alone(item, cell) for cell in item.cells]

    def _alone(self, item: Item, cell: str) -> Item:
        key = item.key if item.cells == (cell,) else f"{item.key}-{cell}"
        self._tries[key] = self._tries[item.key]
        return replace(item, key=key, cells=(cell,), alone=True)
