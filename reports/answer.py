"""The answer in a few plain sentences, computed from the data and never beyond its intervals.

"Not separated" is said where an interval holds zero, with how large a loss it still
allows: a wide interval is no proof of equality. It must know nothing of pages or figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports import words
from reports.decision import decision, schemes, version_groups
from reports.document import Statement
from reports.pairs import Pair
from reports.ranking import RankedVariant, RankingTable
from reports.table import RunInfo

_STEPS_SHOWN = 2  # of more than these, only the first


def answer(
    ranking: RankingTable,
    pairs: Sequence[Pair],
    sensitivity: Sequence[str] = (),
    against_baselines: str = "",
    token_budget: str = "",
) -> list[Statement]:
    """What a later version changes, who ranks first, how firm the order is, what limits it.

    ``sensitivity`` is what leaving out tasks or samples shows, ``against_baselines`` who beats
    the baselines, ``token_budget`` where tokens are best spent; each is said by its own analysis.
    """
    statements = [
        *_versions(ranking, pairs),
        Statement("First place", _first_place(ranking)),
        Statement("Against the baselines", against_baselines),
        Statement("Stability", " ".join(sensitivity)),
        schemes(pairs, ranking),
        Statement("Token budget", token_budget),
        Statement("Limits", _limits(ranking)),
    ]
    return [found for found in statements if found and found.text]


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


def _versions(ranking: RankingTable, pairs: Sequence[Pair]) -> list[Statement]:
    """One paragraph per step from version to version, all sizes together."""
    groups = version_groups(pairs, ranking)
    told = list(groups.items())[: _STEPS_SHOWN if len(groups) <= _STEPS_SHOWN else 1]
    shown = [decision(*names, group, ranking) for names, group in told]
    left = len(groups) - len(shown)
    if left > 0:
        steps = words.number(left, "further step")
        text = f"{steps} from version to version, with no more losses, below: Side by side."
        shown.append(Statement("Other versions", text))
    return shown


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
        on = f" on {ranking.trained_on}" if ranking.trained_on else ""
        return (
            f"The weights were trained by this project at small scale{on}; this order need not "
            "hold for published ones."
        )
    return ""


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
