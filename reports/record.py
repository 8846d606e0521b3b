"""The numbers of a report for machines: one flat table, and a record with run and pairs.

It must know nothing of pages, figures or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from reports.against_baselines import AgainstBaselines, Margin, Standing
from reports.pairs import Pair
from reports.ranking import IncompleteVariant, RankedVariant, RankingTable
from reports.resampling import Interval
from reports.table import SuiteResults, TaskInfo

FORMAT = "tokenrank-report-2"


def flat_table(
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    against: Sequence[AgainstBaselines] = (),
) -> pl.DataFrame:
    """One row per ranking, variant and task: rank, score, margin, intervals and cost.

    Incomplete variants have null ranks; a missing score is null, never imputed. ``margin`` is
    by how much the variant is better than the task's best baseline.
    """
    margins = {
        (found.ranking.name, standing.variant, margin.task.name): margin
        for found in against
        for standing in found.baselines
        for margin in standing.margins
    }
    rows = []
    for ranking in rankings:
        rows += [
            {
                **_flat_row(ranking, entry, task),
                **_margin(margins.get((ranking.name, entry.variant, task.name))),
            }
            for entry in ranking.entries
            for task in ranking.tasks
        ]
    facts = results.variants.drop("tier")
    return pl.DataFrame(rows, schema=_FLAT_SCHEMA).join(
        facts, on="variant", how="left", maintain_order="left"
    )


_FLAT_SCHEMA: dict[str, pl.DataType] = {
    "ranking": pl.String(),
    "origin": pl.String(),
    "tier": pl.String(),
    "variant": pl.String(),
    "complete": pl.Boolean(),
    "average_rank": pl.Float64(),
    "average_rank_low": pl.Float64(),
    "average_rank_high": pl.Float64(),
    "first": pl.Float64(),
    "significance_tier": pl.Int64(),
    "task": pl.String(),
    "dataset": pl.String(),
    "metric": pl.String(),
    "task_rank": pl.Float64(),
    "score": pl.Float64(),
    "score_low": pl.Float64(),
    "score_high": pl.Float64(),
    "best_baseline": pl.String(),
    "margin": pl.Float64(),
    "margin_low": pl.Float64(),
    "margin_high": pl.Float64(),
    "against_baseline": pl.String(),
}


def _flat_row(
    ranking: RankingTable, entry: RankedVariant | IncompleteVariant, task: TaskInfo
) -> dict[str, Any]:
    score = entry.scores.get(task.name)
    row: dict[str, Any] = {
        "ranking": ranking.name,
        "origin": ranking.origin,
        "tier": entry.tier,
        "variant": entry.variant,
        "complete": isinstance(entry, RankedVariant),
        "task": task.name,
        "dataset": task.dataset,
        "metric": task.metric,
        "score": score.value if score else None,
        **_bounds("score", score.interval if score else None),
    }
    if isinstance(entry, RankedVariant):
        row |= {
            "average_rank": entry.average_rank,
            "first": entry.first,
            "significance_tier": entry.significance_tier,
            "task_rank": entry.ranks[task.name],
            **_bounds("average_rank", entry.interval),
        }
    return row


def _margin(found: Margin | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "best_baseline": found.mark,
        "margin": found.gain,
        **_bounds("margin", found.gain_interval),
        "against_baseline": found.verdict,
    }


def _bounds(name: str, found: Interval | None) -> dict[str, float | None]:
    low, high = (found.low, found.high) if found else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def record(
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    pairs: Sequence[Pair],
    table: pl.DataFrame,
    against: Sequence[AgainstBaselines] = (),
) -> dict[str, Any]:
    """All of it as JSON holds it: the run, the flat table, what is incomplete, pairs, baselines."""
    run = {**asdict(results.run), "versions": dict(results.run.versions)}
    incomplete = [
        {"ranking": ranking.name, "variant": entry.variant, "lacks": list(entry.lacks)}
        for ranking in rankings
        for entry in ranking.incomplete
    ]
    return {
        "format": FORMAT,
        "run": run,
        "resamples": max((ranking.resamples for ranking in rankings), default=0),
        "rows": table.to_dicts(),
        "incomplete": incomplete,
        "pairs": [asdict(pair) for pair in pairs],
        "against_baselines": [
            {"ranking": found.ranking.name, "mark": mark, **_standing(standing)}
            for found in against
            for mark, standings in (("baseline", found.baselines), ("untrained", found.untrained))
            for standing in standings
        ],
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "variant": standing.variant,
        "over_all_tasks": standing.verdict,
        "beats_on_every_task": standing.beats_all,
        "tasks": [{"task": margin.task.name, **_margin(margin)} for margin in standing.margins],
    }
