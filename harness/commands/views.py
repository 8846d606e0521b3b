"""`tokenrank report`, `sync` and `ui`: other ways to look at finished runs.

They read the store and write views of it; no result can change here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from harness.mlflow_view.failures import failures, reason, shown_uri
from harness.pretraining.tracked import tracked
from harness.provenance import MANIFEST, Manifest
from harness.store import Store, run_name
from harness.store_place import open_store
from harness.tracking import (
    LOCAL_ARTIFACTS,
    LOCAL_DATABASE,
    URI_VARIABLE,
    TrackingAwayError,
    check_reachable,
    publish,
    quieten,
    tracking_uri,
)
from models import config_file
from models.errors import UserError, did_you_mean
from reports.io import ResultsError, load_results
from reports.table import SuiteResults


def report_command(
    suite: str | None, store: str, results: Path | None, out: Path, mlflow_uri: str | None = None
) -> None:
    """Build a report from a run in the store, from saved results, or from a tracking server."""
    from reports.build import build_report  # noqa: PLC0415

    if mlflow_uri is not None:
        table = _from_mlflow(mlflow_uri, _name_of(suite))
    else:
        table = latest_results(open_store(store), suite) if results is None else _results(results)
    try:
        files = build_report(table, out)
    except OSError as error:
        raise UserError(
            f"The report cannot be written to {out} ({error.strerror or error}); make room there "
            "or choose another folder with --out."
        ) from None
    Console().print(f"Report: {files.html}", soft_wrap=True, highlight=False, markup=False)


def sync_command(store: str) -> None:
    """Publish every run of the store that the tracking server does not have yet.

    Trainings that it knows and nobody closed are closed, if they are done or abandoned.
    """
    console = Console()
    kept = open_store(store)
    runs = _runs(kept)
    trainings = tracked(kept)
    if not runs and not trainings:
        raise UserError(f"The store {store} holds no finished run; run a suite first.")
    failed = 0
    for manifest, folder in runs:
        kept.fetch_folder(run_name(manifest.run_key))
        results = _results(folder / "results")
        published = publish(results, manifest, kept, folder / "report", ask=True)
        words = "mirrored now" if published.fresh else "already there"
        if not published.done:
            failed += 1
            words = f"not mirrored: {published.reason}"
        console.print(
            f"{manifest.suite} {manifest.run_key[:8]}: {words}", highlight=False, markup=False
        )
    for training in trainings:
        from harness.pretraining.closing import sync  # noqa: PLC0415  (torch loads)

        is_well, words = sync(kept, training)
        failed += not is_well
        console.print(f"{training.training.title}: {words}", highlight=False, markup=False)
    if failed:
        count = len(runs) + len(trainings)
        raise UserError(f"{failed} of {count} runs could not be mirrored; try again later.")


def source_of_report(
    store: str, results: Path | None, from_mlflow: bool, uri: str | None
) -> str | None:
    """The tracking server to fetch results from, None for the store or saved results.

    Raises `UserError` when the options name two sources.
    """
    if not from_mlflow and uri is None:
        return None
    if results is not None:
        raise UserError("--results and --from-mlflow name two sources; give one of them.")
    return uri or tracking_uri(open_store(store))


def _from_mlflow(uri: str, suite: str | None) -> SuiteResults:
    """Results from a tracking server, or one sentence on why there are none."""
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).is_file():
        raise UserError(
            f"There is no tracking database {database}; name a server with --tracking-uri, or a "
            "store that holds one with --store."
        )
    try:
        check_reachable(uri)
    except TrackingAwayError as error:
        raise UserError(f"MLflow at {shown_uri(uri)} gives no results: {error}.") from None
    quieten()
    from harness.mlflow_view.fetch import fetch_results  # noqa: PLC0415  (seconds)

    try:
        return fetch_results(uri, suite)
    except failures() as error:
        raise UserError(f"MLflow at {shown_uri(uri)} gives no results: {reason(error)}.") from None


def ui_command(store: str, port: int) -> None:
    """Start the MLflow UI on loopback and stay until it is stopped."""
    kept = open_store(store)
    uri = tracking_uri(kept)
    console = Console()
    if uri.startswith(("http://", "https://")):
        address = shown_uri(uri).rstrip("/")
        said = f"The tracking server is at {address}; open it in a browser."
        console.print(said, soft_wrap=True, highlight=False, markup=False)
        _print_comparisons(console, uri, address)
        return
    if not os.environ.get(URI_VARIABLE) and not (kept.root / LOCAL_DATABASE).exists():
        raise UserError(
            f"The store {store} holds no tracking database; run a suite first, or give --store."
        )
    address = f"http://127.0.0.1:{port}"
    console.print(f"MLflow UI: {address} (stop it with Ctrl-C)")
    _print_comparisons(console, uri, address)
    sys.exit(_serve(uri, port, kept))


def _serve(uri: str, port: int, store: Store) -> int:
    """Run MLflow's server on loopback until it is stopped; its exit code."""
    # MLflow answers no request whose Host header is not local, so a page on the web cannot
    # reach this server through a name of its own. Jobs are for other products.
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # Not an argument: it may hold a password, and everybody may list processes.
    own = {"MLFLOW_BACKEND_STORE_URI": uri}
    # Two workers: a page asks for runs and for logged models at the same time.
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    files = (store.root / LOCAL_ARTIFACTS).resolve()
    with contextlib.suppress(KeyboardInterrupt):
        return subprocess.run(
            [
                *(sys.executable, "-m", "mlflow", "ui", *place),
                *("--artifacts-destination", files.as_uri()),
            ],
            env={**environment, **os.environ, **own},
            check=False,
        ).returncode
    return 0


