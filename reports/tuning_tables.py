"""Tuning in words and as a table: selection optimism, edges of the search, what was chosen.

It must know nothing of figures, pages or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reports import words
from reports.tables import Cell, Table
from reports.tuning import EDGE, NUMERIC, Search, TriedRange, by_cell

MOST_ROWS = 120
"""Rows of the table at most, the most overstated first."""

_MANY = 0.25  # so many choices at one edge are a warning; uniform ones would be 5% there
_NAMES = {"learning_rate": "learning rate", "weight_decay": "weight decay"}


def tuning_sentences(found: Sequence[Search], ranges: Sequence[TriedRange]) -> list[str]:
    """Warnings of a narrow search first, then what validation promised, then the progress."""
    if not found:
        return ["The results hold no tuning history."]
    said = [s for tried in ranges if (s := _edge_sentence(found, tried))]
    tasks = list(dict.fromkeys(search.task for search in found))
    promised = [s for task in tasks if (s := _overstated(task, found))]
    said += promised[:4]
    if len(promised) > 4:
        said.append(f"The other {len(promised) - 4} tasks are in the table.")
    if promised:
        said.append(
            "Such a gap is part selection (the best of many trials is lucky on validation), part "
            "a difference between the two splits; only test scores are ranked."
        )
    said += [s for s in [_progress(found)] if s]
    return said


def _edge_sentence(found: Sequence[Search], tried: TriedRange) -> str:
    """A warning when many choices lie at one end of what was tried."""
    chosen = _values(found, tried)
    edges = Counter(tried.edge(value) for value in chosen)
    for end in ("lower", "upper"):
        if chosen and edges[end] > max(1, _MANY * len(chosen)):
            bound = tried.low if end == "lower" else tried.high
            return (
                f"On {tried.task} the chosen {_NAMES[tried.parameter]} lies at the {end} edge of "
                f"what was tried (around {bound:.2g}) in {edges[end]} of {len(chosen)} cells: the "
                "search may be too narrow there."
            )
    return ""


def _values(found: Sequence[Search], tried: TriedRange) -> list[float]:
    values = [s.chosen.get(tried.parameter) for s in found if s.task == tried.task]
    return [float(v) for v in values if isinstance(v, int | float)]


def _overstated(task: str, found: Sequence[Search]) -> str:
    gaps = [s.overstated for s in found if s.task == task and s.overstated is not None]
    if not gaps:
        return ""
    mean = float(np.mean(gaps))
    over = sum(gap > 0 for gap in gaps)
    amount = words.score(abs(mean))
    by = (
        f"is better than the test score by {amount}"
        if mean >= 0
        else f"is worse than the test score by {amount}"
    )
    if float(amount) == 0:
        by = "equals the test score"
    return (
        f"On {task} the chosen trial's validation score {by} on average over "
        f"{words.number(len(gaps), 'cell')} (better in {over} of them)."
    )


def _progress(found: Sequence[Search]) -> str:
    """Whether more trials would still have helped."""
    gains = []
    for search in found:
        if len(search.scores) >= 8:
            best = search.best_so_far
            gains.append(abs(float(best[-1] - best[len(best) // 2 - 1])))
    if not gains:
        return ""
    still = sum(gain > 0 for gain in gains)
    n = words.number(len(gains), "search", "searches")
    return (
        f"The second half of the trials still improved the best validation score in {still} of "
        f"{n}, by {words.score(float(np.mean(gains)))} on average over all."
    )


def tuning_table(found: Sequence[Search], ranges: Sequence[TriedRange]) -> Table | None:
    """One row per variant and task: trials, validation and test, what the seeds chose."""
    if not found:
        return None
    tried = {(r.task, r.parameter): r for r in ranges}
    groups = sorted(by_cell(found).items(), key=lambda item: -_gap(item[1]))[:MOST_ROWS]
    rows = tuple(
        (
            Cell(variant, variant),
            Cell(task, task),
            Cell(words.count(np.mean([len(s.scores) for s in group]).item())),
            _mean([s.validation for s in group]),
            _mean([s.test for s in group if s.test is not None]),
            _difference(group),
            *(_numeric(group, name, tried.get((task, name))) for name in NUMERIC),
            *(_categorical(group, name) for name in ("normalisation", "pooling")),
        )
        for (task, variant), group in groups
    )
    columns = ("Variant", "Task", "Trials", "Validation", "Test", "Overstated by")
    chosen = ("Learning rate", "Weight decay", "Normalisation", "Pooling")
    numeric = (False, False, True, True, True, True, True, True, False, False)
    return Table((*columns, *chosen), numeric, rows)


def _gap(group: Sequence[Search]) -> float:
    gaps = [s.overstated for s in group if s.overstated is not None]
    return float(np.mean(gaps)) if gaps else -np.inf


def _mean(values: Sequence[float]) -> Cell:
    if not values:
        return Cell(words.NO_VALUE)
    mean = float(np.mean(values))
    return Cell(words.score(mean), mean)


def _difference(group: Sequence[Search]) -> Cell:
    gap = _gap(group)
    return Cell(words.signed(gap), gap) if np.isfinite(gap) else Cell(words.NO_VALUE)


def _numeric(group: Sequence[Search], name: str, tried: TriedRange | None) -> Cell:
    """The chosen values over seeds; their geometric mean sorts, an edge is noted."""
    values = [float(v) for s in group if isinstance(v := s.chosen.get(name), int | float)]
    if not values:
        return Cell(words.NO_VALUE)
    text = (
        f"{min(values):.2g}" if len(set(values)) == 1 else f"{min(values):.2g} to {max(values):.2g}"
    )
    at = [value for value in values if tried and tried.edge(value)]
    note = f"{len(at)} of {len(values)} within {EDGE:.0%} of an end of what was tried" if at else ""
    return Cell(text, float(np.median(values)), note=note)


def _categorical(group: Sequence[Search], name: str) -> Cell:
    """What the seeds chose, the most frequent first."""
    counts = Counter(str(s.chosen[name]) for s in group if name in s.chosen)
    if not counts:
        return Cell(words.NO_VALUE)
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(words.clip(v, 30) + (f" ({n})" if len(order) > 1 else "") for v, n in order)
    return Cell(text, order[0][0])
