"""A finished suite whose store is an object store: how its start grows with the number of cells.

The store is an S3 emulator in a process of its own, on the same machine: requests cost what the
emulator's Python costs, and no network. Results are made up, as in `benchmarks.plan`. Prints a
markdown table.

    python -m benchmarks.objects [--seeds 1 10 100]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from benchmarks.plan import TASKS, fill, write_suite
from benchmarks.suite import run_command
from harness.object_store import MIRROR, ObjectStore
from harness.plan import Places, make_plan
from harness.suite import load_suite

KEYS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
}
PATIENCE = 60.0  # seconds


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 10, 100])
    print("Seconds by the clock; requests in brackets.\n")
    print("| cells | first report | without a copy | with its copy | status |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    # One service for all: fsspec keeps the address that it was given first.
    with tempfile.TemporaryDirectory() as logs, _service(Path(logs)) as service:
        for seeds in parser.parse_args().seeds:
            with tempfile.TemporaryDirectory() as folder:
                print(_row(Path(folder), service, seeds), flush=True)


class _Service:
    def __init__(self, url: str, log: Path) -> None:
        self.url, self._log = url, log

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except OSError:
            return False

    def requests(self) -> int:
        """How many it has answered."""
        return self._log.read_text(encoding="utf-8", errors="replace").count(" HTTP/1.1")


@contextmanager
def _service(folder: Path) -> Iterator[_Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "service.log"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            service = _Service(f"http://127.0.0.1:{port}", log)
            while not service.answers():
                if time.monotonic() > deadline:
                    raise TimeoutError("the S3 emulator did not start")
                time.sleep(0.1)
            yield service
        finally:
            process.terminate()


def _row(folder: Path, service: _Service, seeds: int) -> str:
    os.environ.update({**KEYS, "AWS_ENDPOINT_URL": service.url})
    bucket, suite = f"bench-{seeds}", write_suite(folder, seeds)
    boto3.client("s3").create_bucket(Bucket=bucket)
    place = f"s3://{bucket}/store"
    store = ObjectStore(place, folder / "filler")
    store.prepare()
    fill(make_plan(load_suite(suite), Places(None, None, store.cache_folder)), store)

    def timed(what: str, mirror: str) -> str:
        before = service.requests()
        settings = {MIRROR: str(folder / mirror), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        ran = run_command([what, str(suite), "--store", place], settings=settings)
        return f"{ran.seconds:.1f} s ({service.requests() - before:,})"

    first = timed("run", "one")
    found = [timed("run", "two"), timed("run", "one"), timed("status", "one")]
    return f"| {5 * TASKS * seeds:,} | {first} | {' | '.join(found)} |"


if __name__ == "__main__":
    main()