def _print_comparisons(console: Console, uri: str, address: str) -> None:
    """The links that open on ranked tables and charts, one per suite; none if none can be had."""
    quieten()
    from harness.mlflow_view.fetch import comparison_links  # noqa: PLC0415  (seconds)

    with contextlib.suppress(Exception):  # the server itself will say what is wrong
        for suite, link in comparison_links(uri).items():
            for what, mode in (("table", ""), ("charts", "&compareRunsMode=CHART")):
                said = f"Compare {suite}, {what}: {address}/{link}{mode}"
                console.print(said, soft_wrap=True, highlight=False, markup=False)


def _runs(store: Store) -> list[tuple[Manifest, Path]]:
    """Finished runs, oldest first."""
    # Results are complete once their run.json, which is written last, is there.
    store.fetch_folder("runs", (f"*/{MANIFEST}", "*/results/run.json"))
    folders = [p.parent for p in (store.root / "runs").glob(f"*/{MANIFEST}")]
    finished = [f for f in folders if (f / "results" / "run.json").is_file()]
    finished.sort(key=lambda f: (f / MANIFEST).stat().st_mtime_ns)
    return [(_manifest(f / MANIFEST), f) for f in finished]


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


def _name_of(suite: str | None) -> str | None:
    """The name under which runs of a suite are kept; a file says it itself."""
    if suite is None or not suite.endswith((".yaml", ".yml")):
        return suite
    document = config_file.read(Path(suite))
    if not isinstance(name := document.data.get("name"), str):
        raise document.error((), 'the key "name" is missing; add it.')
    return name


def latest_results(store: Store, suite: str | None) -> SuiteResults:
    """Results of the latest finished run, of one suite or of all; `UserError` without any.

    ``suite`` is a name, or the YAML file that was run.
    """
    suite = _name_of(suite)
    runs = _runs(store)
    if suite is not None:
        names = {manifest.suite for manifest, _ in runs}
        if names and suite not in names:
            hint = did_you_mean(suite, names)
            raise UserError(f'The store {store} holds no run of "{suite}": {hint}.')
        runs = [run for run in runs if run[0].suite == suite]
    if not runs:
        raise UserError(f"The store {store} holds no finished run; run a suite first.")
    manifest, folder = runs[-1]
    store.fetch_folder(run_name(manifest.run_key))
    return _results(folder / "results")
