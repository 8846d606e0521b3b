"""Whole trainings side by side, one processor core each, that end together when one is stopped.

Threads that share the layers of a small encoder mostly wait for one another, and how many there are
changes the last bits of a sum, which hundreds of steps enlarge. One core a training has neither
flaw. It must not know what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Raised in a training to end it, because the run ends."""


def side_by_side(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    device: torch.device,
    stopped: Event,
) -> Generator[Result, None, None]:
    """``function`` of each item, in the order of the items; on an accelerator one after another.

    When one raises, or the caller is interrupted, ``stopped`` is set: the others have to look at
    it now and then and raise `StoppedError`, or an interrupt would wait for all of them.
    """
    if device.type != "cpu":
        yield from map(function, items)
        return
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    # What the first optimiser imports must not be imported by two threads at once.
    torch.optim.AdamW([torch.zeros(1)])
    try:
        # The number of threads is kept per thread by OpenMP: each worker has to be told.
        with ThreadPoolExecutor(cores, initializer=lambda: torch.set_num_threads(1)) as pool:
            waiting = [pool.submit(function, item) for item in items]
            try:
                for each in waiting:
                    yield each.result()
            except BaseException:
                stopped.set()
                for each in waiting:
                    each.cancel()
                raise
    finally:
        torch.set_num_threads(cores)
