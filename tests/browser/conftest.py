"""A real `mlflow server` on SQLite and on PostgreSQL, and a real browser to look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import make_database, publish
from reports.build import build_report
from reports.table import SuiteResults

QUALITY = {
    "olmoearth-v1-nano": 0.6,
    "olmoearth-v1.1-nano": 0.7,
    "olmoearth-v1-base": 0.8,
    "olmoearth-v1.1-base": 0.9,
    # A name that must be shown, never run.
    "olmoearth-v1-nano:<script>document.title='owned'</script>\"'": 0.5,
}


@pytest.fixture(name="free_port")
def _free_port() -> Callable[[], int]:
    return free_port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- PostgreSQL ---------------------------------------------------------------------------


def _postgres_folder() -> Path | None:
    """Where the server's programs are; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres() -> Iterator[str]:
    """A private cluster on loopback, in a folder of its own; yields its SQLAlchemy URI."""
    programs = _postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg2")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        initdb = [f"{programs}/initdb", "-D", data, "-U", "tokenrank", "-A", "trust", "-E", "UTF8"]
        _run_quietly([*initdb, "--no-sync", "--locale=C.UTF-8"], folder)
        settings = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        control = [f"{programs}/pg_ctl", "-D", data, "-w", "-l", f"{folder}/log"]
        _run_quietly([*control, "-o", settings, "start"], folder)
        try:
            yield f"postgresql+psycopg2://tokenrank@127.0.0.1:{port}/postgres"
        finally:
            _run_quietly([*control, "-m", "immediate", "stop"], folder)


def _run_quietly(command: list[str], folder: str) -> None:
    """Run as PostgreSQL's own user where need be: it refuses to run as root."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*as_user, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder)


# --- MLflow -------------------------------------------------------------------------------


@contextmanager
def mlflow_server(database: str, artifacts: Path) -> Iterator[str]:
    """`mlflow server` over a database, serving artifacts itself; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(artifacts), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = (artifacts.parent / "server.log").open("wb")
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(address, process)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()
        log.close()


@pytest.fixture(name="wait_until_healthy")
def _wait_until_healthy() -> Callable[..., None]:
    return wait_until_healthy


def wait_until_healthy(address: str, process: subprocess.Popen[Any]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended before it answered"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no server at {address}")


@dataclass(frozen=True)
class Tracked:
    """A server that holds one suite run, and the results it was made from."""

    address: str
    results: SuiteResults


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def tracked(
    request: pytest.FixtureRequest, synthetic: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tracked]:
    """A suite run logged through the server to each kind of database."""
    folder = tmp_path_factory.mktemp(request.param)
    patch = pytest.MonkeyPatch()
    with patch.context() as settings:
        if request.param == "sqlite":
            settings.delenv("MLFLOW_TRACKING_URI", raising=False)
            made = Store(folder / "made")
            made.root.mkdir()
            make_database(made)
            yield from _served(f"sqlite:///{folder}/made/mlflow.db", folder, synthetic, settings)
        else:
            with postgres() as database:
                yield from _served(database, folder, synthetic, settings)


def _served(
    database: str, folder: Path, synthetic: Any, settings: pytest.MonkeyPatch
) -> Iterator[Tracked]:
    (folder / "artifacts").mkdir()
    with mlflow_server(database, folder / "artifacts") as address:
        settings.setenv("MLFLOW_TRACKING_URI", address)
        tasks = [synthetic.make_task("eurosat-knn"), synthetic.make_task("it's | <b>odd</b>")]
        results = synthetic.make_results(QUALITY, tasks)
        build_report(results, folder / "report")
        manifest = Manifest("ab" * 32, "eurosat", "tokenrank run eurosat", "0" * 40, {}, {})
        published = publish(results, manifest, Store(folder / "store"), folder / "report")
        assert published.done, published.reason
        yield Tracked(address, results)


# --- the browser --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    switches = ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync")
    for switch in (*switches, "disable-background-networking", "disable-component-update"):
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--window-size=1900,1000")
    with webdriver.Chrome(options=options, service=Service(driver)) as opened:
        yield opened
