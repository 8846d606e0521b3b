"""The tables of a report, cell by cell: text to show, key to sort by, tone to colour.

Pure functions of rankings and pairs. It must know nothing of HTML or Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import words
from reports.ranking import RankingTable, Score
from reports.table import SuiteResults, TaskInfo


@dataclass(frozen=True)
class Cell:
    """One table cell; ``key`` is what its column sorts by, ``tone`` how it is coloured."""

    text: str
    key: float | str | None = None
    tone: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; ``numeric`` columns align right."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


TASKS_BESIDE_THE_RANKS = 3
"""More tasks than this get tables of their own: a page is only so wide, on paper above all."""
_TASKS_PER_TABLE = 5
COST_COLUMNS = (
    *("MACs", "Tokens", "Attention-blind MACs", "GFLOPs as published", "Parameters", "Scheme"),
)


def ranking_table(results: SuiteResults, ranking: RankingTable) -> Table:
    """One row per variant, incomplete ones last; what a reader compares stands first."""
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    tasks = ranking.tasks if len(ranking.tasks) <= TASKS_BESIDE_THE_RANKS else ()
    lines = []
    for r in ranking.ranked:
        spread = words.spans(r.interval, "rank") if r.interval else ""
        head = [
            Cell(r.variant, r.variant),
            Cell(words.rank_text(r.average_rank), r.average_rank, note=spread),
            Cell(words.whole(r.significance_tier), r.significance_tier),
            Cell(words.percent(r.first), r.first),
        ]
        lines.append((*head, *_row_tail(ranking, tasks, r.scores, rows[r.variant])))
    for i in ranking.incomplete:
        if not i.scores:  # not run at all: said beneath, with its reason
            continue
        head = [Cell(i.variant, i.variant), Cell("incomplete", None, "muted")]
        head += [Cell(words.NO_VALUE)] * 2
        lines.append((*head, *_row_tail(ranking, tasks, i.scores, rows[i.variant])))
    macs, *last = COST_COLUMNS
    columns = ("Variant", "Average rank", "Significance tier", "First in", macs)
    numeric = (False, *[True] * (len(columns) + len(tasks) + 3), False, False)
    everything = (*columns, *task_columns(tasks), *last, "Weights")
    return without_empty_columns(Table(everything, numeric, tuple(lines)))


def score_tables(ranking: RankingTable) -> tuple[Table, ...]:
    """Scores of every variant, a few tasks per table; none where the ranking holds them."""
    tasks = ranking.tasks
    if len(tasks) <= TASKS_BESIDE_THE_RANKS:
        return ()
    found = {r.variant: r.scores for r in ranking.ranked}
    found |= {i.variant: i.scores for i in ranking.incomplete}
    blocks = [tasks[i : i + _TASKS_PER_TABLE] for i in range(0, len(tasks), _TASKS_PER_TABLE)]
    return tuple(
        Table(
            ("Variant", *task_columns(block)),
            (False, *[True] * len(block)),
            tuple(
                (Cell(name, name), *score_cells(block, scores)) for name, scores in found.items()
            ),
        )
        for block in blocks
    )


def without_empty_columns(table: Table) -> Table:
    """The table without the columns that have no value in any row."""
    kept = [
        c
        for c in range(len(table.columns))
        if any(row[c].text not in ("", words.NO_VALUE) for row in table.rows)
    ]
    return Table(
        tuple(table.columns[c] for c in kept),
        tuple(table.numeric[c] for c in kept),
        tuple(tuple(row[c] for c in kept) for row in table.rows),
    )


def task_columns(tasks: Sequence[TaskInfo]) -> list[str]:
    """Headings of columns of scores."""
    return [f"{words.clip(t.name, 40)} ({words.clip(t.metric_and_unit, 40)})" for t in tasks]


def _row_tail(
    ranking: RankingTable,
    tasks: Sequence[TaskInfo],
    scores: Mapping[str, Score],
    row: Mapping[str, Any],
) -> list[Cell]:
    macs, *costs = cost_cells(row)
    shown = len(ranking.tiers) > 1 or row["recipe"]
    weights = weights_cell(row) if shown else Cell("")
    return [macs, *score_cells(tasks, scores), *costs, weights]


def weights_cell(row: Mapping[str, Any]) -> Cell:
    """A variant's tier, and the recipe of its study weights."""
    note = f"recipe {row['recipe']}" if row["recipe"] else ""
    return Cell(row["tier"] or words.NO_VALUE, row["tier"], note=note)


