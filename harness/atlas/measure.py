"""What a machine really takes: samples per second and peak memory, of encoders with random weights.

Speed and memory do not depend on what the weights are, so nothing is downloaded. It must not
know closed forms: its figures are there to be compared with them.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from harness.atlas.collect import changed
from harness.cores import on_each_core
from harness.embed import batch_size
from harness.provenance import hardware
from models.families import design_of, encoder_code
from models.registry import Variant
from models.tokens import InputShape
from reports.atlas import Entry, Measurement

SEED = 0
MONTH = 6  # any will do: nothing that is measured depends on it

Images = dict[str, Tensor]


def device_to_measure() -> torch.device:
    """The accelerator if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Subject:
    """One variant's encoder with random weights, and inputs of any shape for it."""

    def __init__(
        self, variant: Variant, shapes: Sequence[InputShape], device: torch.device
    ) -> None:
        self.variant = variant
        code = encoder_code(variant)
        encoder = code.build(variant, {s.modality: s.bands or () for s in shapes})
        self.encoder: nn.Module = code.init_random(encoder, SEED).to(device).eval()
        self.device = device

    def inputs(self, shapes: Sequence[InputShape], batch: int) -> tuple[Images, Tensor]:
        """Noise of these shapes, and the dates that go with it."""
        noise = torch.Generator().manual_seed(SEED)
        images = {
            s.modality: torch.rand(
                batch, s.height, s.width, s.steps, len(s.bands or ()), generator=noise
            ).to(self.device)
            for s in shapes
        }
        dates = torch.tensor([15, MONTH, 2020], device=self.device)
        return images, dates.expand(batch, shapes[0].steps, 3).contiguous()

    def encode(self, given: tuple[Images, Tensor], patch_size: int) -> dict[str, Tensor]:
        """One forward pass."""
        with torch.inference_mode():
            tokens: dict[str, Tensor] = self.encoder(*given, patch_size)
            return tokens


SIDES, STEPS, PATCH_SIZES = (32, 64, 128), (1, 4, 12), (4, 8)
MOST_MACS = 3e10
"""Per sample; what costs more is not measured, for it would take minutes on a laptop."""
SECONDS = 0.3  # of throughput, per input


def machine() -> dict[str, str]:
    """Where it is measured, in words; other work on a machine slows what is measured on it."""
    device = device_to_measure()
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(), "torch": f"torch {torch.__version__}"}
    threads = torch.get_num_threads()
    return {
        "device": hardware()["processor"],
        "cores": f"{threads} thread{'s' * (threads > 1)}",
        "load": f"load average {os.getloadavg()[0]:.1f} before"
        if hasattr(os, "getloadavg")
        else "",
        "torch": f"torch {torch.__version__}",
    }


def measured_entry(
    entry: Entry, variant: Variant, shapes: Sequence[InputShape], seconds: float = SECONDS
) -> Entry:
    """The entry with measurements at some of its curves' values, its own input among them."""
    subject = Subject(variant, shapes, device_to_measure())
    own = {
        "side": shapes[0].height,
        "steps": shapes[0].steps,
        "patch_size": entry.patch_size,
    }
    wanted = {
        "side": {*SIDES, own["side"]},
        "steps": {*STEPS, own["steps"]},
        "patch_size": {*PATCH_SIZES, own["patch_size"]},
    }
    taken: dict[tuple[tuple[InputShape, ...], int], Measurement] = {}
    found = []
    for point in entry.curves:
        inputs = changed(shapes, entry.patch_size, point.axis, point.value)
        if point.value not in wanted[point.axis]:
            continue
        if point.macs.total > MOST_MACS and inputs != (tuple(shapes), entry.patch_size):
            continue
        if inputs not in taken:
            taken[inputs] = measure(subject, *inputs, seconds)
        found.append(replace(taken[inputs], axis=point.axis, value=point.value))
    return replace(entry, measured=tuple(found))


def measure(
    subject: Subject, shapes: Sequence[InputShape], patch_size: int, seconds: float
) -> Measurement:
    """Peak memory of one sample and throughput in batches, for these shapes (as image side)."""
    single = subject.inputs(shapes, 1)
    peak = peak_bytes(lambda: subject.encode(single, patch_size), subject.device)
    design = design_of(subject.variant)
    tokens = design.layout(shapes, patch_size).tokens
    batch = batch_size(tokens, design.width(shapes), subject.device)
    rate = samples_per_second(subject, subject.inputs(shapes, batch), patch_size, seconds)
    return Measurement("side", shapes[0].height, rate, batch, peak)


def samples_per_second(
    subject: Subject, given: tuple[Images, Tensor], patch_size: int, seconds: float
) -> float:
    """As the harness embeds: a batch on each processor core, or one by one on an accelerator.

    A first pass is not counted; neither is pooling, nor reading images.
    """
    batch, cores = len(given[1]), torch.get_num_threads()
    on_cpu = subject.device.type == "cpu"
    rounds = cores if on_cpu else 1

    def one(_: int) -> None:
        subject.encode(given, patch_size)

    def run(count: int) -> float:
        started = time.perf_counter()
        if on_cpu:
            list(on_each_core(one, range(count)))
        else:
            for each in range(count):
                one(each)
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once = max(run(rounds), 1e-6)
    count = rounds * max(1, min(10_000, round(seconds / once)))
    return count * batch / run(count)


def peak_bytes(forward: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that a pass holds at once, on top of weights and input images.

    On the CPU by the allocations that torch's profiler records, on CUDA by the allocator's own
    count. Tables that a first pass leaves behind for the next ones (position encodings, CROMA's
    distance penalty) are held during every pass, so they are part of it.
    """
    _forget_tables()
    if device.type == "cuda":
        return _peak_on_cuda(forward)
    first, second = (_allocations(forward) for _ in range(2))
    kept = max(0, first[-1] - second[-1])  # both end with the output alive
    return max(second) + kept


def _allocations(forward: Callable[[], Any]) -> list[int]:
    """Bytes held after each allocation and release of one pass, from 0."""
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415  (slow to import)

    gc.collect()
    cpu = [ProfilerActivity.CPU]
    with _silent_stderr(), profile(activities=cpu, profile_memory=True) as recorded:
        output = forward()
    assert recorded.profiler is not None
    events = recorded.profiler.kineto_results.events()
    found = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    del output
    return [0, *accumulate(size for _, size in sorted(found, key=lambda e: e[0]))]


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's own lines, which no setting of it turns off, are not the user's concern."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _peak_on_cuda(forward: Callable[[], Any]) -> int:
    before = torch.cuda.memory_allocated()
    output = forward()  # leaves the tables behind
    del output
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    output = forward()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del output
    return int(peak)


def _forget_tables() -> None:
    """Empty the caches of `models`, so that a first pass makes its tables anew."""
    for name, module in list(sys.modules.items()):
        if name.startswith("models."):
            for value in vars(module).values():
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()
