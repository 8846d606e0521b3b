"""What the cost-rank figure shows: each variant's cost and average rank, and the Pareto front.

One counter's cost on one axis, never two. It must know nothing of how the points are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.look import Cast
from reports.ranking import RankedVariant, RankingTable
from reports.table import SuiteResults


@dataclass(frozen=True)
class CostAxis:
    """Which cost the x-axis shows: one counter's only, never two on one axis."""

    column: str  # of the variants' table
    unit: str  # what follows a number
    name: str
    caption: str


MACS = CostAxis("macs", "MACs", "MACs", "MACs per sample, attention included")
PUBLISHED = CostAxis(
    "published_gflops",
    "GFLOPs as published",
    "published GFLOPs",
    "GFLOPs as published (source's own counter)",
)


@dataclass(frozen=True)
class Point:
    """One variant in the cost-rank figure; ``cost`` is in the axis' unit."""

    variant: str
    label: str
    version: str
    scheme: str
    cost: float
    ranked: RankedVariant
    on_front: bool


def cost_axis(results: SuiteResults, ranking: RankingTable) -> CostAxis | None:
    """MACs where any ranked variant has them; else published GFLOPs, if all have those."""
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    mine = [rows[r.variant] for r in ranking.ranked]
    if any(row["macs"] is not None for row in mine):
        return MACS
    if mine and all(row["published_gflops"] is not None for row in mine):
        return PUBLISHED
    return None


def pareto_front(costs: Mapping[str, float], ranks: Mapping[str, float]) -> set[str]:
    """Variants that no other beats: none is as cheap and as well ranked, and better in one."""

    def beaten(a: str) -> bool:
        return any(
            costs[b] <= costs[a]
            and ranks[b] <= ranks[a]
            and (costs[b] < costs[a] or ranks[b] < ranks[a])
            for b in costs
        )

    return {name for name in costs if not beaten(name)}


def points_of(results: SuiteResults, ranking: RankingTable) -> list[Point]:
    """The complete variants whose cost is known, cheapest first."""
    axis = cost_axis(results, ranking)
    if axis is None:
        return []
    cast = Cast.of(results)
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    known = [r for r in ranking.ranked if rows[r.variant][axis.column] is not None]
    costs = {r.variant: float(rows[r.variant][axis.column]) for r in known}
    front = pareto_front(costs, {r.variant: r.average_rank for r in known})
    points = [
        Point(
            r.variant,
            cast.labels[r.variant] + ("" if costs[r.variant] > 0 else " (no MACs)"),
            cast.versions[r.variant],
            cast.schemes[r.variant],
            costs[r.variant],
            r,
            r.variant in front,
        )
        for r in known
    ]
    return sorted(points, key=lambda p: (p.cost, p.ranked.average_rank, p.variant))
