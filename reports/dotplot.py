"""The per-task figure: a dot plot of scores with their 95% intervals, one panel per task.

Variants stand in the order of their average rank, incomplete ones below. It must know
nothing of pages or files.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from reports import words
from reports.look import INK, WIDE, Cast, Frame, Spec, finished, title_of
from reports.ranking import RankingTable, Score
from reports.table import SuiteResults, TaskInfo


def task_scores_chart(
    results: SuiteResults, ranking: RankingTable, frame: Frame = WIDE
) -> Spec | None:
    """One panel per task, each with its own score axis; ``None`` without variants."""
    cast = Cast.of(results)
    incomplete = [i.variant for i in ranking.incomplete]
    names = [r.variant for r in ranking.ranked] + incomplete
    if not names:
        return None
    scores = {r.variant: r.scores for r in ranking.ranked}
    scores |= {i.variant: i.scores for i in ranking.incomplete}
    rows = [
        _row(name, names.index(name), cast.versions[name], task, scores[name][task.name])
        for task in ranking.tasks
        for name in names
        if task.name in scores[name]
    ]
    texts = [cast.labels[n] + (" (incomplete)" if n in incomplete else "") for n in names]
    columns = 1 if frame.is_narrow else min(len(ranking.tasks), 2)
    panel = _panel(cast.colour(names, legend=False), texts).properties(
        width=170 if frame.is_narrow else frame.width // columns - 70,
        height=max(60, 21 * len(names)),
    )
    panels = alt.Facet(
        "panel:N",
        sort=[_panel_title(task) for task in ranking.tasks],
        title=None,
        header=alt.Header(
            labelAnchor="start", labelFontSize=12, labelFontWeight="bold", labelColor=INK
        ),
    )
    chart = panel.facet(facet=panels, columns=columns, data=alt.InlineData(values=rows))
    chart = chart.resolve_scale(x="independent").resolve_axis(x="independent")
    return finished(chart.properties(title=title_of("Scores per task", ranking, frame)), frame)


def _panel(colour: alt.Color, texts: list[str]) -> Any:
    """Intervals and dots of one task; Vega repeats it for each."""
    axis = alt.Axis(
        values=list(range(len(texts))),
        labelExpr=_label_expression(texts),
        labelLimit=240,
        labelPadding=8,
        title=None,
        ticks=False,
        domain=False,
    )
    y = alt.Y("order:Q", axis=axis).scale(domain=[-0.7, len(texts) - 0.3], reverse=True, nice=False)
    base = alt.Chart().encode(y=y, color=colour)
    rule = base.mark_rule(strokeWidth=2, opacity=0.45, aria=False)
    dot = base.mark_point(filled=True, size=70, opacity=1)
    ticks = alt.Axis(tickCount=5, labelFlush=False, labelOverlap=True, title=None)
    x = alt.X("low:Q", axis=ticks).scale(zero=False, padding=8, nice=True)
    return alt.layer(
        rule.encode(x=x, x2="high:Q"), dot.encode(x=alt.X("score:Q"), description="about:N")
    )


def _panel_title(task: TaskInfo) -> str:
    direction = "" if task.higher_is_better else ", lower is better"
    return f"{words.clip(task.name, 40)} ({task.metric}{direction})"


def _row(variant: str, order: int, version: str, task: TaskInfo, score: Score) -> dict[str, Any]:
    spread = score.interval
    return {
        "panel": _panel_title(task),
        "order": order,
        "version": version,
        "score": score.value,
        "low": spread.low if spread else score.value,
        "high": spread.high if spread else score.value,
        "about": f"{words.clip(variant, 80)} on {words.clip(task.name, 40)}: "
        f"{words.score(score.value)} (95%: {words.spans(spread)})",
    }


def _label_expression(texts: list[str]) -> str:
    """A Vega expression that maps 0, 1, ... to texts; every character is escaped."""
    quoted = ", ".join('"' + _escaped(text) + '"' for text in texts)
    return f"[{quoted}][datum.value]"


def _escaped(text: str) -> str:
    """Every UTF-16 unit as a hexadecimal escape, so that no character can end the string."""
    raw = text.encode("utf-16-be")
    return "".join(f"\\u{raw[i]:02x}{raw[i + 1]:02x}" for i in range(0, len(raw), 2))
