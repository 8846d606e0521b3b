"""The per-task figure: a dot plot of scores with their 95% intervals, one panel per task.

Variants stand in the order of their average rank, incomplete ones below. Tasks of one metric
share their axis, unless one is so far from another that the dots could not be told apart. It
must know nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from reports import words
from reports.descriptions import described, silent
from reports.labels import text_width
from reports.look import INK, WIDE, Cast, Frame, Spec, finished, subject, title_of
from reports.marks import marks
from reports.ranking import RankingTable, Score
from reports.table import SuiteResults, TaskInfo

_SIZE = 11
_MOST_STRETCH = 2.5
"""A shared axis may be this much longer than the longest of its panels' own."""
Range = tuple[float, float]


def task_scores_chart(
    results: SuiteResults, ranking: RankingTable, frame: Frame = WIDE
) -> Spec | None:
    """One panel per task; ``None`` without variants or scores."""
    cast = Cast.of(results)
    scores = _scores(ranking)
    names = list(scores)
    if not names or not any(scores.values()):
        return None
    incomplete = {i.variant for i in ranking.incomplete}
    texts = [words.clip(cast.labels[n], 34) + " (incomplete)" * (n in incomplete) for n in names]
    columns = 1 if frame.is_narrow else min(len(ranking.tasks), 2)
    room = min(max(text_width(text, _SIZE) for text in texts), 240.0)
    width = max(frame.width - room - 8, 120) if columns == 1 else (frame.width - room - 24) / 2
    ranges = axis_ranges(ranking)
    look = cast.colour(names), cast.shape(names)
    panels = [
        _panel(
            task, cast, scores, texts if i % columns == 0 else [], look, ranges.get(task.name)
        ).properties(
            width=width,
            height=max(60, 21 * len(names)),
            title=alt.TitleParams(_panel_title(task), anchor="start", fontSize=12, offset=6),
        )
        for i, task in enumerate(ranking.tasks)
    ]
    title = title_of("Scores per task", ranking, frame, subject(results, ranking))
    return side_by_side(panels, columns, title, frame)


def side_by_side(panels: Sequence[Any], columns: int, title: alt.TitleParams, frame: Frame) -> Spec:
    """Panels in rows under one title; put together here, for Altair copies all at every step."""
    spec = finished(panels[0].properties(title=title), frame)
    shared = {key: spec[key] for key in ("$schema", "config", "title")}
    parts: list[Spec] = [panel.to_dict(validate=False) for panel in panels]
    datasets = {name: rows for part in parts for name, rows in part.pop("datasets", {}).items()}
    kept = [{k: v for k, v in part.items() if k not in ("$schema", "config")} for part in parts]
    return {**shared, "concat": kept, "columns": columns, "spacing": 24, "datasets": datasets}


def axis_ranges(ranking: RankingTable) -> dict[str, Range]:
    """The score axis of each task that has scores: shared by tasks of one metric where it may be.

    Shared only if no axis becomes more than 2.5 times as long as the longest one needs.
    """
    own: dict[str, Range] = {}
    for task in ranking.tasks:
        ends = [
            end
            for found in _scores(ranking).values()
            if (score := found.get(task.name))
            for end in _ends(score)
        ]
        if ends:
            own[task.name] = min(ends), max(ends)
    ranges = {}
    for task in ranking.tasks:
        peers = [own[t.name] for t in ranking.tasks if t.metric == task.metric and t.name in own]
        if task.name in own:
            low, high = min(p[0] for p in peers), max(p[1] for p in peers)
            longest = max(p[1] - p[0] for p in peers)
            may_share = high - low <= _MOST_STRETCH * longest
            ranges[task.name] = _padded((low, high) if may_share else own[task.name])
    return ranges


def shares_an_axis(ranking: RankingTable) -> bool:
    """Whether any two panels have one axis."""
    ranges = list(axis_ranges(ranking).values())
    return len(set(ranges)) < len(ranges)


def _padded(found: Range) -> Range:
    low, high = found
    pad = 0.04 * (high - low) or 0.01
    return low - pad, high + pad


def _scores(ranking: RankingTable) -> dict[str, Mapping[str, Score]]:
    return {entry.variant: entry.scores for entry in (*ranking.ranked, *ranking.incomplete)}


def _ends(score: Score) -> Range:
    spread = score.interval
    return (spread.low, spread.high) if spread else (score.value, score.value)


def _x(field: str, domain: Range) -> alt.X:
    axis = alt.Axis(tickCount=5, labelFlush=False, labelOverlap=True, title=None)
    return alt.X(f"{field}:Q", axis=axis).scale(domain=list(domain), nice=False, zero=False)


def _panel(
    task: TaskInfo,
    cast: Cast,
    scores: Mapping[str, Mapping[str, Score]],
    texts: Sequence[str],
    look: tuple[alt.Color, alt.Shape],
    domain: Range | None,
) -> Any:
    """Names, intervals and dots of one task."""
    rows = [
        _row(name, order, cast, task, found[task.name])
        for order, (name, found) in enumerate(scores.items())
        if task.name in found
    ]
    names = [
        {"order": order, "text": text, "about": silent(name)}
        for order, (name, text) in enumerate(zip(scores, texts, strict=False))
    ]
    (colour, shape), ends = look, domain or (0.0, 1.0)
    axis = alt.Axis(
        values=list(range(len(scores))), labels=False, title=None, ticks=False, domain=False
    )
    y = alt.Y("order:Q", axis=axis).scale(
        domain=[-0.7, len(scores) - 0.3], reverse=True, nice=False
    )
    data = marks(rows).encode(y=y)
    rule = data.mark_rule(strokeWidth=2, opacity=0.45).encode(
        x=_x("low", ends), x2="high:Q", color=colour, description="silent:N"
    )
    dot = data.mark_point(filled=True, size=70, opacity=1).encode(
        x=_x("score", ends), color=colour, shape=shape, description="about:N"
    )
    label = (
        marks(names)
        .mark_text(align="right", baseline="middle", fontSize=_SIZE, color=INK, limit=240, x=-8)
        .encode(y=y, text="text:N", description="about:N")
    )
    return alt.layer(rule, dot, *[label] * bool(texts))


def _panel_title(task: TaskInfo) -> str:
    direction = "" if task.higher_is_better else ", lower is better"
    return f"{words.clip(task.name, 40)} ({words.clip(task.metric, 24)}{direction})"


def _row(variant: str, order: int, cast: Cast, task: TaskInfo, score: Score) -> dict[str, Any]:
    low, high = _ends(score)
    bounds = f" (95%: {words.spans(score.interval)})" if score.interval else ""
    return {
        "order": order,
        "version": cast.versions[variant],
        "scheme": cast.schemes[variant],
        "score": score.value,
        "low": low,
        "high": high,
        "silent": silent(variant),
        "about": described(
            variant, f"{words.score(score.value)} on {words.clip(task.name, 40)}{bounds}"
        ),
    }
