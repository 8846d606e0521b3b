"""The sensitivity figure: each variant's average rank, and where it goes without any one task.

It must know nothing of pages or files.
"""

from __future__ import annotations

import altair as alt

from reports import words
from reports.labels import cut_to_width
from reports.look import WIDE, Cast, Frame, Spec, finished, subject, title_of
from reports.marks import LABEL_SIZE, marks, row_labels
from reports.ranking import RankingTable
from reports.stability import Omission, without_each_task
from reports.table import SuiteResults

_ROW = 19
_MOST_TICKS = 300  # beyond this many, ticks say nothing that their range does not


def sensitivity_chart(
    results: SuiteResults, ranking: RankingTable, frame: Frame = WIDE
) -> Spec | None:
    """A dot for the average rank, ticks for the ranks without each task, a line from end to end.

    ``None`` where no task can be left out.
    """
    omissions = without_each_task(ranking)
    if not omissions:
        return None
    cast = Cast.of(results)
    names = [r.variant for r in ranking.ranked]
    last = max(max(o.average_ranks) for o in omissions)
    top = max(last, *(r.average_rank for r in ranking.ranked), 2.0)
    pad = 0.03 * (top - 1)
    y = alt.Y("order:Q", axis=None).scale(
        domain=[-0.7, len(names) - 0.3], reverse=True, nice=False, zero=False
    )
    axis = alt.Axis(values=_ticks(top), format="~r")
    x = alt.X("rank:Q", axis=axis, title=_axis_title(ranking, frame))
    x = x.scale(domain=[1 - pad, top + pad], nice=False, zero=False)
    colour = cast.colour(names)
    ranges, ticks, dots = [], [], []
    for i, r in enumerate(ranking.ranked):
        row = {"order": i, "version": cast.versions[r.variant]}
        without = [round(o.average_ranks[i], 4) for o in omissions]
        ranges.append({**row, "rank": min(without), "high": max(without)})
        ticks += [{**row, "rank": rank} for rank in sorted(set(without))]
        dots.append({**row, "rank": r.average_rank, "about": _about(ranking, omissions, i)})
    line = marks(ranges).mark_rule(strokeWidth=2, opacity=0.45, aria=False)
    dot = marks(dots).mark_point(filled=True, size=70, opacity=1)
    layers = [line.encode(x=x, y=y, x2=alt.X2("high:Q"), color=colour)]
    if len(ticks) <= _MOST_TICKS:
        tick = marks(ticks).mark_tick(thickness=2, size=9, opacity=0.8, aria=False)
        layers.append(tick.encode(x=x, y=y, color=colour))
    layers.append(dot.encode(x=x, y=y, color=colour, description=alt.Description("about:N")))
    room = 120 if frame.is_narrow else 240
    labels = [cut_to_width(cast.labels[name], room, LABEL_SIZE) for name in names]
    layers.append(row_labels(labels, y))
    chart = alt.LayerChart(
        layer=layers,
        width=170 if frame.is_narrow else frame.width - 180,
        height=max(60, _ROW * len(names)),
        title=title_of(
            "Average rank without any one task", ranking, frame, subject(results, ranking)
        ),
    )
    return finished(chart, frame)


def _ticks(top: float) -> list[float]:
    """Ranks to mark: 1, then a handful of round ones."""
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100) if (top - 1) / s <= 8)
    start = 1 + step if step <= 1 else step
    return [1.0, *(start + step * i for i in range(10) if start + step * i <= top)]


def _axis_title(ranking: RankingTable, frame: Frame) -> str:
    tasks = words.number(len(ranking.tasks), "task")
    if frame.is_narrow:
        return f"Dot: {tasks}; ticks: one left out"
    return f"Average rank, 1 is best (dot: over {tasks}; ticks and line: with one left out)"


def _about(ranking: RankingTable, omissions: tuple[Omission, ...], i: int) -> str:
    best = min(omissions, key=lambda o: o.average_ranks[i])
    worst = max(omissions, key=lambda o: o.average_ranks[i])
    r = ranking.ranked[i]
    ends = [
        f"{words.rank_text(o.average_ranks[i])} without {words.clip(o.task, 40)}"
        for o in (best, worst)
    ]
    return (
        f"{words.clip(r.variant, 80)}: average rank {words.rank_text(r.average_rank)} over all "
        f"{words.number(len(ranking.tasks), 'task')}, {ends[0]}, {ends[1]}"
    )
