"""What moving from one version to another loses, costs and gains, in plain sentences.

Losses are named first, then what is not excluded, then the cost with and without attention,
then gains. It must know nothing of pages or figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reports import words
from reports.document import Statement
from reports.pairs import Difference, Pair, gain
from reports.ranking import RankingTable
from reports.table import TaskInfo

_NAMED = 2  # losses told one by one; the rest are counted


@dataclass(frozen=True)
class Found:
    """One difference of a pair, with its task."""

    pair: Pair
    difference: Difference
    task: TaskInfo

    @property
    def gain(self) -> float:
        """How much better the candidate scores, so that tasks can be put in order."""
        return gain(self.difference.value, self.difference, self.task)

    @property
    def least(self) -> float:
        """The change for the worst that the interval does not exclude, in the metric's units."""
        spread = self.difference.interval
        if spread is None:
            return self.difference.value
        return spread.low if self.task.higher_is_better else spread.high

    @property
    def least_gain(self) -> float:
        """`least`, so that tasks can be put in order."""
        return gain(self.least, self.difference, self.task)

    @property
    def unit(self) -> str:
        """Words behind a change of an error, which is in its data's unit; of a share none."""
        return "" if self.task.higher_is_better else f" {self.task.metric_and_unit}"

    @property
    def place(self) -> str:
        """``nano on eurosat-knn``."""
        return f"{self.pair.size} on {words.clip(self.task.name, 60)}"


def found_in(pairs: Sequence[Pair], ranking: RankingTable) -> list[Found]:
    """All differences of these pairs on the ranking's tasks, the greatest loss first."""
    tasks = {task.name: task for task in ranking.tasks}
    found = [
        Found(pair, d, tasks[d.task]) for pair in pairs for d in pair.differences if d.task in tasks
    ]
    return sorted(found, key=lambda f: f.gain)


