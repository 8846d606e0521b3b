"""A real Ray cluster whose nodes say that they have GPUs.

They have none: torch sees none, and workers compute on processor cores. What Ray hands out, and
what a worker's process is shown of it, is as it would be.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.executors.engine import Ended
from harness.executors.items import GpuNeed, Item, Need
from harness.executors.profile import RaySection
from harness.executors.spec import Spec, shake_hands
from harness.executors.worker import Account
from harness.store import Store
from models.errors import UserError
from tests.disturbed import PATIENCE, Undisturbed, assert_same, ended, start

ray_cluster = pytest.importorskip("ray.cluster_utils", reason="ray is a development dependency")
NODE = {"memory": 16_000_000_000, "object_store_memory": 100_000_000}
GB = 10**9


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without work of its own, and a node of two GPUs, of 16 GiB as its nvidia-smi says."""
    tools = tmp_path_factory.mktemp("tools")
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 16384\necho 16384\n")
    (tools / "nvidia-smi").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        patch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        made = ray_cluster.Cluster(initialize_head=True, head_node_args=head)
        made.add_node(**NODE, num_cpus=16, num_gpus=2)
        yield made
        made.shutdown()


def meets(spec: str, item: Item) -> Account:
    """Says when it begins, and ends when as many as it waits for have begun, or at last."""
    folder = Path(Spec.from_json(spec).store)
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    ids = ray_cluster.ray.get_runtime_context().get_accelerator_ids()["GPU"]
    large_has_ended = (folder / "large.ended").exists()
    said = {"gpu": gpu, "ids": ids, "pid": os.getpid(), "after_large": large_has_ended}
    (folder / f"{item.key}.begun").write_text(json.dumps(said))
    pattern, count = item.cells
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob(pattern))) < int(count) and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder / f"{item.key}.ended").touch()
    return Account(item.key, worker="in time" if time.monotonic() < deadline else "too late")


def done_by(
    cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, items: list[Item]
) -> dict[str, dict[str, Any]]:
    """What items said when they began; all that they waited for must have come."""
    from harness.executors import ray as engine  # noqa: PLC0415

    monkeypatch.setattr(engine, "compute_item", meets)
    shake_hands(Store(folder), "shake")
    spec = Spec("s.yaml", {}, None, None, str(folder), "/", "key", "shake", {})
    ray = engine.RayEngine(spec, RaySection(address=cluster.address), items)
    found: list[Ended] = []
    try:
        for item in items:
            ray.submit(item)
        deadline = time.monotonic() + 2 * PATIENCE
        while len(found) < len(items) and time.monotonic() < deadline:
            found += ray.wait(0.5)
    finally:
        ray.close()
    assert [ended.account and ended.account.worker for ended in found] == ["in time"] * len(items)
    return {item.key: json.loads((folder / f"{item.key}.begun").read_text()) for item in items}


def small(name: str, waits_for: str, count: int) -> Item:
    return Item(name, (waits_for, str(count)), Need(1.0, GB // 2, GpuNeed(2 * GB, GB)))


def test_several_small_items_at_once_on_each_gpu(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight, none of which ends before all have begun: four on each."""
    items = [small(f"small-{i}", "small-*.begun", 8) for i in range(8)]
    said = done_by(cluster, tmp_path, monkeypatch, items)
    on = [each["gpu"] for each in said.values()]
    assert sorted(on) == ["0"] * 4 + ["1"] * 4
    assert all(each["ids"] == [each["gpu"]] for each in said.values())


def test_a_large_item_has_a_gpu_alone(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when four small ones have begun: on the other GPU, as none fits beside it."""
    need = Need(9.0, GB // 2, GpuNeed(15 * GB, GB))
    large = Item("large", ("small-*.begun", "4"), need)
    others = [small(f"small-{i}", "large.ended", 1) for i in range(8)]
    said = done_by(cluster, tmp_path, monkeypatch, [large, *others])
    beside = [each for each in said.values() if not each["after_large"]]
    assert [each["gpu"] for each in beside].count(said["large"]["gpu"]) == 1
    assert len(beside) == 1 + 4


def test_no_process_changes_its_gpu(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA keeps to the GPU that a process began with, whatever it is told later."""
    items = [
        Item(f"item-{i}", ("item-*.begun", "1"), Need(1.0, GB // 2, GpuNeed(size * GB, GB)))
        for i, size in enumerate([2, 15, 8, 2, 15, 8, 2, 15, 8, 2])
    ]
    said = done_by(cluster, tmp_path, monkeypatch, items)
    assert len({each["pid"] for each in said.values()}) == len(items)


def test_a_suite_on_shares_of_gpus_has_the_same_results(
    cluster: Any, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(f'executor: ray\nray: {{address: "{cluster.address}", gpus: true}}\n')
    ended(start(undisturbed.suite, tmp_path / "store", "--profile", str(path)))
    assert_same(tmp_path / "store", undisturbed)


def test_a_cell_larger_than_any_gpu(cluster: Any, tmp_path: Path) -> None:
    """By what nvidia-smi says on the node, or by what the profile says instead."""
    from harness.executors.ray import RayEngine  # noqa: PLC0415

    shake_hands(Store(tmp_path), "shake")
    spec = Spec("s.yaml", {}, None, None, str(tmp_path), "/", "key", "shake", {})
    items = [Item("large", ("c",), Need(1.0, GB, GpuNeed(50 * GB, 20 * GB)))]
    with pytest.raises(UserError, match=r"20\.0 GB of a GPU's memory, .* has 17\.2 GB"):
        RayEngine(spec, RaySection(address=cluster.address), items)
    section = RaySection(address=cluster.address, gpu_memory_gb=24)
    RayEngine(spec, section, items).close()
    with pytest.raises(UserError, match=r"has 8\.0 GB"):
        RayEngine(spec, section.model_copy(update={"gpu_memory_gb": 8}), items)


def sees(spec: str, item: Item) -> Account:
    return Account(item.key, worker=os.environ.get("CUDA_VISIBLE_DEVICES", "all"))


def test_without_gpus_by_the_profile_a_worker_sees_none(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.executors import ray as engine  # noqa: PLC0415

    monkeypatch.setattr(engine, "compute_item", sees)
    shake_hands(Store(tmp_path), "shake")
    spec = Spec("s.yaml", {}, None, None, str(tmp_path), "/", "key", "shake", {})
    item = Item("item", ("c",), Need(1.0, GB, GpuNeed(50 * GB, 50 * GB)))
    ray = engine.RayEngine(spec, RaySection(address=cluster.address, gpus=False), [item])
    found: list[Ended] = []
    try:
        ray.submit(item)
        deadline = time.monotonic() + PATIENCE
        while not found and time.monotonic() < deadline:
            found += ray.wait(0.5)
    finally:
        ray.close()
    assert [each.account and each.account.worker for each in found] == [""]
