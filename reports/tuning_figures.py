"""Tuning as figures: progress of the search, and where the chosen parameters lie in it.

It must know nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from reports import words
from reports.line_panels import Line, Panel, Style, line_panels
from reports.look import INK, MUTED, WIDE, Cast, Frame, Spec, finished, subject, title_of
from reports.marks import Layer, inline
from reports.ranking import RankingTable
from reports.resampling import Floats
from reports.table import SuiteResults
from reports.tuning import Search, TriedRange, by_cell, median_progress

MOST_LINES, MOST_PANELS = 10, 4
"""Variants in a panel (the best ranked), and panels (tasks with most trials), at most."""

SHORT = 8
"""So few trials are a list of cases, not a search that could progress."""

_MOST_HOVERS = 150


def tuning_chart(
    results: SuiteResults,
    ranking: RankingTable,
    found: Sequence[Search],
    frame: Frame = WIDE,
) -> Spec | None:
    """Best validation score so far against trials, the median over seeds.

    One panel per task; ``None`` where every search is as short as `SHORT`, as those of kNN.
    """
    groups = by_cell([search for search in found if len(search.scores) > SHORT])
    searched = [search for group in groups.values() for search in group]
    tasks = _tasks(searched)
    if not tasks:
        return None
    cast = Cast.of(results)
    names = [r.variant for r in ranking.ranked][:MOST_LINES]
    panels = []
    for task in tasks:
        mine = [(name, groups[task, name]) for name in names if (task, name) in groups]
        lines = tuple(_line(name, group, cast) for name, group in mine)
        if lines:
            panels.append(Panel(words.clip(task, 36), "Trials", lines))
    if not panels:
        return None
    style = Style("Best validation score so far", shared=False, steps=True)
    title = "Progress of the tuning" + _of_all(tasks, searched)
    heading = title_of(title, ranking, frame, subject(results, ranking))
    return line_panels(panels, style, cast.colour(names), heading, frame)


def _tasks(found: Sequence[Search]) -> list[str]:
    """The tasks with the longest searches, in the order of the ranking."""
    most: dict[str, int] = {}
    for search in found:
        most[search.task] = max(most.get(search.task, 0), len(search.scores))
    longest = sorted(most, key=lambda task: -most[task])[:MOST_PANELS]
    return [task for task in most if task in longest]


def _of_all(shown: Sequence[str], found: Sequence[Search]) -> str:
    """What stands behind a title where not every task has a panel."""
    every = len({search.task for search in found})
    return f" ({len(shown)} of {every} tasks)" if len(shown) < every else ""


def _line(name: str, group: Sequence[Search], cast: Cast) -> Line:
    """Only the trials that change something, and the last: a step needs no more."""
    progress = median_progress(group)
    kept = sorted({0, len(progress) - 1, *(np.flatnonzero(np.diff(progress)) + 1).tolist()})
    about = tuple(_about(name, group, progress, i) if i == kept[-1] else "" for i in kept)
    return Line(
        cast.labels[name],
        cast.versions[name],
        "",
        tuple(float(i + 1) for i in kept),
        tuple(round(float(progress[i]), 4) for i in kept),
        about,
    )


def _about(name: str, group: Sequence[Search], progress: Floats, i: int) -> str:
    return (
        f"{words.clip(name, 80)}: best validation score {words.score(float(progress[i]))} after "
        f"{words.number(i + 1, 'trial')}, median over {words.number(len(group), 'seed')}"
    )


def chosen_chart(
    results: SuiteResults,
    ranking: RankingTable,
    found: Sequence[Search],
    ranges: Sequence[TriedRange],
    frame: Frame = WIDE,
) -> Spec | None:
    """Chosen learning rate and weight decay of every cell, within the range that was tried.

    One panel per task; ``None`` where nothing numeric was tuned. Dots at the frame's edge
    warn of a search that was too narrow.
    """
    bounds = {(r.task, r.parameter): r for r in ranges}
    tuned = [
        s
        for s in found
        if all(isinstance(s.chosen.get(p), int | float) and (s.task, p) in bounds for p in _BOTH)
    ]
    tasks = list(dict.fromkeys(s.task for s in tuned))[:MOST_PANELS]
    title = "What the tuning chose" + _of_all(tasks, tuned)
    tuned = [s for s in tuned if s.task in tasks]
    if not tuned:
        return None
    cast = Cast.of(results)
    names = list(dict.fromkeys(s.variant for s in tuned))
    columns = 1 if frame.is_narrow else min(2, len(tasks))
    facet = alt.Facet(
        "panel:N",
        sort=[words.clip(task, 36) for task in tasks],
        title=None,
        header=alt.Header(
            labelAnchor="start", labelFontSize=12, labelFontWeight="bold", labelColor=INK
        ),
    )
    mine = [r for r in ranges if r.task in tasks]
    hovers = len(tuned) <= _MOST_HOVERS
    rows = [_dot(s, cast, hovers) for s in tuned] + [_bounds(bounds, task) for task in tasks]
    chart = alt.layer(*_layers(cast, names, mine, hovers)).properties(
        width=200 if frame.is_narrow else 300, height=200 if frame.is_narrow else 220
    )
    chart = chart.facet(facet=facet, columns=columns, data=inline(rows))
    heading = title_of(title, ranking, frame, subject(results, ranking))
    return finished(chart.properties(title=heading), frame)


_BOTH = ("learning_rate", "weight_decay")


def _dot(search: Search, cast: Cast, hovers: bool) -> dict[str, Any]:
    rate, decay = (float(search.chosen[p]) for p in _BOTH)
    row = {
        "panel": words.clip(search.task, 36),
        "kind": "chosen",
        "version": cast.versions[search.variant],
        "rate": float(f"{rate:.3g}"),
        "decay": float(f"{decay:.3g}"),
    }
    if not hovers:
        return row
    return {
        **row,
        "about": f"{words.clip(search.variant, 80)} on {words.clip(search.task, 40)}, seed "
        f"{search.seed}: learning rate {rate:.2g}, weight decay {decay:.2g}, validation "
        f"{words.score(search.validation)}",
    }


def _bounds(bounds: dict[tuple[str, str], TriedRange], task: str) -> dict[str, Any]:
    rate, decay = (bounds[task, p] for p in _BOTH)
    return {
        "panel": words.clip(task, 36),
        "kind": "tried",
        "rate": rate.low,
        "rate2": rate.high,
        "decay": decay.low,
        "decay2": decay.high,
    }


def _layers(
    cast: Cast, names: Sequence[str], ranges: Sequence[TriedRange], hovers: bool
) -> list[Layer]:
    domains = []
    for parameter in _BOTH:
        mine = [r for r in ranges if r.parameter == parameter]
        domains.append([min(r.low for r in mine) / 1.6, max(r.high for r in mine) * 1.6])
    ticks = alt.Axis(format="~g", values=[10.0**e for e in range(-8, 4)], grid=False)
    x = alt.X("rate:Q", title="Chosen learning rate (box: tried)", axis=ticks)
    y = alt.Y("decay:Q", title="Chosen weight decay", axis=ticks)
    x = x.scale(type="log", domain=domains[0], nice=False)
    y = y.scale(type="log", domain=domains[1], nice=False)
    base = alt.Chart().encode(x=x, y=y)
    box = base.transform_filter("datum.kind == 'tried'").mark_rect(
        filled=False, stroke=MUTED, strokeDash=[5, 3], strokeWidth=1, aria=False
    )
    dots = base.transform_filter("datum.kind == 'chosen'").mark_point(
        filled=True, size=45, opacity=0.85, aria=hovers
    )
    dots = dots.encode(description=alt.Description("about:N")) if hovers else dots
    return [
        box.encode(x2=alt.X2("rate2:Q"), y2=alt.Y2("decay2:Q")),
        dots.encode(color=cast.colour(names)),
    ]
