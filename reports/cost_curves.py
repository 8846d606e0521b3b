"""How the cost of a token design grows with image side and with time steps, and against another.

Numbers and sentences from the closed-form curves of `SuiteResults.curves`: no data, no weights,
so they hold for any ranking. Attention grows with the square of the token count, so a ratio
measured on small images understates what fewer tokens save on large ones. It must know nothing
of figures (`reports.cost_curve_figures`), pages or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from reports import words
from reports.pairs import Kind, Pair
from reports.table import SuiteResults, TaskInfo
from reports.tables import Cell, Table

Axis = Literal["side", "steps"]
AXES: tuple[Axis, ...] = ("side", "steps")
_IN_WORDS = 4  # pairs that get a sentence of their own; the table holds all


@dataclass(frozen=True)
class RatioPoint:
    """Reference / candidate at one input: 2.9 reads "2.9 times fewer MACs".

    ``value`` is the image side in pixels, or the number of time steps. ``blind`` leaves
    attention's two products out of both counts.
    """

    value: int
    ratio: float
    blind: float
    reference_macs: float
    candidate_macs: float
    reference_tokens: int
    candidate_tokens: int


@dataclass(frozen=True)
class RatioCurve:
    """A pair's cost ratio along one axis; points ascend."""

    kind: Kind
    reference: str
    candidate: str
    axis: Axis
    points: tuple[RatioPoint, ...]


def ratio_curves(results: SuiteResults, pairs: Sequence[Pair]) -> tuple[RatioCurve, ...]:
    """Curves of all pairs whose two variants have them, in the order of the pairs.

    How weights were pretrained is no matter of cost. Only inputs that both variants are given at
    the same patch size are compared.
    """
    by_variant = {
        (str(key[0]), str(key[1])): frame
        for key, frame in results.curves.partition_by("variant", "axis", as_dict=True).items()
    }
    found = []
    for pair in (p for p in pairs if p.kind not in ("pretraining", "trained longer")):
        for axis in AXES:
            reference = by_variant.get((pair.reference, axis))
            candidate = by_variant.get((pair.candidate, axis))
            if reference is not None and candidate is not None:
                points = _points(reference, candidate)
                found.append(RatioCurve(pair.kind, pair.reference, pair.candidate, axis, points))
    return tuple(curve for curve in found if curve.points)


def _points(reference: pl.DataFrame, candidate: pl.DataFrame) -> tuple[RatioPoint, ...]:
    both = reference.join(candidate, on=("value", "patch_size"), suffix="_candidate").sort("value")
    return tuple(
        RatioPoint(
            row["value"],
            row["macs"] / row["macs_candidate"],
            (row["macs"] - row["macs_attention"])
            / (row["macs_candidate"] - row["macs_attention_candidate"]),
            row["macs"],
            row["macs_candidate"],
            row["tokens"],
            row["tokens_candidate"],
        )
        for row in both.to_dicts()
        if row["macs_candidate"] > row["macs_attention_candidate"]
    )


def main_kind(curves: Sequence[RatioCurve]) -> tuple[RatioCurve, ...]:
    """The curves a reader comes for: versions; where there are none, schemes, then recipes."""
    order: tuple[Kind, ...] = ("version", "scheme", "recipe")
    for kind in order:
        chosen = tuple(curve for curve in curves if curve.kind == kind)
        if chosen:
            return chosen
    return ()


def input_of(axis: Axis, value: int, task: TaskInfo) -> str:
    """An input in words: ``256 x 256 pixels`` or ``12 time steps of 64 x 64 pixels``."""
    if axis == "side":
        return f"{value} x {value} pixels"
    return f"{words.number(value, 'time step')} of {task.height} x {task.width} pixels"


def cost_curve_sentences(results: SuiteResults, pairs: Sequence[Pair]) -> list[str]:
    """What the ratio is at the largest input against the smallest, and what it is not."""
    curves = main_kind(ratio_curves(results, pairs))
    if not curves or not results.run.tasks:
        return ["Cost at other image sizes is unknown: the results hold no cost curves for a pair."]
    task = results.run.tasks[0]
    by_pair: dict[tuple[str, str], list[RatioCurve]] = {}
    for curve in curves:
        by_pair.setdefault((curve.candidate, curve.reference), []).append(curve)
    said = [_sentence(group, task) for group in list(by_pair.values())[:_IN_WORDS]]
    if len(by_pair) > _IN_WORDS:
        said.append(f"{words.number(len(by_pair) - _IN_WORDS, 'more pair')} are in the table.")
    said.append(
        f"These are closed-form counts of the encoder per sample at the suite's patch size "
        f"{task.patch_size}: MACs, not seconds or energy."
    )
    return said


def _sentence(curves: Sequence[RatioCurve], task: TaskInfo) -> str:
    first, *rest = curves
    last = first.points[-1]
    text = (
        f"At {input_of(first.axis, last.value, task)} {first.candidate} needs "
        f"{words.cost_change(last.ratio)} than {first.reference} "
        f"({_times(last.blind)} counted without attention)"
    )
    small = first.points[0]
    if small.value != last.value:
        text += f", at {input_of(first.axis, small.value, task)} {_times(small.ratio)}"
    for curve in rest:
        end = curve.points[-1]
        text += (
            f"; at {input_of(curve.axis, end.value, task)} {_times(end.ratio)} "
            f"({_times(end.blind)} without attention)"
        )
    return text + "."


def _times(ratio: float) -> str:
    return words.cost_change(ratio).removesuffix(" MACs")


def cost_curve_table(results: SuiteResults, pairs: Sequence[Pair]) -> Table | None:
    """Every pair on every axis: its ratio at the smallest and at the largest input."""
    curves = ratio_curves(results, pairs)
    if not curves or not results.run.tasks:
        return None
    task = results.run.tasks[0]
    rows = tuple(
        (
            Cell(curve.candidate, curve.candidate),
            Cell(curve.reference, curve.reference),
            *(cell for point in _ends(curve) for cell in _cells(curve.axis, point, task)),
        )
        for curve in curves
    )
    names = ("input", "MACs ratio", "attention-blind")
    columns = [f"{end} {name}" for end in ("Smallest", "Largest") for name in names]
    return Table(("Candidate", "against", *columns), (False, False, *(False, True, True) * 2), rows)


def _ends(curve: RatioCurve) -> tuple[RatioPoint, RatioPoint]:
    return curve.points[0], curve.points[-1]


def _cells(axis: Axis, point: RatioPoint, task: TaskInfo) -> tuple[Cell, Cell, Cell]:
    tokens = f"{words.count(point.reference_tokens)} and {words.count(point.candidate_tokens)}"
    counts = f"{words.quantity(point.reference_macs)} and {words.quantity(point.candidate_macs)}"
    return (
        Cell(input_of(axis, point.value, task), point.value, note=f"{tokens} tokens"),
        Cell(words.ratio(point.ratio), point.ratio, note=f"{counts} MACs"),
        Cell(words.ratio(point.blind), point.blind),
    )
