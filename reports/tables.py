"""The tables of a report, cell by cell: text to show, key to sort by, tone to colour.

Pure functions of rankings and pairs. It must know nothing of HTML or Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import words
from reports.pairs import VERDICT_ORDER, Pair
from reports.ranking import RankingTable, Score
from reports.table import SuiteResults


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


def ranking_table(results: SuiteResults, ranking: RankingTable) -> Table:
    """One row per variant, incomplete ones last; what a reader compares stands first."""
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    lines = []
    for r in ranking.ranked:
        spread = words.spans(r.interval, "rank") if r.interval else ""
        head = [
            Cell(r.variant, r.variant),
            Cell(words.rank_text(r.average_rank), r.average_rank, note=spread),
            Cell(words.whole(r.significance_tier), r.significance_tier),
            Cell(words.percent(r.first), r.first),
        ]
        lines.append((*head, *_row_tail(ranking, r.scores, rows[r.variant])))
    for i in ranking.incomplete:
        head = [Cell(i.variant, i.variant), Cell("incomplete", None, "muted")]
        head += [Cell(words.NO_VALUE)] * 2
        lines.append((*head, *_row_tail(ranking, i.scores, rows[i.variant])))
    tasks = [f"{words.clip(t.name, 40)} ({t.metric})" for t in ranking.tasks]
    mixed = len(ranking.tiers) > 1
    columns = ("Variant", "Average rank", "Significance tier", "First in", "MACs", *tasks)
    last = ("Tokens", "Attention-blind MACs", "Parameters", "Scheme", *["Weights"] * mixed)
    numeric = (False, *[True] * (len(columns) + 2), *[False] * (1 + mixed))
    return Table((*columns, *last), numeric, tuple(lines))


def _row_tail(
    ranking: RankingTable, scores: Mapping[str, Score], row: Mapping[str, Any]
) -> list[Cell]:
    macs, *costs = _cost_cells(row)
    weights = [Cell(row["tier"], row["tier"])] if len(ranking.tiers) > 1 else []
    return [macs, *_score_cells(ranking, scores), *costs, *weights]


def _score_cells(ranking: RankingTable, scores: Mapping[str, Score]) -> list[Cell]:
    cells = []
    for task in ranking.tasks:
        found = scores.get(task.name)
        if found is None:
            cells.append(Cell("missing", None, "muted"))
        else:
            spread = words.spans(found.interval) if found.interval else ""
            cells.append(Cell(words.score(found.value), found.value, note=spread))
    return cells


def _cost_cells(row: Mapping[str, Any]) -> list[Cell]:
    """MACs, tokens, attention-blind MACs, parameters, scheme."""
    blind = None
    if row["macs"] is not None and row["macs_attention"] is not None:
        blind = row["macs"] - row["macs_attention"]
    groups = words.number(row["groups"], "group") if row["groups"] is not None else ""
    return [
        Cell(words.quantity(row["macs"]), row["macs"]),
        Cell(words.count(row["tokens"]), row["tokens"]),
        Cell(words.quantity(blind), blind),
        Cell(words.quantity(row["params"]), row["params"]),
        Cell(row["scheme"] or words.NO_VALUE, row["scheme"], note=groups),
    ]


def cost_table(pairs: Sequence[Pair]) -> Table | None:
    """Every pair: how many times fewer tokens and MACs, and how its scores fare."""
    if not pairs:
        return None
    columns = ("Candidate", "against", "Comparison", "Weights", "Tokens", "MACs")
    last = ("MACs, attention-blind", "Worse", "Not separated", "Better")
    ordered = sorted(pairs, key=lambda p: ("version", "scheme", "recipe").index(p.kind))
    rows = tuple(
        (
            Cell(p.candidate, p.candidate),
            Cell(p.reference, p.reference),
            Cell(_KINDS[p.kind], p.kind),
            Cell(p.tier, p.tier),
            Cell(words.ratio(p.token_ratio), p.token_ratio),
            Cell(words.ratio(p.macs_ratio), p.macs_ratio),
            Cell(words.ratio(p.macs_ratio_blind), p.macs_ratio_blind),
            Cell(str(p.count("worse")), p.count("worse"), "bad" if p.count("worse") else ""),
            Cell(str(p.count("not separated")), p.count("not separated")),
            Cell(str(p.count("better")), p.count("better"), "good" if p.count("better") else ""),
        )
        for p in ordered
    )
    return Table((*columns, *last), (False,) * 4 + (True,) * 6, rows)


_KINDS = {
    "version": "later version",
    "scheme": "other token scheme",
    "recipe": "same scheme, later version",
}
_TONES = {"worse": "bad", "better": "good"}


def difference_table(results: SuiteResults, pairs: Sequence[Pair]) -> Table | None:
    """Every pair on every shared task, regressions first, the largest first."""
    origins = {task.name: task.origin for task in results.run.tasks}
    up = {task.name: task.higher_is_better for task in results.run.tasks}
    found = [(pair, d) for pair in pairs for d in pair.differences]
    if not found:
        return None
    found.sort(
        key=lambda pd: (
            VERDICT_ORDER.index(pd[1].verdict),
            pd[1].value if up[pd[1].task] else -pd[1].value,
        )
    )
    rows = tuple(
        (
            Cell(pair.candidate, pair.candidate),
            Cell(pair.reference, pair.reference),
            Cell(d.task, d.task, note=f"{origins[d.task]} data, {pair.tier} weights"),
            Cell(words.signed(d.value), d.value),
            Cell(words.spans(d.interval, "signed"), d.interval.low if d.interval else None),
            Cell(d.verdict, VERDICT_ORDER.index(d.verdict), _TONES.get(d.verdict, "")),
            Cell(words.score(d.reference), d.reference),
            Cell(words.score(d.candidate), d.candidate),
        )
        for pair, d in found
    )
    columns = ("Candidate", "against", "Task", "Difference", "95% interval", "Verdict")
    numeric = (False, False, False, True, True, False, True, True)
    return Table((*columns, "Reference scores", "Candidate scores"), numeric, rows)


def task_table(results: SuiteResults) -> Table:
    """What each task measures, on what."""
    columns = ("Task", "Data set", "Origin", "Metric", "Probe and settings", "Input", "Patch size")
    rows = tuple(
        (
            Cell(t.name, t.name),
            Cell(t.title, t.title, note=t.licence),
            Cell(t.origin, t.origin, "" if t.origin == "real" else "bad"),
            Cell(t.metric, t.metric, note="" if t.higher_is_better else "lower is better"),
            Cell(t.protocol, t.protocol),
            Cell(f"{t.height} x {t.width}, T = {t.steps}", t.height * t.width * t.steps),
            Cell(str(t.patch_size) if t.patch_size else words.NO_VALUE, t.patch_size),
            Cell(f"{t.n_train:,} / {t.n_val:,} / {t.n_test:,}", t.n_train),
        )
        for t in results.run.tasks
    )
    return Table((*columns, "Train / val / test"), (False,) * 5 + (True,) * 3, rows)


def weights_table(results: SuiteResults) -> Table:
    """Tier, licence and hash of every variant's weights."""
    rows = tuple(
        (
            Cell(row["variant"], row["variant"]),
            Cell(row["tier"] or words.NO_VALUE, row["tier"]),
            Cell(row["licence"] or words.NO_VALUE, row["licence"]),
            Cell(row["weights_hash"] or words.NO_VALUE, row["weights_hash"], "code"),
        )
        for row in results.variants.to_dicts()
    )
    return Table(("Variant", "Weights", "Licence", "Hash of the weights"), (False,) * 4, rows)
