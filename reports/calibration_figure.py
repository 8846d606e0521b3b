"""Reliability diagrams: accuracy against confidence, bin by bin; the diagonal is calibrated.

It must know nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports import words
from reports.calibration import Calibration
from reports.look import INK, MUTED, WIDE, Cast, Frame, Spec, finished, subject, title_of
from reports.marks import LABEL_SIZE, Layer, inline
from reports.ranking import RankingTable
from reports.table import SuiteResults

MOST_PANELS, LINES = 4, 2
"""Panels of one figure, and variants in a panel, at most."""

_KINDS = ("ideal", "bin", "note")


def reliability_chart(
    results: SuiteResults,
    ranking: RankingTable,
    found: Sequence[Calibration],
    frame: Frame = WIDE,
) -> Spec | None:
    """One panel per task, for the first two variants of ``found``; ``None`` without any.

    Dots grow with the number of samples in their bin.
    """
    names = list(dict.fromkeys(c.variant for c in found))[:LINES]
    tasks = list(dict.fromkeys(c.task for c in found))[:MOST_PANELS]
    if not tasks:
        return None
    cast = Cast.of(results)
    shown = [c for c in found if c.task in tasks and c.variant in names]
    columns = 1 if frame.is_narrow else min(2, len(tasks))
    side = 200.0 if frame.is_narrow else 290.0
    facet = alt.Facet(
        "panel:N",
        sort=[_panel(task) for task in tasks],
        title=None,
        header=alt.Header(
            labelAnchor="start", labelFontSize=12, labelFontWeight="bold", labelColor=INK
        ),
    )
    layers = alt.layer(*_layers(cast, names, max(b.count for c in shown for b in c.bins)))
    rows = [row for c in shown for row in _rows(c, cast, names)]
    if frame.is_narrow:  # no room for them; the table has them
        rows = [row for row in rows if row["kind"] != "note"]
    chart = layers.properties(width=side, height=side).facet(
        facet=facet, columns=columns, data=inline(rows)
    )
    heading = title_of(
        "Reliability: accuracy at a confidence", ranking, frame, subject(results, ranking)
    )
    return finished(chart.properties(title=heading), frame)


def _panel(task: str) -> str:
    return words.clip(task, 36)


def _rows(c: Calibration, cast: Cast, names: Sequence[str]) -> list[dict[str, Any]]:
    """What a panel draws of one variant: its bins, the diagonal, and its error in words."""
    base = {"panel": _panel(c.task), "version": cast.versions[c.variant]}
    base["variant"] = cast.labels[c.variant]
    place = names.index(c.variant)
    note = f"{words.clip(base['variant'], 22)}: error {words.score(c.error)}, "
    note += f"chance {words.score(c.expected)}"
    return [
        *(
            {
                **base,
                "kind": "bin",
                "sure": round(b.confidence, 4),
                "right": round(b.accuracy, 4),
                "count": b.count,
                "about": f"{words.clip(c.variant, 80)} on {words.clip(c.task, 40)}, confidence "
                f"{b.low:.1f} to {b.high:.1f}: right in {b.accuracy:.0%} of "
                f"{words.number(b.count, 'prediction')}, sure to {b.confidence:.0%}",
            }
            for b in c.bins
        ),
        *({**base, "kind": "ideal", "sure": end, "right": end} for end in (0, 1) if not place),
        {
            **base,
            "kind": "note",
            "sure": 0.99,
            "right": 0.02 + 0.06 * (len(names) - 1 - place),
            "note": note,
        },
    ]


def _layers(cast: Cast, names: Sequence[str], most: int) -> list[Layer]:
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".0%")
    x = alt.X("sure:Q", title="Confidence", axis=axis).scale(domain=[0, 1], nice=False)
    y = alt.Y("right:Q", title="Accuracy", axis=axis).scale(domain=[0, 1], nice=False)
    size = alt.Size("count:Q", legend=None).scale(domain=[0, most], range=[12, 220])
    labels = [cast.labels[name] for name in names]
    legend = alt.Legend(
        title="Variant", symbolType="stroke", symbolStrokeWidth=2, symbolStrokeColor=INK
    )
    dash = alt.StrokeDash("variant:N", legend=legend)
    dash = dash.scale(domain=labels, range=[[1, 0], [5, 3]][: len(labels)])
    colour = cast.colour(names)
    base = alt.Chart().encode(x=x, y=y)
    ideal, bins, note = (base.transform_filter(f"datum.kind == '{k}'") for k in _KINDS)
    return [
        ideal.mark_line(color=MUTED, strokeWidth=1, aria=False),
        bins.mark_line(strokeWidth=1.5, opacity=0.7, aria=False).encode(
            color=colour, strokeDash=dash
        ),
        bins.mark_point(filled=True, opacity=0.9).encode(
            color=colour, size=size, description=alt.Description("about:N")
        ),
        note.mark_text(
            align="right", baseline="bottom", fontSize=LABEL_SIZE - 1, color=INK, aria=False
        ).encode(text=alt.Text("note:N")),
    ]
