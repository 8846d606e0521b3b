"""Per-class results in words and tables, worst and most changed first.

It must know nothing of figures, pages or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reports import words
from reports.pairs import Pair
from reports.per_class import VERDICT_ORDER, ClassChange, ClassScores, class_scores, version_changes
from reports.predictions import Predictions
from reports.ranking import RankingTable
from reports.significance import ALPHA
from reports.tables import Cell, Table

MOST_CLASSES = 20
"""Rows of one task in the per-class table at most; with many tasks fewer."""

MOST_CHANGES = 60
"""Rows of the table of changes at most; significant losses come first and are never left out."""

_ALL_ROWS = 160
_TONES = {"worse": "bad", "better": "good"}


def _rows_per_task(ranking: RankingTable) -> int:
    return max(3, min(MOST_CLASSES, _ALL_ROWS // max(1, len(ranking.tasks))))


def per_class_table(ranking: RankingTable, samples: Mapping[str, Predictions]) -> Table | None:
    """Per task, the first-ranked variant's weakest classes, and who is best on each.

    ``None`` where no task has single-class predictions.
    """
    rows = []
    for task, scores in _tasks(ranking, samples):
        mine, f1 = scores[0], np.array([s.f1 for s in scores])
        tested = np.flatnonzero(mine.support > 0)
        worst = sorted(tested, key=lambda c: (mine.f1[c], mine.classes[c]))
        for c in worst[: _rows_per_task(ranking)]:
            best = int(np.argmax(f1[:, c]))
            rows.append(
                (
                    Cell(task, task),
                    Cell(mine.classes[c], mine.classes[c]),
                    Cell(words.count(int(mine.support[c])), int(mine.support[c])),
                    *(_score(values[c]) for values in (mine.f1, mine.recall, mine.precision)),
                    _score(f1[best, c], note=scores[best].variant),
                    _score(f1[:, c].min(), note=scores[int(np.argmin(f1[:, c]))].variant),
                )
            )
    columns = ("Task", "Class", "Test samples", "F1", "Recall", "Precision", "Best F1", "Worst F1")
    return Table(columns, (False, False, *[True] * 6), tuple(rows)) if rows else None


def _score(value: float, note: str = "") -> Cell:
    return Cell(words.NO_VALUE) if np.isnan(value) else Cell(words.score(value), value, note=note)


def _tasks(
    ranking: RankingTable, samples: Mapping[str, Predictions]
) -> list[tuple[str, list[ClassScores]]]:
    """Per task, the class scores of every ranked variant that has them, best ranked first."""
    found = []
    for task in ranking.tasks:
        if task.name in samples:
            each = [class_scores(samples[task.name], r.variant) for r in ranking.ranked]
            scores = [s for s in each if s is not None]
            if scores and scores[0].variant == ranking.ranked[0].variant:
                found.append((task.name, scores))
    return found


def class_change_table(changes: Sequence[tuple[Pair, ClassChange]]) -> Table | None:
    """Recall class by class under a later version, significant losses first."""
    if not changes:
        return None
    rows = tuple(
        (
            Cell(pair.candidate, pair.candidate),
            Cell(pair.reference, pair.reference),
            Cell(change.task, change.task),
            Cell(change.label, change.label),
            Cell(words.count(change.samples), change.samples),
            Cell(words.signed(change.value), change.value),
            Cell(f"{change.p_value:.2g}", change.p_value),
            Cell(
                change.verdict, VERDICT_ORDER.index(change.verdict), _TONES.get(change.verdict, "")
            ),
            Cell(words.score(change.reference), change.reference),
            Cell(words.score(change.candidate), change.candidate),
        )
        for pair, change in _shown(changes)
    )
    columns = ("Candidate", "against", "Task", "Class", "Samples", "Recall difference")
    last = ("p, Holm", "Verdict", "Reference recall", "Candidate recall")
    return Table((*columns, *last), (False,) * 4 + (True,) * 3 + (False, True, True), rows)


def _shown(changes: Sequence[tuple[Pair, ClassChange]]) -> list[tuple[Pair, ClassChange]]:
    """Significant ones, then the largest of the others up to `MOST_CHANGES`, losses first."""
    separated = [pc for pc in changes if pc[1].verdict != "not separated"]
    rest = [pc for pc in changes if pc[1].verdict == "not separated"]
    rest = sorted(rest, key=lambda pc: -abs(pc[1].value))[: max(0, MOST_CHANGES - len(separated))]
    kept = {id(pc) for pc in (*separated, *rest)}
    return [pc for pc in changes if id(pc) in kept]


def per_class_sentences(
    ranking: RankingTable,
    samples: Mapping[str, Predictions],
    changes: Sequence[tuple[Pair, ClassChange]],
) -> list[str]:
    """Which classes later versions lose, how sure that is, and what the tables leave out."""
    tasks = _tasks(ranking, samples)
    if not tasks:
        return ["The results hold no predicted classes, so nothing can be said class by class."]
    said = [_changes_sentence(changes)] if changes else []
    said.append(_weakest(ranking, tasks))
    most = _rows_per_task(ranking)
    hidden = sum(max(0, int((scores[0].support > 0).sum()) - most) for _, scores in tasks)
    if hidden:
        said.append(
            f"The table shows the {most} weakest classes of each task; "
            f"{words.number(hidden, 'class', 'classes')} are left out."
        )
    return said


def _weakest(ranking: RankingTable, tasks: Sequence[tuple[str, list[ClassScores]]]) -> str:
    """Where the first-ranked variant fails most, task by task."""
    found = []
    for task, (mine, *_) in tasks:
        tested = np.flatnonzero(mine.support > 0)
        c = tested[int(np.argmin(mine.f1[tested]))]
        found.append(f"{mine.classes[c]} on {task} (F1 {words.score(float(mine.f1[c]))})")
    return f"The first-ranked {ranking.ranked[0].variant} is weakest on {words.listed(found, 3)}."


def _changes_sentence(changes: Sequence[tuple[Pair, ClassChange]]) -> str:
    worse = [pc for pc in changes if pc[1].verdict == "worse"]
    better = sum(change.verdict == "better" for _, change in changes)
    n = words.number(len(changes), "comparison")
    lead = f"Class by class, later versions against the first in {n} of recall:"
    shown = len(_shown(changes))
    left_out = f" {len(changes) - shown} smaller changes are left out of the table." * (
        shown < len(changes)
    )
    families = len({(pair.reference, pair.candidate, c.task) for pair, c in changes})
    chance = ALPHA * families
    tested = " (exact McNemar test, Holm-adjusted within each task and pair"
    if families > 1:
        tested += (
            f"; over {families} such families, up to {chance:.2g} false alarms are to be expected"
        )
    if worse:
        named = [f"{c.label} on {c.task} ({p.candidate})" for p, c in worse]
        verdict = f"worse in {len(worse)}, {words.listed(named, 4)}"
    else:
        pair, change = min(changes, key=lambda pc: pc[1].value)
        verdict = "no class is significantly worse"
        if change.value < 0:
            verdict += (
                f"; the largest loss is {words.signed(change.value)} on {change.label} of "
                f"{change.task} ({pair.candidate}, {words.number(change.samples, 'sample')})"
            )
    return f"{lead} {verdict}; significantly better in {better}{tested}).{left_out}"


def version_class_changes(
    samples: Mapping[str, Predictions], pairs: Sequence[Pair], ranking: RankingTable
) -> tuple[tuple[Pair, ClassChange], ...]:
    """Changes under the pairs of a ranking's tiers, on its tasks."""
    names = {task.name for task in ranking.tasks}
    mine = {name: task for name, task in samples.items() if name in names}
    return version_changes(mine, [pair for pair in pairs if pair.tier in ranking.tiers])
