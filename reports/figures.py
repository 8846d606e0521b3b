"""The figure: average rank against MACs, with intervals and the Pareto front.

Altair builds the specification. Labels are placed here, not by the renderer, so that
they neither overlap nor leave the frame. It must know nothing of pages or files; it
takes a ranking table and gives a chart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import altair as alt

from reports import words
from reports.cost_points import MACS, CostAxis, Point, cost_axis, points_of
from reports.descriptions import described, silent
from reports.labels import Box, Placed, place_labels, side_by_side, text_width
from reports.look import (
    INK,
    MUTED,
    PAPER,
    WIDE,
    Cast,
    Frame,
    Spec,
    finished,
    subject,
    title_of,
)
from reports.marks import LABEL_SIZE, Layer, marks
from reports.ranking import RankingTable
from reports.table import SuiteResults
from reports.ticks import log_ticks

_RADIUS = 6.0


def cost_rank_chart(
    results: SuiteResults, ranking: RankingTable, frame: Frame = WIDE
) -> Spec | None:
    """Cost on a log x-axis, average rank on an inverted y-axis, Pareto front, intervals.

    ``None`` when no complete variant has a known cost.
    """
    points, axis = points_of(results, ranking), cost_axis(results, ranking)
    if not points or axis is None:
        return None
    plane = _Plane.around(points, frame)
    spots = _spots(points, plane)
    placed = _place(points, spots, plane)
    cast, names = Cast.of(results), [p.variant for p in points]
    colour = cast.colour(names)
    layers = [
        _front_layer(points, spots, plane),
        _whisker_layer(points, spots, plane).encode(color=colour),
        _leader_layer(points, spots, placed, plane),
        _point_layer(points, spots, plane, axis).encode(color=colour, shape=cast.shape(names)),
        _label_layer(points, placed, plane),
    ]
    tasks = words.number(len(ranking.tasks), "task")
    bars = " (bars: 95% interval)" if ranking.draws is not None and not frame.is_narrow else ""
    log = "" if frame.is_narrow else " (log scale)"
    x = alt.X("cost:Q", scale=plane.x_scale, axis=alt.Axis(values=plane.x_ticks, format="~s"))
    y = alt.Y("rank:Q", scale=plane.y_scale, axis=alt.Axis(values=plane.y_ticks, format="~r"))
    x = x.title(f"{axis.caption}{log}")
    y = y.title(f"Average rank over {tasks}, 1 is best{bars}")
    title = title_of("Average rank against cost", ranking, frame, subject(results, ranking))
    chart = alt.LayerChart(
        layer=[layer.encode(x=x, y=y) for layer in layers],
        width=frame.width,
        height=frame.height,
        title=title,
    )
    return finished(chart, frame)


@dataclass(frozen=True)
class _Plane:
    """The two axes: data to pixels and back."""

    frame: Frame
    costs: tuple[float, float]
    ranks: tuple[float, float]  # top, bottom

    @classmethod
    def around(cls, points: Sequence[Point], frame: Frame) -> _Plane:
        costs = [p.cost for p in points if p.cost > 0] or [1e6]
        low, high = math.log10(min(costs)), math.log10(max(costs))
        pad = max(0.14 * (high - low), 0.25)
        # A variant without MACs (plain statistics) stands at the left edge of a log axis.
        left = low - pad * (2 if any(p.cost <= 0 for p in points) else 1)
        ends = [p.ranked.average_rank for p in points]
        for p in points:
            if p.ranked.interval:
                ends += [p.ranked.interval.low, p.ranked.interval.high]
        bottom = max(*ends, 2.0)
        margin = 0.07 * (bottom - 1)
        return cls(frame, (10**left, 10 ** (high + pad)), (1 - margin, bottom + margin))

    @property
    def x_scale(self) -> alt.Scale:
        return alt.Scale(type="log", domain=list(self.costs), nice=False)

    @property
    def y_scale(self) -> alt.Scale:
        return alt.Scale(domain=list(self.ranks), reverse=True, nice=False, zero=False)

    @property
    def x_ticks(self) -> list[float]:
        return log_ticks(*self.costs)

    @property
    def y_ticks(self) -> list[float]:
        last = math.floor(self.ranks[1])
        step = 0.5 if last <= 3 else max(1, math.ceil(last / 10))
        return [t for t in (1 + step * i for i in range(40)) if t <= self.ranks[1]]

    def pixel(self, cost: float, rank: float) -> tuple[float, float]:
        low, high = (math.log10(v) for v in self.costs)
        along = 0.03 if cost <= 0 else (math.log10(cost) - low) / (high - low)
        down = (rank - self.ranks[0]) / (self.ranks[1] - self.ranks[0])
        return along * self.frame.width, down * self.frame.height

    def data(self, x: float, y: float) -> tuple[float, float]:
        low, high = (math.log10(v) for v in self.costs)
        cost = 10 ** (low + x / self.frame.width * (high - low))
        return cost, self.ranks[0] + y / self.frame.height * (self.ranks[1] - self.ranks[0])


Spot = tuple[float, float]


def _spots(points: Sequence[Point], plane: _Plane) -> list[Spot]:
    """Where each point is drawn, in pixels; those of one cost stand side by side.

    Variants that differ in their recipe only have the very same MACs: drawn at their true
    place, one would hide the other and its interval.
    """
    boxes = []
    for p in points:
        x, y = plane.pixel(p.cost, p.ranked.average_rank)
        ends = [y - _RADIUS, y + _RADIUS]
        if p.ranked.interval:
            ends += [
                plane.pixel(p.cost, r)[1] for r in (p.ranked.interval.low, p.ranked.interval.high)
            ]
        boxes.append(Box(x, min(ends), x, max(ends)))
    return [
        (x, plane.pixel(p.cost, p.ranked.average_rank)[1])
        for p, x in zip(points, side_by_side(boxes, 2 * _RADIUS), strict=True)
    ]


def _place(points: Sequence[Point], spots: Sequence[Spot], plane: _Plane) -> list[Placed]:
    sizes = [(text_width(p.label, LABEL_SIZE), LABEL_SIZE + 2.0) for p in points]
    lines = []
    for p, (x, _) in zip(points, spots, strict=True):
        if p.ranked.interval:
            top, bottom = (
                plane.pixel(1, r)[1] for r in (p.ranked.interval.low, p.ranked.interval.high)
            )
            lines.append(Box(x - 1, top, x + 1, bottom))
    front = _front_path(points, spots, plane)
    for (x0, y0), (x1, y1) in pairwise(front):
        lines += [Box(x0, y0 - 1, x1, y0 + 1), Box(x1 - 1, min(y0, y1), x1 + 1, max(y0, y1))]
    area = Box(2, 2, plane.frame.width - 2, plane.frame.height - 2)
    return place_labels(spots, sizes, area, lines, _RADIUS)


def about(point: Point, axis: CostAxis = MACS) -> str:
    """One line on a point: what hovering shows and what a screen reader says."""
    spread = point.ranked.interval
    bounds = f" (95%: {words.spans(spread, 'rank')})" if spread else ""
    return described(
        point.variant,
        f"average rank {words.rank_text(point.ranked.average_rank)}{bounds}, "
        f"{words.quantity(point.cost)} {axis.unit}, scheme {point.scheme}",
    )


def _point_layer(
    points: Sequence[Point], spots: Sequence[Spot], plane: _Plane, axis: CostAxis
) -> Layer:
    rows = [
        {
            "cost": plane.data(*spot)[0],
            "rank": p.ranked.average_rank,
            "version": p.version,
            "scheme": p.scheme,
            "about": about(p, axis),
        }
        for p, spot in zip(points, spots, strict=True)
    ]
    mark = marks(rows).mark_point(filled=True, size=105, opacity=1, stroke=PAPER, strokeWidth=1)
    return mark.encode(description=alt.Description("about:N"))


def _whisker_layer(points: Sequence[Point], spots: Sequence[Spot], plane: _Plane) -> Layer:
    rows = [
        {
            "cost": plane.data(*spot)[0],
            "rank": p.ranked.interval.low,
            "high": p.ranked.interval.high,
            "version": p.version,
            "about": silent(p.variant),
        }
        for p, spot in zip(points, spots, strict=True)
        if p.ranked.interval
    ]
    mark = marks(rows).mark_rule(strokeWidth=2, opacity=0.5)
    return mark.encode(y2=alt.Y2("high:Q"), description=alt.Description("about:N"))


def _front_layer(points: Sequence[Point], spots: Sequence[Spot], plane: _Plane) -> Layer:
    front = [plane.data(*spot) for spot in _front_path(points, spots, plane)]
    rows = [{"cost": cost, "rank": rank} for cost, rank in front]
    return marks(rows).mark_line(
        interpolate="step-after", color=MUTED, strokeWidth=1.5, strokeDash=[5, 3], aria=False
    )


def _front_path(points: Sequence[Point], spots: Sequence[Spot], plane: _Plane) -> list[Spot]:
    """The front's corners, in pixels: whatever costs more than its last point is beaten by it."""
    front = sorted(s for s, p in zip(spots, points, strict=True) if p.on_front)
    return [*front, (plane.frame.width, front[-1][1])] if front else []


