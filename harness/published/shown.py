"""Imported tables and their rankings as a person sees them in the terminal.

Numbers come ready-made; nothing is decided here. It must know nothing of files or MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from harness import terminal
from harness.published.library import Imported
from reports import words
from reports.pairs import Pair
from reports.ranking import RankingTable
from reports.table import SuiteResults


def told(imported: Imported) -> list[str]:
    """What became of a file's rows, one line each; contradictions are named one by one."""
    source = imported.source
    lines = [
        f"{source.name}: {source.format} format, {source.rows:,} rows, {source.results:,} results"
        + (f", {source.costs:,} rows of costs" if source.costs else "")
        + f"; licence: {source.licence}."
    ]
    if source.exact_duplicates:
        lines.append(f"{words.number(source.exact_duplicates, 'exact duplicate')} dropped.")
    if source.repeated:
        lines.append(f"{source.repeated} repeated with equal scores, dropped.")
    if source.ignored:
        lines.append(f"Columns that are not known and not read: {', '.join(source.ignored)}.")
    if source.conflicting_costs:
        lines.append(f"{source.conflicting_costs} costs stated twice differently are not used.")
    if source.conflicts:
        fate = "the first counts" if source.duplicates == "first" else "they are ranked nowhere"
        stand = words.number(len(source.conflicts), "result")
        lines.append(f"{stand} given twice with contradicting values; {fate}:")
        for conflict in source.conflicts:
            where = ", ".join(str(line) for line in conflict.lines)
            scores = " and ".join(f"{score:.4g}" for score in conflict.scores)
            lines.append(
                f"  {conflict.model} on {conflict.dataset}, {conflict.probe}: {scores} "
                f"({source.place}s {where})"
            )
    return [" ".join(line.split()) if not line.startswith(" ") else line for line in lines]


def ranking_table(table: RankingTable, results: SuiteResults) -> Table:
    """Average ranks and costs; the scores are too many for a terminal, and in the report."""
    rows = {row["variant"]: row for row in results.variants.iter_rows(named=True)}
    lines: list[tuple[str, ...]] = []
    for entry in table.ranked:
        row = rows[entry.variant]
        spread = f"{entry.interval.low:.1f}–{entry.interval.high:.1f}" if entry.interval else ""
        gflops = row["published_gflops"]
        lines.append(
            (
                escape(words.clip(entry.variant, 34)),
                f"{entry.average_rank:.2f}",
                spread,
                str(entry.significance_tier or ""),
                "" if gflops is None else f"{gflops:,.1f}",
                "" if row["macs"] is None else words.quantity(row["macs"]),
            )
        )
    headers: tuple[str, ...] = (
        "model",
        "average\nrank",
        "95%",
        "ties",
        "GFLOPs as\npublished",
        "MACs",
    )
    if not any(line[-1] for line in lines):
        headers, lines = headers[:-1], [line[:-1] for line in lines]
    return terminal.plain_table(headers, lines, 1)


def heading(table: RankingTable) -> str:
    """What kind of numbers the table below holds."""
    state = table.status
    return f"{state}; {words.number(len(table.tasks), 'task')}"


def verdicts(pairs: Sequence[Pair], results: SuiteResults) -> list[str]:
    """Wins, ties and losses of every later version, how many are separated, and the cost."""
    costs = dict(results.variants.select("variant", "published_gflops").iter_rows())
    sign = {task.name: 1 if task.higher_is_better else -1 for task in results.run.tasks}
    lines = []
    for pair in pairs:
        if pair.kind != "version":
            continue
        won = sum(sign[d.task] * d.value > 0 for d in pair.differences)
        lost = sum(sign[d.task] * d.value < 0 for d in pair.differences)
        tied = len(pair.differences) - won - lost
        lines.append(
            f"{pair.candidate} against {pair.reference}: {won} won, {tied} tied, {lost} lost; "
            f"separated by their intervals: {pair.count('better')} better, {pair.count('worse')} "
            f"worse{_cheaper(costs[pair.reference], costs[pair.candidate])}."
        )
    return lines


def _cheaper(reference: float | None, candidate: float | None) -> str:
    if not reference or not candidate:
        return ""
    return f"; GFLOPs as published {words.ratio(reference / candidate)} fewer"
