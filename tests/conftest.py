"""What tests share: a stand-in for the hub on loopback, and freedom from the user's settings."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SERVICES = "TOKENRANK_TEST_SERVICES"
NEED_SERVICES = {"browser", "cluster", "tracking_server"}
"""Folders of tests that need them."""
SERVICES_OF_FILES = {
    "ray": ("test_ray", "test_ray_gpus", "test_ray_job", "test_full_disk", "test_gpu"),
    "slurm": ("test_slurm", "test_slurm_drivers", "test_unshared_store"),
    "objects": ("test_objects",),
}
PAGE, DISTURBED, OTHER = range(3)  # kinds of tests, in the order in which they are run
COMMIT = "0123456789abcdef0123456789abcdef01234567"


MADE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """A cache of this run's own, shared by its workers: no test reads what a user has kept."""
    if not hasattr(config, "workerinput"):
        config.stash[MADE] = os.environ["TOKENRANK_CACHE"] = tempfile.mkdtemp(prefix="tokenrank-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The cache goes with the run that made it."""
    if made := config.stash.get(MADE, None):
        shutil.rmtree(made, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Where the browser and the database must be there (CI), a test that skips for them fails."""
    report = yield
    in_place = NEED_SERVICES.intersection(item.path.parts)
    needed = in_place and os.environ.get(SERVICES) == "required"
    if report.skipped and needed:
        report.outcome = "failed"
        report.longrepr = f"must run where {SERVICES} is required: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: _turn(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several workers get whole files: xdist's own marks of groups do nothing in pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415

    class WholeFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _together(nodeid)

    return WholeFiles(config, log)


def _together(nodeid: str) -> str:
    """Equal for tests that one worker runs, which makes their fixtures once.

    They are those of a file, and all that disturb the same run; the documentation's pages are
    independent of each other. One machine bears one Slurm at a time, and few nodes of Ray.
    """
    file = nodeid.partition("::")[0]
    if _turn(nodeid) == PAGE:
        return nodeid
    if _turn(nodeid) != DISTURBED:
        return file
    of = (service for service, names in SERVICES_OF_FILES.items() if Path(file).stem in names)
    return next(of, "disturbed")


def _turn(nodeid: str) -> int:
    folders = nodeid.partition("::")[0].split("/")
    if "docs" in folders:
        return PAGE
    return DISTURBED if {"executors", "cluster"}.intersection(folders) else OTHER


@dataclass
class Hub:
    """What the local server offers (``owner/name/file`` -> bytes), and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    asked: list[str] = field(default_factory=list)


def hub_server(hub: Hub) -> ThreadingHTTPServer:
    """The part of the hub's protocol that a file download uses: resolve, ETag, commit."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, with_body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            repository, _, name = self.path.removeprefix("/").partition("/resolve/main/")
            body = hub.files.get(f"{repository}/{name}")
            if body is None:
                known = any(path.startswith(f"{repository}/") for path in hub.files)
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub without files; tests add what it is to offer."""
    offered = Hub()
    server = hub_server(offered)
    offered.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", offered.url)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield offered
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def synthetic() -> Any:
    """The module of synthetic suite results that the tests of `reports` are made with."""
    path = Path(__file__).parent / "reports" / "conftest.py"
    spec = importlib.util.spec_from_file_location("synthetic_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user or a nox session has set for real runs must not reach a test."""
    for name in ("CHIPS", "DATA", "PROFILE", "STORE", "TUNING", "WEIGHTS", "UI_COMMAND"):
        monkeypatch.delenv(f"TOKENRANK_{name}", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
