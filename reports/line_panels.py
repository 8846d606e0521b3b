"""Panels of lines with their names at their ends, side by side or, on a phone, on top.

Names are pushed apart where lines end together. It must know nothing of what the lines mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from reports.labels import cut_to_width, pushed_apart, text_width
from reports.look import INK, Frame, Spec, finished
from reports.marks import LABEL_SIZE, Layer, marks
from reports.ticks import log_ticks

_GAP = 13.0  # distance of the names at the lines' ends, pixels
_KEY = 16.0  # a name's mark in its line's colour
_DASHES = ([1, 0], [5, 3])


@dataclass(frozen=True)
class Line:
    """One line; x ascends. ``kind`` decides solid or dashed, the first of all kinds is solid.

    ``about`` is what hovering its points says, an empty text where no point is drawn, and empty
    for a line without points. A line of
    another than the first kind has no name at its end.
    """

    label: str
    version: str
    kind: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    about: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """Lines over one x-axis."""

    title: str
    x_title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Style:
    """The y-axis that all panels have, and how lines are drawn.

    ``shared``: one y-domain for all panels. ``floor``: a value the domain always reaches.
    ``steps``: the lines hold a value until the next. ``faint``: kinds after the first are thin and
    pale instead of dashed. ``keyed``: a name bears its line's colour, for lines that end early.
    ``log_x``: a log x-axis.
    """

    y_title: str
    kinds: tuple[str, ...] = ("",)
    kinds_title: str = ""
    log: bool = False
    shared: bool = True
    floor: float | None = None
    steps: bool = False
    faint: bool = False
    keyed: bool = False
    log_x: bool = False


def line_panels(
    panels: Sequence[Panel],
    style: Style,
    colour: alt.Color,
    title: alt.TitleParams,
    frame: Frame,
) -> Spec:
    """The panels as one finished figure, two in a row where the frame is wide."""
    names = {line.label for panel in panels for line in panel.lines}
    key = _KEY if style.keyed else 0.0
    widest = max(text_width(name, LABEL_SIZE) for name in names) + 12 + key
    room = min(widest, (95 if frame.is_narrow else 150) + key)
    wide = frame.width * 0.75 if len(panels) == 1 else (frame.width - 60) / 2
    width = frame.width if frame.is_narrow else wide
    height = frame.height * (0.6 if frame.is_narrow else 0.75)
    every = [value for panel in panels for line in panel.lines for value in line.y]
    drawn = []
    for panel in panels:
        mine = every if style.shared else [value for line in panel.lines for value in line.y]
        plane = _Plane(width - room, height, room, _domain(mine, style), style.log)
        drawn.append(_panel(panel, plane, style, colour))
    return _side_by_side(drawn, title, frame)


def _side_by_side(panels: Sequence[Layer], title: alt.TitleParams, frame: Frame) -> Spec:
    """Charts in rows, each made a specification by itself.

    Altair copies all that it holds at each step of a composition: four panels composed by it
    take longer than everything else in a figure.
    """
    columns = 1 if frame.is_narrow else 2
    whole = alt.concat(panels[0], columns=columns, spacing=20).properties(title=title)
    spec = finished(whole, frame)
    for panel in panels[1:]:
        part = panel.to_dict(validate=False)  # of the same form as the first, which is valid
        spec["datasets"] |= part["datasets"]
        spec["concat"].append({k: v for k, v in part.items() if k in {*spec["concat"][0], "title"}})
    return spec


@dataclass(frozen=True)
class _Plane:
    """A panel's size in pixels, the room for names right of it, and its y-axis."""

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


def _domain(values: Sequence[float], style: Style) -> tuple[float, float]:
    low, high = min(values), max(values)
    if style.log:
        return low / 1.4, high * 1.4
    pad = 0.05 * max(high - low, 0.02)
    if style.floor is None:
        return low - pad, high + pad
    return min(low, style.floor), high + 0.05 * max(high - style.floor, 0.5)


def _x(title: str, first: float, last: float, style: Style) -> alt.X:
    """The axis from the first value to the last; from 0 where they are one."""
    if not style.log_x:
        x = alt.X("x:Q", title=title, axis=alt.Axis(tickCount=6, tickMinStep=1, grid=False))
        return x.scale(domain=[first if first < last else 0, last], nice=False, zero=False)
    is_log = 0 < first < last
    ticks = log_ticks(first, last) if is_log else []
    ends = [first if is_log else 0, last]
    axis = alt.Axis(values=ticks if len(ticks) > 1 else ends, format=".3~g", grid=False)
    x = alt.X("x:Q", title=f"{title} (log scale)" if is_log else title, axis=axis)
    scale: Literal["log", "linear"] = "log" if is_log else "linear"
    return x.scale(domain=ends, nice=False, zero=False, type=scale)


