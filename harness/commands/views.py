"""`tokenrank report`, `sync` and `ui`: other ways to look at finished runs.

They read the store and write views of it; no result can change here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import URI_VARIABLE, publish, tracking_uri
from models.errors import UserError, did_you_mean
from reports.io import ResultsError, load_results
from reports.table import SuiteResults


def report_command(suite: str | None, store: Path, results: Path | None, out: Path) -> None:
    """Build a report from a run in the store, or from a folder of saved results."""
    from reports.build import build_report  # noqa: PLC0415

    table = latest_results(Store(store), suite) if results is None else _results(results)
    try:
        files = build_report(table, out)
    except OSError as error:
        raise UserError(
            f"The report cannot be written to {out} ({error.strerror or error}); make room there "
            "or choose another folder with --out."
        ) from None
    Console().print(f"Report: {files.html}", soft_wrap=True, highlight=False, markup=False)


def sync_command(store: Path) -> None:
    """Publish every run of the store that the tracking server does not have yet."""
    console = Console()
    kept = Store(store)
    runs = _runs(kept)
    if not runs:
        raise UserError(f"The store {store} holds no finished run; run a suite first.")
    failed = 0
    for manifest, folder in runs:
        published = publish(_results(folder / "results"), manifest, kept, folder / "report")
        words = "mirrored now" if published.fresh else "already there"
        if not published.done:
            failed += 1
            words = f"not mirrored: {published.reason}"
        console.print(
            f"{manifest.suite} {manifest.run_key[:8]}: {words}", highlight=False, markup=False
        )
    if failed:
        raise UserError(f"{failed} of {len(runs)} runs could not be mirrored; try again later.")


def ui_command(store: Path, port: int) -> None:
    """Start the MLflow UI on loopback and stay until it is stopped."""
    uri = os.environ.get(URI_VARIABLE)
    if uri and uri.startswith(("http://", "https://")):
        Console().print(f"The tracking server is at {uri}; open it in a browser.")
        return
    if not uri and not (store / "mlflow.db").exists():
        raise UserError(
            f"The store {store} holds no tracking database; run a suite first, or give --store."
        )
    Console().print(f"MLflow UI: http://127.0.0.1:{port} (stop it with Ctrl-C)")
    arguments = ["ui", "--backend-store-uri", tracking_uri(Store(store)), "--host", "127.0.0.1"]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *arguments, "--port", str(port)], check=False
    )
    sys.exit(done.returncode)


def _runs(store: Store) -> list[tuple[Manifest, Path]]:
    """Finished runs, oldest first."""
    folders = [p.parent for p in (store.root / "runs").glob("*/manifest.json")]
    # Results are complete once their run.json, which is written last, is there.
    finished = [f for f in folders if (f / "results" / "run.json").is_file()]
    finished.sort(key=lambda f: (f / "manifest.json").stat().st_mtime_ns)
    return [(_manifest(f / "manifest.json"), f) for f in finished]


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(
            f"{path} is damaged or of another version; remove the folder {path.parent} and run "
            "the suite again: its cells are kept."
        ) from None


def _results(folder: Path) -> SuiteResults:
    try:
        return load_results(folder)
    except ResultsError as error:
        raise UserError(str(error)) from None


def latest_results(store: Store, suite: str | None) -> SuiteResults:
    """Results of the latest finished run, of one suite or of all; `UserError` without any."""
    runs = _runs(store)
    if suite is not None:
        names = {manifest.suite for manifest, _ in runs}
        if names and suite not in names:
            hint = did_you_mean(suite, names)
            raise UserError(f'The store {store.root} holds no run of "{suite}": {hint}.')
        runs = [run for run in runs if run[0].suite == suite]
    if not runs:
        raise UserError(f"The store {store.root} holds no finished run; run a suite first.")
    return _results(runs[-1][1] / "results")
