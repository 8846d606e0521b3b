"""`tokenrank ui`: on loopback only, and it says where the comparison is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import publish


def test_ui_prints_a_link_that_a_local_server_answers(
    synthetic: Any, tmp_path: Path, wait_until_healthy: Any, free_port: Any
) -> None:
    results = synthetic.make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    manifest = Manifest("ab" * 32, "eurosat", "tokenrank run eurosat", "0" * 40, {}, {})
    (tmp_path / "report").mkdir()
    assert publish(results, manifest, Store(tmp_path / "store"), tmp_path / "report").done

    port = free_port()
    command = ["-c", "from harness.cli import main; main()", "ui", "--store", tmp_path / "store"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        assert f"http://127.0.0.1:{port}" in said[0]
        link = re.match(r"Compare eurosat, table: (http\S+)\n", said[1])
        assert link is not None
        assert "viewStateShareKey=tokenrank-abababab" in link[1]
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        with urllib.request.urlopen(link[1].partition("#")[0]) as answer:
            assert b"<title>MLflow</title>" in answer.read()
        # A page on the web that points a name of its own at this machine is turned away.
        foreign = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1",
            headers={"Host": "evil.example"},
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign)
    finally:
        os.killpg(process.pid, 15)
        process.wait()
