"""Encoder throughput beside the reference package: same weights, same inputs, one run.

Both get the batch size that suits them best, found by a short search; then their runs
alternate, so that whatever else the machine does falls on both, and medians are compared.
Prints a markdown table. The reference runs its own mask-free fast path, every layer on all
threads; ours runs as the harness runs it, one batch per core (`harness.cores`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from olmoearth_pretrain_minimal import OlmoEarthPretrain_v1
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import (
    MaskedOlmoEarthSample,
)
from torch import Tensor

from harness.cores import on_each_core
from models.olmoearth.checkpoint import load_reference_state_dict
from models.olmoearth.config import config_of
from models.olmoearth.encoder import OlmoEarthEncoder
from models.registry import load_registry

S2 = "sentinel2_l2a"
Run = Callable[[], Tensor] | Callable[[], list[Tensor]]
PER_RUN = 4 * torch.get_num_threads()  # batches of ours that are timed together


@dataclass(frozen=True)
class Row:
    """One line of the table: samples per second and the batch sizes they were reached with."""

    variant: str
    patch_size: int
    reference: float
    ours: float
    batches: tuple[int, int]
    difference: float

    def markdown(self) -> str:
        """As a table row."""
        return (
            f"| {self.variant} | {self.patch_size} | {self.reference:.2f} ({self.batches[0]}) | "
            f"{self.ours:.2f} ({self.batches[1]}) | {self.ours / self.reference:.2f}x | "
            f"{self.difference:.0e} |"
        )


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--sizes", default="nano,tiny,small,base", help="nano,tiny,small,base,large"
    )
    parser.add_argument("--versions", default="v1,v1.1,v1.2")
    parser.add_argument("--patch-sizes", default="4,8")
    parser.add_argument("--batches", default="1,2,4,8,16", help="batch sizes to choose from")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row, search apart")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, Sentinel-2 64 x 64, T = 1\n")
    print("| variant | patch | reference, samples/s (batch) | ours (batch) | ratio | difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in arguments.sizes.split(","):
        for version in arguments.versions.split(","):
            if size not in load_registry().families["olmoearth"].versions[version].sizes:
                continue
            theirs, ours = _encoders(version, size)
            for patch_size in map(int, arguments.patch_sizes.split(",")):
                batches = [int(b) for b in arguments.batches.split(",")]
                row = _measure(theirs, ours, patch_size, batches, arguments.seconds)
                print(Row(f"olmoearth-{version}-{size}", patch_size, *row).markdown(), flush=True)


def _encoders(version: str, size: str) -> tuple[Any, OlmoEarthEncoder]:
    torch.manual_seed(0)
    model = OlmoEarthPretrain_v1(model_size=size, model_version=version).model.eval()
    ours = OlmoEarthEncoder(config_of(load_registry().variant(f"olmoearth-{version}-{size}")))
    ours.eval()
    load_reference_state_dict(ours, model.state_dict())
    return model.encoder, ours


def _measure(
    theirs: Any, ours: OlmoEarthEncoder, patch_size: int, batches: list[int], seconds: float
) -> tuple[float, float, tuple[int, int], float]:
    groups = len(ours.config.scheme.of(S2))

    def runs(batch: int) -> tuple[Run, Run]:
        images = torch.rand(batch, 64, 64, 1, 12, generator=torch.Generator().manual_seed(batch))
        stamps = torch.tensor([[[15, 6, 2021]]]).repeat(batch, 1, 1)
        mask = torch.zeros(batch, 64, 64, 1, groups)
        sample = MaskedOlmoEarthSample(
            timestamps=stamps, sentinel2_l2a=images, sentinel2_l2a_mask=mask
        )

        def reference() -> Tensor:
            out = theirs(sample, patch_size=patch_size, fast_pass=True)["tokens_and_masks"]
            tokens: Tensor = out.sentinel2_l2a
            return tokens

        def own() -> list[Tensor]:
            return list(on_each_core(encode, [(images, stamps)] * PER_RUN))

        return reference, own

    def encode(inputs: tuple[Tensor, Tensor]) -> Tensor:
        with torch.inference_mode():
            return ours({S2: inputs[0]}, inputs[1], patch_size)[S2]

    with torch.inference_mode():
        reference, own = runs(1)
        difference = float((reference() - own()[0]).abs().max())
        best = [_best_batch([runs(b)[side] for b in batches], batches, seconds) for side in (0, 1)]
        reference, own = runs(best[0])[0], runs(best[1])[1]
        spent: tuple[list[float], list[float]] = ([], [])
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(spent[1]) < 3:
            spent[0].append(_timed(reference) / best[0])
            spent[1].append(_timed(own) / (PER_RUN * best[1]))
    rates = [1 / statistics.median(times) for times in spent]
    return rates[0], rates[1], (best[0], best[1]), difference


def _best_batch(runs: list[Run], batches: list[int], seconds: float) -> int:
    """The batch size with the most samples per second, searched upwards for ``seconds`` at most."""
    best, best_rate = batches[0], 0.0
    end = time.perf_counter() + seconds
    for run, batch in zip(runs, batches, strict=True):
        run()
        rate = batch / min(_timed(run) for _ in range(2))
        if rate > best_rate:
            best, best_rate = batch, rate
        if time.perf_counter() > end or rate < 0.8 * best_rate:
            break
    return best


def _timed(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
