"""A run held to a baseline: one verdict for every variant on every task, and why.

Costs must be equal; embeddings of the same weights must agree; scores must not be worse
than the margin (`scores`). The seeds of a variant on a task are judged together,
because what they share, the test sample, is the unit. Pure functions of two snapshots; it
must know nothing of files or of how a verdict is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.regression import SKETCH_TOLERANCE
from harness.regression.noninferiority import Bound
from harness.regression.scores import Verdict, judge_scores, mean_score
from harness.regression.snapshot import CellFacts, CellId, Snapshot, order
from harness.results import NOT_COMPUTED

VERDICTS: tuple[Verdict, ...] = ("worse", "missing", "new", "better", "same")

EXIT_CODES = {"same": 0, "regression": 1, "cannot tell": 2}


@dataclass(frozen=True)
class Judged:
    """One variant on one task, all seeds.

    ``bound`` is None where there was nothing to test; ``drift`` is the largest relative
    distance of the sketches, None where the weights differ or no sketch was kept.
    ``reasons`` are sentences, the decisive ones first.
    """

    variant: str
    task: str
    cells: tuple[CellId, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    baseline_score: float | None = None
    score: float | None = None
    bound: Bound | None = None
    drift: float | None = None


@dataclass(frozen=True)
class Check:
    """All verdicts of a check, worst first. ``has_errors``: some tasks' scores are errors."""

    suite: str
    margin: float
    tolerance: float
    judged: tuple[Judged, ...]
    has_errors: bool = False

    @property
    def margin_words(self) -> str:
        """The loss that counts; an error has a unit of its own, so of it a share counts."""
        return f"{self.margin:g}" + (" (of an error: that share of it)" if self.has_errors else "")

    def of(self, verdict: Verdict) -> tuple[Judged, ...]:
        """Those with this verdict."""
        return tuple(each for each in self.judged if each.verdict == verdict)

    @property
    def exit_code(self) -> int:
        """0 nothing is worse, 1 something is, 2 cannot tell; a regression outweighs a doubt."""
        if self.of("worse"):
            return EXIT_CODES["regression"]
        return EXIT_CODES["cannot tell" if self.of("missing") or not self._compared else "same"]

    @property
    def _compared(self) -> int:
        return len(self.judged) - len(self.of("new"))

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        worse, missing = self.of("worse"), self.of("missing")
        if worse:
            names = _listed([f"{each.variant} on {each.task}" for each in worse])
            are = "is" if len(worse) == 1 else "are"
            return f"Regression: {len(worse)} of {self._compared} cells {are} worse ({names})."
        if missing:
            first = missing[0]
            return (
                f"Cannot tell: {len(missing)} of {self._compared} cells have no result to compare "
                f"(first: {first.variant} on {first.task}: {first.reasons[0]})."
            )
        if not self._compared:
            return "Cannot tell: the baseline holds no cell."
        better = len(self.of("better"))
        gained = f"; {better} better" if better else ""
        return (
            f"No regression: none of {self._compared} cells is worse by {self.margin_words} or "
            f"more{gained}."
        )


def told_together(judged: Sequence[Judged]) -> list[tuple[Verdict, str, str]]:
    """Verdict, variants on tasks, and reasons of all that need an explanation.

    Cells with the same reasons are told once.
    """
    found: dict[tuple[Verdict, str], list[str]] = {}
    for each in judged:
        if each.reasons and each.verdict != "new":
            key = each.verdict, "; ".join(each.reasons)
            found.setdefault(key, []).append(f"{each.variant} on {each.task}")
    return [(verdict, _listed(names), why) for (verdict, why), names in found.items()]


