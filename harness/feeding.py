"""Batches to an accelerator and what becomes of them back, none of which waits for another.

While it computes one batch, all processor cores prepare the next one, piece by piece, pieces are
copied to it by a stream of their own, and results of the batches before are on their way back. It
must not know what is computed, nor that the accelerator is CUDA's but in `Cuda`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.cores import on_each_core

Tensors = Mapping[str, Tensor]
Rows = tuple[int, int]
"""The first sample, and the one after the last."""

UNDERWAY = 2
"""Batches that the accelerator was given and whose results were not yet waited for."""


class Accelerator(Protocol):
    """Copies that do not wait. `Cuda` is one."""

    def held(self, tensor: Tensor) -> Tensor:
        """The tensor in memory that the accelerator can read while the processor goes on."""
        ...

    def send(self, tensor: Tensor) -> Tensor:
        """A copy on the accelerator, of a tensor that is `held`; it may still be on its way."""
        ...

    def await_sent(self, tensors: Sequence[Tensor]) -> None:
        """What is computed from now on may read what was sent. The processor does not wait."""
        ...

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Have it copied back as soon as it is computed; the answer waits for the copy."""
        ...


class Cuda:
    """A CUDA device: page-locked memory, a stream for copies, an event for each result."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def held(self, tensor: Tensor) -> Tensor:
        """Page-locked."""
        return tensor.pin_memory()

    def send(self, tensor: Tensor) -> Tensor:
        """By the stream for copies."""
        with torch.cuda.stream(self.copies):
            return tensor.to(self.device, non_blocking=True)

    def await_sent(self, tensors: Sequence[Tensor]) -> None:
        """By the device itself."""
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.copies)
        for tensor in tensors:
            tensor.record_stream(computing)  # or its memory might be given away too early

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Into page-locked memory."""
        found = tensor.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(self.device))

        def wait() -> Tensor:
            copied.synchronize()
            return found

        return wait


def through(
    accelerator: Accelerator,
    load: Callable[[Rows], Tensors],
    compute: Callable[[Tensors], Tensors],
    total: int,
    batch: int,
) -> Iterator[tuple[Rows, dict[str, Tensor]]]:
    """What ``compute`` makes of each batch of ``total`` samples, in order, on the processor.

    ``load`` prepares some samples of a batch, on the processor, in any thread; ``compute`` is given
    all of the batch on the accelerator. At most the pieces of two batches are in the processor's
    memory, and `UNDERWAY` + 1 batches in the accelerator's.
    """

    def prepared(rows: Rows) -> tuple[Rows, dict[str, Tensor]]:
        return rows, {name: accelerator.held(x) for name, x in load(rows).items()}

    underway: deque[tuple[Rows, dict[str, Callable[[], Tensor]]]] = deque()
    arrived: list[dict[str, Tensor]] = []
    for (_, stop), piece in on_each_core(prepared, pieces(total, batch, torch.get_num_threads())):
        arrived.append({name: accelerator.send(x) for name, x in piece.items()})
        if stop % batch and stop != total:
            continue
        accelerator.await_sent([x for sent in arrived for x in sent.values()])
        whole = {name: torch.cat([sent[name] for sent in arrived]) for name in arrived[0]}
        found = compute(whole)
        rows = ((stop - 1) // batch * batch, stop)
        underway.append((rows, {name: accelerator.fetch(x) for name, x in found.items()}))
        arrived = []
        if len(underway) > UNDERWAY:
            yield _waited_for(*underway.popleft())
    while underway:
        yield _waited_for(*underway.popleft())


def pieces(total: int, batch: int, count: int) -> Iterator[Rows]:
    """Each batch in at most ``count`` pieces of about one size; none reaches over its end."""
    for start in range(0, total, batch):
        stop = min(start + batch, total)
        step = -(-(stop - start) // count)
        for first in range(start, stop, step):
            yield first, min(first + step, stop)


def _waited_for(
    rows: Rows, results: Mapping[str, Callable[[], Tensor]]
) -> tuple[Rows, dict[str, Tensor]]:
    return rows, {name: wait() for name, wait in results.items()}
