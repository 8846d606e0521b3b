"""How planning, and the start of a finished suite, grow with the number of cells.

Suites of 5 variants x 20 tasks (simulated sets of 100 to 195 tiles) x 1, 10 and 100 seeds. Their
cells are not computed but made up under the plan's own keys, so only planning, reading and showing
are timed; every figure is of a process of its own. Prints a markdown table.

    python -m benchmarks.plan [--seeds 1 10 100]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.suite import run_command, run_process
from harness.plan import Cell, Places, Plan, make_plan
from harness.run import run_suite
from harness.store import CellResult, Store
from harness.suite import load_suite

HEAD = """\
name: many
title: Many cells that were never computed
registry: [pico.yaml]
protocol: {{patch_size: 8, bootstrap: 100}}
tier: random
seeds: [{seeds}]
variants: [olmoearth-one-pico, olmoearth-three-pico, olmoearth-one-nip, olmoearth-three-nip,
  olmoearth-one-mid]
baselines: []
tasks:
"""
TASK = "  - {{name: t{i}, dataset: simulated, data: {{size: {size}}}, probe: {probe}}}\n"
PROBES = ("{kind: knn, k: 5}", "{kind: linear, trials: 4, epochs: 2}")
REGISTRY = """\
family: olmoearth
sizes:
  pico: {dim: 32, depth: 1, heads: 4}
  nip: {dim: 64, depth: 1, heads: 4}
  mid: {dim: 96, depth: 1, heads: 4}
versions:
  one: {scheme: single, sizes: [pico, nip, mid]}
  three: {scheme: per-resolution, sizes: [pico, nip]}
"""
TASKS = 20


class Quiet:
    """Watches a run without a word."""

    def planned(self, plan: Plan, to_do: list[Cell]) -> None:
        """Nothing is said."""

    def started(self, cell: Cell) -> None:
        """Nothing is said."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing is said."""

    def finished(self, cell: Cell, score: float) -> None:
        """Nothing is said."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 10, 100])
    print("Seconds by the clock, and in brackets of processor time; memory is what is allocated.\n")
    print("| cells | planning | its peak | first report | finished run | its peak | command |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seeds in parser.parse_args().seeds:
        with tempfile.TemporaryDirectory() as folder:
            print(_row(Path(folder), seeds), flush=True)


def _row(folder: Path, seeds: int) -> str:
    suite = write_suite(folder, seeds)
    store = folder / "store"
    _child("plan", suite, store)  # what is measured is not the first look at new weights and code
    planned = _child("plan", suite, store)
    _child("fill", suite, store)
    show = ["run", str(suite), "--store", str(store)]
    first = run_command(show)
    ran = sorted(_child("run", suite, store) for _ in range(3))[1]
    shown = sorted((run_command(show) for _ in range(3)), key=lambda each: each.seconds)[1]
    return (
        f"| {5 * TASKS * seeds:,} | {planned[0]:.1f} ({planned[1]:.1f}) s | {planned[2]:.0f} MiB "
        f"| {first.seconds:.0f} ({first.busy:.0f}) s | {ran[0]:.1f} ({ran[1]:.1f}) s "
        f"| {ran[2]:.0f} MiB | {shown.seconds:.1f} ({shown.busy:.1f}) s |"
    )


def _child(part: str, suite: Path, store: Path) -> tuple[float, float, float]:
    """Seconds and processor seconds of a part, without imports; peak memory (MiB)."""
    code = f"from benchmarks.plan import measure; measure({part!r}, {str(suite)!r}, {str(store)!r})"
    ran = run_process(["-c", code])
    seconds, busy = json.loads(ran.output)
    return seconds, busy, ran.peak


def measure(part: str, suite: str, store: str) -> None:
    """Do one part in this process and print its seconds."""
    started, before = time.perf_counter(), time.process_time()
    kept = Store(Path(store))
    kept.prepare()
    places = Places(None, None, kept.cache_folder)
    loaded = load_suite(Path(suite))
    if part == "run":
        run_suite(loaded, places, kept, "tokenrank run many", Quiet())
    else:
        plan = make_plan(loaded, places)
    taken = time.perf_counter() - started, time.process_time() - before
    if part == "fill":
        fill(plan, kept)
    json.dump(taken, sys.stdout)


def write_suite(folder: Path, seeds: int) -> Path:
    """A suite file of 100 cells a seed, and the registry that it names."""
    (folder / "pico.yaml").write_text(REGISTRY)
    path = folder / "many.yaml"
    tasks = (TASK.format(i=i, size=100 + 5 * i, probe=PROBES[i % 2]) for i in range(TASKS))
    path.write_text(HEAD.format(seeds=", ".join(map(str, range(seeds)))) + "".join(tasks))
    return path


def fill(plan: Plan, store: Store) -> None:
    """Store a made-up result for every cell of a plan: well-formed, of no meaning."""
    for cell in {cell.key: cell for cell in plan.cells}.values():
        store.put_cell(made_up(cell, plan))


def made_up(cell: Cell, plan: Plan) -> CellResult:
    """Seeded predictions on the test split that the cell would have been scored on."""
    dataset = plan.dataset_of(cell.task)
    splits = dataset.splits(cell.task.split_seed)
    rows = splits["test"]
    labels = dataset.labels[rows]
    rng = np.random.default_rng(int(cell.key[:8], 16))
    chances = rng.dirichlet(np.ones(10), len(rows))
    chances[np.arange(len(rows)), labels] += rng.random(len(rows)) < 0.5
    chances /= chances.sum(axis=1, keepdims=True)
    found = chances.argmax(axis=1)
    hits = (found == labels).astype(np.float64)
    table = pl.DataFrame(
        {
            "sample": [dataset.ids[row] for row in rows],
            "label": labels,
            "prediction": found,
            "value": hits,
            **{f"p{i}": chances[:, i].astype(np.float32) for i in range(10)},
        }
    )
    score = float(hits.mean())
    return CellResult(
        key=cell.key,
        metric=cell.task.metric,
        scores={cell.task.metric: (score, max(score - 0.1, 0.0), min(score + 0.1, 1.0))},
        val_score=score,
        chosen={"pooling": "mean", "normalisation": "dataset"},
        n_train=len(splits["train"]),
        n_val=len(splits["val"]),
        n_test=len(rows),
        inputs=cell.inputs,
        trials=[
            {"number": i, "params": {"pooling": pooling}, "val_score": score}
            for i, pooling in enumerate(cell.poolings)
        ],
        sketch=[round(float(x), 6) for x in rng.normal(size=8)],
        predictions=table,
    )


if __name__ == "__main__":
    main()