def _listed(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def judge(
    baseline: Snapshot, current: Snapshot, margin: float, tolerance: float = SKETCH_TOLERANCE
) -> Check:
    """Hold a run to a baseline of the same suite; the order of either does not matter."""
    groups: dict[tuple[str, str], list[CellId]] = {}
    for cell in sorted(baseline.cells, key=order):
        groups.setdefault((cell.variant, cell.task), []).append(cell)
    judged = [
        _judged(tuple(cells), baseline, current, margin, tolerance) for cells in groups.values()
    ]
    planned = [cell for cell, reason in current.reasons.items() if reason == NOT_COMPUTED]
    unknown = {(c.variant, c.task) for c in [*current.cells, *planned]} - groups.keys()
    judged += [
        Judged(variant, task, (), "new", ("it is not in the baseline",))
        for variant, task in sorted(unknown)
    ]
    judged.sort(key=lambda each: VERDICTS.index(each.verdict))
    has_errors = any(not task.higher_is_better for task in baseline.tasks.values())
    return Check(baseline.suite, margin, tolerance, tuple(judged), has_errors)


def _judged(
    cells: tuple[CellId, ...],
    baseline: Snapshot,
    current: Snapshot,
    margin: float,
    tolerance: float,
) -> Judged:
    variant, task, _ = cells[0]
    why = incomparable(variant, task, baseline, current) or _absent(cells, current)
    if why:
        return Judged(variant, task, cells, "missing", (why,))
    old = [baseline.cells[cell] for cell in cells]
    new = [current.cells[cell] for cell in cells]
    costs = _cost_changes(old, new)
    same_weights = baseline.variants[variant].weights == current.variants[variant].weights
    drift = _drift(old, new) if same_weights else None
    scores, bound, verdict = judge_scores(cells, baseline, current, margin)
    drifted = []
    if drift is not None and drift > tolerance:
        drifted = [
            f"same weights, other embeddings: they moved by {drift:.1e} of their size, where "
            f"rounding moves them by less than {tolerance:g}"
        ]
    notes = [] if same_weights else ["other weights than the baseline's: only scores are compared"]
    if costs or drifted:
        verdict = "worse"
    return Judged(
        variant,
        task,
        cells,
        verdict,
        (*costs, *drifted, *scores, *notes),
        mean_score(old),
        mean_score(new),
        bound,
        drift,
    )


def incomparable(variant: str, task: str, baseline: Snapshot, current: Snapshot) -> str | None:
    """Why results of a variant on a task cannot be compared, in half a sentence."""
    if task not in current.tasks:
        return f'the run has no task "{task}"'
    differing = task_differences(task, baseline, current)
    if differing:
        return differing
    if variant not in current.variants:
        return f'the run has no variant "{variant}"'
    old, new = baseline.variants[variant], current.variants[variant]
    if old.tier != new.tier:
        return f"the baseline has {old.tier} weights, the run {new.tier} ones"
    return None


def task_differences(task: str, baseline: Snapshot, current: Snapshot) -> str | None:
    """What a task's protocol or data differ in, in half a sentence; None when they agree."""
    old, new = baseline.tasks[task], current.tasks[task]
    if old.origin != new.origin:
        return f"other data: {old.origin} in the baseline, {new.origin} in the run"
    for kind, before, now in (
        ("protocol", old.protocol, new.protocol),
        ("data", old.data, new.data),
    ):
        for name in before:
            # Where one side has no predictions there are no test samples to compare.
            unknown = name == "test_samples" and not (before[name] and now.get(name))
            if before[name] != now.get(name) and not unknown:
                return (
                    f"other {kind}: {name} is {_short(before[name])} in the baseline, "
                    f"{_short(now.get(name))} in the run"
                )
    return None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _absent(cells: Sequence[CellId], current: Snapshot) -> str | None:
    for cell in cells:
        if cell not in current.cells:
            reason = current.reasons.get(cell, "the run does not have it")
            return reason if cell.seed is None else f"seed {cell.seed}: {reason}"
    return None


def _cost_changes(old: Sequence[CellFacts], new: Sequence[CellFacts]) -> list[str]:
    pairs = list(zip(old, new, strict=True))
    changes = []
    for name in ("MACs", "tokens", "params"):
        for before, now in pairs:
            a, b = (getattr(facts, name.lower()) for facts in (before, now))
            if a != b:
                changes.append(f"{name} changed from {_count(a)} to {_count(b)}")
                break
    return changes


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _drift(old: Sequence[CellFacts], new: Sequence[CellFacts]) -> float | None:
    """Largest ``|new - old| / |old|`` over the seeds; infinite for sketches of other shapes."""
    pairs = [(a.sketch, b.sketch) for a, b in zip(old, new, strict=True) if a.sketch]
    return max((sketch_distance(a, b) for a, b in pairs), default=None)


def sketch_distance(old: Sequence[float], new: Sequence[float]) -> float:
    """Relative Euclidean distance of two sketches; infinite where one is not finite."""
    if len(old) != len(new) or not np.isfinite([*old, *new]).all():
        return math.inf
    before, now = np.asarray(old), np.asarray(new)
    size = float(np.linalg.norm(before))
    distance = float(np.linalg.norm(now - before))
    return distance / size if size else (math.inf if distance else 0.0)


def verdict_counts(check: Check) -> Mapping[Verdict, int]:
    """How often each verdict was reached, worst first."""
    return {verdict: len(check.of(verdict)) for verdict in VERDICTS}
