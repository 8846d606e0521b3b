"""The per-task figure: a dot plot of scores with their 95% intervals, one panel per task.

Variants stand in the order of their average rank, incomplete ones below. It must know
nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports import words
from reports.look import INK, WIDE, Cast, Frame, Spec, finished, title_of
from reports.ranking import RankingTable
from reports.table import SuiteResults


def task_scores_chart(
    results: SuiteResults, ranking: RankingTable, frame: Frame = WIDE
) -> Spec | None:
    """A dot plot per task: score with its 95% interval, variants in the order of their rank."""
    names = [r.variant for r in ranking.ranked] + [i.variant for i in ranking.incomplete]
    if not names:
        return None
    columns = 1 if frame.is_narrow else min(len(ranking.tasks), 2)
    width = 170 if frame.is_narrow else 700 // columns - 55
    panels = [
        _task_panel(results, ranking, names, i, width, columns) for i in range(len(ranking.tasks))
    ]
    chart = alt.concat(
        *panels, columns=columns, spacing=18, title=title_of("Scores per task", ranking, frame)
    )
    return finished(chart, frame)


def _task_panel(
    results: SuiteResults,
    ranking: RankingTable,
    names: Sequence[str],
    position: int,
    width: int,
    columns: int,
) -> Any:
    task = ranking.tasks[position]
    cast = Cast.of(results)
    found = {r.variant: r.scores.get(task.name) for r in ranking.ranked}
    found |= {i.variant: i.scores.get(task.name) for i in ranking.incomplete}
    rows = [
        {
            "order": names.index(name),
            "version": cast.versions[name],
            "score": score.value,
            "low": score.interval.low if score.interval else score.value,
            "high": score.interval.high if score.interval else score.value,
            "about": f"{words.clip(name, 80)} on {task.name}: {words.score(score.value)} "
            f"(95%: {words.spans(score.interval)})",
        }
        for name, score in found.items()
        if score is not None
    ]
    colour = cast.colour(names, legend=False)
    incomplete = {i.variant for i in ranking.incomplete}
    texts = [cast.labels[n] + (" (incomplete)" if n in incomplete else "") for n in names]
    axis = alt.Axis(
        values=list(range(len(names))),
        labelExpr=_label_expression(texts),
        labelLimit=240,
        grid=True,
        title=None,
        labels=position % columns == 0,
        ticks=False,
        domain=False,
        labelPadding=8,
    )
    y = alt.Y("order:Q", axis=axis).scale(domain=[-0.7, len(names) - 0.3], reverse=True, nice=False)
    x_title = f"{task.metric} ({'higher' if task.higher_is_better else 'lower'} is better)"
    x = alt.X("score:Q", title=x_title).scale(zero=False, padding=8, nice=True)
    base = alt.Chart(alt.InlineData(values=rows))
    rule = base.mark_rule(strokeWidth=2, opacity=0.45, aria=False)
    dot = base.mark_point(filled=True, size=70, opacity=1)
    return alt.LayerChart(
        layer=[
            rule.encode(x=alt.X("low:Q", title=x_title), x2="high:Q", y=y, color=colour),
            dot.encode(x=x, y=y, color=colour, description="about:N"),
        ],
        width=width,
        height=max(60, 21 * len(names)),
        title=alt.TitleParams(words.clip(task.name, 40), fontSize=12, anchor="start", color=INK),
    )


def _label_expression(texts: Sequence[str]) -> str:
    """A Vega expression that maps 0, 1, ... to texts; every character is escaped."""
    quoted = ", ".join('"' + "".join(f"\\u{ord(c):04x}" for c in _utf16(t)) + '"' for t in texts)
    return f"[{quoted}][datum.value]"


def _utf16(text: str) -> str:
    r"""A string whose characters are its UTF-16 units, as ``\u`` escapes need them."""
    raw = text.encode("utf-16-be")
    return "".join(chr(raw[i] * 256 + raw[i + 1]) for i in range(0, len(raw), 2))
