"""Cost of a family's designs as the input changes: small multiples on log axes.

One row of panels per quantity (MACs, attention's share, memory, measured throughput), one column
per axis (image side, time steps, patch size). Lines are closed forms, dots were measured. It must
know nothing of pages or files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports import words
from reports.atlas import Axis, CurvePoint, Entry, Measurement
from reports.look import MUTED, VERSION_COLOURS, WIDE, Frame, Spec, finished
from reports.marks import Layer, marks
from reports.token_diagram_svg import wrapped

AXES: dict[Axis, str] = {
    "side": "Height = width, pixels",
    "steps": "Time steps T",
    "patch_size": "Patch size p, pixels",
}
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3], [10, 3])


@dataclass(frozen=True)
class Quantity:
    """One row of panels: the closed form and what was measured, None where there is none."""

    title: str
    unit: str
    closed: Callable[[CurvePoint], float | None]
    measured: Callable[[Measurement], float | None]
    log: bool = True
    suffix: str = ""


def _nothing(_: object) -> None:
    return None


QUANTITIES = (
    Quantity("MACs per sample", "MACs", lambda p: p.macs.total, _nothing),
    Quantity("Attention, share of MACs", "", lambda p: p.macs.attention_share, _nothing, log=False),
    Quantity(
        "Peak activations",
        "bytes",
        lambda p: p.activation_bytes,
        lambda m: m.peak_bytes,
        suffix="B",
    ),
    Quantity("Samples per second", "samples/s", _nothing, lambda m: m.samples_per_second),
)


@dataclass(frozen=True)
class Series:
    """Entries whose curves are the same, under all of their names."""

    label: str
    entries: tuple[Entry, ...]


def series_of(entries: Sequence[Entry]) -> tuple[Series, ...]:
    """Entries with the same curves share a line."""
    found: dict[object, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.curves, []).append(entry)
    family = entries[0].family
    return tuple(
        Series(
            words.clip(", ".join(words.short_label(e.variant, family) for e in alike), 60),
            tuple(alike),
        )
        for alike in found.values()
    )


def curves_chart(entries: Sequence[Entry], machine: str, frame: Frame = WIDE) -> Spec | None:
    """The small multiples of one family; ``None`` where nothing varies."""
    series = series_of(entries)
    axes = [axis for axis in AXES if any(len(e.curve(axis)) > 1 for e in entries)]
    if not axes:
        return None
    rows = [(q, _rows(q, series)) for q in QUANTITIES]
    rows = [(q, found) for q, found in rows if found]
    across = len(axes) if len(axes) > 1 else min(len(rows), 3)
    columns = 1 if frame.is_narrow else across
    width = (frame.width - 80 * (columns - 1)) / columns
    panels = [
        _panel(quantity, axis, found, series, (min(width, 330), 112))
        for quantity, found in rows
        for axis in axes
        if any(row["axis"] == axis for row in found)
    ]
    return _assembled(panels, columns, _title(entries, machine, frame), frame)


def _rows(quantity: Quantity, series: Sequence[Series]) -> list[dict[str, Any]]:
    """Values of one quantity, on all axes; zeros have no place on a log axis."""
    rows: list[dict[str, Any]] = []
    for one in series:
        for point in one.entries[0].curves:
            rows += _row(quantity, one.label, point, quantity.closed(point), False)
        for entry in one.entries:
            for found in entry.measured:
                rows += _row(quantity, one.label, found, quantity.measured(found), True)
    return rows


def _row(
    quantity: Quantity,
    label: str,
    at: CurvePoint | Measurement,
    value: float | None,
    is_measured: bool,
) -> list[dict[str, Any]]:
    if value is None or (quantity.log and value <= 0):
        return []
    told = words.percent(value) if not quantity.log else f"{words.quantity(value)} {quantity.unit}"
    tokens = f", {words.count(at.tokens)} tokens" if isinstance(at, CurvePoint) else ""
    how = "measured" if is_measured else "closed form"
    about = f"{label}, {AXES[at.axis].lower()} {at.value}: {told}{tokens} ({how})"
    return [
        {
            "line": label,
            "axis": at.axis,
            "x": at.value,
            "y": value,
            "measured": is_measured,
            "about": about,
        }
    ]


def _panel(
    quantity: Quantity,
    axis: Axis,
    found: Sequence[dict[str, Any]],
    series: Sequence[Series],
    size: tuple[float, float],
) -> Layer:
    mine = [row for row in found if row["axis"] == axis]
    entries = [entry for one in series for entry in one.entries]
    x, y = _x(axis, entries), _y(quantity, found)
    colour, dash = _by_line([one.label for one in series])
    layers = [_own_value(axis, entries).encode(x=x)]
    lines = [row for row in mine if not row["measured"]]
    dots = [row for row in mine if row["measured"]]
    # Measured points alone are joined, thinly: each variant's can then be followed.
    stroke = marks(lines or dots).mark_line(strokeWidth=1.8 if lines else 0.8, aria=False)
    layers.append(stroke.encode(x=x, y=y, color=colour, strokeDash=dash))
    spots = marks(lines).mark_point(filled=True, size=30, opacity=0)
    layers.append(spots.encode(x=x, y=y, description=alt.Description("about:N")))
    # Hollow, so that one does not hide another.
    points = marks(dots).mark_point(filled=False, size=44, opacity=1, strokeWidth=1.8)
    layers.append(points.encode(x=x, y=y, color=colour, description=alt.Description("about:N")))
    return alt.LayerChart(layer=layers, width=size[0], height=size[1])


def _by_line(names: Sequence[str]) -> tuple[alt.Color, alt.StrokeDash]:
    """A colour and a dash for each line, the same in every panel."""
    colours = [VERSION_COLOURS[i % len(VERSION_COLOURS)] for i in range(len(names))]
    legend = alt.Legend(orient="bottom", symbolType="stroke", symbolStrokeWidth=3, labelLimit=300)
    dashes = [DASHES[i % len(DASHES)] for i in range(len(names))]
    return (
        alt.Color(
            "line:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=legend
        ),
        alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=None),
    )


def _own_value(axis: Axis, entries: Sequence[Entry]) -> Layer:
    """A thin upright line where the atlas's own input stands."""
    strip = entries[0].strips[0]
    own = {"side": strip.height, "steps": strip.steps, "patch_size": entries[0].patch_size}
    is_drawn = axis != "side" or strip.height == strip.width
    return marks([{"x": own[axis]}] if is_drawn else []).mark_rule(
        color=MUTED, strokeDash=[2, 3], strokeWidth=1, aria=False
    )


