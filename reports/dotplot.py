"""The per-task figure: a dot plot of scores with their 95% intervals, one panel per task.

Variants stand in the order of their average rank, incomplete ones below. Tasks of one metric
share their axis, unless one is so far from another that the dots could not be told apart. It
must know nothing of pages or files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from reports import words
from reports.against_baselines import Mark
from reports.descriptions import described, silent
from reports.labels import text_width
from reports.look import INK, MUTED, WIDE, Cast, Frame, Spec, finished, subject, title_of
from reports.ranking import RankingTable, Score
from reports.table import SuiteResults, TaskInfo

_SIZE = 11
_ROWS_ON_A_PAGE = 80
_MOST_STRETCH = 2.5
"""A shared axis may be this much longer than the longest of its panels' own."""
Range = tuple[float, float]
Marks = Mapping[str, Mark]
_NO_MARKS: Marks = {}


def task_scores_chart(
    results: SuiteResults,
    ranking: RankingTable,
    frame: Frame = WIDE,
    tasks: Sequence[TaskInfo] | None = None,
    marks: Marks | None = None,
) -> Spec | None:
    """One panel per task, or per one of ``tasks``; ``None`` without variants or scores.

    ``marks`` holds the best baseline by task: a dashed line, named above its panel.
    """
    tasks = ranking.tasks if tasks is None else tasks
    cast = Cast.of(results)
    scores, marks = _scores(ranking), marks or _NO_MARKS
    names = list(scores)
    if not names or not any(scores.values()):
        return None
    incomplete = {i.variant for i in ranking.incomplete}
    texts = [words.clip(cast.labels[n], 34) + " (incomplete)" * (n in incomplete) for n in names]
    columns = 1 if frame.is_narrow else min(len(tasks), 2)
    room = min(max(text_width(text, _SIZE) for text in texts), 240.0)
    width = max(frame.width - room - 8, 120) if columns == 1 else (frame.width - room - 24) / 2
    title = title_of("Scores per task", ranking, frame, subject(results, ranking))
    first = _panel(cast, names, width).properties(title=title)
    spec = finished(first, frame)
    shared = {key: spec.pop(key) for key in ("$schema", "config", "title")}
    ranges = axis_ranges(ranking, marks)
    panels = [
        _filled(spec, i, task, ranges.get(task.name, (0.0, 1.0)), has_names=i % columns == 0)
        for i, task in enumerate(tasks)
    ]
    for panel, task in zip(panels, tasks, strict=True):
        if mark := marks.get(task.name):
            panel["title"]["subtitle"] = _mark_label(cast, mark, frame)
    datasets = {f"scores {i}": _rows(cast, task, scores) for i, task in enumerate(tasks)}
    for i, task in enumerate(tasks):
        datasets[f"mark {i}"] = _mark_rows(marks.get(task.name), task)
    datasets["names"] = [
        {"order": order, "text": text, "about": silent(name)}
        for order, (name, text) in enumerate(zip(names, texts, strict=True))
    ]
    return {**shared, "concat": panels, "columns": columns, "spacing": 24, "datasets": datasets}


