"""MLflow: logging a large suite run on SQLite, and how soon its page shows 2,000 runs.

The page is opened in a real browser (Chromium with chromedriver), against a real server, and
timed until a variant's row stands in the table. Prints a markdown table.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import make_database, publish
from reports.table import SAMPLE_SCHEMA, TRIAL_SCHEMA, SuiteResults

VARIANTS, TASKS, SEEDS, RUNS = 40, 20, 3, 2000


def main() -> None:
    """Measure and print."""
    print("| what | measured |")
    print("| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        started = time.perf_counter()
        make_database(store)
        print(
            f"| a new SQLite database, once | {time.perf_counter() - started:.1f} s |", flush=True
        )
        results = large_results()
        seconds = _publish(results, store, 0)
        what = f"{VARIANTS} variants x {TASKS} tasks x {SEEDS} seeds logged"
        print(f"| {what} | {seconds:.1f} s |", flush=True)
        # The page of one suite run is the floor: what MLflow's own page takes.
        _print_page_times(store)
        small = _without_samples(results)
        for number in range(1, -(-RUNS // (VARIANTS + 1))):
            _publish(small, store, number)
        _print_page_times(store)


def _print_page_times(store: Store) -> None:
    with _server(store) as address:
        for line in _page_times(address):
            print(line, flush=True)


def large_results() -> SuiteResults:
    """Synthetic results of the size that the figures are stated for; 16 trials per cell."""
    make = _synthetic()
    sizes = ("nano", "tiny", "base", "large")
    quality = {f"olmoearth-v{1 + i // 4}-{sizes[i % 4]}": 0.5 + i / 100 for i in range(VARIANTS)}
    tasks = [make.make_task(f"task-{i:02d}") for i in range(TASKS)]
    results = make.make_results(quality, tasks, seeds=range(SEEDS))
    cells = results.scores.select("variant", "task", "seed")
    trials = cells.join(pl.DataFrame({"number": np.arange(16)}), how="cross").with_columns(
        pl.lit('{"lr":0.01,"pooling":"mean"}').alias("params"), pl.lit(0.5).alias("score")
    )
    typed = [pl.col(name).cast(kind) for name, kind in TRIAL_SCHEMA.items()]
    return replace(results, trials=trials.select(typed))


def _synthetic() -> Any:
    import importlib.util  # noqa: PLC0415

    path = Path(__file__).parents[1] / "tests" / "reports" / "conftest.py"
    spec = importlib.util.spec_from_file_location("synthetic_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _without_samples(results: SuiteResults) -> SuiteResults:
    """The same runs without predictions, to fill an experiment quickly."""
    empty = pl.DataFrame(schema=SAMPLE_SCHEMA)
    return replace(results, samples=empty, trials=pl.DataFrame(schema=TRIAL_SCHEMA))


def _publish(results: SuiteResults, store: Store, number: int) -> float:
    key = f"{number:08x}" * 8
    manifest = Manifest(key, "eurosat", "tokenrank run eurosat", "0" * 40, {}, {})
    report = store.root / "report"
    report.mkdir(exist_ok=True)
    (report / "report.html").write_text("<p>The report.</p>", encoding="utf-8")
    started = time.perf_counter()
    published = publish(results, manifest, store, report)
    if not published.done:
        raise SystemExit(f"not mirrored: {published.reason}")
    return time.perf_counter() - started


@contextmanager
def _server(store: Store) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "harness.cli",
            "ui",
            "--store",
            str(store.root),
            "--port",
            str(port),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(address)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def _wait_for(address: str) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.25)
    raise SystemExit(f"no server at {address}")


def _page_times(address: str) -> Iterator[str]:
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(address)
    (experiment,) = [e for e in client.search_experiments() if e.name == "tokenrank/eurosat"]
    there = len(client.search_runs([experiment.experiment_id], max_results=5000))
    seconds = sorted(
        _timed(lambda: client.search_runs([experiment.experiment_id], max_results=100))
        for _ in range(5)
    )
    yield f"| first 100 of {there:,} runs by REST, median of 5 | {seconds[2]:.2f} s |"
    filtered = "params.token_scheme = 'single' and metrics.average_rank < 3"
    seconds = sorted(
        _timed(lambda: client.search_runs([experiment.experiment_id], filtered)) for _ in range(5)
    )
    yield f"| `{filtered}` by REST, median of 5 | {seconds[2]:.2f} s |"
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        yield "| the page in a browser | Chromium and chromedriver are not installed |"
        return
    runs = f"{address}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    view = next(k for k in experiment.tags if k.startswith("mlflow.sharedViewState."))
    pages = {
        "the experiment's page": runs,
        "its comparison view": f"{runs}&viewStateShareKey={view.rpartition('.')[2]}",
    }
    for name, page in pages.items():
        seconds = sorted(_row_after(page) for _ in range(3))
        what = f"{name} of {there:,} runs, a fresh browser, until rows stand, median of 3"
        yield f"| {what} | {seconds[1]:.1f} s |"


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _row_after(page: str) -> float:
    """Seconds from asking for the page to its first row of a variant, in a new browser."""
    from selenium import webdriver  # noqa: PLC0415
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415
    from selenium.webdriver.common.by import By  # noqa: PLC0415
    from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for switch in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run"):
            options.add_argument(f"--{switch}")
        options.add_argument(f"--user-data-dir={profile}")
        options.add_argument("--window-size=1600,1000")
        service = Service(str(shutil.which("chromedriver")))
        with webdriver.Chrome(options=options, service=service) as browser:
            browser.get("about:blank")
            started = time.perf_counter()
            browser.get(page)
            WebDriverWait(browser, 60, 0.02).until(
                lambda b: b.find_elements(By.PARTIAL_LINK_TEXT, "olmoearth-v")
            )
            return time.perf_counter() - started


if __name__ == "__main__":
    main()
