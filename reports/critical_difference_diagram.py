"""The critical-difference diagram: a rank axis, its variants, bars over what is not separated.

Laid out here in pixels, because no label may cover another; altair only draws. On a narrow
frame the diagram is turned, ranks running down. It must know nothing of pages or files.

Source: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7
(2006), figure 1.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import altair as alt

from reports import words
from reports.critical_difference import (
    CriticalDifference,
    critical_difference_of,
    too_few_tasks,
)
from reports.labels import cut_to_width, pushed_apart, text_width
from reports.look import INK, MUTED, WARNING, WIDE, Cast, Frame, Spec, finished, subject, title_of
from reports.marks import Layer, marks
from reports.ranking import RankingTable
from reports.table import SuiteResults

_SIZE, _ROW, _LANE = 11, 16.0, 6.0  # font, distance of labels, distance of bars; pixels


def critical_difference_chart(
    results: SuiteResults, ranking: RankingTable, frame: Frame = WIDE
) -> Spec | None:
    """Demsar's diagram; on a narrow frame it is turned, ranks running down.

    ``None`` for fewer than two complete variants.
    """
    found = critical_difference_of(ranking)
    if found is None:
        return None
    cast = Cast.of(results)
    drawing = _turned(found, cast, frame) if frame.is_narrow else _upright(found, cast, frame)
    layers = drawing.layers(cast, found.variants)
    chart = alt.LayerChart(
        layer=layers,
        width=frame.width,
        height=drawing.height,
        title=title_of("Critical-difference diagram", ranking, frame, subject(results, ranking)),
    )
    return finished(chart, frame)


@dataclass(frozen=True)
class _Line:
    x: float
    y: float
    x2: float
    y2: float
    width: float = 1.0
    colour: str = MUTED


@dataclass(frozen=True)
class _Text:
    x: float
    y: float
    text: str
    align: str
    colour: str = INK


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    variant: str
    about: str


@dataclass(frozen=True)
class _Drawing:
    """Lines, texts and dots in pixels, y downwards."""

    width: float
    height: float
    lines: tuple[_Line, ...]
    texts: tuple[_Text, ...]
    dots: tuple[_Dot, ...]

    def layers(self, cast: Cast, variants: Sequence[str]) -> list[Layer]:
        """The drawing as marks, thin lines below thick ones below dots below texts."""
        x = alt.X("x:Q", axis=None).scale(domain=[0, self.width], nice=False, zero=False)
        y = alt.Y("y:Q", axis=None).scale(domain=[self.height, 0], nice=False, zero=False)
        found = []
        for width, colour in sorted({(line.width, line.colour) for line in self.lines}):
            rows = [
                {"x": _px(i.x), "y": _px(i.y), "x2": _px(i.x2), "y2": _px(i.y2)}
                for i in self.lines
                if (i.width, i.colour) == (width, colour)
            ]
            mark = marks(rows).mark_rule(
                strokeWidth=width, color=colour, strokeCap="butt", aria=False
            )
            found.append(mark.encode(x=x, y=y, x2=alt.X2("x2:Q"), y2=alt.Y2("y2:Q")))
        dots = [
            {
                "x": _px(dot.x),
                "y": _px(dot.y),
                "version": cast.versions[dot.variant],
                "about": dot.about,
            }
            for dot in self.dots
        ]
        point = marks(dots).mark_point(filled=True, size=55, opacity=1)
        found.append(
            point.encode(
                x=x, y=y, color=cast.colour(variants), description=alt.Description("about:N")
            )
        )
        for align, colour in sorted({(text.align, text.colour) for text in self.texts}):
            written = [
                {"x": _px(t.x), "y": _px(t.y), "text": t.text}
                for t in self.texts
                if (t.align, t.colour) == (align, colour)
            ]
            mark = marks(written).mark_text(
                align=align, baseline="middle", fontSize=_SIZE, color=colour, aria=False
            )
            found.append(mark.encode(x=x, y=y, text=alt.Text("text:N")))
        return found


def _px(value: float) -> float:
    return round(value, 1)


def _lanes(groups: Sequence[tuple[int, int]]) -> list[int]:
    """A lane for each bar, so that those that overlap lie beside each other; first fit."""
    ends: list[int] = []
    lanes = []
    for first, last in groups:
        free = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[free:] = [last, *ends[free + 1 :]]
        lanes.append(free)
    return lanes


def _ticks(variants: int) -> list[int]:
    step = max(1, -(-variants // 12))
    return list(range(1, variants + 1, step))


def _about(found: CriticalDifference, i: int) -> str:
    separated = sum(i in pair for pair in found.separated)
    return (
        f"{words.clip(found.variants[i], 80)}: average rank "
        f"{words.rank_text(found.average_ranks[i])} over {words.number(found.tasks, 'task')}, "
        f"separated from {words.number(separated, 'variant')}"
    )


def _difference_label(found: CriticalDifference) -> str:
    longer = "" if found.can_separate else ", longer than the axis"
    return f"critical difference {words.rank_text(found.difference)}{longer}"


def _axis_label(found: CriticalDifference) -> str:
    return f"Average rank over {words.number(found.tasks, 'task')}, 1 is best"


def _labels(found: CriticalDifference, cast: Cast) -> list[str]:
    return [
        f"{cast.labels[name]} ({words.rank_text(rank)})"
        for name, rank in zip(found.variants, found.average_ranks, strict=True)
    ]


def _short_labels(found: CriticalDifference, cast: Cast, room: float) -> list[str]:
    """With their ranks where all fit into so many pixels; names alone, cut if need be, else."""
    labels = _labels(found, cast)
    if all(text_width(label, _SIZE) <= room for label in labels):
        return labels
    return [cut_to_width(cast.labels[name], room, _SIZE) for name in found.variants]


def _warning_texts(found: CriticalDifference, x: float, y: float, letters: int) -> list[_Text]:
    lines = textwrap.wrap(too_few_tasks(found), letters)
    return [_Text(x, y + 15 * i, line, "left", WARNING) for i, line in enumerate(lines)]


def _upright(found: CriticalDifference, cast: Cast, frame: Frame) -> _Drawing:
    """Ranks from left to right; the better half labelled on the left, the rest on the right."""
    labels = _labels(found, cast)
    k, half = len(labels), (len(labels) + 1) // 2
    side = max(text_width(label, _SIZE) for label in labels) + 12
    left, right = side, frame.width - side

    def along(rank: float) -> float:
        return left + (rank - 1) / (k - 1) * (right - left)

    axis, lanes = 78.0, _lanes(found.groups)
    first_row = axis + 24 + _LANE * max(lanes, default=-1) + _LANE
    xs = [along(rank) for rank in found.average_ranks]
    rows = [i if i < half else k - 1 - i for i in range(k)]
    lines, texts = _ruler(found, along, axis)
    dots = []
    for i, x in enumerate(xs):
        y = first_row + _ROW * rows[i]
        edge, align = (left - 8, "right") if i < half else (right + 8, "left")
        lines += [_Line(x, axis, x, y), _Line(x, y, edge, y)]
        texts.append(_Text(edge + (-4 if i < half else 4), y, labels[i], align))
        dots.append(_Dot(x, axis, found.variants[i], _about(found, i)))
    for (first, last), lane in zip(found.groups, lanes, strict=True):
        y = axis + 14 + _LANE * lane
        lines.append(_Line(xs[first] - 3, y, xs[last] + 3, y, 3.5, INK))
    bottom = first_row + _ROW * half
    warning = _warning_texts(found, 0, bottom + 12, 145)
    height = bottom + (15 * len(warning) + 8 if warning else 0)
    return _Drawing(frame.width, height, tuple(lines), (*texts, *warning), tuple(dots))


def _ruler(
    found: CriticalDifference, along: Callable[[float], float], axis: float
) -> tuple[list[_Line], list[_Text]]:
    """The rank axis with its ticks, and above it the critical difference as a bar."""
    k = len(found.variants)
    start, end = along(1), along(k)
    lines = [_Line(start, axis, end, axis, 1.5, INK)]
    texts = []
    for tick in _ticks(k):
        lines.append(_Line(along(tick), axis - 5, along(tick), axis, 1.5, INK))
        texts.append(_Text(along(tick), axis - 13, str(tick), "center"))
    bar_end = along(min(1 + found.difference, k))
    lines.append(_Line(start, 28, bar_end, 28, 2.5, INK))
    lines += [_Line(x, 24, x, 32, 1.5, INK) for x in (start, bar_end)[: 1 + found.can_separate]]
    texts.append(_Text(start, 13, _difference_label(found), "left"))
    texts.append(_Text(start, axis - 30, _axis_label(found), "left", MUTED))
    return lines, texts


def _turned(found: CriticalDifference, cast: Cast, frame: Frame) -> _Drawing:
    """Ranks from top to bottom; every label on the right, pushed apart where they meet."""
    k, lanes = len(found.variants), _lanes(found.groups)
    gap = min(_LANE, 60 / max(1, 1 + max(lanes, default=0)))
    axis, top = 46.0, 44.0
    height = max(15.0 * k, 180)
    labels_from = axis + 26 + gap * (1 + max(lanes, default=0)) + 14

    def down(rank: float) -> float:
        return top + (rank - 1) / (k - 1) * height

    ys = [down(rank) for rank in found.average_ranks]
    spread = pushed_apart(ys, 15, top, top + height)
    lines = [_Line(axis, top, axis, top + height, 1.5, INK)]
    texts = [
        _Text(0, 6, _difference_label(found), "left"),
        _Text(0, 22, _axis_label(found), "left", MUTED),
    ]
    for tick in _ticks(k):
        lines.append(_Line(axis - 5, down(tick), axis, down(tick), 1.5, INK))
        texts.append(_Text(axis - 9, down(tick), str(tick), "right"))
    bar_end = down(min(1 + found.difference, k))
    lines.append(_Line(8, top, 8, bar_end, 2.5, INK))
    lines += [_Line(4, y, 12, y, 1.5, INK) for y in (top, bar_end)[: 1 + found.can_separate]]
    dots = []
    for i, label in enumerate(_short_labels(found, cast, frame.width - labels_from)):
        lines.append(_Line(axis, ys[i], labels_from - 18, ys[i]))
        lines.append(_Line(labels_from - 18, ys[i], labels_from - 4, spread[i]))
        texts.append(_Text(labels_from, spread[i], label, "left"))
        dots.append(_Dot(axis, ys[i], found.variants[i], _about(found, i)))
    for (first, last), lane in zip(found.groups, lanes, strict=True):
        x = axis + 14 + gap * lane
        lines.append(_Line(x, ys[first] - 3, x, ys[last] + 3, 3.5, INK))
    bottom = max(top + height, spread[-1])
    warning = _warning_texts(found, 0, bottom + 26, 46)
    total = bottom + 12 + (15 * len(warning) + 14 if warning else 0)
    return _Drawing(frame.width, total, tuple(lines), (*texts, *warning), tuple(dots))
