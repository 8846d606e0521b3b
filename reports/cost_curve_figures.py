"""Cost curves as figures: ratio of a pair, and MACs of a variant, along image side and time.

Lines are labelled at their ends; solid counts attention, dashed does not. It must know
nothing of pages or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from reports import words
from reports.cost_curves import AXES, Axis, RatioCurve, input_of, main_kind, ratio_curves
from reports.labels import cut_to_width, pushed_apart, text_width
from reports.look import INK, MUTED, WIDE, Cast, Frame, Spec, finished
from reports.marks import Layer, marks
from reports.pairs import Kind, Pair
from reports.table import SuiteResults, TaskInfo

MOST_LINES = 12
"""More lines than this in a panel cannot be told apart; the rest is in the table."""

_SIZE, _GAP = 11, 13.0  # font and distance of the labels at the lines' ends, pixels
_AGAINST: dict[Kind, str] = {
    "version": "to the first version",
    "scheme": "to the version's own scheme",
    "recipe": "under the same scheme",
}
_COUNTED, _BLIND = "attention included", "attention-blind"


@dataclass(frozen=True)
class _Curve:
    """One line of a panel: x ascends; ``about`` is one text per point."""

    label: str
    version: str
    counted: str
    x: tuple[int, ...]
    y: tuple[float, ...]
    about: tuple[str, ...]


def cost_ratio_chart(
    results: SuiteResults, pairs: Sequence[Pair], frame: Frame = WIDE
) -> Spec | None:
    """Reference / candidate MACs, one panel per axis; ``None`` without curves for a pair.

    Draws the pairs of versions (else of schemes, else of recipes), `MOST_LINES` at most.
    """
    drawn = main_kind(ratio_curves(results, pairs))
    names = list(dict.fromkeys((c.candidate, c.reference) for c in drawn))[:MOST_LINES]
    drawn = tuple(c for c in drawn if (c.candidate, c.reference) in names)
    if not drawn or not results.run.tasks:
        return None
    cast, task = Cast.of(results), results.run.tasks[0]
    panels: dict[Axis, list[_Curve]] = {}
    for curve in drawn:
        panels.setdefault(curve.axis, []).extend(_ratio_lines(curve, cast, task))
    colour = cast.colour([c.candidate for c in drawn])
    title = f"MACs ratio {_AGAINST[drawn[0].kind]}"
    return _chart(panels, title, "MACs, reference / candidate", colour, task, frame, log=False)


def macs_chart(results: SuiteResults, frame: Frame = WIDE) -> Spec | None:
    """MACs per sample of every variant on a log axis, attention included.

    ``None`` without curves, and for more than `MOST_LINES` variants, where no line could
    be followed.
    """
    variants = results.curves["variant"].unique(maintain_order=True).to_list()
    if not variants or len(variants) > MOST_LINES or not results.run.tasks:
        return None
    cast, task = Cast.of(results), results.run.tasks[0]
    panels = {
        axis: lines
        for axis in AXES
        if (lines := [c for name in variants if (c := _macs_line(results, name, axis, cast, task))])
    }
    if not panels:
        return None
    colour = cast.colour(variants)
    return _chart(panels, "MACs per sample", "MACs (log scale)", colour, task, frame, log=True)


def _ratio_lines(curve: RatioCurve, cast: Cast, task: TaskInfo) -> list[_Curve]:
    who = f"{words.clip(curve.candidate, 60)} against {words.clip(curve.reference, 60)}"
    x = tuple(point.value for point in curve.points)
    about = tuple(
        f"{who}, {input_of(curve.axis, point.value, task)}: {words.cost_change(point.ratio)} "
        f"({words.cost_change(point.blind)} attention-blind)"
        for point in curve.points
    )
    return [
        _Curve(
            cast.labels[curve.candidate],
            cast.versions[curve.candidate],
            counted,
            x,
            tuple(round(v, 4) for v in values),
            about if counted == _COUNTED else (),
        )
        for counted, values in (
            (_COUNTED, [point.ratio for point in curve.points]),
            (_BLIND, [point.blind for point in curve.points]),
        )
    ]


def _macs_line(
    results: SuiteResults, name: str, axis: Axis, cast: Cast, task: TaskInfo
) -> _Curve | None:
    rows = results.curves.filter(variant=name, axis=axis).sort("value").to_dicts()
    rows = [row for row in rows if row["macs"] > 0]
    if not rows:
        return None
    return _Curve(
        cast.labels[name],
        cast.versions[name],
        _COUNTED,
        tuple(row["value"] for row in rows),
        tuple(row["macs"] for row in rows),
        tuple(
            f"{words.clip(name, 80)}, {input_of(axis, row['value'], task)}: "
            f"{words.quantity(row['macs'])} MACs, {words.count(row['tokens'])} tokens"
            for row in rows
        ),
    )


def _chart(
    panels: dict[Axis, list[_Curve]],
    title: str,
    y_title: str,
    colour: alt.Color,
    task: TaskInfo,
    frame: Frame,
    log: bool,
) -> Spec:
    height = frame.height * (0.6 if frame.is_narrow else 0.75)
    texts = {curve.label for curves in panels.values() for curve in curves}
    room = min(max(text_width(text, _SIZE) for text in texts) + 12, 95 if frame.is_narrow else 150)
    width = frame.width if frame.is_narrow else (frame.width - 60) / 2
    every = [value for curves in panels.values() for curve in curves for value in curve.y]
    plane = _Plane(width - room, height, room, _domain(every, log), log)
    drawn = [_panel(axis, panels[axis], plane, y_title, colour, task) for axis in panels]
    chart = alt.vconcat(*drawn) if frame.is_narrow else alt.hconcat(*drawn, spacing=20)
    said = (f"Closed form, patch size {task.patch_size}:", "holds for any data and weights")
    subtitle = list(said) if frame.is_narrow else [" ".join(said)]
    heading = alt.TitleParams(
        title, subtitle=subtitle, subtitleColor=MUTED, subtitleFontSize=12, subtitlePadding=4
    )
    return finished(chart.properties(title=heading), frame)


@dataclass(frozen=True)
class _Plane:
    """A panel's size in pixels, the room for labels right of it, and its y-axis."""

    width: float
    height: float
    room: float
    domain: tuple[float, float]
    log: bool

    def down(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.domain
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (high - value) / (high - low) * self.height

    def value(self, down: float) -> float:
        """The inverse of `down`."""
        low, high = self.domain
        share = down / self.height
        return high * (low / high) ** share if self.log else high - share * (high - low)


def _domain(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return low / 1.4, high * 1.4
    low = min(low, 1.0)
    return low, high + 0.05 * max(high - low, 0.5)


def _panel(
    axis: Axis,
    curves: Sequence[_Curve],
    plane: _Plane,
    y_title: str,
    colour: alt.Color,
    task: TaskInfo,
) -> Layer:
    last = max(value for curve in curves for value in curve.x)
    first = min(value for curve in curves for value in curve.x)
    x_title = (
        "Image side in pixels, one time step"
        if axis == "side"
        else f"Time steps of {task.height} x {task.width} pixels"
    )
    x = alt.X("x:Q", title=x_title, axis=alt.Axis(tickCount=6, grid=False))
    x = x.scale(domain=[first if first < last else 0, last], nice=False, zero=False)
    decades = [10.0**e for e in range(-3, 20) if plane.domain[0] <= 10.0**e <= plane.domain[1]]
    ticks = {"values": decades} if plane.log and len(decades) > 1 else {"tickCount": 6}
    y = alt.Y("y:Q", title=y_title, axis=alt.Axis(**ticks, format="~s"))
    y = y.scale(
        domain=list(plane.domain), nice=False, zero=False, type="log" if plane.log else "linear"
    )
    kinds = [k for k in (_COUNTED, _BLIND) if any(c.counted == k for c in curves)]
    legend = alt.Legend(
        title="MACs counted", symbolType="stroke", symbolStrokeWidth=2, symbolStrokeColor=INK
    )
    dashes = [[1, 0], [5, 3]][: len(kinds)]
    dash = alt.StrokeDash("counted:N", legend=legend).scale(domain=kinds, range=dashes)
    base = {"color": colour, "x": x, "y": y}
    line = marks(
        [
            {"x": x_, "y": y_, "version": c.version, "counted": c.counted, "line": f"{i}"}
            for i, c in enumerate(curves)
            for x_, y_ in zip(c.x, c.y, strict=True)
        ]
    ).mark_line(strokeWidth=2, aria=False)
    line = line.encode(**base, detail="line:N")
    line = line.encode(strokeDash=dash) if len(kinds) > 1 else line
    dots = marks(
        [
            {"x": x_, "y": y_, "version": c.version, "about": about}
            for c in curves
            if c.about
            for x_, y_, about in zip(c.x, c.y, c.about, strict=True)
        ]
    ).mark_point(filled=True, size=28, opacity=1)
    dots = dots.encode(**base, description="about:N")
    layers = [line, dots, _end_labels(curves, plane).encode(y=y)]
    return alt.LayerChart(layer=layers, width=plane.width, height=plane.height)


def _end_labels(curves: Sequence[_Curve], plane: _Plane) -> Layer:
    """Names right of the panel, level with their lines' ends where there is room."""
    ends = sorted((plane.down(c.y[-1]), c.label) for c in curves if c.counted == _COUNTED)
    places = pushed_apart([y for y, _ in ends], _GAP, 6, plane.height - 2)
    rows = [
        {"y": plane.value(place), "text": cut_to_width(label, plane.room - 10, _SIZE)}
        for place, (_, label) in zip(places, ends, strict=True)
    ]
    mark = marks(rows).mark_text(
        align="left", baseline="middle", fontSize=_SIZE, color=INK, aria=False
    )
    return mark.encode(x=alt.value(plane.width + 8), text="text:N")
