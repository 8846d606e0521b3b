"""Servers that tests start for themselves: PostgreSQL, MLflow, an S3 store; all on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HEALTHY_WITHIN = 240.0  # seconds; on a busy machine a server takes long to start


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- PostgreSQL ---------------------------------------------------------------------------


def _postgres_folder() -> Path | None:
    """Where the server's programs are; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@dataclass(frozen=True)
class Postgres:
    """A private cluster; ``programs`` are PostgreSQL's own, ``folder`` holds data and socket."""

    programs: Path
    folder: str
    port: int
    superuser = "tokenrank"

    @property
    def uri(self) -> str:
        """Its superuser's SQLAlchemy URI, by its socket: on the network, roles need passwords."""
        place = f"host={self.folder}&port={self.port}"
        return f"postgresql+psycopg2://{self.superuser}@/postgres?{place}"

    def create(self) -> None:
        """Make the cluster's files."""
        initdb = ["initdb", "-D", f"{self.folder}/data", "-U", self.superuser]
        who = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        self._run(*initdb, *who, "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off"
        self._control("-w", "-l", f"{self.folder}/log", "-o", settings, "start")

    def stop(self) -> None:
        """Stop it at once, as a power cut would; its data stay."""
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        """Run as PostgreSQL's own user where need be: it refuses to run as root."""
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_user, str(self.programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A private cluster on loopback that runs, in a folder of its own."""
    programs = _postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg2")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        cluster = Postgres(programs, folder, free_port())
        cluster.create()
        cluster.start()
        try:
            yield cluster
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # stopped by a test
                cluster.stop()


# --- MLflow -------------------------------------------------------------------------------


@contextmanager
def serving(
    command: list[str], address: str, log: Path, settings: Mapping[str, str], cwd: Path
) -> Iterator[None]:
    """A server that answers at an address; it and all it started are stopped in the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**settings}, stdout=file, stderr=file, cwd=cwd, start_new_session=True
        )
        try:
            wait_until_healthy(address, process)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # it ended before it answered
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@contextmanager
def mlflow_server(database: str, artifacts: Path) -> Iterator[str]:
    """`mlflow server` over a database, serving artifacts itself; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(artifacts), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    settings = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    address = f"http://127.0.0.1:{port}"
    folder = artifacts.parent
    with serving(command, address, folder / "server.log", settings, folder):
        yield address


def wait_until_healthy(address: str, process: subprocess.Popen[Any]) -> None:
    """Return when the server's health check is answered; it must not end before."""
    deadline = time.monotonic() + HEALTHY_WITHIN
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it answered; see its log"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no server at {address}")


# --- an S3 store --------------------------------------------------------------------------


class S3:
    """A local stand-in for an S3 store; what it holds outlives a stop."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: Any = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        from moto.server import ThreadedMotoServer  # noqa: PLC0415

        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Stop it; nothing listens on its port then."""
        self._server.stop()


@contextmanager
def s3() -> Iterator[S3]:
    """An S3 store on loopback that runs."""
    pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    store = S3()
    store.start()
    try:
        yield store
    finally:
        store.stop()
        # It would keep the address of this one, also for the next.
        s3fs.S3FileSystem.clear_instance_cache()
