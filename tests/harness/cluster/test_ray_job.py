"""The RayJob's command, submitted as KubeRay's operator does it, to a real Ray head here."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.disturbed import ENV, PATIENCE, cells
from tests.services import free_port

pytest.importorskip("ray", reason="ray is a development dependency")
ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
SHARED = list(yaml.safe_load_all((FOLDER / "store.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Head:
    """Addresses of its dashboard, to which jobs are submitted, and of its agent."""

    dashboard: str
    agent: str


def environment() -> dict[str, str]:
    """Of a pod: the image's programs, and no settings of this machine's user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # In a user's home there may be a token, and Ray would ask for it.
    ours = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, **ENV, **ours, "PATH": path}


@pytest.fixture
def head() -> Iterator[Head]:
    """A head that also computes, as there is no other node."""
    port, dashboard, agent, client = (free_port() for _ in range(4))
    found = Head(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{agent}")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # names of sockets must be short
        command = ["ray", "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={folder}"]
        command += ["--node-ip-address=127.0.0.1", f"--port={port}"]
        command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        command += [f"--ray-client-server-port={client}"]
        log = Path(folder) / "head.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=environment(), stdout=file, stderr=file)
            try:
                # What the operator's probes ask of a pod, and its submitter before it submits.
                for question in (
                    f"{found.dashboard}/api/gcs_healthz",
                    f"{found.agent}/api/healthz",
                ):
                    wait_for_success(question, process, log)
                yield found
            finally:
                process.terminate()
                process.wait()


def wait_for_success(question: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(question, timeout=5) as answer:
                assert b"success" in answer.read()
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{question} is not answered: {log.read_text()}"
            time.sleep(0.1)


def test_the_job_is_submitted_and_leaves_its_results(
    head: Head, small_suite: Path, tmp_path: Path
) -> None:
    text = small_suite.read_text()
    text = text[: text.index("  - name: sim-linear")] + "baselines: []\n"
    text = text.replace("seeds: [0, 1]", "seeds: [0]").replace(", olmoearth-three-pico", "")
    small_suite.write_text(text)
    settings = next(each for each in SHARED if each["kind"] == "ConfigMap")["data"]
    (tmp_path / "profile.yaml").write_text(settings["profile.yaml"])
    (tmp_path / "data").mkdir()
    here = {"eurosat": str(small_suite), "/data": str(tmp_path / "data")}
    here |= {"/store": str(tmp_path / "store"), "/profile/profile.yaml": f"{tmp_path}/profile.yaml"}
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert set(here) < set(words)
    job = [here.get(word, word) for word in words]
    submit = ["ray", "job", "submit", "--address", head.dashboard, "--submission-id", "job", "--"]
    done = subprocess.run(
        [*submit, *job], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Job 'job' succeeded" in done.stdout + done.stderr
    assert cells(tmp_path / "store") == 1
