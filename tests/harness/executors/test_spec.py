"""What a node says of a store that it cannot use, and the notes that drivers leave there."""

from __future__ import annotations

import errno
import multiprocessing
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from harness.claims import this_process
from harness.executors.spec import SHAKES, Spec, plan_of, shake_hands
from harness.object_store import MIRROR, ObjectStore
from harness.shared_files import FolderFiles
from harness.store import Store
from models.errors import UserError

SPEC = Spec("s.yaml", {}, None, None, "", "/", "key", "shake", {})


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spec]:
    """Of a run on an object store, whose copy here is not made yet."""
    address = f"memory://{uuid.uuid4().hex}"
    driver = ObjectStore(address, tmp_path / "driver")
    driver.prepare()
    monkeypatch.setenv(MIRROR, str(tmp_path / "node"))
    yield replace(SPEC, store=address, shake=shake_hands(driver, "shake"))
    fsspec.filesystem("memory").rm(address.removeprefix("memory:/"), recursive=True)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def write(files: FolderFiles, name: str, _: bytes) -> None:
        raise OSError(number, os.strerror(number), str(files.root / name))

    monkeypatch.setattr(FolderFiles, "write", write)


def test_a_full_disk_is_the_nodes_fault_and_no_refusal(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal would end the whole run; and credentials have nothing to do with it."""
    refuse(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left on device") as found:
        plan_of(spec)
    assert found.value.errno == errno.ENOSPC


def test_a_node_with_a_full_disk_does_not_end_a_run_on_ray(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="ray is a development dependency")
    from harness.executors.ray_greeting import hello  # noqa: PLC0415

    refuse(monkeypatch, errno.ENOSPC)
    assert hello(spec.to_json()).refusal == ""
    refuse(monkeypatch, errno.EROFS)
    assert "cannot be used on" in hello(spec.to_json()).refusal


def test_a_copy_that_cannot_be_written_is_named(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.EROFS)
    with pytest.raises(UserError, match=rf"Read-only file system: {tmp_path}/node.*{MIRROR}"):
        plan_of(spec)


def shake_and_die(folder: Path) -> None:
    shake_hands(Store(folder), "killed")
    os._exit(1)


def test_what_a_killed_driver_left_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.files.write(f"{SHAKES}/elsewhere", b'{"host": "another", "pid": 1, "started": "1"}')
    store.files.write(f"{SHAKES}/probe", b"\xff\x00")
    shake_hands(store, "ours")
    driver = multiprocessing.get_context("spawn").Process(target=shake_and_die, args=(tmp_path,))
    driver.start()
    driver.join()
    assert "killed" in store.files.names(SHAKES)
    shake_hands(store, "next")
    assert this_process()["started"] is not None  # else nobody could tell
    assert store.files.names(SHAKES) == ["elsewhere", "next", "ours", "probe"]
