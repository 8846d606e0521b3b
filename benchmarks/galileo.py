"""Throughput of the Galileo encoder beside the documented figure of the authors' code.

The authors' code is on no package registry, so it is not run here: its figure is a measured one,
about 22 samples per second for nano on 64 x 64 Sentinel-2 at patch 8, two cores, with the masks
that it always applies (17 groups in, five of them visible). Ours runs as the harness runs it,
one batch per core, without masks; a second row hides the same groups by masks, for what they
cost. Weights are random, which changes no speed. Prints a markdown table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.cores import on_each_core
from models.galileo.encoder import GalileoEncoder, build, init_random
from models.registry import load_registry

S2 = "sentinel2_l2a"
SIDE = 64
DOCUMENTED = {("nano", 8): 22.0}
"""Samples per second of the authors' code, by size and patch size."""
PER_RUN = 2 * torch.get_num_threads()  # batches that are timed together


@dataclass(frozen=True)
class Batch:
    """What one call of the encoder gets."""

    values: dict[str, Tensor]
    timestamps: Tensor
    masks: dict[str, Tensor] | None
    patch_size: int


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="nano", help="nano,tiny,base")
    parser.add_argument("--patch-sizes", default="8,4")
    parser.add_argument("--batches", default="1,4,16", help="batch sizes, one column each")
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    batches = [int(b) for b in arguments.batches.split(",")]
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, Sentinel-2 {SIDE} x {SIDE}, "
        f"T = 1, five groups; samples/s by batch size; load average at the start "
        f"{os.getloadavg()[0]:.1f} (figures of a busy machine are too low)\n"
    )
    heads = " | ".join(f"batch {b}" for b in batches)
    print(f"| variant | patch | masks | {heads} | authors' code (documented) | ratio of the best |")
    print("| --- " * (5 + len(batches)) + "|")
    for size in arguments.sizes.split(","):
        for patch_size in map(int, arguments.patch_sizes.split(",")):
            for masked in (False, True):
                rates = [_rate(size, patch_size, b, masked, arguments.seconds) for b in batches]
                print(_row(size, patch_size, masked, rates), flush=True)


def _row(size: str, patch_size: int, masked: bool, rates: list[float]) -> str:
    documented = DOCUMENTED.get((size, patch_size))
    cells = [
        f"galileo-v1-{size}",
        str(patch_size),
        "yes" if masked else "none",
        *(f"{rate:.1f}" for rate in rates),
        f"about {documented:.0f}" if documented else "not documented",
        f"{max(rates) / documented:.1f}x" if documented else "",
    ]
    return f"| {' | '.join(cells)} |"


def _rate(size: str, patch_size: int, samples: int, masked: bool, seconds: float) -> float:
    """Samples per second: median over repeated runs of ``PER_RUN`` batches."""
    # What the authors' code is given, it is given with NDVI, which it then hides.
    scheme = ":with-ndvi" if masked else ""
    encoder = build(load_registry().variant(f"galileo-v1-{size}{scheme}"), {}).eval()
    init_random(encoder, 0)
    batch = _batch(encoder, samples, patch_size, masked)

    def encode(given: Batch) -> Tensor:
        with torch.inference_mode():
            tokens = encoder(given.values, given.timestamps, given.patch_size, given.masks)
            optical: Tensor = tokens[S2]
            return optical

    times: list[float] = []
    encode(batch)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        list(on_each_core(encode, [batch] * PER_RUN))
        times.append(time.perf_counter() - start)
    return PER_RUN * samples / statistics.median(times)


def _batch(encoder: GalileoEncoder, samples: int, patch_size: int, masked: bool) -> Batch:
    generator = torch.Generator().manual_seed(samples)
    values, masks = {}, {}
    for name, source in encoder.sources.items():
        if name != S2 and not masked:
            continue
        space = (SIDE, SIDE) if source.in_space else ()
        axes = (samples, *space, *((1,) if source.in_time else ()))
        values[name] = torch.rand(*axes, len(source.channels), generator=generator)
        hidden = [name != S2 or group.name == "NDVI" for group in source.groups]
        masks[name] = torch.tensor(hidden, dtype=torch.float32).expand(*axes, len(hidden))
    timestamps = torch.tensor([[[15, 6, 2021]]]).repeat(samples, 1, 1)
    return Batch(values, timestamps, masks if masked else None, patch_size)


if __name__ == "__main__":
    main()
