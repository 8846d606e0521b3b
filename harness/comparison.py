"""Two variants, or two versions size by size: which pairs are meant, and what they differ in.

Pure functions of a suite's results. Differences and tests are those of `reports.pairs`; the
p-values of everything that is compared are corrected together (Holm), because they are
looked at together. It must know nothing of the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.errors import UserError, did_you_mean
from reports.pairs import Difference, adjusted, difference, is_base_scheme
from reports.ranking import BASELINE
from reports.resampling import TaskScores, bootstrap, shared_tasks
from reports.study import departs_in_recipe, trained_on
from reports.table import SuiteResults, TaskInfo

Change = Literal["better", "worse", "not separated", "no interval"]
COSTS = ("tokens", "macs", "macs_attention", "macs_blind", "params")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class CostChange:
    """One cost of both variants; None where the results do not hold it."""

    name: str
    reference: float | None
    candidate: float | None

    @property
    def ratio(self) -> float | None:
        """Reference over candidate: 3.0 reads three times less."""
        return self.reference / self.candidate if self.reference and self.candidate else None


@dataclass(frozen=True)
class Compared:
    """A candidate against a reference. ``differences`` follow the suite's order of tasks."""

    reference: str
    candidate: str
    tiers: tuple[str, str]
    costs: tuple[CostChange, ...]
    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]

    def cost(self, name: str) -> CostChange:
        """One of `COSTS`."""
        return next(cost for cost in self.costs if cost.name == name)


@dataclass(frozen=True)
class Comparison:
    """What was asked for, the pairs that it means, and what they were measured on.

    ``unpaired`` names variants of which the other version has no partner of the same size,
    ``trained_on`` the images behind study weights that are compared.
    """

    asked: tuple[str, str]
    suite: str
    pairs: tuple[Compared, ...]
    unpaired: tuple[str, ...]
    tasks: tuple[TaskInfo, ...]
    trained_on: str = ""

    @property
    def tests(self) -> int:
        """How many p-values were corrected together."""
        return sum(d.p_value is not None for pair in self.pairs for d in pair.differences)


def change_of(found: Difference, higher_is_better: bool) -> Change:
    """What may be claimed of a difference once its p-value is corrected."""
    if found.p_adjusted is None:
        return "no interval"
    if not found.is_significant or not found.value:
        return "not separated"
    return "better" if (found.value > 0) == higher_is_better else "worse"


def compare(results: SuiteResults, reference: str, candidate: str) -> Comparison:
    """Compare two variants or two versions by name, without the family where only one has both.

    Raises `UserError` for a name that the results do not hold, or names of different kinds.
    """
    rows = results.variants.to_dicts()
    prefix = _family_prefix((reference, candidate), rows)
    kind, first = _meant(reference, rows, prefix)
    other_kind, second = _meant(candidate, rows, prefix)
    if first == second:
        raise UserError(f'"{reference}" and "{candidate}" are the same; name two to compare.')
    if kind != other_kind:
        raise UserError(
            f'"{reference}" is a {kind}, "{candidate}" a {other_kind}; name two variants or two '
            "versions."
        )
    if kind == "variant":
        partners, unpaired = [(first[0], second[0])], list[str]()
    else:
        partners, unpaired = _partners(first, second)
    if not partners:
        raise UserError(
            f'"{reference}" and "{candidate}" have no size in common in these results '
            f"({', '.join(unpaired)}); name two variants instead."
        )
    scores = bootstrap(results)
    pairs = [_compared(a, b, scores) for a, b in partners]
    corrected = iter(adjusted([d for pair in pairs for d in pair.differences]))
    return Comparison(
        (reference, candidate),
        results.run.suite,
        tuple(_with(pair, [next(corrected) for _ in pair.differences]) for pair in pairs),
        tuple(unpaired),
        results.run.tasks,
        trained_on(results, {str(row["variant"]) for pair in partners for row in pair}),
    )


def _with(pair: Compared, differences: Sequence[Difference]) -> Compared:
    return Compared(**{**vars(pair), "differences": tuple(differences)})


Kind = Literal["variant", "version"]


def _family_prefix(names: Sequence[str], rows: Sequence[Row]) -> str:
    """What completes short names: the one family that holds most of them; baselines are none."""
    rows = [row for row in rows if row["tier"] != BASELINE]
    known = {_plain(row) for row in rows} | {_version(row) for row in rows}
    families = dict.fromkeys(str(row["family"]) for row in rows)
    held = {f: sum(bool({n, f"{f}-{n}"} & known) for n in names) for f in families}
    best = [f for f, n in held.items() if n == max(held.values())]
    return f"{best[0]}-" if len(best) == 1 else ""


def _plain(row: Row) -> str:
    """A variant's name without the ``@tier`` that tells it from itself in another tier."""
    return str(row["variant"]).removesuffix(f"@{row['tier']}")


def _meant(name: str, rows: Sequence[Row], prefix: str) -> tuple[Kind, list[Row]]:
    """What a name stands for: one variant, or a version in all its sizes, each as published."""
    for wanted in (name, prefix + name):
        exact = [row for row in rows if row["variant"] == wanted]
        # Of a variant and its untrained self, which a suite adds, the trained one is meant.
        trained = [row for row in rows if _plain(row) == wanted and row["tier"] != "random"]
        if exact or len(trained) == 1:
            return "variant", exact or trained
        sizes = [row for row in rows if _version(row) == wanted and _is_main(row)]
        if sizes:
            return "version", sizes
    known = {row["variant"] for row in rows} | {_version(row) for row in rows}
    raise UserError(
        f'These results hold no variant or version "{name}": {did_you_mean(name, known)}.'
    )


def _is_main(row: Row) -> bool:
    """Whether a row stands for its version: its own token scheme, pretrained as it is meant."""
    return is_base_scheme(row["variant"]) and not departs_in_recipe(row)


def _version(row: Row) -> str:
    return f"{row['family']}-{row['version']}"


def _partners(
    first: Sequence[Row], second: Sequence[Row]
) -> tuple[list[tuple[Row, Row]], list[str]]:
    """Rows of two versions paired by size and tier, and the names of those without a partner."""
    places = [{(row["size"], row["tier"]): row for row in rows} for rows in (first, second)]
    pairs = [(row, places[1][key]) for key, row in places[0].items() if key in places[1]]
    tiers = {row["tier"] for pair in pairs for row in pair}
    # An untrained encoder that was added beside trained ones has no partner, and needs none.
    alone = [
        str(row["variant"])
        for own, other in (places, reversed(places))
        for key, row in own.items()
        if key not in other and (row["tier"] in tiers or not pairs)
    ]
    return pairs, alone


def _compared(reference: Row, candidate: Row, scores: Mapping[str, TaskScores]) -> Compared:
    names = str(reference["variant"]), str(candidate["variant"])
    shared = shared_tasks(scores, *names)
    return Compared(
        *names,
        (str(reference["tier"]), str(candidate["tier"])),
        tuple(CostChange(name, _cost(reference, name), _cost(candidate, name)) for name in COSTS),
        tuple(difference(scores[task], *names) for task in shared),
        tuple(task for task in scores if task not in shared),
    )


def _cost(row: Row, name: str) -> float | None:
    if name == "macs_blind":
        total, attention = row["macs"], row["macs_attention"]
        return None if total is None or attention is None else float(total - attention)
    value = row[name]
    return None if value is None else float(value)
