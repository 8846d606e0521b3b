"""Two variants side by side: what one costs against the other, and what it scores.

The pairs a token design is judged by: a later version against the first one of the same
size, a token scheme put on a version against that version's own, two versions under the same
scheme (what the recipe alone buys), and of study weights a recipe against the one that it departs
from; one that saw more samples for it, against the first version too. Pure functions; it must know
nothing of pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from reports.ranking import BASELINE
from reports.resampling import Interval, TaskScores, bootstrap, interval, shared_tasks
from reports.significance import ALPHA, bootstrap_p_value, holm, mcnemar, normal_p_value
from reports.study import departed_from, departs_in_recipe, is_beginning, study_of
from reports.table import SuiteResults, TaskInfo

Kind = Literal["version", "scheme", "recipe", "pretraining", "trained longer"]
Hits = npt.NDArray[np.bool_]
Verdict = Literal["worse", "not separated", "better", "no interval"]
Test = Literal["McNemar", "paired bootstrap", "unpaired draws", "none"]
VERDICT_ORDER: tuple[Verdict, ...] = ("worse", "not separated", "no interval", "better")


@dataclass(frozen=True)
class Difference:
    """Candidate minus reference on one task, in the metric's own units.

    ``interval`` is the 95% bootstrap interval, paired where both variants have per-sample
    values. The verdict reads it in the metric's direction: worse or better when it excludes
    zero. ``p_value`` is that of ``test``, two-sided: McNemar's on hits and misses of one seed,
    else from the bootstrap draws. ``p_adjusted`` is Holm's over the tasks of the pair.
    """

    task: str
    reference: float
    candidate: float
    value: float
    interval: Interval | None
    verdict: Verdict
    test: Test = "none"
    p_value: float | None = None
    p_adjusted: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the difference stands after correction for the number of tasks."""
        return self.p_adjusted is not None and self.p_adjusted < ALPHA


def gain(change: float, of: Difference, task: TaskInfo) -> float:
    """A change of score, positive where it is for the better, that can stand beside other tasks'.

    Errors are in their data's unit; theirs is a share of the reference's error.
    """
    if task.higher_is_better:
        return change
    return -change / abs(of.reference) if of.reference else -change


@dataclass(frozen=True)
class Pair:
    """A candidate variant against its reference, same family, size and tier.

    Ratios are reference / candidate: 2.9 reads "2.9 times fewer". ``macs_ratio_blind``
    leaves attention's two products out, as counters that never saw them do;
    ``published_ratio`` is that of the GFLOPs an imported table states. A ratio is ``None`` when
    a cost is unknown. ``differences`` has the worst first.
    """

    kind: Kind
    reference: str
    candidate: str
    size: str
    tier: str
    token_ratio: float | None
    macs_ratio: float | None
    macs_ratio_blind: float | None
    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]
    published_ratio: float | None = None

    @property
    def is_paired(self) -> bool:
        """Whether every difference is taken sample by sample (published scores cannot be)."""
        return all(d.test in ("McNemar", "paired bootstrap") for d in self.differences)

    def count(self, verdict: Verdict) -> int:
        """Number of tasks with this verdict."""
        return sum(d.verdict == verdict for d in self.differences)


def is_base_scheme(variant: str) -> bool:
    """Whether a variant carries its version's own scheme: its name has no ``:scheme``."""
    return ":" not in variant


def version_key(version: str) -> tuple[int, ...]:
    """Sort key of a version: v1 < v1.1 < v1.2 < v1.10 < v2."""
    return tuple(int(n) for n in re.findall(r"\d+", version))


def compare(
    results: SuiteResults, scores: Mapping[str, TaskScores] | None = None
) -> tuple[Pair, ...]:
    """All pairs of the suite, in the order of `Kind`.

    Within a kind, pairs stand as the variants do in the table; `regressions_first` reorders.
    """
    scores = bootstrap(results) if scores is None else scores
    # Baselines, and where study weights began, are held against everything else, not against
    # each other.
    every = results.variants.to_dicts()
    rows = [row for row in every if row["tier"] != BASELINE and not is_beginning(row, every)]
    samples = {name: study.samples_seen for name, study in study_of(results).items()}
    found = [
        _pair(kind, reference, candidate, scores)
        for reference in rows
        for candidate in rows
        for kind in _kinds(reference, candidate, rows, samples)
    ]
    order: tuple[Kind, ...] = get_args(Kind)
    return tuple(sorted(found, key=lambda pair: order.index(pair.kind)))


