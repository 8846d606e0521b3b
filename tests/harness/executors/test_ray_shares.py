"""What items ask of a Ray cluster, of a GPU above all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.executors.items import GpuNeed, Item, Need
from harness.executors.profile import RaySection
from harness.executors.ray_shares import (
    Gpus,
    request,
    require_gpu_room,
    require_gpus,
    require_room,
)
from models.errors import UserError

GB = 10**9


def node(**resources: float) -> dict[str, object]:
    return {"NodeID": "node", "Resources": resources}


def item(gpu: GpuNeed | None = None, memory: int = GB) -> Item:
    return Item("item", ("cell",), Need(1.0, memory, gpu))


def needing(gigabytes: float, least: float = 0.0) -> GpuNeed:
    return GpuNeed(round(gigabytes * GB), round((least or gigabytes) * GB))


@pytest.mark.parametrize(
    ("gigabytes", "share"),
    [(1, 0.25), (4, 0.25), (4.1, 0.3), (8, 0.5), (12.5, 0.8), (16, 1.0), (40, 1.0)],
)
def test_small_items_share_a_gpu_and_large_ones_have_room(gigabytes: float, share: float) -> None:
    assert Gpus({"a": 16 * GB}, at_most=4).share(needing(gigabytes, 1)) == share


@pytest.mark.parametrize("at_most", range(1, 10))
def test_as_many_as_the_profile_allows_share_one(at_most: int) -> None:
    share = Gpus({"a": 16 * GB}, at_most).share(needing(0.1))
    assert at_most * share <= 1 < (at_most + 1) * share


def test_what_is_not_known_has_a_gpu_of_its_own() -> None:
    assert Gpus({"a": 16 * GB}, at_most=4).share(None) == 1.0


def test_of_gpus_of_unknown_memory_all_items_have_the_same_share() -> None:
    gpus = Gpus({}, at_most=4)
    assert {gpus.share(need) for need in (needing(0.1), needing(100), None)} == {0.25}
    assert not gpus.too_small(needing(100))


def test_the_share_is_of_the_smallest_gpu_that_holds_it_and_smaller_ones_are_not_for_it() -> None:
    gpus = Gpus({"small": 16 * GB, "middle": 40 * GB, "large": 80 * GB}, at_most=4)
    assert (gpus.share(needing(8)), gpus.too_small(needing(8))) == (0.5, frozenset())
    assert (gpus.share(needing(20)), gpus.too_small(needing(20))) == (0.5, {"small"})
    # Batches that no GPU holds are halved, on the largest.
    assert gpus.share(needing(100, 1)) == 1.0
    assert gpus.too_small(needing(100, 1)) == {"small", "middle"}


def test_the_share_is_of_gpus_that_are_left() -> None:
    gpus = Gpus({"large": 80 * GB, "small": 16 * GB}, at_most=4)
    assert gpus.share(needing(40, 1)) == 0.5
    left = gpus.among({"small", "without"})
    assert left.share(needing(40, 1)) == 1.0  # its batches are halved there
    assert not left.too_small(needing(40, 1))
    assert gpus.among({"without"}) == gpus


def test_without_gpus_none_is_asked_for() -> None:
    small = item(needing(1), memory=2 * GB)
    assert request(small, RaySection(cpus=3), None) == {"num_cpus": 3, "memory": 2 * GB}
    asked = request(small, RaySection(), Gpus({"a": 4 * GB}, at_most=2))
    assert asked == {"num_cpus": 1, "memory": 2 * GB, "num_gpus": 0.5}


def test_a_cell_larger_than_any_gpu_is_refused_and_one_whose_batches_can_be_halved_is_not() -> None:
    gpus = Gpus({"a": 16 * GB, "b": 24 * GB}, at_most=4)
    require_gpu_room([item(needing(100, least=24)), item(None)], gpus)
    require_gpu_room([item(needing(100))], Gpus({}, at_most=4))  # nobody knows
    with pytest.raises(UserError, match=r"25\.0 GB of a GPU's memory, .* has 24\.0 GB"):
        require_gpu_room([item(needing(1)), item(needing(100, least=25))], gpus)


def test_gpus_are_used_where_there_are_any_unless_the_profile_says_otherwise() -> None:
    nodes = [node(CPU=4), node(CPU=4, GPU=2)]
    assert require_gpus(RaySection(), nodes)
    assert require_gpus(RaySection(gpus=True), nodes)
    assert not require_gpus(RaySection(gpus=False), nodes)
    assert not require_gpus(RaySection(), nodes[:1])


@pytest.mark.parametrize("asked", [RaySection(gpus=True), RaySection(gpu_memory_gb=16)])
def test_gpus_that_are_not_there_are_refused(asked: RaySection) -> None:
    with pytest.raises(UserError, match="no node of the Ray cluster has one"):
        require_gpus(asked, [node(CPU=4)])


def test_the_room_of_nodes_without_gpus_does_not_count_where_gpus_compute() -> None:
    nodes = [node(CPU=64, memory=500 * GB), node(CPU=4, memory=16 * GB, GPU=1)]
    large = item(memory=20 * GB)
    require_room([large], RaySection(), nodes, on_gpus=False)
    with pytest.raises(UserError, match=r"largest node of the Ray cluster that has a GPU offers"):
        require_room([large], RaySection(), nodes, on_gpus=True)
    with pytest.raises(UserError, match="asks for 8 cores for each item"):
        require_room([], RaySection(cpus=8), nodes, on_gpus=True)


@pytest.mark.parametrize(
    ("said", "found"),
    [("echo 81920; echo 24576", 24576 * 2**20), ("echo '[N/A]'", 0), ("exit 9", 0), ("", 0)],
)
def test_a_node_tells_the_memory_of_its_smallest_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, found: int
) -> None:
    pytest.importorskip("ray", reason="ray is a development dependency")
    from harness.executors.ray_greeting import gpu_memory  # noqa: PLC0415

    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{said}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpu_memory() == found
