"""A store that is an S3 emulator: machines share objects and nothing else, and have bad days."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from harness.claims import Claims
from harness.object_store import ObjectStore
from harness.objects import Objects
from tests.disturbed import (
    AWAY,
    Undisturbed,
    assert_same,
    assert_untouched,
    at_work,
    databases,
    ended,
    standing,
    start,
    wait_for,
)
from tests.rivals import taken_by
from tests.services import S3, s3

s3fs = pytest.importorskip("s3fs", reason="s3fs is a development dependency")
LOCAL = ("--executor", "local", "--workers", "1")


@pytest.fixture(scope="module")
def service() -> Iterator[S3]:
    with s3() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", running.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="results")
        yield running


@pytest.fixture
def place(service: S3, request: pytest.FixtureRequest) -> str:
    return f"s3://results/{request.node.name.replace('_', '-')[:40]}"


def test_of_many_who_want_a_claim_one_gets_it(place: str) -> None:
    assert taken_by([Claims(Objects(place)) for _ in range(8)]) == 1


def test_two_machines_that_share_only_objects_share_the_work(
    place: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """And one that comes back with half of it, and damaged, has nothing left to compute."""
    mirrors = [tmp_path / name for name in ("one", "two")]
    both = [start(undisturbed.suite, place, *LOCAL, TOKENRANK_MIRROR=str(m)) for m in mirrors]
    for process in both:
        ended(process)
    assert_same(place, undisturbed, *mirrors, nobody_died=True)

    stale = ObjectStore(place, next(mirrors[0].iterdir()))
    for path in sorted(stale.root.rglob("*.parquet"))[::2]:
        path.unlink()
    shutil.rmtree(stale.root / "runs")
    for path in stale.root.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    for note in stale.objects.names("cache/tables-there"):  # else the run's tables would do
        stale.objects.remove(f"cache/tables-there/{note}")
    before = standing(place)
    said = ended(start(undisturbed.suite, place, TOKENRANK_MIRROR=str(mirrors[0])))
    assert "Nothing to compute" in said
    assert len(list(stale.root.rglob("*.parquet"))) >= 8
    assert_same(place, undisturbed, *mirrors, nobody_died=True)
    assert_untouched(before, place)


def test_a_worker_is_killed_and_the_service_is_away_meanwhile(
    service: S3, place: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """And the tracking server is away to the end; the same command catches up with it."""
    mirror = {"TOKENRANK_MIRROR": str(tmp_path / "mirror")}
    process = start(undisturbed.suite, place, *LOCAL, **mirror, **AWAY)
    wait_for(lambda: at_work(place), process)
    (worker,) = at_work(place)
    before = standing(place)
    service.stop()
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(2)
    service.start()
    said = ended(process)
    assert "again, because its worker ended with SIGKILL" in said
    assert "MLflow at http://127.0.0.1:9 was not updated: it cannot be reached" in said
    assert Objects(place).names("claims") == []
    assert databases(tmp_path) == []
    ended(start(undisturbed.suite, place, **mirror))
    assert_same(place, undisturbed, tmp_path / "mirror")
    assert_untouched(before, place)


def test_small_objects_are_asked_for_once(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for their size first: ten thousand cells are twenty thousand requests."""
    s3fs.S3FileSystem.clear_instance_cache()  # a connection that is gone would be asked twice
    objects = Objects(place)
    for name in ("one", "two"):
        objects.write(name, name.encode())
    asked: list[str] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(system: s3fs.S3FileSystem, method: str, *rest: object, **more: object) -> Any:
        asked.append(method)
        return await call(system, method, *rest, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    assert objects.read("one") == b"one"
    assert objects.read_many(["one", "none", "two"]) == {"one": b"one", "two": b"two"}
    assert asked == ["get_object"] * 4


def test_an_address_where_nothing_answers(undisturbed: Undisturbed, tmp_path: Path) -> None:
    settings = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    mirror = {"TOKENRANK_MIRROR": str(tmp_path)}
    said = ended(start(undisturbed.suite, "s3://no/where", **settings, **keys, **mirror), code=2)
    assert "The store s3://no/where cannot be used" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
