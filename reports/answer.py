"""The answer in a few plain sentences, computed from the data and never beyond its intervals.

"Not separated" is said where an interval holds zero, with how large a loss it still
allows: a wide interval is no proof of equality. It must know nothing of pages or figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports import words
from reports.pairs import Difference, Pair
from reports.ranking import RankedVariant, RankingTable
from reports.table import RunInfo, TaskInfo


def answer(ranking: RankingTable, pairs: Sequence[Pair]) -> list[str]:
    """Two to four sentences: who ranks first, what later versions and other schemes change."""
    return [
        sentence
        for sentence in (
            _first_place(ranking),
            *_versions(ranking, pairs),
            _schemes(ranking, pairs),
            _limits(ranking),
        )
        if sentence
    ]


def _first_place(ranking: RankingTable) -> str:
    ranked = ranking.ranked
    over = words.number(len(ranking.tasks), "task")
    if not ranked:
        return "No variant has a result for every task and seed, so there is no ranking."
    best = ranked[0]
    if len(ranked) == 1:
        return f"Only {best.variant} is complete, so there is nothing to rank it against."
    if best.interval is None:
        return (
            f"{best.variant} has the best average rank, {words.rank_text(best.average_rank)} over "
            f"{over}; without per-sample predictions nothing can be said of its certainty."
        )
    leaders = [r.variant for r in ranked if r.average_rank == best.average_rank]
    who = f"{words.listed(leaders)} stand{'s' * (len(leaders) == 1)} first"
    place = f"average rank {_with_interval(best)}, over {over}"
    tied = [r.variant for r in ranked[1:] if r.significance_tier == 1]
    behind = len(ranked) - 1 - len(tied)
    if not behind:
        also = "" if len(leaders) == len(ranked) else ", but every other ties with it"
        return (
            f"Nothing separates the {len(ranked)} variants within the 95% interval: "
            f"{who} ({place}){also}."
        )
    if tied:
        others = [name for name in tied if name not in leaders]
        but = f", but ties within the 95% interval with {words.listed(others)}" if others else ""
        return (
            f"{who} ({place}){but}; {words.number(behind, 'other')} "
            f"rank{'s' * (behind == 1)} behind."
        )
    others_behind = "the other variant" if behind == 1 else f"all {behind} others"
    return f"{best.variant} ranks first ({place}), separated from {others_behind}."


def _with_interval(ranked: RankedVariant) -> str:
    spread = words.spans(ranked.interval, "rank")
    return f"{words.rank_text(ranked.average_rank)}, 95% interval {spread}"


def _versions(ranking: RankingTable, pairs: Sequence[Pair]) -> list[str]:
    """One sentence per pair of versions, all sizes together."""
    mine = [p for p in pairs if p.kind == "version" and p.tier in ranking.tiers]
    found: dict[tuple[str, str], list[Pair]] = {}
    for pair in mine:
        found.setdefault((_version(pair.reference), _version(pair.candidate)), []).append(pair)
    return [_version_sentence(*names, group, ranking) for names, group in found.items()]


def _version_sentence(
    reference: str, candidate: str, pairs: Sequence[Pair], ranking: RankingTable
) -> str:
    return f"Against {reference}, {candidate}{_needs(pairs)}; {_outcome(pairs, ranking)}"


def _needs(pairs: Sequence[Pair]) -> str:
    """The cost of a later version, all sizes together, as briefly as the numbers allow."""
    costs = {p.size: words.cost_change(p.macs_ratio) for p in pairs if p.macs_ratio}
    if not costs:
        return ""
    if len(set(costs.values())) == 1:
        sizes = "" if len(costs) == 1 else " at every size"
        return f" needs {next(iter(costs.values()))}{sizes}"
    if all(text.endswith(" fewer MACs") for text in costs.values()):
        short = [f"{text.removesuffix(' fewer MACs')} ({size})" for size, text in costs.items()]
        return f" needs {words.listed(short)} fewer MACs"
    return f" needs {words.listed([f'{text} ({size})' for size, text in costs.items()])}"


def _schemes(ranking: RankingTable, pairs: Sequence[Pair]) -> str:
    mine = [p for p in pairs if p.kind == "scheme" and p.tier in ranking.tiers]
    if not mine:
        return ""
    costs = [f"{p.candidate} needs {words.cost_change(p.macs_ratio)}" for p in mine if p.macs_ratio]
    lead = f" {words.listed(costs, 3)};" if costs else ""
    return f"With another token scheme on the same version,{lead} {_outcome(mine, ranking)}"


def _outcome(pairs: Sequence[Pair], ranking: RankingTable) -> str:
    """Wins and losses over all pairs and the ranking's tasks, as a clause with a full stop."""
    tasks = {task.name: task for task in ranking.tasks}
    all_found = [(p, d) for p in pairs for d in p.differences if d.task in tasks]
    if not all_found:
        return "they share no task to compare scores on."
    if any(d.verdict == "no interval" for _, d in all_found):
        return "without per-sample predictions, score differences have no interval."
    worse = [f"{p.size} on {d.task}" for p, d in all_found if d.verdict == "worse"]
    better = sum(d.verdict == "better" for _, d in all_found)
    even = [(tasks[d.task], d) for _, d in all_found if d.verdict == "not separated"]
    n = words.number(len(all_found), "paired score comparison")
    if len(even) == len(all_found):
        return f"in {n}, no difference is separated from zero{_allows(even)}."
    parts = [f"worse in {len(worse)} ({words.listed(worse, 4)})" if worse else "worse in none"]
    if better:
        parts.append(f"better in {better}")
    if even:
        parts.append(f"not separated in {len(even)}{_allows(even)}")
    return f"in {n}, it scores {words.listed(parts)}."


