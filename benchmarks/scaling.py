"""One suite by one worker and by two: how much sooner it is done.

Eight cells of v1.1 nano with seeded weights, none of which shares an embedding, on simulated tiles.
The run has as many processor cores as workers, and each worker one thread; seconds are those of the
whole command, from its start to the report. Prints a markdown table.

    python -m benchmarks.scaling [--workers 1 2] [--cells 8] [--tiles 400]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.suite import run_command
from harness.processors import cores

SUITE = """\
name: scaling
title: Cells that share nothing
protocol: {{patch_size: 4, bootstrap: 100}}
tier: random
seeds: [{seeds}]
variants: [olmoearth-v1.1-nano]
baselines: []
tasks:
  - {{name: near, dataset: simulated, data: {{size: {tiles}}}, probe: {{kind: knn}}}}
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--tiles", type=int, default=400)
    asked = parser.parse_args()
    print("| workers | seconds | times as fast |")
    print("| ---: | ---: | ---: |")
    first = None
    for workers in asked.workers:
        if workers > cores():
            print(f"| {workers} | more than the {cores()} cores here | |")
            continue
        seconds = by_workers(workers, asked.cells, asked.tiles)
        first = first or seconds
        print(f"| {workers} | {seconds:.0f} | {first / seconds:.2f} |", flush=True)


def by_workers(workers: int, cells: int, tiles: int) -> float:
    """Seconds of the command, on a store of its own."""
    with tempfile.TemporaryDirectory() as folder, _cores(workers):
        suite = Path(folder) / "scaling.yaml"
        seeds = ", ".join(map(str, range(cells)))
        suite.write_text(SUITE.format(seeds=seeds, tiles=tiles))
        arguments = ["run", str(suite), "--store", f"{folder}/store", "--workers", str(workers)]
        return run_command(arguments, watched=False).seconds


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """So many processor cores for this process and those that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    main()
