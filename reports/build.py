"""From results to a folder that can be read, printed and computed with.

The page (HTML and Markdown), the figures (PNG and SVG) and the table (Parquet and JSON)
come from one ranking and one set of bootstrap draws. It must know nothing of where
results come from; the same results give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.against_baselines import against_baselines
from reports.atlas_page import AtlasInWork
from reports.gallery import Gallery, image_files
from reports.io import as_json, as_parquet, write_whole
from reports.page import page
from reports.pairs import compare
from reports.ranking import rank
from reports.record import flat_table, record
from reports.render import render_html, render_markdown
from reports.rendering import Studio
from reports.resampling import RESAMPLES, bootstrap
from reports.table import SuiteResults


@dataclass(frozen=True)
class ReportFiles:
    """Where the parts of a report were written."""

    html: Path
    markdown: Path
    parquet: Path
    json: Path
    figures: tuple[Path, ...]
    atlas: tuple[Path, ...] = ()


def build_report(results: SuiteResults, folder: Path, resamples: int = RESAMPLES) -> ReportFiles:
    """Write the whole report into a folder, which is made if need be; pages come last.

    Raises ``ValueError`` when the tables contradict each other (see `reports.resampling`);
    an ``OSError`` of the disk passes, leaving no half-written file.
    """
    scores = bootstrap(results, resamples)
    rankings, pairs = rank(results, scores=scores), compare(results, scores)
    against = against_baselines(results, rankings, scores)
    with Studio() as studio:
        gallery = Gallery(studio)
        content = page(gallery, results, rankings, pairs, against)
        atlas = AtlasInWork(studio, results.atlas, content.title) if results.atlas else None
        plates = gallery.plates()
        folder.mkdir(parents=True, exist_ok=True)
        atlas_files = atlas.write(folder) if atlas else ()

    paths = tuple(write_whole(folder / name, raw) for name, raw in image_files(plates))
    table = flat_table(results, rankings, against)
    whole = record(results, rankings, pairs, table, against)
    return ReportFiles(
        parquet=write_whole(folder / "results.parquet", as_parquet(table)),
        json=write_whole(folder / "results.json", as_json(whole)),
        markdown=write_whole(folder / "report.md", render_markdown(content)),
        html=write_whole(folder / "report.html", render_html(content, plates)),
        figures=paths,
        atlas=atlas_files,
    )
