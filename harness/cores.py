"""Independent pieces of work, one processor core each, results in order.

A small encoder spends much of its time waiting at the barriers between two threads that
share every layer; two samples on two cores have no barrier. As a side effect a result
does not depend on how many cores there are. It must know nothing of what the work is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_each_core(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``function`` of each item, in the order of the items, as many at a time as torch has threads.

    At most one finished result per core waits to be taken, so memory is bounded however
    many items there are. Threads suffice: torch releases the interpreter while it computes.
    """
    cores = torch.get_num_threads()
    with _single_threaded(), ThreadPoolExecutor(cores, initializer=_one_thread) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _one_thread() -> None:
    # The number of threads is kept per thread by OpenMP: each worker has to be told.
    torch.set_num_threads(1)


@contextmanager
def _single_threaded() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
