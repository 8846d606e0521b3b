"""Calibration in words and as a table. It must know nothing of figures, pages or files."""

from __future__ import annotations

from collections.abc import Sequence

from reports import words
from reports.calibration import BINS, Calibration
from reports.tables import Cell, Table


def calibration_sentences(found: Sequence[Calibration]) -> list[str]:
    """How far confidence and accuracy part, beyond chance or not, and what that can bear."""
    if not found:
        return [
            "Calibration needs right-or-wrong predictions with a confidence; these results hold "
            "none."
        ]
    off = [c for c in found if c.is_off]
    n = words.number(len(found), "case")
    worst = max(found, key=lambda c: c.error - c.expected)
    said = [
        f"Confidence and accuracy part further than chance explains in {len(off)} of {n} "
        f"(variant and task); {_worst(worst)}."
    ]
    said.append(
        f"The expected calibration error ({BINS} bins of equal width) is biased upwards: with so "
        "few samples per bin even a perfect probe shows some. What chance alone gives stands "
        "beside it, and only the excess means anything."
    )
    probes = {c.task: c.probe for c in found}
    votes = [task for task, probe in probes.items() if probe.lower().startswith("knn")]
    if votes:
        said.append(
            f"On {words.listed(votes, 4)} the confidence is a share of weighted kNN votes, which "
            "is no calibrated probability and is not meant as one."
        )
    return said


def _worst(c: Calibration) -> str:
    return (
        f"furthest off is {c.variant} on {c.task}, {c.direction}: sure to {c.confidence:.0%} on "
        f"average and right in {c.accuracy:.0%}, error {words.score(c.error)} (95% interval "
        f"{words.spans(c.interval)}) where chance gives {words.score(c.expected)}"
    )


def calibration_table(found: Sequence[Calibration]) -> Table | None:
    """One row per variant and task, the largest excess over chance first."""
    if not found:
        return None
    rows = tuple(
        (
            Cell(c.variant, c.variant),
            Cell(c.task, c.task),
            Cell(words.score(c.error), c.error, note=words.spans(c.interval)),
            Cell(words.score(c.expected), c.expected, note=f"95% below {words.score(c.chance)}"),
            Cell(*_verdict(c)),
            Cell(f"{c.confidence:.1%}", c.confidence),
            Cell(f"{c.accuracy:.1%}", c.accuracy),
        )
        for c in sorted(found, key=lambda c: (c.expected - c.error, c.variant, c.task))
    )
    columns = ("Variant", "Task", "Calibration error", "By chance alone", "Verdict")
    numeric = (False, False, True, True, False, True, True)
    return Table((*columns, "Mean confidence", "Accuracy"), numeric, rows)


def _verdict(c: Calibration) -> tuple[str, str, str]:
    if not c.is_off:
        return "not beyond chance", "not beyond chance", ""
    return c.direction, c.direction, "bad"