def blocks(ranking: RankingTable) -> list[tuple[TaskInfo, ...]]:
    """The tasks in blocks of which each makes one figure that fits a printed page."""
    rows = len(ranking.ranked) + len(ranking.incomplete)
    size = max(2, 2 * (_ROWS_ON_A_PAGE // (rows + 3)))
    return [ranking.tasks[i : i + size] for i in range(0, len(ranking.tasks), size)]


def axis_ranges(ranking: RankingTable, marks: Marks = _NO_MARKS) -> dict[str, Range]:
    """The score axis of each task that has scores: shared by tasks of one metric and unit.

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
            ends += [marks[task.name].score] if task.name in marks else []
            own[task.name] = min(ends), max(ends)
    ranges = {}
    for task in ranking.tasks:
        if task.name in own:
            same = [t for t in ranking.tasks if t.metric_and_unit == task.metric_and_unit]
            peers = [own[t.name] for t in same if t.name in own]
            low, high = min(p[0] for p in peers), max(p[1] for p in peers)
            longest = max(p[1] - p[0] for p in peers)
            may_share = high - low <= _MOST_STRETCH * longest
            ranges[task.name] = _padded((low, high) if may_share else own[task.name])
    return ranges


def shares_an_axis(ranking: RankingTable, marks: Marks = _NO_MARKS) -> bool:
    """Whether any two panels have one axis."""
    ranges = list(axis_ranges(ranking, marks).values())
    return len(set(ranges)) < len(ranges)


def _padded(found: Range) -> Range:
    low, high = found
    pad = 0.04 * (high - low) or 0.01
    return low - pad, high + pad


def _scores(ranking: RankingTable) -> dict[str, Mapping[str, Score]]:
    found = {r.variant: r.scores for r in ranking.ranked}
    return {**found, **{i.variant: i.scores for i in ranking.incomplete if i.scores}}


def _ends(score: Score) -> Range:
    spread = score.interval
    return (spread.low, spread.high) if spread else (score.value, score.value)


def _panel(cast: Cast, names: Sequence[str], width: float) -> Any:
    """Intervals, dots and names of one task, its data and score axis still to be filled in."""
    rows = list(range(len(names)))
    y_axis = alt.Axis(values=rows, labels=False, title=None, ticks=False, domain=False)
    y = alt.Y("order:Q", axis=y_axis).scale(
        domain=[-0.7, len(names) - 0.3], reverse=True, nice=False
    )
    x_axis = alt.Axis(tickCount=5, labelFlush=False, labelOverlap=True, title=None)
    colour = cast.colour(names)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", axis=x_axis).scale(domain=[0, 1], nice=False, zero=False)

    scores = alt.Chart(alt.NamedData(name="scores")).encode(y=y, color=colour)
    rule = scores.mark_rule(strokeWidth=2, opacity=0.45).encode(
        x=x("low"), x2=alt.X2("high:Q"), description=alt.Description("silent:N")
    )
    dot = scores.mark_point(filled=True, size=70, opacity=1).encode(
        x=x("score"), shape=cast.shape(names), description=alt.Description("about:N")
    )
    mark = (
        alt.Chart(alt.NamedData(name="mark"))
        .mark_rule(strokeWidth=1.5, strokeDash=[5, 3], color=MUTED)
        .encode(x=x("score"), description=alt.Description("about:N"))
    )
    label = (
        alt.Chart(alt.NamedData(name="names"))
        .mark_text(align="right", baseline="middle", fontSize=_SIZE, color=INK, limit=240, x=-8)
        .encode(y=y, text=alt.Text("text:N"), description=alt.Description("about:N"))
    )
    return alt.layer(mark, rule, dot, label).properties(
        width=width, height=max(60, 21 * len(names))
    )


def _filled(template: Spec, i: int, task: TaskInfo, domain: Range, has_names: bool) -> Spec:
    """One task's panel from the template: Altair would build each anew, at fifty times the cost."""
    panel = copy.deepcopy(template)
    panel["title"] = {
        **{"text": _panel_title(task), "anchor": "start", "fontSize": 12, "offset": 6},
        **{"subtitleFontSize": _SIZE, "subtitleColor": MUTED, "subtitlePadding": 2},
    }
    mark, rule, dot, *names = panel["layer"]
    for layer, data in ((mark, "mark"), (rule, "scores"), (dot, "scores")):
        layer["data"]["name"] = f"{data} {i}"
        layer["encoding"]["x"]["scale"]["domain"] = list(domain)
        layer["encoding"]["x"]["axis"]["title"] = words.clip(task.unit, 40) or None
    panel["layer"] = [mark, rule, dot, *names] if has_names else [mark, rule, dot]
    return panel


def _mark_label(cast: Cast, mark: Mark, frame: Frame) -> list[str]:
    """What the dashed line is: beside the title, where no dot can hide it."""
    name, score = words.clip(cast.labels[mark.variant], 34), words.score(mark.score)
    return (
        [f"dashed: {name},", f"best baseline, {score}"]
        if frame.is_narrow
        else [f"dashed: best baseline, {name}, {score}"]
    )


def _mark_rows(mark: Mark | None, task: TaskInfo) -> list[dict[str, Any]]:
    if mark is None:
        return []
    about = f"best baseline, {words.score(mark.score)} on {words.clip(task.name, 40)}"
    return [{"score": mark.score, "about": described(mark.variant, about)}]


def _panel_title(task: TaskInfo) -> str:
    direction = "" if task.higher_is_better else ", lower is better"
    return f"{words.clip(task.name, 40)} ({words.clip(task.metric, 24)}{direction})"


def _rows(
    cast: Cast, task: TaskInfo, scores: Mapping[str, Mapping[str, Score]]
) -> list[dict[str, Any]]:
    return [
        _row(name, order, cast, task, found[task.name])
        for order, (name, found) in enumerate(scores.items())
        if task.name in found
    ]


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
