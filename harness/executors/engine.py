"""What hands items to workers: the interface that a process pool, Ray and Slurm implement.

An engine tells what ended and how. It must not know about second chances, results, or what an item
is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from harness.executors.items import Item
from harness.executors.worker import Account

How = Literal["done", "lost", "memory"]


@dataclass(frozen=True)
class Ended:
    """An item that is with its worker no more.

    "done": the account says what came of its cells; "lost": the worker, its node or the engine is
    gone; "memory": it was ended for want of memory.
    """

    item: str
    how: How
    account: Account | None = None
    reason: str = ""


class Engine(Protocol):
    """Hands items to workers; one module per engine. ``slots``: how many at the same time."""

    name: str

    @property
    def slots(self) -> int:
        """Items that it takes now, at most, those in work included."""

    def submit(self, item: Item) -> None:
        """Give an item to a worker, now or when one is free."""

    def wait(self, seconds: float) -> list[Ended]:
        """Items that ended, waiting for at most so long for the first."""

    def avoid(self, node: str) -> None:
        """Give a node nothing more, if there is another; as an account names it."""

    def cancel(self, item: str) -> None:
        """End its worker, if it is in work; `wait` tells it as lost."""

    def close(self) -> None:
        """End all workers; nothing is left behind."""
