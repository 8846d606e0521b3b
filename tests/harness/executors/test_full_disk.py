"""Two Ray nodes that share an S3 emulator only, the disk of one full: the other does the work.

Not among the tests of services, which must not skip where those are there: it needs root.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from harness.object_store import MIRROR
from tests.disturbed import Undisturbed, assert_same, ended, start
from tests.harness.cluster.test_ray import NODE, profile, ray_cluster
from tests.services import s3

AddNode = Callable[[Path], Any]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, AddNode]]:
    """The address of a head without work, and what adds a node with a mirror of its own."""
    with s3() as service:
        keys = {"AWS_ENDPOINT_URL": service.url, "AWS_DEFAULT_REGION": "us-east-1"}
        keys |= {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
        for name, value in {**keys, "RAY_USAGE_STATS_ENABLED": "0"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        boto3.client("s3").create_bucket(Bucket="results")
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        made = ray_cluster.Cluster(initialize_head=True, head_node_args=head)

        def add(mirror: Path) -> None:
            made.add_node(**NODE, env_vars={**keys, MIRROR: str(mirror)})

        yield made.address, add
        made.shutdown()


def test_the_disk_of_one_node_is_full(
    cluster: tuple[str, AddNode], undisturbed: Undisturbed, small_disk: Path, tmp_path: Path
) -> None:
    """It fails at once and is free again, and must not have a cell's second and last chance."""
    place, (address, add) = "s3://results/full", cluster
    room = 512 << 10  # for notes; the images need twenty times as much
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    for mirror in (small_disk, tmp_path / "large"):
        add(mirror)
    path = profile(tmp_path, address)
    path.write_text(f"retries: 1\n{path.read_text()}")
    settings = {MIRROR: str(tmp_path / "driver")}
    said = ended(start(undisturbed.suite, place, "--profile", str(path), **settings))
    assert "again, because the disk is full on" in said
    assert_same(place, undisturbed, tmp_path / "driver", nobody_died=True)