def _panel(panel: Panel, plane: _Plane, style: Style, colour: alt.Color) -> Layer:
    first = min(value for line in panel.lines for value in line.x)
    last = max(value for line in panel.lines for value in line.x)
    x = _x(panel.x_title, first, last, style)
    decades = [10.0**e for e in range(-3, 20) if plane.domain[0] <= 10.0**e <= plane.domain[1]]
    ticks = {"values": decades} if plane.log and len(decades) > 1 else {"tickCount": 6}
    scale: Literal["log", "linear"] = "log" if plane.log else "linear"
    y = alt.Y(
        "y:Q", title=style.y_title, axis=alt.Axis(**ticks, format="~s" if plane.log else "~g")
    )
    y = y.scale(domain=list(plane.domain), nice=False, zero=False, type=scale)
    base = {"color": colour, "x": x, "y": y}
    several = len(style.kinds) > 1
    # Said of the mark, a width would win over that of its kind.
    width = {} if several and style.faint else {"strokeWidth": 2}
    stroke = marks(_line_rows(panel)).mark_line(
        **width, aria=False, interpolate="step-after" if style.steps else "linear"
    )
    stroke = stroke.encode(**base, detail=alt.Detail("line:N"))
    if several:
        stroke = _faint(stroke, style) if style.faint else stroke.encode(strokeDash=_dash(style))
    layers = [stroke]
    dots = _dot_rows(panel)
    if dots:
        points = marks(dots).mark_point(filled=True, size=28, opacity=1)
        layers.append(points.encode(**base, description=alt.Description("about:N")))
    layers += [layer.encode(y=y) for layer in _end_names(panel, plane, style, colour)]
    chart = alt.LayerChart(layer=layers, width=plane.width, height=plane.height)
    if panel.title:
        chart = chart.properties(
            title=alt.TitleParams(panel.title, fontSize=12, anchor="start", offset=6)
        )
    return chart


def _line_rows(panel: Panel) -> list[dict[str, Any]]:
    return [
        {"x": x, "y": y, "version": line.version, "kind": line.kind, "line": f"{i}"}
        for i, line in enumerate(panel.lines)
        for x, y in zip(line.x, line.y, strict=True)
    ]


def _dot_rows(panel: Panel) -> list[dict[str, Any]]:
    return [
        {"x": x, "y": y, "version": line.version, "about": about}
        for line in panel.lines
        if line.about
        for x, y, about in zip(line.x, line.y, line.about, strict=True)
        if about
    ]


def _dash(style: Style) -> alt.StrokeDash:
    legend = alt.Legend(
        title=style.kinds_title, symbolType="stroke", symbolStrokeWidth=2, symbolStrokeColor=INK
    )
    dashes = list(_DASHES[: len(style.kinds)])
    return alt.StrokeDash("kind:N", legend=legend).scale(domain=list(style.kinds), range=dashes)


def _faint(stroke: Layer, style: Style) -> Layer:
    """Width tells the kinds apart, and bears the legend; a pale line does not hide others."""
    legend = alt.Legend(title=style.kinds_title or None, symbolType="stroke", symbolStrokeColor=INK)
    domain, thin = list(style.kinds), [0.8] * (len(style.kinds) - 1)
    width = alt.StrokeWidth("kind:N", legend=legend).scale(domain=domain, range=[2.2, *thin])
    opacity = alt.Opacity("kind:N", legend=None)
    pale = [0.45] * len(thin)
    return stroke.encode(
        strokeWidth=width, opacity=opacity.scale(domain=domain, range=[1.0, *pale])
    )


def _end_names(panel: Panel, plane: _Plane, style: Style, colour: alt.Color) -> list[Layer]:
    """Names right of the panel, level with their lines' ends where there is room."""
    ends = sorted(
        (plane.down(line.y[-1]), line.label, line.version)
        for line in panel.lines
        if line.kind == style.kinds[0]
    )
    places = pushed_apart([y for y, *_ in ends], _GAP, 6, plane.height - 2)
    key = _KEY if style.keyed else 0.0
    rows = [
        {
            "y": plane.value(place),
            "text": cut_to_width(label, plane.room - 10 - key, LABEL_SIZE),
            "version": version,
        }
        for place, (_, label, version) in zip(places, ends, strict=True)
    ]
    mark = marks(rows).mark_text(
        align="left", baseline="middle", fontSize=LABEL_SIZE, color=INK, aria=False
    )
    layers = [mark.encode(x=alt.value(plane.width + 8 + key), text=alt.Text("text:N"))]
    if style.keyed:
        swatch = marks(rows).mark_point(
            shape="stroke", strokeWidth=3, size=100, opacity=1, aria=False
        )
        layers.append(swatch.encode(x=alt.value(plane.width + 14), color=colour))
    return layers
