"""The sensitivity of a ranking in words and tables: would another choice give another order?

Other tasks (leave one out), other test samples (bootstrap, random halves), another way to
aggregate. The numbers come from `reports.stability` and `reports.aggregation`; the figure is
in `reports.sensitivity_figure`. It must know nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reports import words
from reports.aggregation import Aggregation, aggregations
from reports.predictions import Predictions
from reports.ranking import RankingTable, task_ranks
from reports.stability import (
    Halves,
    Omission,
    Resampled,
    random_halves,
    resampled,
    without_each_task,
)
from reports.tables import Cell, Table

_OFTEN = 0.05  # a pair reversed more often than this is not a settled one


def sensitivity_sentences(ranking: RankingTable, samples: Mapping[str, Predictions]) -> list[str]:
    """How the order fares without a task, on other samples, on half of them, aggregated else."""
    if len(ranking.ranked) < 2:
        return ["An order needs two complete variants; there is nothing whose stability to ask."]
    # A published score has no samples; its draws come from its interval.
    drawn = "resamples of the test samples" if samples else "draws from the published intervals"
    return [
        sentence
        for sentence in (
            _on_omissions(ranking, without_each_task(ranking)),
            _on_resamples(ranking, resampled(ranking), drawn),
            _on_halves(ranking, random_halves(samples, ranking)),
            _on_aggregations(ranking, aggregations(ranking)),
        )
        if sentence
    ]


def _leaders(ranking: RankingTable) -> tuple[str, ...]:
    """Who is first over all tasks; several when they tie."""
    best = ranking.ranked[0].average_rank
    return tuple(r.variant for r in ranking.ranked if np.isclose(r.average_rank, best))


def _on_omissions(ranking: RankingTable, omissions: Sequence[Omission]) -> str:
    if not omissions:
        return "With one task there is none to leave out: another task might give another order."
    leaders = _leaders(ranking)
    lost = [o for o in omissions if o.first != leaders]
    taus = [o.tau for o in omissions if o.tau is not None]
    closest = f" Kendall's tau with the full order is at least {min(taus):.2f}." if taus else ""
    n = words.number(len(omissions), "task")
    who = words.listed(leaders, 3)
    stays = "stays" if len(leaders) == 1 else "stay"
    if not lost:
        return f"Leaving out any one of the {n}, {who} {stays} first.{closest}"
    changes = [f"without {o.task} it is {words.listed(o.first, 3)}" for o in lost]
    return (
        f"Leaving out one of the {n} changes who is first in {len(lost)} of {len(omissions)} cases "
        f"(with all tasks {who}): {'; '.join(changes[:4])}"
        f"{f'; {len(changes) - 4} more' if len(changes) > 4 else ''}.{closest}"
    )


def _on_resamples(ranking: RankingTable, found: Resampled | None, drawn: str) -> str:
    if found is None:
        return (
            "Without per-sample values or intervals for every variant nothing can be said of how "
            "the order would change with other test samples."
        )
    names = [r.variant for r in ranking.ranked]
    text = (
        f"In {_share(1 - found.first_lost)} of {found.draws:,} {drawn} "
        f"{names[0]} has the lowest average rank, alone or with others"
    )
    if found.order_changed is not None:
        text += f"; in {_share(found.order_changed)} the order differs somewhere"
    return f"{text}.{_unsettled(names, found) if len(names) > 2 else ''}"


def _unsettled(names: Sequence[str], found: Resampled) -> str:
    """Which neighbours the test samples do not settle."""
    often = sum(share > _OFTEN for share in found.reversed_pairs)
    pairs = words.number(len(names) - 1, "neighbouring pair")
    text = (
        f" Of {pairs}, {often} {'is' if often == 1 else 'are'} reversed in more than "
        f"{words.percent(_OFTEN)} of them"
    )
    if often:
        share = max(found.reversed_pairs)
        i = found.reversed_pairs.index(share)
        text += f", most often {names[i]} and {names[i + 1]} ({words.percent(share)})"
    return text + "."


def _on_halves(ranking: RankingTable, found: Halves | None) -> str:
    if found is None:
        return ""
    agreement = (
        f"; two halves of one split agree on the order to a mean Kendall's tau of {found.tau:.2f}"
        if found.tau is not None
        else ""
    )
    return (
        f"On random halves of the test set {ranking.ranked[0].variant} is still first in "
        f"{_share(found.still_first)} of {2 * found.splits} halves{agreement}."
    )


def _share(value: float) -> str:
    """In whole percent, but never 0% or 100% of what is not exactly that."""
    if 0 < value < 0.005:
        return "less than 1%"
    return "more than 99%" if 0.995 <= value < 1 else words.percent(value)


def _on_aggregations(ranking: RankingTable, found: Sequence[Aggregation]) -> str:
    names = tuple(r.variant for r in ranking.ranked)
    leaders = _leaders(ranking)
    other = [a for a in found if a.is_new_order]
    if not other:
        return (
            "Borda count, win rate and Elo give the order of the average rank by construction; "
            "the tasks' metrics allow no mean score or improvability."
        )
    dissent = [a for a in other if a.first(names) != leaders]
    by_design = "Borda count, win rate and Elo give its order by construction"
    if not dissent:
        return (
            f"{words.listed([a.name.lower() for a in other]).capitalize()} "
            f"put{'s' * (len(other) == 1)} "
            f"{words.listed(leaders, 3)} first too, like the average rank ({by_design})."
        )
    says = [f"{a.name.lower()} puts {words.listed(a.first(names), 3)} first" for a in dissent]
    return (
        f"The aggregations disagree on the first place: the average rank puts "
        f"{words.listed(leaders, 3)} first, {words.listed(says)} ({by_design})."
    )


# --- tables -----------------------------------------------------------------------------


def aggregation_table(ranking: RankingTable) -> Table | None:
    """One row per variant, one column per aggregation, its place noted beneath the value."""
    found = aggregations(ranking)
    if not found:
        return None
    places = [task_ranks(np.array(a.values), a.higher_is_better) for a in found]
    rows = tuple(
        (
            Cell(r.variant, r.variant),
            *(
                Cell(
                    _value(a, a.values[i]),
                    a.values[i],
                    note=f"place {words.rank_text(float(place[i]))}",
                )
                for a, place in zip(found, places, strict=True)
            ),
        )
        for i, r in enumerate(ranking.ranked)
    )
    columns = ("Variant", *(a.name for a in found))
    return Table(columns, (False, *[True] * len(found)), rows)


def _value(aggregation: Aggregation, value: float) -> str:
    if aggregation.name in {"Win rate", "Mean improvability"}:
        return f"{value:.1%}"
    if aggregation.name == "Elo":
        return f"{value:.0f}"
    return words.score(value) if aggregation.name == "Mean score" else words.rank_text(value)


def aggregation_explanations(ranking: RankingTable) -> list[tuple[str, str]]:
    """Each aggregation's name, and one sentence on it with its source."""
    return [(a.name, f"{a.explanation} Source: {a.source}.") for a in aggregations(ranking)]


