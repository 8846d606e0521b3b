"""Cost curves as figures: ratio of a pair, and MACs of a variant, along image side and time.

Solid lines count attention, dashed ones do not. It must know nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from reports import words
from reports.cost_curves import AXES, Axis, RatioCurve, input_of, main_kind, ratio_curves
from reports.line_panels import Line, Panel, Style, line_panels
from reports.look import MUTED, WIDE, Cast, Frame, Spec
from reports.pairs import Kind, Pair
from reports.ranking import BASELINE
from reports.table import SuiteResults, TaskInfo

MOST_LINES = 12
"""More lines than this in a panel cannot be told apart; the rest is in the table."""

_AGAINST: dict[Kind, str] = {
    "version": "to the first version",
    "scheme": "to the version's own scheme",
    "recipe": "under the same scheme",
    "pretraining": "under another recipe",
    "trained longer": "to the first version",
}
_COUNTED, _BLIND = "attention included", "attention-blind"


def cost_ratio_chart(
    results: SuiteResults, pairs: Sequence[Pair], frame: Frame = WIDE
) -> Spec | None:
    """Reference / candidate MACs, one panel per axis; ``None`` without curves for a pair.

    Draws the pairs of versions (else of schemes, else of recipes), `MOST_LINES` at most.
    """
    cast = Cast.of(results)
    drawn = main_kind(ratio_curves(results, pairs))
    # Cost knows no weights: a pair that stands in several tiers is one line.
    once: dict[tuple[str, str], tuple[str, str]] = {}
    for c in drawn:
        shown = (cast.labels[c.candidate], cast.labels[c.reference])
        once.setdefault(shown, (c.candidate, c.reference))
    names = list(once.values())[:MOST_LINES]
    drawn = tuple(c for c in drawn if (c.candidate, c.reference) in names)
    if not drawn or not results.run.tasks:
        return None
    task = results.run.tasks[0]
    lines: dict[Axis, list[Line]] = {}
    for curve in drawn:
        lines.setdefault(curve.axis, []).extend(_ratio_lines(curve, cast, task))
    style = Style("MACs, reference / candidate", (_COUNTED, _BLIND), "MACs counted", floor=1.0)
    colour = cast.colour([c.candidate for c in drawn])
    title = f"MACs ratio {_AGAINST[drawn[0].kind]}"
    return _finished(lines, style, colour, title, task, frame)


def macs_chart(results: SuiteResults, frame: Frame = WIDE) -> Spec | None:
    """MACs per sample of every variant but baselines, on a log axis, attention included.

    ``None`` without curves, and for more than `MOST_LINES` variants, where no line could
    be followed.
    """
    known = set(results.curves["variant"].to_list())
    judged = results.variants.filter(pl.col("tier") != BASELINE)["variant"].to_list()
    cast = Cast.of(results)
    # Cost knows no weights: a variant that stands in several tiers, or with study weights of
    # several recipes, is one line.
    plain = {name: cast.labels[name].partition("@")[0] for name in judged}
    once = {plain[name]: name for name in reversed(judged) if name in known}
    variants = [name for name in judged if name in once.values()]
    if not variants or len(variants) > MOST_LINES or not results.run.tasks:
        return None
    task = results.run.tasks[0]
    lines: dict[Axis, list[Line]] = {}
    for axis in AXES:
        found = [_macs_line(results, name, axis, cast, task) for name in variants]
        if any(found):
            lines[axis] = [line for line in found if line]
    if not lines:
        return None
    style = Style("MACs (log scale)", (_COUNTED,), log=True)
    return _finished(lines, style, cast.colour(variants), "MACs per sample", task, frame)


def _finished(
    lines: dict[Axis, list[Line]],
    style: Style,
    colour: alt.Color,
    title: str,
    task: TaskInfo,
    frame: Frame,
) -> Spec:
    x_titles = {
        "side": "Image side in pixels, one time step",
        "steps": f"Time steps of {task.height} x {task.width} pixels",
    }
    panels = [Panel("", x_titles[axis], tuple(mine)) for axis, mine in lines.items()]
    said = (f"Closed form, patch size {task.patch_size}:", "holds for any data and weights")
    heading = alt.TitleParams(
        title,
        subtitle=list(said) if frame.is_narrow else [" ".join(said)],
        subtitleColor=MUTED,
        subtitleFontSize=12,
        subtitlePadding=4,
    )
    return line_panels(panels, style, colour, heading, frame)


def _ratio_lines(curve: RatioCurve, cast: Cast, task: TaskInfo) -> list[Line]:
    who = f"{words.clip(curve.candidate, 60)} against {words.clip(curve.reference, 60)}"
    x = tuple(point.value for point in curve.points)
    about = tuple(
        f"{who}, {input_of(curve.axis, point.value, task)}: {words.cost_change(point.ratio)} "
        f"({words.cost_change(point.blind)} attention-blind)"
        for point in curve.points
    )
    return [
        Line(
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
) -> Line | None:
    rows = results.curves.filter(variant=name, axis=axis).sort("value").to_dicts()
    rows = [row for row in rows if row["macs"] > 0]
    if not rows:
        return None
    return Line(
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
