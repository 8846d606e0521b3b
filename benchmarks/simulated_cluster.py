"""A cluster of any size whose nodes fail, in no time: what limits a driver that hands out items.

Seeded: the same numbers each time. It knows what handing out costs, and runs nothing.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass


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