def _leader_layer(
    points: Sequence[Point], spots: Sequence[Spot], placed: Sequence[Placed], plane: _Plane
) -> Layer:
    rows = []
    for point, spot, place in zip(points, spots, placed, strict=True):
        if place.leader:
            (cost, rank), (cost2, rank2) = plane.data(*spot), plane.data(*place.leader)
            ends = {"cost": cost, "rank": rank, "cost2": cost2, "rank2": rank2}
            rows.append({**ends, "about": silent(point.variant)})
    mark = marks(rows).mark_rule(color=INK, strokeWidth=0.7, opacity=0.7)
    return mark.encode(
        x2=alt.X2("cost2:Q"), y2=alt.Y2("rank2:Q"), description=alt.Description("about:N")
    )


def _label_layer(points: Sequence[Point], placed: Sequence[Placed], plane: _Plane) -> Layer:
    rows = []
    for point, place in zip(points, placed, strict=True):
        cost, rank = plane.data(place.x, place.y)
        about_it = silent(point.variant)
        rows.append({"cost": cost, "rank": rank, "label": point.label, "about": about_it})
    mark = marks(rows).mark_text(align="center", baseline="middle", fontSize=LABEL_SIZE, color=INK)
    return mark.encode(text=alt.Text("label:N"), description=alt.Description("about:N"))