def version_groups(
    pairs: Sequence[Pair], ranking: RankingTable
) -> dict[tuple[str, str], list[Pair]]:
    """Pairs of versions of this ranking, all sizes of one step together; most losses first."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        if pair.kind == "version" and pair.tier in ranking.tiers:
            key = version_of(pair.reference), version_of(pair.candidate)
            groups.setdefault(key, []).append(pair)
    order = sorted(groups, key=lambda key: -sum(p.count("worse") for p in groups[key]))
    return {key: groups[key] for key in order}


def version_of(variant: str) -> str:
    """``olmoearth-v1.1-nano`` is of ``olmoearth-v1.1``."""
    return variant.partition(":")[0].rpartition("-")[0]


def decision(
    reference: str, candidate: str, pairs: Sequence[Pair], ranking: RankingTable
) -> Statement:
    """The whole paragraph for one step from version to version."""
    return Statement(f"{reference} → {candidate}", outcome(pairs, ranking) + needs(pairs))


def schemes(pairs: Sequence[Pair], ranking: RankingTable) -> Statement | None:
    """What another token scheme on the same version changes; all of them together."""
    mine = [p for p in pairs if p.kind == "scheme" and p.tier in ranking.tiers]
    if not mine:
        return None
    cheapest = max(mine, key=lambda p: p.macs_ratio or 0.0)
    cost = ""
    if cheapest.macs_ratio:
        change = words.cost_change(cheapest.macs_ratio)
        cost = f" {cheapest.candidate} needs {change}."
        if len(mine) > 1:
            best = "greatest saving" if cheapest.macs_ratio > 1 else "smallest addition"
            cost = f" The {best} is that of {cheapest.candidate}: {change}."
    return Statement("Other token schemes", outcome(mine, ranking, named=1) + cost)


def outcome(pairs: Sequence[Pair], ranking: RankingTable, named: int = _NAMED) -> str:
    """Losses, what is not excluded and gains over all pairs and tasks; ends in a full stop.

    The greatest losses are ``named`` one by one, the others counted.
    """
    found = found_in(pairs, ranking)
    if not found:
        return "No task is shared, so scores cannot be compared."
    if all(f.difference.verdict == "no interval" for f in found):
        return "Without per-sample predictions, score differences have no interval."
    is_paired = all(p.is_paired for p in pairs)
    tasks = words.number(len({f.task.name for f in found}), "task")
    kind = "paired score comparison" if is_paired else "score comparison"
    n = f"{words.number(len(found), kind)} over {tasks}"
    unpaired = (
        "" if is_paired else "Scores are published ones, so intervals are unpaired and wider."
    )
    sentences = [_losses(found, n, named), _even(found), _gains(found), _unknown(found), unpaired]
    return " ".join(sentence for sentence in sentences if sentence)


def _unknown(found: Sequence[Found]) -> str:
    unknown = sum(f.difference.verdict == "no interval" for f in found)
    return f"No interval, hence no verdict, in {unknown}." if unknown else ""


def _losses(found: Sequence[Found], n: str, named: int) -> str:
    worse = [f for f in found if f.difference.verdict == "worse"]
    if not worse:
        return f"No regression is shown in {n}."
    told = [
        f"{f.place} ({words.signed(f.difference.value)}{f.unit}, 95% interval "
        f"{words.spans(f.difference.interval, 'signed')}{_corrected(f.difference)})"
        for f in worse[:named]
    ]
    most = "Most: " if len(worse) > named else "Namely "
    return f"Worse in {len(worse)} of {n}{_kept(worse)}. {most}{' and '.join(told)}."


def _kept(found: Sequence[Found]) -> str:
    """How many of some separated differences stand after correction."""
    stand = sum(f.difference.is_significant for f in found)
    return f", {stand if stand else 'none'} of which {_stands(stand)} Holm's correction over tasks"


def _stands(n: int) -> str:
    return "withstands" if n <= 1 else "withstand"


def _corrected(difference: Difference) -> str:
    p = difference.p_adjusted
    return "" if p is None else f", adjusted {words.p_equals(p)}"


def _even(found: Sequence[Found]) -> str:
    """How much worse the candidate may still be, where nothing is separated."""
    even = [f for f in found if f.difference.verdict == "not separated"]
    if not even:
        return ""
    worst = min(even, key=lambda f: f.least_gain)
    allowed = (
        f"; a loss of up to {words.score(abs(worst.least))}{worst.unit} is not excluded "
        f"({worst.place})"
        if worst.least_gain < 0
        else ""
    )
    return f"Not separated from zero in {len(even)}{allowed}."


def _gains(found: Sequence[Found]) -> str:
    better = [f for f in found if f.difference.verdict == "better"]
    if not better:
        return ""
    most = better[-1]
    return (
        f"Better in {len(better)}{_kept(better)}, most {most.place} "
        f"({words.signed(most.difference.value)}{most.unit})."
    )


def needs(pairs: Sequence[Pair]) -> str:
    """What the candidate costs against the reference, size by size, as a further sentence."""
    with_attention = _changes(pairs, lambda p: p.macs_ratio, "MACs")
    if with_attention:
        without = _changes(pairs, lambda p: p.macs_ratio_blind, "")
        same = f"; not counting attention's products, {without}" if without else ""
        return f" It needs {with_attention}{same}."
    stated = _changes(pairs, lambda p: p.published_ratio, "GFLOPs as published")
    return f" It needs {stated} (the source's own counter)." if stated else ""


def _changes(pairs: Sequence[Pair], ratio: Callable[[Pair], float | None], unit: str) -> str:
    """``3.6x (nano) and 3.3x (tiny) fewer MACs``, as briefly as the numbers allow."""
    texts: Mapping[str, str] = {
        p.size: words.cost_change(value, unit).strip() for p in pairs if (value := ratio(p))
    }
    if not texts:
        return ""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values())) + (" at every size" if len(texts) > 1 else "")
    endings = {text.partition(" ")[2] for text in texts.values()}
    if len(endings) == 1 and all(text[0].isdigit() for text in texts.values()):
        short = [f"{text.partition(' ')[0]} ({size})" for size, text in texts.items()]
        return f"{words.listed(short)} {endings.pop()}"
    return words.listed([f"{text} ({size})" for size, text in texts.items()])