def regressions_first(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Pairs with most tasks lost first, then fewest won; otherwise in the given order."""
    return tuple(sorted(pairs, key=lambda p: (-p.count("worse"), p.count("better"))))


def _kinds(
    reference: Mapping[str, Any],
    candidate: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    samples: Mapping[str, int],
) -> Iterator[Kind]:
    same = all(reference[key] == candidate[key] for key in ("family", "size", "tier"))
    if not same or reference["variant"] == candidate["variant"]:
        return
    base = is_base_scheme(reference["variant"]), is_base_scheme(candidate["variant"])
    older = version_key(reference["version"]) < version_key(candidate["version"])
    if departs_in_recipe(reference) or departs_in_recipe(candidate):
        departed = _departed_from(candidate, rows) if departs_in_recipe(candidate) else None
        if departed is None:
            return
        if reference is departed:
            yield "pretraining"
        longer = samples.get(candidate["variant"], 0) > samples.get(departed["variant"], 0)
        if longer and older and all(base) and reference is _first_version(reference, rows):
            yield "trained longer"
        return
    if base == (True, True) and older and reference is _first_version(reference, rows):
        yield "version"
    if reference["version"] == candidate["version"] and base == (True, False):
        yield "scheme"
    if older and reference["scheme"] == candidate["scheme"] and base != (True, True):
        yield "recipe"


def _departed_from(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The main arm whose recipe's name the row's recipe goes on from: v1.1 of v1.1-no-...."""
    arms = [
        other
        for other in rows
        if all(other[key] == row[key] for key in ("family", "size", "tier"))
        and other["recipe"]
        and not departs_in_recipe(other)
    ]
    name = departed_from(row["recipe"], [other["recipe"] for other in arms])
    return next((other for other in arms if other["recipe"] == name), None)


def _first_version(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    peers = [
        other
        for other in rows
        if all(other[key] == row[key] for key in ("family", "size", "tier"))
        and is_base_scheme(other["variant"])
        and not departs_in_recipe(other)
    ]
    return min(peers, key=lambda other: version_key(other["version"]))


def _pair(
    kind: Kind,
    reference: Mapping[str, Any],
    candidate: Mapping[str, Any],
    scores: Mapping[str, TaskScores],
) -> Pair:
    names = reference["variant"], candidate["variant"]
    shared = shared_tasks(scores, *names)
    differences = adjusted([difference(scores[task], *names) for task in shared])
    differences.sort(key=lambda d: VERDICT_ORDER.index(d.verdict))
    return Pair(
        kind,
        *names,
        reference["size"],
        reference["tier"],
        _ratio(reference["tokens"], candidate["tokens"]),
        _ratio(reference["macs"], candidate["macs"]),
        _ratio(_blind(reference), _blind(candidate)),
        tuple(differences),
        tuple(task for task in scores if task not in shared),
        _ratio(reference["published_gflops"], candidate["published_gflops"]),
    )


def _blind(row: Mapping[str, Any]) -> float | None:
    if row["macs"] is None or row["macs_attention"] is None:
        return None
    return float(row["macs"] - row["macs_attention"])


def _ratio(reference: float | None, candidate: float | None) -> float | None:
    return float(reference / candidate) if reference and candidate else None


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with Holm's p-values over those that have one, in the order given."""
    tested = [i for i, d in enumerate(differences) if d.p_value is not None]
    corrected = holm([p for d in differences if (p := d.p_value) is not None])
    found = list(differences)
    for i, p_value in zip(tested, corrected, strict=True):
        found[i] = replace(found[i], p_adjusted=p_value)
    return found


def difference(task: TaskScores, reference: str, candidate: str) -> Difference:
    """One task's difference, tested but not yet corrected for other tasks (see `adjusted`)."""
    r, c = task.columns((reference, candidate))
    drawn = None if task.draws is None else task.draws[:, c] - task.draws[:, r]
    if drawn is not None and np.isnan(drawn).any():  # nothing is known of one of the two
        drawn = None
    spread = None if drawn is None else interval(drawn)
    test: Test = "none"
    p_value = None
    if task.hits is not None and task.sampled[r] and task.sampled[c]:
        test, p_value = "McNemar", _mcnemar(task.hits[r], task.hits[c])
    elif drawn is not None:
        paired = task.sampled[r] and task.sampled[c]
        test = "paired bootstrap" if paired else "unpaired draws"
        value = float(task.point[c] - task.point[r])
        p_value = bootstrap_p_value(drawn) if paired else normal_p_value(value, float(drawn.std()))
    return Difference(
        task.task.name,
        float(task.point[r]),
        float(task.point[c]),
        float(task.point[c] - task.point[r]),
        spread,
        _verdict(spread, task.task.higher_is_better),
        test,
        p_value,
    )


def _mcnemar(reference: Hits, candidate: Hits) -> float:
    return mcnemar(
        int(np.count_nonzero(reference & ~candidate)), int(np.count_nonzero(candidate & ~reference))
    )


def _verdict(drawn: Interval | None, higher_is_better: bool) -> Verdict:
    if drawn is None:
        return "no interval"
    if drawn.low > 0:
        return "better" if higher_is_better else "worse"
    if drawn.high < 0:
        return "worse" if higher_is_better else "better"
    return "not separated"
