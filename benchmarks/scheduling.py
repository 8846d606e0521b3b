"""The cost of handing out: cells that do nothing, by real processes, and a simulated cluster.

No-op cells go through the driver's loop, pipes and claims in the store; and then, as cells of a
real plan, through everything but the computing: a worker that makes the plan, looks for the cell,
writes its note, its result and its timing. The simulation (seeded) takes the measured cost of
handing out and asks what limits 10 to 1,000 nodes that fail. Prints markdown tables.

With another engine only the cells of a plan are handed out: to a Ray that is started for it before,
with as many workers as cores, or to the Slurm that sbatch finds.

    python -m benchmarks.scheduling [--seeds 1 10 100] [--engine local|ray|slurm]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from benchmarks.plan import write_suite
from benchmarks.simulated_cluster import Cluster, simulate
from harness.executors.board import Board, WorkerNote
from harness.executors.driving import Policy, drive
from harness.executors.engine import Engine
from harness.executors.items import Item, Need, items_of
from harness.executors.local import LocalPool, Place, compute_items
from harness.executors.needs import Needs
from harness.executors.profile import RaySection, SlurmSection
from harness.executors.spec import Spec, shake_hands
from harness.executors.worker import Account
from harness.plan import Cell, Places, make_plan
from harness.store import CellResult, Store
from harness.suite import Overrides, load_suite
from suites.datasets.base import Dataset

COUNTS = (100, 1_000, 10_000)
MakeEngine = Callable[[Spec, list[Item]], Engine]


class Silent:
    """Told, and says nothing."""

    def finished(self, cell: str, score: float) -> None:
        """Nothing."""

    def broken(self, cell: str, reason: str) -> None:
        """Nothing."""

    def retried(self, item: Item, reason: str) -> None:
        """Nothing."""

    def workers(self, notes: list[WorkerNote]) -> None:
        """Nothing."""


def do_nothing(pipe: Connection, spec: Spec, place: Place) -> None:
    """A worker that claims each cell, computes nothing, and answers."""
    store = Store(Path(spec.store))
    while (item := pipe.recv()) is not None:
        for cell in item.cells:
            store.claims.take(cell)
            store.claims.release(cell)
        pipe.send(Account(item.key, scores=dict.fromkeys(item.cells, 0.0)))


def compute_nothing(pipe: Connection, spec: Spec, place: Place) -> None:
    """A worker as it is, for which to compute a cell is to have its result at once."""
    leave_out_the_computing()
    compute_items(pipe, spec, place)


def ray_computes_nothing(spec: str, item: Item) -> Account:
    """The same in a process of Ray's."""
    from harness.executors.ray import compute_item  # noqa: PLC0415  (an extra)

    leave_out_the_computing()
    return compute_item(spec, item)


def leave_out_the_computing() -> None:
    """From now on, in this process."""
    from harness.cell import Notify, Seconds  # noqa: PLC0415  (torch loads, as in a worker)
    from harness.executors import work  # noqa: PLC0415

    def compute(
        cell: Cell, dataset: Dataset, store: Store, device: object, notify: Notify
    ) -> tuple[CellResult, Seconds]:
        notify("nothing", 1, 1)
        return replace(_RESULT, key=cell.key, inputs=cell.inputs), Seconds()

    work.compute = compute


_RESULT = CellResult(
    key="",
    metric="accuracy",
    scores={"accuracy": (0.5, 0.4, 0.6)},
    val_score=0.5,
    chosen={"pooling": "mean"},
    n_train=60,
    n_val=20,
    n_test=20,
    inputs={},
    trials=[],
    sketch=[0.0] * 8,
    predictions=pl.DataFrame(
        {"sample": [str(i) for i in range(20)], "label": [0] * 20, "prediction": [0] * 20}
    ),
)


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--engine", choices=ENGINES, default="local")
    asked = parser.parse_args()
    if asked.engine == "local":
        overhead = by_nothing()
    by_a_plan(asked.seeds, asked.engine)
    if asked.engine == "local":
        simulated(overhead)


