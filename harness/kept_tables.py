"""The tables of a finished run, taken from its folder instead of ten thousand cells.

What a run saved beside its report holds the rows of all its cells. They are taken when nothing has
been written to any cell's files since, the code that makes rows of cells is the same, and the saved
files are what was saved; else the cells are read. Where cells are kept elsewhere, their files there
are as good: a machine without a copy of them fetches none. It must know nothing of how rows are
made.
"""

from __future__ import annotations

from pathlib import Path

from harness.cell_tables import COSTS, CellTables, in_order, standings
from harness.content import code_version, content_key, package_versions
from harness.plan import Plan
from harness.store import Store, file_sha256
from reports.io import ResultsError, load_table, scan_samples

# Notes of cells' files: those on this machine, and those elsewhere. To check the second costs
# requests.
_HERE, _THERE = "tables", "tables-there"
_NAMES = ("scores", "trials", "samples")
_CODE = (
    "harness.cell_tables",
    "harness.kept_tables",
    "harness.metrics.catalogue",
    "harness.metrics.metric",
    "harness.store",
    "reports.io",
    "reports.table",
)


def kept_tables(plan: Plan, store: Store) -> CellTables | None:
    """Tables in the plan's order, samples to be read from their file; None when in any doubt.

    The run's folder is at hand.
    """
    if not are_kept(plan, store):
        return None
    folder, order = _folder(plan, store), standings(plan)
    try:
        scores = in_order(load_table(folder, "scores").drop(COSTS), order)
        trials = in_order(load_table(folder, "trials"), order, "number")
        return CellTables(scores, trials, scan_samples(folder), frozenset())
    except ResultsError:
        return None


def are_kept(plan: Plan, store: Store) -> bool:
    """Whether the run's folder holds the rows of all cells as they are now: none is missing."""
    return any(_is_noted(plan, store, kind) for kind in (_HERE, _THERE))


def keep_tables(plan: Plan, store: Store) -> None:
    """Note that the run's folder holds the rows of all cells as they are now."""
    files = tables_hashes(_folder(plan, store))
    for kind in (_HERE, _THERE):
        mark = _mark(plan, store, kind)
        if mark is not None:
            store.cache(kind, plan.key[:32], {"mark": mark, "files": files})


def tables_hashes(folder: Path) -> dict[str, str]:
    """Hashes of the saved tables that only cells fill; "" for one that is not there."""
    paths = {name: folder / f"{name}.parquet" for name in _NAMES}
    return {name: file_sha256(path) if path.exists() else "" for name, path in paths.items()}


def _is_noted(plan: Plan, store: Store, kind: str) -> bool:
    kept = store.cached(kind, plan.key[:32])
    if not isinstance(kept, dict) or kept.get("mark") is None:
        return False
    if kept.get("files") != tables_hashes(_folder(plan, store)):
        return False
    return bool(kept["mark"] == _mark(plan, store, kind))


def _folder(plan: Plan, store: Store) -> Path:
    return store.run_folder(plan.key) / "results"


def _mark(plan: Plan, store: Store, kind: str) -> str | None:
    """Changes with the cells' files, with the names of their rows, and with the code."""
    keys = [cell.key for cell in plan.cells]
    files = store.cells_mark(keys) if kind == _HERE else store.cells_mark_there(keys)
    if files is None:
        return None
    return content_key(
        {
            "files": files,
            "rows": [list(each) for each in standings(plan)],
            "code": code_version(_CODE),
            "packages": package_versions(["polars"]),
        }
    )
