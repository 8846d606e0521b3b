"""A real `mlflow server` on SQLite and on PostgreSQL, and a real browser to look at it with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import make_database, publish
from reports.build import build_report
from reports.table import SuiteResults
from tests.services import free_port, mlflow_server, postgres, wait_until_healthy

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


@pytest.fixture(name="wait_until_healthy")
def _wait_until_healthy() -> Callable[..., None]:
    return wait_until_healthy


@dataclass(frozen=True)
class Tracked:
    """A server that holds one suite run, and the results it was made from."""

    address: str
    results: SuiteResults


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
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
            with postgres() as cluster:
                yield from _served(cluster.uri, folder, synthetic, settings)


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
