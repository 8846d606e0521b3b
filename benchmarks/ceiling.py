"""What a device multiplies at most: plain matrix products, timed as the device itself counts.

A ceiling to hold an encoder to, from the same run: what is advertised of a device, or was measured
of another of its kind, says little of this one at this clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
BEST_OF = 5
Shape = tuple[int, int, int]
"""Rows, inner dimension, columns."""


@dataclass(frozen=True)
class Ceiling:
    """The best of some products, in multiply-accumulates per second, and the shape that gave it."""

    macs_per_second: float
    shape: Shape

    @property
    def words(self) -> str:
        """E.g. ``412.3 TMAC/s (8192 x 8192 x 8192)``."""
        return f"{tera(self.macs_per_second)} ({' x '.join(map(str, self.shape))})"


def tera(macs_per_second: float) -> str:
    """In a unit that suits it."""
    if macs_per_second >= 1e12:
        return f"{macs_per_second / 1e12:.1f} TMAC/s"
    return f"{macs_per_second / 1e9:.1f} GMAC/s"


def shapes_of(width: int, rows: int) -> list[Shape]:
    """The products of one block of this width, over so many tokens: qkv, proj, fc1, fc2."""
    return [
        (rows, width, 3 * width),
        (rows, width, width),
        (rows, width, 4 * width),
        (rows, 4 * width, width),
    ]


def ceiling(
    shapes: Sequence[Shape], precision: str, device: torch.device, seconds: float
) -> Ceiling:
    """The best of these products, ``seconds`` for each."""
    found = [Ceiling(_rate(shape, DTYPES[precision], device, seconds), shape) for shape in shapes]
    return max(found, key=lambda each: each.macs_per_second)


def _rate(shape: Shape, dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    rows, inner, columns = shape
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(columns, inner, device=device, dtype=dtype).t()  # as layers keep their weights
    return rows * inner * columns / seconds_of(lambda: torch.matmul(a, b), device, seconds)


def seconds_of(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call: the best of `BEST_OF` rounds of calls, after a first that warms up."""
    count = 1
    with torch.inference_mode():
        while (taken := _timed(work, count, device)) < seconds / BEST_OF and count < 1 << 20:
            count = max(2 * count, min(10 * count, int(count * seconds / BEST_OF / taken) + 1))
        return min(_timed(work, count, device) for _ in range(BEST_OF)) / count


def _timed(work: Callable[[], object], count: int, device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        for _ in range(count):
            work()
        return time.perf_counter() - started
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    for _ in range(count):
        work()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1e3
