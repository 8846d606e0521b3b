"""The cost of handing out: cells that do nothing, by real processes, and a simulated cluster.

No-op cells go through the driver's loop, pipes and claims in the store; and then, as cells of a
real plan, through everything but the computing: a worker that makes the plan, looks for the cell,
writes its note, its result and its timing. The simulation (seeded) takes the measured cost of
handing out and asks what limits 10 to 1,000 nodes that fail. Prints markdown tables.

    python -m benchmarks.scheduling [--seeds 1 10 100]
"""

from __future__ import annotations

import argparse
import heapq
import random
import resource
import tempfile
import time
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from benchmarks.plan import write_suite
from harness.executors.board import Board, WorkerNote
from harness.executors.driving import Policy, drive
from harness.executors.items import Item, Need, items_of
from harness.executors.local import LocalPool, Place, compute_items
from harness.executors.needs import Needs
from harness.executors.spec import Spec, shake_hands
from harness.executors.worker import Account
from harness.plan import Cell, Places, make_plan
from harness.store import CellResult, Store
from harness.suite import Overrides, load_suite
from suites.datasets.base import Dataset

COUNTS = (100, 1_000, 10_000)


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
    from harness.cell import Notify, Seconds  # noqa: PLC0415  (torch loads, as in a worker)
    from harness.executors import work  # noqa: PLC0415

    def compute(
        cell: Cell, dataset: Dataset, store: Store, device: object, notify: Notify
    ) -> tuple[CellResult, Seconds]:
        notify("nothing", 1, 1)
        return replace(_RESULT, key=cell.key, inputs=cell.inputs), Seconds()

    work.compute = compute
    compute_items(pipe, spec, place)


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
    seeds = parser.parse_args().seeds
    print("| no-op cells, two workers | seconds a cell | driver's memory |")
    print("| ---: | ---: | ---: |")
    overhead = 0.0
    for count in COUNTS:
        overhead, memory = handing_out(count)
        print(f"| {count:,} | {overhead * 1000:.2f} ms | {memory:.0f} MiB |", flush=True)
    print()
    print("| no-op cells of a plan, two workers | seconds a cell | driver's memory |")
    print("| ---: | ---: | ---: |")
    for count in seeds:
        cells, seconds, memory = through_workers(count)
        print(f"| {cells:,} | {seconds * 1000:.2f} ms | {memory:.0f} MiB |", flush=True)
    print()
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


def through_workers(seeds: int) -> tuple[int, float, float]:
    """Cells, seconds for each, and the driver's peak memory in MiB, its plan included."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        store.prepare()
        places = Places(None, None, store.cache_folder)
        plan = make_plan(load_suite(write_suite(Path(folder), seeds)), places)
        spec = Spec.of(plan, Overrides(), places, store, shake_hands(store, "bench"))
        items = items_of(plan.cells, Needs(plan, store, plan.cells).of)
        cells = sum(len(item.cells) for item in items)
        pool = LocalPool(spec, [Place(1), Place(1)], compute_nothing)
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


@dataclass(frozen=True)
class Cluster:
    """Nodes of one worker each; a node fails on average every ``mtbf`` seconds, at random.

    A failed node is back after ``repair`` seconds, and a worker takes ``start`` seconds to make its
    plan. The driver takes ``handing`` seconds an item, one after another; it learns of a lost node
    ``noticed`` seconds later.
    """

    nodes: int
    mtbf: float
    handing: float
    start: float = 15.0
    repair: float = 600.0
    noticed: float = 30.0


@dataclass(frozen=True)
class Told:
    """``efficiency``: useful seconds of all node-seconds; ``lost``: seconds of work done twice."""

    efficiency: float
    lost: float
    driver: float


def simulate(cluster: Cluster, items: int, mean: float, seed: int) -> Told:
    """Items of lognormal length (a tenth are three times as long), longest first, to the last."""
    draw = random.Random(seed)
    lengths = sorted((draw.lognormvariate(0, 0.9) for _ in range(items)), reverse=True)
    scale = mean * items / sum(lengths)
    waiting = deque(length * scale for length in lengths)
    useful = sum(waiting)
    free_at = [(cluster.start, node) for node in range(cluster.nodes)]  # when a node asks for work
    heapq.heapify(free_at)
    returns: list[tuple[float, float]] = []  # (when the driver learns of it, length)
    driver_free, driver_busy, lost, end = 0.0, 0.0, 0.0, 0.0
    while waiting or returns:
        now, node = heapq.heappop(free_at)
        while returns and returns[0][0] <= now:
            waiting.appendleft(heapq.heappop(returns)[1])
        if not waiting:
            if returns:
                heapq.heappush(free_at, (max(now, returns[0][0]), node))
            continue
        length = waiting.popleft()
        begins = max(now, driver_free) + cluster.handing
        driver_free = begins
        driver_busy += cluster.handing
        fails = draw.expovariate(1 / cluster.mtbf) if cluster.mtbf < float("inf") else float("inf")
        if fails < length:
            lost += fails
            heapq.heappush(returns, (begins + fails + cluster.noticed, length))
            again = begins + fails + cluster.repair + cluster.start
        else:
            again = begins + length
            end = max(end, again)
        heapq.heappush(free_at, (again, node))
    return Told(useful / (end * cluster.nodes), lost / useful, driver_busy / end)


if __name__ == "__main__":
    main()
