"""The scores of one variant on one task, held to the baseline's: how sure is it that none is lost?

Paired on the test samples where both sides have predictions, else by their intervals. It
must know nothing of costs, embeddings or how a verdict is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from harness.regression.noninferiority import Z_TWO_SIDED, Bound, interval_bound, paired_bound
from harness.regression.snapshot import CellFacts, CellId, Snapshot

Verdict = Literal["better", "same", "worse", "missing", "new"]

_EQUAL = 1e-6  # a baseline keeps six decimals of a score


def judge_scores(
    cells: Sequence[CellId], baseline: Snapshot, current: Snapshot, margin: float
) -> tuple[list[str], Bound | None, Verdict]:
    """Sentences, bound and verdict of the scores alone."""
    rising = baseline.tasks[cells[0].task].higher_is_better
    old = [baseline.values(cell) for cell in cells]
    new = [current.values(cell) for cell in cells]
    a, b = ([v for v in values if v is not None] for values in (old, new))
    if len(a) == len(b) == len(cells):
        before, now = np.stack(a, 1), np.stack(b, 1)
        bound = paired_bound(before, now) if rising else paired_bound(now, before)
        identical = all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        size = f"{len(a[0])} samples"
    else:
        found = _by_interval(cells, baseline, current, 1.0 if rising else -1.0)
        if found is None:
            scores = [mean_score([s.cells[c] for c in cells]) for s in (baseline, current)]
            if abs(scores[0] - scores[1]) <= _EQUAL:
                return [], None, "same"
            return (
                ["scores differ, and neither predictions nor intervals are kept"],
                None,
                "missing",
            )
        bound = found
        identical = all(
            abs(baseline.cells[cell].score - current.cells[cell].score) <= _EQUAL for cell in cells
        )
        size = "no predictions to pair"
    return _verdict(bound, identical, _allowed(cells, baseline, margin), size)


def _allowed(cells: Sequence[CellId], baseline: Snapshot, margin: float) -> float:
    """The loss that counts: of an error in a unit of its own, that share of the baseline's."""
    if baseline.tasks[cells[0].task].higher_is_better:
        return margin
    return margin * abs(mean_score([baseline.cells[cell] for cell in cells]))


def _verdict(
    bound: Bound, identical: bool, margin: float, size: str
) -> tuple[list[str], Bound, Verdict]:
    if identical:  # nothing changed, however few samples there are
        return [], bound, "same"
    if bound.shows_better:
        return [], bound, "better"
    if bound.shows_not_worse(margin):
        return [], bound, "same"
    reason = (
        f"the score changed by {bound.difference:+.4f}, and a loss of {-bound.low:.4f} cannot be "
        f"ruled out at 95% ({bound.method}, {size}) where less than {margin:g} is allowed"
    )
    return [reason], bound, "worse"


def _by_interval(
    cells: Sequence[CellId], baseline: Snapshot, current: Snapshot, sign: float
) -> Bound | None:
    """The least favourable of the seeds' bounds; None where an interval is unknown."""
    bounds = []
    for cell in cells:
        before, now = _interval(baseline, cell, sign), _interval(current, cell, sign)
        if before is None or now is None:
            return None
        scores = sign * baseline.cells[cell].score, sign * current.cells[cell].score
        bounds.append(interval_bound(scores[0], before, scores[1], now))
    mean = sum(bound.difference for bound in bounds) / len(bounds)
    return replace(min(bounds, key=lambda bound: bound.low), difference=mean)


def _interval(found: Snapshot, cell: CellId, sign: float) -> tuple[float, float] | None:
    """A cell's 95% interval, ends in ascending order after ``sign``; from its values if need be."""
    values, kept = found.values(cell), found.cells[cell].interval
    if values is not None:
        half = Z_TWO_SIDED * float(values.std(ddof=1)) / len(values) ** 0.5
        kept = (float(values.mean()) - half, float(values.mean()) + half)
    if kept is None:
        return None
    low, high = sorted(sign * end for end in kept)
    return low, high


def mean_score(cells: Sequence[CellFacts]) -> float:
    """Mean score over the seeds."""
    return sum(facts.score for facts in cells) / len(cells)
