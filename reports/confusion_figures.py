"""Confusion matrices as heatmaps: one variant's, and what a later version changes in it.

Rows are true classes, columns predictions, a cell the share of its row. Colour strength is
opacity, so that text stays readable on light and dark. It must know nothing of pages or files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np

from reports import words
from reports.labels import cut_to_width, text_width
from reports.look import INK, MUTED, VERSION_COLOURS, WIDE, Cast, Frame, Spec, finished, title_of
from reports.marks import LABEL_SIZE, Layer, marks, row_labels
from reports.pairs import Pair
from reports.per_class import ClassChange, ClassScores, class_scores
from reports.predictions import Ints, Predictions
from reports.ranking import RankingTable
from reports.resampling import Floats
from reports.table import SuiteResults

MOST_CLASSES, MOST_ON_A_PHONE = 20, 12
"""Of more classes the weakest (or most changed) are drawn, the others together."""

MOST_FIGURES = 2
_MORE, _LESS = VERSION_COLOURS[0], VERSION_COLOURS[1]
_STRONGEST = 0.65  # opacity of a full cell: ink is still readable on it


@dataclass(frozen=True, eq=False)
class _Matrix:
    """Shares of rows ``[C, C]`` (or their changes), with what hovering says of each."""

    classes: tuple[str, ...]
    shares: Floats
    about: Mapping[tuple[int, int], str]


def confusion_chart(
    results: SuiteResults,
    ranking: RankingTable,
    task: Predictions,
    frame: Frame = WIDE,
    variant: str | None = None,
) -> Spec | None:
    """The confusion matrix of a variant (the first-ranked one if none is named).

    ``None`` without single-class predictions, and on a narrow frame for many classes.
    """
    name = variant or (ranking.ranked[0].variant if ranking.ranked else "")
    scores = class_scores(task, name)
    if scores is None:
        return None
    chosen = _weakest(scores.recall, scores.support)
    counts = _merged(scores.confusion, chosen)
    classes = _merged_names(scores, chosen)
    shares = _row_shares(counts)
    about = {
        (i, j): f"{_clip(classes[i])} taken for {_clip(classes[j])}: {counts[i, j]} of "
        f"{counts[i].sum()} ({words.percent(float(shares[i, j]))})"
        for i, j in np.argwhere(counts > 0).tolist()
    }
    title = [f"Confusion of {Cast.of(results).labels[name]}", _on(task)]
    return _heatmap(_Matrix(classes, shares, about), title, ranking, frame, signed=False)


def confusion_change_chart(
    results: SuiteResults,
    ranking: RankingTable,
    task: Predictions,
    pair: Pair,
    frame: Frame = WIDE,
) -> Spec | None:
    """Candidate minus reference confusion, in shares of the true class.

    Blue is for better (more on the diagonal, less beside it), orange for worse. ``None`` as
    for `confusion_chart`.
    """
    old, new = class_scores(task, pair.reference), class_scores(task, pair.candidate)
    if old is None or new is None:
        return None
    change = new.recall - old.recall
    chosen = _weakest(-np.abs(change), old.support)
    shares = [_row_shares(_merged(scores.confusion, chosen)) for scores in (old, new)]
    classes = _merged_names(old, chosen)
    difference = shares[1] - shares[0]
    about = {
        (i, j): f"{_clip(classes[i])} taken for {_clip(classes[j])}: "
        f"{words.percent(float(shares[0][i, j]))} before, "
        f"{words.percent(float(shares[1][i, j]))} now"
        for i, j in np.argwhere((shares[0] > 0) | (shares[1] > 0)).tolist()
    }
    labels = Cast.of(results).labels
    title = [
        f"Confusion, {labels[pair.candidate]} minus {labels[pair.reference]},",
        _on(task),
    ]
    return _heatmap(_Matrix(classes, difference, about), title, ranking, frame, signed=True)


def tasks_to_draw(
    ranking: RankingTable, samples: Mapping[str, Predictions]
) -> tuple[Predictions, ...]:
    """The tasks on which the first-ranked variant is weakest, `MOST_FIGURES` at most."""
    if not ranking.ranked:
        return ()
    first = ranking.ranked[0]
    found = [
        samples[task.name]
        for task in ranking.tasks
        if task.name in samples and class_scores(samples[task.name], first.variant) is not None
    ]

    def accuracy(task: Predictions) -> float:
        scores = class_scores(task, first.variant)
        return 1.0 if scores is None else float(np.trace(scores.confusion) / scores.support.sum())

    return tuple(sorted(found, key=accuracy)[:MOST_FIGURES])


def changes_to_draw(
    changes: Sequence[tuple[Pair, ClassChange]],
) -> tuple[tuple[Pair, str], ...]:
    """(Pair, task) with the gravest losses first, `MOST_FIGURES` at most."""
    found: dict[tuple[str, str, str], tuple[Pair, str]] = {}
    for pair, change in changes:
        found.setdefault((pair.reference, pair.candidate, change.task), (pair, change.task))
    return tuple(found.values())[:MOST_FIGURES]


# --- drawing ----------------------------------------------------------------------------


def _on(task: Predictions) -> str:
    return f"on {words.clip(task.task.name, 32)}"


def _clip(name: str) -> str:
    return words.clip(name, 40)


def _weakest(scores: Floats, support: Ints) -> list[int]:
    """Classes to draw one by one, in their own order: those with samples, lowest score first."""
    n = len(scores)
    if n <= MOST_CLASSES:
        return list(range(n))
    order = sorted(range(n), key=lambda c: (support[c] == 0, np.nan_to_num(scores[c], nan=2.0), c))
    return sorted(order[: MOST_CLASSES - 1])


def _merged(confusion: Ints, chosen: Sequence[int]) -> Ints:
    """Counts with all classes that are not chosen as one, the last."""
    n = len(confusion)
    if len(chosen) == n:
        return np.asarray(confusion)
    place = np.full(n, len(chosen))
    place[list(chosen)] = np.arange(len(chosen))
    found = np.zeros((len(chosen) + 1,) * 2, dtype=confusion.dtype)
    np.add.at(found, (place[:, None], place[None, :]), confusion)
    return found


def _merged_names(scores: ClassScores, chosen: Sequence[int]) -> tuple[str, ...]:
    rest = len(scores.classes) - len(chosen)
    names = tuple(scores.classes[c] for c in chosen)
    return (*names, f"{rest} other classes") if rest else names


def _row_shares(counts: Ints) -> Floats:
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.maximum(totals, 1), dtype=np.float64)


def _heatmap(
    matrix: _Matrix, title: Sequence[str], ranking: RankingTable, frame: Frame, signed: bool
) -> Spec | None:
    n = len(matrix.classes)
    if frame.is_narrow and n > MOST_ON_A_PHONE:
        return None
    room = 90.0 if frame.is_narrow else 170.0
    cell = (frame.width - room) / n if frame.is_narrow else min(46.0, 560 / n)
    size = cell * n
    x = alt.X("predicted:Q", axis=None).scale(domain=[-0.5, n - 0.5], nice=False, zero=False)
    y = alt.Y("order:Q", axis=None).scale(
        domain=[-0.5, n - 0.5], reverse=True, nice=False, zero=False
    )
    layers = [_cells(matrix, x, y, cell, signed)]
    if cell >= 26:
        layers.append(_numbers(matrix, x, y, signed, cell))
    labels = [cut_to_width(words.clip(c, 40), room - 12, LABEL_SIZE) for c in matrix.classes]
    layers.append(row_labels(labels, y))
    layers.append(_column_labels(labels, x, size, cell))
    heading, reading = _title(title, ranking, frame, signed)
    chart = alt.LayerChart(layer=[*layers, reading], width=size, height=size, title=heading)
    return finished(chart, frame)


_READING = "Share in % of a true class (row) that is predicted as the column"
_READING_CHANGE = (
    "Change, in points, of the share of a true class (row) predicted as the column. "
    "Blue: better, orange: worse"
)
_LINE = 15.0


def _title(
    lines: Sequence[str], ranking: RankingTable, frame: Frame, signed: bool
) -> tuple[alt.TitleParams, Layer]:
    """The title, and between it and the matrix how to read a cell."""
    found = title_of(" ".join(lines), ranking, frame)
    reading = textwrap.wrap(_READING_CHANGE if signed else _READING, 40 if frame.is_narrow else 110)
    if frame.is_narrow:
        found.text = list(lines)
    notes = [
        marks([{"text": line}])
        .mark_text(align="left", baseline="bottom", fontSize=LABEL_SIZE, color=MUTED, aria=False)
        .encode(x=alt.value(0), y=alt.value(-6 - _LINE * i), text=alt.Text("text:N"))
        for i, line in enumerate(reversed(reading))
    ]
    return found, alt.layer(*notes)


def _cells(matrix: _Matrix, x: alt.X, y: alt.Y, cell: float, signed: bool) -> Layer:
    strongest = max(float(np.abs(matrix.shares).max()), 1e-9) if signed else 1.0
    rows = []
    for (i, j), about in matrix.about.items():
        share = float(matrix.shares[i, j])
        good = (share > 0) == (i == j)
        rows.append(
            {
                "order": i,
                "predicted": j,
                "strength": round(abs(share) / strongest * _STRONGEST, 3),
                "colour": _MORE if good or not signed else _LESS,
                "about": about,
            }
        )
    mark = marks(rows).mark_rect(width=cell - 1, height=cell - 1)
    return mark.encode(
        x=x,
        y=y,
        color=alt.Color("colour:N", scale=None),
        fillOpacity=alt.FillOpacity("strength:Q", scale=None),
        description=alt.Description("about:N"),
    )


def _numbers(matrix: _Matrix, x: alt.X, y: alt.Y, signed: bool, cell: float) -> Layer:
    rows = []
    for i, j in matrix.about:
        percent = round(100 * float(matrix.shares[i, j]))
        if percent:
            text = f"{percent:+d}".replace("-", "−") if signed else f"{percent}"
            rows.append({"order": i, "predicted": j, "text": text})
    mark = marks(rows).mark_text(fontSize=11 if cell >= 32 else 10, color=INK, aria=False)
    return mark.encode(x=x, y=y, text=alt.Text("text:N"))


def _column_labels(labels: Sequence[str], x: alt.X, size: float, cell: float) -> Layer:
    """Below the matrix, upright where they fit and turned where they do not."""
    fits = all(text_width(label, LABEL_SIZE) <= cell - 3 for label in labels)
    rows = [{"predicted": i, "text": label} for i, label in enumerate(labels)]
    mark = marks(rows).mark_text(
        angle=0 if fits else 315,
        align="center" if fits else "right",
        baseline="top" if fits else "middle",
        fontSize=LABEL_SIZE,
        color=INK,
        aria=False,
    )
    return mark.encode(x=x, y=alt.value(size + 8), text=alt.Text("text:N"))