def by_nothing() -> float:
    """The table of cells that know no plan; the seconds of one of the most."""
    print("| no-op cells, two workers | seconds a cell | driver's memory |")
    print("| ---: | ---: | ---: |")
    overhead = 0.0
    for count in COUNTS:
        overhead, memory = handing_out(count)
        print(f"| {count:,} | {overhead * 1000:.2f} ms | {memory:.0f} MiB |", flush=True)
    print()
    return overhead


def simulated(overhead: float) -> None:
    """The table of clusters that nobody here has."""
    print("| nodes | fail every | items | seconds each | efficiency | work lost | driver busy |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for nodes in (10, 100, 1_000):
        for mtbf in (float("inf"), 24.0, 1.0):
            for mean in (10.0, 600.0):
                told = simulate(Cluster(nodes, mtbf * 3600, overhead), 50 * nodes, mean, seed=0)
                fails = "never" if mtbf == float("inf") else f"{mtbf:g} h"
                print(
                    f"| {nodes:,} | {fails} | {50 * nodes:,} | {mean:g} | {told.efficiency:.0%} | "
                    f"{told.lost:.1%} | {told.driver:.0%} |",
                    flush=True,
                )


def by_a_plan(seeds: list[int], engine: str) -> None:
    """The table of no-op cells of plans with so many seeds."""
    print(f"| no-op cells of a plan, {engine} | seconds a cell | driver's memory |")
    print("| ---: | ---: | ---: |")
    for count in seeds:
        cells, seconds, memory = through_workers(count, ENGINES[engine])
        print(f"| {cells:,} | {seconds * 1000:.2f} ms | {memory:.0f} MiB |", flush=True)
    print()


def _local(spec: Spec, _: list[Item]) -> Engine:
    return LocalPool(spec, [Place(1), Place(1)], compute_nothing)


def _ray(spec: Spec, items: list[Item]) -> Engine:
    from harness.executors.ray import RayEngine  # noqa: PLC0415  (an extra)

    return RayEngine(spec, RaySection(), items, ray_computes_nothing)


def _slurm(spec: Spec, items: list[Item]) -> Engine:
    """Every Python of an element runs this file's first, which nothing of ours has to know of."""
    from harness.executors.slurm import SlurmEngine  # noqa: PLC0415  (an extra)

    first = Path(spec.store) / "first"
    first.mkdir()
    (first / "sitecustomize.py").write_text(
        "from benchmarks.scheduling import leave_out_the_computing\nleave_out_the_computing()\n"
    )
    setup = [f"export PYTHONPATH={first}:{Path.cwd()}:$PYTHONPATH"]
    section = SlurmSection(cpus=1, memory_gb=1, memory_factor=1, setup=setup)
    return SlurmEngine(spec, section, items)


ENGINES: dict[str, MakeEngine] = {"local": _local, "ray": _ray, "slurm": _slurm}


def handing_out(count: int) -> tuple[float, float]:
    """Seconds a cell, and the driver's peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        spec = Spec("", {}, None, None, folder, folder, "key", "", {})
        items = (Item(str(i), (f"cell-{i}",), Need(1.0, 0)) for i in range(count))
        pool = LocalPool(spec, [Place(1), Place(1)], do_nothing)
        started = time.perf_counter()
        try:
            drive(items, pool, Board(store, "key"), Policy(), Silent())
            seconds = time.perf_counter() - started
        finally:
            pool.close()
    return seconds / count, _peak()


def through_workers(seeds: int, engine: MakeEngine) -> tuple[int, float, float]:
    """Cells, seconds for each, and the driver's peak memory in MiB, its plan included."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        store.prepare()
        places = Places(None, None, store.cache_folder)
        plan = make_plan(load_suite(write_suite(Path(folder), seeds)), places)
        spec = Spec.of(plan, Overrides(), places, store, shake_hands(store, "bench"))
        items = items_of(plan.cells, Needs(plan, store, plan.cells).of)
        cells = sum(len(item.cells) for item in items)
        pool = engine(spec, items)
        started = time.perf_counter()
        try:
            driven = drive(items, pool, Board(store, plan.key), Policy(), Silent())
            seconds = time.perf_counter() - started
        finally:
            pool.close()
        if driven.broken:
            raise SystemExit(f"cells failed: {next(iter(driven.broken.values()))}")
    return cells, seconds / cells, _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