_TICKS: dict[Axis, tuple[int, ...]] = {
    "side": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    "steps": (1, 2, 4, 8, 12, 24),
    "patch_size": (1, 2, 4, 8),
}


def _x(axis: Axis, entries: Sequence[Entry]) -> alt.X:
    """One domain for all rows of panels."""
    values = sorted({point.value for entry in entries for point in entry.curve(axis)})
    low, high = values[0], values[-1]
    ticks = [tick for tick in _TICKS[axis] if low <= tick <= high] or [low]
    domain = [low, high] if low < high else [low / 2, high * 2]
    return alt.X(
        "x:Q",
        title=AXES[axis],
        scale=alt.Scale(type="log", domain=domain, nice=False, padding=8),
        axis=alt.Axis(values=ticks, format="d", grid=False, titleFontSize=11),
    )


def _y(quantity: Quantity, rows: Sequence[dict[str, Any]]) -> alt.Y:
    values = [row["y"] for row in rows]
    if not quantity.log:
        scale = alt.Scale(domain=[0, 1])
        axis = alt.Axis(format=".0%", values=[0, 0.5, 1], titleFontSize=11)
        return alt.Y("y:Q", title=quantity.title, scale=scale, axis=axis)
    low, high = min(values) / 1.5, max(values) * 1.5
    decades = [10.0**e for e in range(-2, 18) if low <= 10.0**e <= high]
    ticks = {"values": decades} if len(decades) > 1 else {"tickCount": 4}
    return alt.Y(
        "y:Q",
        title=quantity.title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(
            labelExpr=f"format(datum.value, '~s') + '{quantity.suffix}'", titleFontSize=11, **ticks
        ),
    )


def _title(entries: Sequence[Entry], machine: str, frame: Frame) -> alt.TitleParams:
    is_measured = any(entry.measured for entry in entries)
    said = "Lines: closed form, batch 1, float32. Dotted upright: the input of the diagrams. "
    said += f"Circles: measured on {machine}, random weights." if is_measured else "Not measured."
    width = 300 if frame.is_narrow else 780
    return alt.TitleParams(
        f"{entries[0].family}: cost as the input changes",
        subtitle=wrapped(said, width, 12),
        subtitleColor=MUTED,
        subtitleFontSize=12,
        subtitlePadding=4,
    )


def _assembled(panels: Sequence[Layer], columns: int, title: alt.TitleParams, frame: Frame) -> Spec:
    """Panels in rows; each is made a specification by itself (see `reports.line_panels`)."""
    whole = alt.concat(panels[0], columns=columns, spacing=18).properties(title=title)
    spec = finished(whole, frame)
    for panel in panels[1:]:
        part = panel.to_dict(validate=False)
        spec["datasets"] |= part["datasets"]
        spec["concat"].append({k: v for k, v in part.items() if k in spec["concat"][0]})
    for name, rows in spec["datasets"].items():
        if isinstance(rows, str):  # see `reports.marks.inline`
            spec["datasets"][name] = json.loads(rows)
    return spec