def _allows(even: Sequence[tuple[TaskInfo, Difference]]) -> str:
    """How much worse the candidate may still be, where nothing is separated."""
    losses = [
        -d.interval.low if task.higher_is_better else d.interval.high
        for task, d in even
        if d.interval
    ]
    worst = max(losses, default=0.0)
    return f" (a loss of up to {words.score(worst)} is not excluded)" if worst > 0 else ""


def _limits(ranking: RankingTable) -> str:
    simulated, untrained = ranking.origin == "simulated", "random" in ranking.tiers
    if simulated and untrained:
        return (
            "The data are simulated and the weights untrained: this order says nothing about "
            "published models or real imagery."
        )
    if simulated:
        return "The data are simulated: this order says nothing certain about real imagery."
    if untrained:
        return "The weights are untrained: this order says nothing about trained models."
    if "study" in ranking.tiers:
        return "The weights were trained small-scale: this order need not hold for published ones."
    return ""


def _version(variant: str) -> str:
    """``olmoearth-v1.1-nano`` is of ``olmoearth-v1.1``."""
    return variant.partition(":")[0].rpartition("-")[0]


def caveats(run: RunInfo, rankings: Sequence[RankingTable]) -> list[str]:
    """What a careful reader would object, said first."""
    found = []
    for data in dict.fromkeys(task.dataset for task in run.tasks):
        n = sum(task.dataset == data for task in run.tasks)
        if n > 1:
            found.append(f"{n} tasks share one data set ({data}): not independent evidence.")
    tasks = max((len(r.tasks) for r in rankings), default=0)
    if tasks < 5:
        found.append(
            f"{words.number(tasks, 'task')}: too few to tell how an average rank would change "
            "with other tasks. The intervals cover the choice of test samples, not of tasks."
        )
    if len(run.seeds) == 1:
        found.append("One seed: how much splits and probe training vary is not in the intervals.")
    elif len(run.seeds) < 10:
        found.append(f"{len(run.seeds)} seeds: resampling so few understates how much they vary.")
    if any(len(r.ranked) > 2 for r in rankings):
        found.append(
            "Intervals are 95% each, not corrected for the number of comparisons: among many, "
            "some exclude zero by chance."
        )
    return found