def score_cells(tasks: Sequence[TaskInfo], scores: Mapping[str, Score]) -> list[Cell]:
    """A variant's score on each task, with its interval beneath."""
    cells = []
    for task in tasks:
        found = scores.get(task.name)
        if found is None:
            cells.append(Cell("missing", None, "muted"))
        else:
            spread = words.spans(found.interval) if found.interval else ""
            cells.append(Cell(words.score(found.value), found.value, note=spread))
    return cells


def blind_macs(row: Mapping[str, Any]) -> float | None:
    """A variant's MACs without attention's two products, if both are known."""
    if row["macs"] is None or row["macs_attention"] is None:
        return None
    return float(row["macs"] - row["macs_attention"])


def cost_cells(row: Mapping[str, Any]) -> list[Cell]:
    """What the `COST_COLUMNS` hold of a variant."""
    blind = blind_macs(row)
    groups = words.number(row["groups"], "group") if row["groups"] is not None else ""
    return [
        Cell(words.quantity(row["macs"]), row["macs"]),
        Cell(words.count(row["tokens"]), row["tokens"]),
        Cell(words.quantity(blind), blind),
        Cell(words.gflops(row["published_gflops"]), row["published_gflops"]),
        Cell(words.quantity(row["params"]), row["params"]),
        Cell(row["scheme"] or words.NO_VALUE, row["scheme"], note=groups),
    ]


def _licence_words(licence: str) -> str:
    return f"licence {licence}" if licence == "not stated" else licence


def task_table(results: SuiteResults) -> Table:
    """What each task measures, on what."""
    columns = ("Task", "Data set", "Origin", "Metric", "Probe and settings", "Input", "Patch size")
    rows = tuple(
        (
            Cell(t.name, t.name),
            Cell(t.title, t.title, note=_licence_words(t.licence)),
            Cell(t.origin, t.origin, "" if t.origin == "real" else "bad"),
            Cell(t.metric_and_unit, t.metric, note="" if t.higher_is_better else "lower is better"),
            Cell(t.protocol, t.protocol),
            Cell(f"{t.height} x {t.width}, T = {t.steps}", t.height * t.width * t.steps)
            if t.height
            else Cell(words.NO_VALUE),
            Cell(str(t.patch_size), t.patch_size) if t.patch_size else Cell(words.NO_VALUE),
            Cell(f"{t.n_train:,} / {t.n_val:,} / {t.n_test:,}", t.n_train)
            if t.n_test
            else Cell(words.NO_VALUE),
        )
        for t in results.run.tasks
    )
    table = Table((*columns, "Train / val / test"), (False,) * 5 + (True,) * 3, rows)
    return without_empty_columns(table)


def weights_table(results: SuiteResults) -> Table:
    """Tier, licence and hash of every variant's weights."""
    rows = tuple(
        (
            Cell(row["variant"], row["variant"]),
            weights_cell(row),
            Cell(row["licence"] or words.NO_VALUE, row["licence"]),
            Cell(row["weights_hash"] or words.NO_VALUE, row["weights_hash"], "code"),
        )
        for row in results.variants.to_dicts()
    )
    columns = ("Variant", "Weights", "Licence", "Hash of the weights")
    return without_empty_columns(Table(columns, (False,) * 4, rows))
