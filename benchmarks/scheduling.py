"""The cost of handing out: cells that do nothing, by real processes, and a simulated cluster.

No-op cells go through everything but the computing: the driver's loop, pipes, claims in the store.
The simulation (seeded) takes the measured cost of handing out and asks what limits 10 to 1,000
nodes that fail. Prints markdown tables.
"""

from __future__ import annotations

import heapq
import random
import resource
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from harness.executors.board import Board, WorkerNote
from harness.executors.driving import Policy, drive
from harness.executors.items import Item, Need
from harness.executors.local import LocalPool, Place
from harness.executors.spec import Spec
from harness.executors.worker import Account
from harness.store import Store

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


def main() -> None:
    """Measure, simulate, print."""
    print("| no-op cells, two workers | seconds a cell | driver's memory |")
    print("| ---: | ---: | ---: |")
    overhead = 0.0
    for count in COUNTS:
        overhead, memory = handing_out(count)
        print(f"| {count:,} | {overhead * 1000:.2f} ms | {memory:.0f} MiB |", flush=True)
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
    return seconds / count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