def stability_table(ranking: RankingTable) -> Table | None:
    """One row per variant: its average rank without a task, and how often its neighbour passes it.

    ``None`` where there is neither an omission nor a draw to tell of.
    """
    omissions, draws = without_each_task(ranking), resampled(ranking)
    if not omissions and draws is None:
        return None
    rows = []
    for i, r in enumerate(ranking.ranked):
        cells = [Cell(r.variant, r.variant), Cell(words.rank_text(r.average_rank), r.average_rank)]
        cells += [_omission_cell(o, i) for o in _extremes(omissions, i)]
        share = draws.reversed_pairs[i] if draws and i < len(draws.reversed_pairs) else None
        cells.append(Cell(words.percent(share), share))
        rows.append(tuple(cells))
    ends = ("Lowest without a task", "Highest without a task") if omissions else ()
    columns = ("Variant", "Average rank", *ends, "Passed by the next in")
    return Table(columns, (False, *[True] * (len(columns) - 1)), tuple(rows))


def _extremes(omissions: Sequence[Omission], i: int) -> list[Omission]:
    """The omissions that serve a variant best and worst."""
    if not omissions:
        return []
    return [f(omissions, key=lambda o: o.average_ranks[i]) for f in (min, max)]


def _omission_cell(omission: Omission, i: int) -> Cell:
    rank = omission.average_ranks[i]
    return Cell(words.rank_text(rank), rank, note=f"without {words.clip(omission.task, 40)}")
