"""A suite run from start to end: plan, compute what is missing, rank, report, track.

This is the one place that knows the order of things. It computes nothing itself and
prints nothing: `Watcher` is told what happens, and the terminal shows it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.cell_tables import streamed_tables_of
from harness.content import content_key, package_versions, reports_version
from harness.estimates import Expected, remembered
from harness.kept_tables import keep_tables, kept_tables, tables_hashes
from harness.plan import Cell, Places, Plan, make_plan
from harness.provenance import MANIFEST, load_or_create_manifest
from harness.results import collect, results_digest
from harness.store import Store, run_name, write_json
from harness.suite import Suite
from harness.tracking import warm_up
from reports.io import ResultsError, load_results, save_results, scan_samples
from reports.table import SuiteResults

REPORT_PACKAGES = ("altair", "vl-convert-python", "jinja2", "polars", "numpy")


class Watcher(Protocol):
    """Told how a run goes; the terminal and tests implement it."""

    def planned(self, plan: Plan, to_do: list[Cell]) -> None:
        """The plan stands; ``to_do`` are the cells without a result."""

    def started(self, cell: Cell) -> None:
        """A cell begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """How far the current cell's current stage is."""

    def finished(self, cell: Cell, score: float) -> None:
        """A cell is stored."""


@dataclass
class Seconds:
    """Wall time of a run and of its two real workloads, for the overhead figure.

    ``workers``: the workloads are those of several processes, side by side.
    """

    total: float = 0.0
    encoder: float = 0.0
    probe: float = 0.0
    workers: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the table, the report's folder, and where the time went."""

    plan: Plan
    results: SuiteResults
    report: Path
    computed: int
    seconds: Seconds = field(default_factory=Seconds)
    expected: Expected | None = None  # where `tokenrank plan` was asked before
    broken: Mapping[str, str] = field(default_factory=dict)  # cells that could not be computed
    remade: Sequence[str] = ()  # embeddings that were found damaged


Compute = Callable[[Plan, list[Cell], Store, Watcher, Seconds], Mapping[str, str]]


def run_suite(
    suite: Suite,
    places: Places,
    store: Store,
    command: str,
    watch: Watcher,
    compute: Compute | None = None,
) -> Outcome:
    """Run a suite to its report. Finished cells are taken from the store.

    ``compute`` has other processes do it, and returns the reasons of cells that they could not
    compute; without it cells are computed here, one after another.
    """
    started = time.perf_counter()
    store.prepare()
    plan = make_plan(suite, places, watch.progress)
    distinct = {cell.key: cell for cell in plan.cells}.values()
    store.fetch_folder(run_name(plan.key))
    kept = kept_tables(plan, store)
    if not kept:
        store.fetch_cells(cell.key for cell in distinct)
    to_do = [] if kept else [cell for cell in distinct if not store.has_cell(cell.key)]
    watch.planned(plan, to_do)
    manifest = load_or_create_manifest(store, plan, command)
    store.keep_once(f"{run_name(plan.key)}/{MANIFEST}")
    seconds = Seconds()
    broken: Mapping[str, str] = {}
    if to_do and compute:
        _warm_up(store)
        broken = compute(plan, to_do, store, watch, seconds)
        store.fetch_cells(cell.key for cell in to_do)
    elif to_do:
        compute_cells(plan, to_do, store, watch, seconds, lambda: _warm_up(store))
    embeddings = {job.key for cell in to_do for job in cell.embeddings}
    remade = store.remade(embeddings) if embeddings else []
    results = collect(plan, store, manifest, kept or streamed_tables_of(plan, store), broken)
    report = write_views(results, store, plan.key)
    if not kept:
        store.keep_folder(run_name(plan.key))
        keep_tables(plan, store)
        results = replace(results, samples=scan_samples(report.parent / "results"))
    seconds.total = time.perf_counter() - started
    computed = len(to_do) - len(broken)
    expected = remembered(store, plan)
    return Outcome(plan, results, report, computed, seconds, expected, broken, remade)


def _warm_up(store: Store) -> None:
    """What the end needs of tracking and of drawing is imported beside the encoders' work."""

    def draw() -> None:
        with contextlib.suppress(Exception):  # it is met again, and told, when it is needed
            import reports.build  # noqa: F401, PLC0415

    warm_up(store)
    threading.Thread(target=draw, daemon=True, name="report-warm-up").start()


def compute_cells(
    plan: Plan,
    to_do: list[Cell],
    store: Store,
    watch: Watcher,
    seconds: Seconds,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Compute cells and store each. ``meanwhile`` starts what may go on beside it."""
    from harness.executors.work import Done, check_first, try_cell, wait_cell  # noqa: PLC0415

    meanwhile()
    check_first(to_do, store)

    def told(done: Done) -> None:
        seconds.encoder += done.seconds.encoder
        seconds.probe += done.seconds.probe
        watch.finished(done.cell, done.score)

    elsewhere = []  # another run on this store has them in work
    for cell in to_do:
        watch.started(cell)
        done = try_cell(plan, cell, store, watch.progress)
        if done is None:
            elsewhere.append(cell)
        else:
            told(done)
    for cell in elsewhere:
        watch.started(cell)
        told(wait_cell(plan, cell, store, watch.progress))


def write_views(results: SuiteResults, store: Store, run_key: str) -> Path:
    """Saved results and the report of a run; left alone when they are current.

    Current means: written from these very results by this very code.
    """
    folder = store.run_folder(run_key)
    stamp_file = folder / "report.json"
    stamp = content_key(
        {
            "results": results_digest(results),
            "code": reports_version(),
            "packages": package_versions(REPORT_PACKAGES),
        }
    )
    if not (_has_stamp(stamp_file, stamp, folder / "results") and _is_whole(folder)):
        from reports.build import build_report  # noqa: PLC0415  (draws; slow to import)

        save_results(results, folder / "results")
        # From here on samples are read from the file: they may be more than memory need hold.
        build_report(replace(results, samples=scan_samples(folder / "results")), folder / "report")
        write_json(stamp_file, {"stamp": stamp, "tables": tables_hashes(folder / "results")})
    return folder / "report"


def _is_whole(folder: Path) -> bool:
    """Whether what was once written is still there and readable."""
    try:
        load_results(folder / "results", scan=True)
    except ResultsError:
        return False
    return (folder / "report" / "report.html").is_file()


def _has_stamp(path: Path, stamp: str, results: Path) -> bool:
    """Whether a report was written from this, and the large tables beside it are as they were."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return bool(found["stamp"] == stamp and found["tables"] == tables_hashes(results))
    except (OSError, ValueError, KeyError):
        return False
