"""A tracking server that fails: one sentence says how, nothing is lost, and sync catches up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness import tracking
from harness.provenance import Manifest
from harness.store import Store, write_json
from reports.build import build_report
from reports.io import save_results

BEHAVIOUR = {
    "500 on every path": (500, 500, "it answers with error 500"),
    "500 once asked": (200, 500, "it answers with error 500"),
    "login": (200, 401, "it demands a login (set MLFLOW_TRACKING_USERNAME"),
    "login at the door": (401, 401, "it demands a login (set MLFLOW_TRACKING_USERNAME"),
    "forbidden": (200, 403, "it refuses access (error 403"),
    "silent": (None, None, "it cannot be reached (timed out)"),
    "silent once asked": (200, None, "it does not answer in time"),
}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers its health check and all else with the given codes, or not at all."""
    health, other = request.param
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = health if self.path == "/health" else other
            if code is None:
                released.wait(20)
                return
            self.send_response(code)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"no")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    released.set()
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def store(synthetic: Any, tmp_path: Path) -> Store:
    """A store that holds one finished run."""
    kept = Store(tmp_path / "store")
    key = "ab" * 32
    results = synthetic.make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    folder = kept.run_folder(key)
    folder.mkdir(parents=True)
    build_report(results, folder / "report")
    save_results(results, folder / "results")
    manifest = Manifest(key, "eurosat", "tokenrank run eurosat", "0" * 40, {}, {})
    write_json(folder / "manifest.json", vars(manifest))
    return kept


@pytest.mark.parametrize(
    ("server", "sentence"),
    [pytest.param((h, o), said, id=name) for name, (h, o, said) in BEHAVIOUR.items()],
    indirect=["server"],
)
def test_one_sentence_says_what_the_server_does_and_sync_catches_up(
    server: str,
    sentence: str,
    store: Store,
    tokenrank: Any,
    tmp_path: Path,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "REACH_SECONDS", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    ended = tokenrank("sync", "--store", store.root)
    assert ended.code == 2
    assert f"not mirrored: {sentence}" in " ".join(ended.out.split())
    assert "Traceback" not in ended.out + ended.err
    ended = tokenrank("report", "--from-mlflow", "--out", tmp_path / "nothing")
    assert ended.code == 2
    assert sentence in ended.err
    assert not (tmp_path / "nothing").exists()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert "mirrored now" in tokenrank("sync", "--store", store.root).out
    client = MlflowClient(database)
    (experiment,) = [e for e in client.search_experiments() if e.name == "tokenrank/eurosat"]
    assert len(client.search_runs([experiment.experiment_id])) == 3
