"""From results to a folder that can be read, printed and computed with.

The page (HTML and Markdown), the figures (PNG and SVG) and the table (Parquet and JSON)
come from one ranking and one set of bootstrap draws. It must know nothing of where
results come from; the same results give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import polars as pl

from reports import dotplot, figures, look, words
from reports.io import as_json, as_parquet, write_whole
from reports.page import Figure, Page, page
from reports.pairs import Pair, compare
from reports.ranking import IncompleteVariant, RankedVariant, RankingTable, rank
from reports.resampling import RESAMPLES, Interval, bootstrap
from reports.table import SuiteResults, TaskInfo

FORMAT = "tokenrank-report-1"
_POINTS_ON_A_PHONE, _DOTS_ON_A_PHONE = 24, 120
"""A figure with more marks gets no narrow version: a phone scrolls the wide one sideways."""


@dataclass(frozen=True)
class ReportFiles:
    """Where the parts of a report were written."""

    html: Path
    markdown: Path
    parquet: Path
    json: Path
    figures: tuple[Path, ...]


def build_report(results: SuiteResults, folder: Path, resamples: int = RESAMPLES) -> ReportFiles:
    """Write the whole report into a folder, which is made if need be; pages come last.

    Raises ``ValueError`` when the tables contradict each other (see `reports.resampling`);
    an ``OSError`` of the disk passes, leaving no half-written file.
    """
    scores = bootstrap(results, resamples)
    rankings, pairs = rank(results, scores=scores), compare(results, scores)
    drawn = {ranking.name: list(_draw(results, ranking)) for ranking in rankings}
    images = [image for parts in drawn.values() for _, files in parts for image in files]
    shown = {name: [figure for figure, _ in parts] for name, parts in drawn.items()}
    content = page(results, rankings, pairs, shown)

    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(write_whole(folder / name, raw) for name, raw in images)
    table = flat_table(results, rankings)
    record = _record(results, rankings, pairs, table)
    return ReportFiles(
        parquet=write_whole(folder / "results.parquet", as_parquet(table)),
        json=write_whole(folder / "results.json", as_json(record)),
        markdown=write_whole(folder / "report.md", render_markdown(content)),
        html=write_whole(folder / "report.html", render_html(content)),
        figures=paths,
    )


# --- figures ----------------------------------------------------------------------------


def _draw(
    results: SuiteResults, ranking: RankingTable
) -> Iterator[tuple[Figure, list[tuple[str, bytes]]]]:
    """Each figure of a ranking, with its image files."""
    stem = re.sub(r"[^a-z0-9_]+", "_", ranking.name.lower())
    state = words.status(ranking.tiers, ranking.origin)
    whiskers = "bars are 95% intervals; " if ranking.draws is not None else ""
    dots = len(ranking.tasks) * (len(ranking.ranked) + len(ranking.incomplete))
    kinds = (
        (
            f"cost_rank_{stem}",
            figures.cost_rank_chart,
            "MACs per sample (attention included, log axis) against average rank (1, at the top, "
            f"is best); {whiskers}dashed: the Pareto front; what lies on or below it, right of a "
            "corner, is matched or beaten at lower cost. Variants of equal cost are drawn side by "
            "side.",
            f"Scatter plot of average rank against MACs. {state}.",
            len(ranking.ranked) <= _POINTS_ON_A_PHONE,
        ),
        (
            f"task_scores_{stem}",
            dotplot.task_scores_chart,
            "Score of each variant on each task with its 95% interval, in the order of the "
            "average rank. Overlapping intervals do not mean a tie: differences are paired.",
            f"Dot plots of the scores per task. {state}.",
            dots <= _DOTS_ON_A_PHONE,
        ),
    )
    for name, chart, caption, alt, fits_a_phone in kinds:
        wide = chart(results, ranking, look.WIDE)
        if wide is None:
            continue
        svg = look.to_svg(wide)
        slim = chart(results, ranking, look.NARROW) if fits_a_phone else None
        figure = Figure(name, caption, alt, svg, look.to_svg(slim) if slim else "")
        yield figure, [(f"{name}.svg", svg.encode()), (f"{name}.png", look.to_png(svg))]


# --- pages ------------------------------------------------------------------------------


def render_html(content: Page) -> str:
    """One self-contained file: no script, style, font or image from elsewhere."""
    return _environment(autoescape=True).get_template("report.html.j2").render(page=content)


def render_markdown(content: Page) -> str:
    """Markdown as code hosts render it, with the figures beside it."""
    return _environment(autoescape=False).get_template("report.md.j2").render(page=content)


def _environment(autoescape: bool) -> jinja2.Environment:
    def source(name: str) -> str | None:
        found = resources.files("reports").joinpath("templates", name)
        return found.read_text(encoding="utf-8") if found.is_file() else None

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_text
    environment.globals["asset"] = source
    return environment


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no line or cell break."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line)


# --- the machine-readable table ---------------------------------------------------------


def flat_table(results: SuiteResults, rankings: Sequence[RankingTable]) -> pl.DataFrame:
    """One row per ranking, variant and task: rank, score, intervals and cost.

    Incomplete variants have null ranks; a missing score is null, never imputed.
    """
    rows = []
    for ranking in rankings:
        entries: list[RankedVariant | IncompleteVariant] = [*ranking.ranked, *ranking.incomplete]
        rows += [_flat_row(ranking, entry, task) for entry in entries for task in ranking.tasks]
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


def _bounds(name: str, found: Interval | None) -> dict[str, float | None]:
    low, high = (found.low, found.high) if found else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _record(
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    pairs: Sequence[Pair],
    table: pl.DataFrame,
) -> dict[str, Any]:
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
    }
