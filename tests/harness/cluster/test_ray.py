"""A real Ray cluster of two nodes, each with processes of its own, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.executors.driving import Ended
from harness.executors.items import Item, Need
from harness.executors.profile import RaySection
from harness.executors.spec import Spec
from harness.executors.worker import Account
from models.errors import UserError
from models.pretraining.checkpoint import CHECKPOINT
from tests.disturbed import (
    Undisturbed,
    assert_same,
    assert_untouched,
    cells,
    ended,
    standing,
    start,
    wait_for,
)
from tests.launched import Training, gone, ranks, weights

ray_cluster = pytest.importorskip("ray.cluster_utils", reason="ray is a development dependency")
NODE = {"num_cpus": 1, "memory": 4_000_000_000, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without work of its own, and two nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        made = ray_cluster.Cluster(initialize_head=True, head_node_args=head)
        made.add_node(**NODE)
        yield made
        made.shutdown()


def profile(folder: Path, address: str, **more: object) -> Path:
    path = folder / "profile.yaml"
    settings = "".join(f", {name}: {value}" for name, value in more.items())
    path.write_text(f'executor: ray\nray: {{address: "{address}"{settings}}}\n')
    return path


def test_a_node_is_lost_with_what_it_had_in_work(
    cluster: Any, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    store, lost = tmp_path / "store", cluster.add_node(**NODE)
    process = start(undisturbed.suite, store, "--profile", str(profile(tmp_path, cluster.address)))
    wait_for(lambda: cells(store) >= 1, process)
    cluster.remove_node(lost, allow_graceful=False)
    before = standing(store)
    ended(process)
    assert_same(store, undisturbed)
    assert_untouched(before, store)


def test_a_killed_driver_and_the_same_command_again(
    cluster: Any, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Its workers end with it, and what they had stored is not computed again."""
    store, options = tmp_path / "store", ("--profile", str(profile(tmp_path, cluster.address)))
    process = start(undisturbed.suite, store, *options)
    wait_for(lambda: cells(store) >= 1, process)
    process.kill()
    process.communicate()
    before = standing(store)
    ended(start(undisturbed.suite, store, *options))
    assert_same(store, undisturbed)
    assert_untouched(before, store)


def test_a_node_that_is_gone_and_still_listed_is_not_waited_for(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray lists it until it has missed enough heartbeats."""
    from harness.executors import ray as engine  # noqa: PLC0415

    monkeypatch.setattr(engine, "_hello", lambda said: said)
    engine.connect(cluster.address)
    try:
        there, gone = engine.alive(), {"NodeID": "ab" * 28}
        monkeypatch.setattr(engine, "alive", lambda: [gone, *there])
        engine._greet_all("")
        with pytest.raises(UserError, match=r"^No store\.$"):  # what a node says is still heard
            engine._greet_all("No store.")
        monkeypatch.setattr(engine, "alive", lambda: [gone])
        with pytest.raises(UserError, match="No node of the Ray cluster answers"):
            engine._greet_all("")
    finally:
        engine.ray.shutdown()


def where(_: str, item: Item) -> Account:
    """An item that tells its node; on the one that it names it never ends."""
    node = ray_cluster.ray.get_runtime_context().get_node_id()
    while node == item.cells[0]:
        time.sleep(0.1)
    return Account(item.key, node=node)


def test_an_avoided_node_is_better_than_none(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The only other node dies: what was to go there does not wait for ever."""
    from harness.executors import ray as engine  # noqa: PLC0415

    monkeypatch.setattr(engine, "_do", where)
    monkeypatch.setattr(engine, "_greet_all", lambda _: None)
    monkeypatch.setattr(engine, "LOOK_AT_NODES_EVERY", 0.5)
    other = cluster.add_node(**NODE)
    spec = Spec("s.yaml", {}, None, None, str(tmp_path), "/", "key", "shake", {})
    items = [Item(name, (other.node_id,), Need(1.0, 10**8)) for name in ("in work", "queued")]
    ray = engine.RayEngine(spec, RaySection(address=cluster.address), items)
    try:
        (full,) = (
            node["NodeID"]
            for node in engine.alive()
            if node["Resources"].get("CPU") and node["NodeID"] != other.node_id
        )
        ray.avoid(full)
        for item in items:
            ray.submit(item)
        assert ray.wait(5.0) == []  # none goes to the avoided node, though it is free
        cluster.remove_node(other, allow_graceful=False)
        found: dict[str, Ended] = {}
        deadline = time.monotonic() + 120
        while len(found) < len(items) and time.monotonic() < deadline:
            found |= {ended.item: ended for ended in ray.wait(0.5)}
    finally:
        ray.close()
    assert set(found) == {"in work", "queued"}
    account = found["queued"].account
    assert account is not None
    assert account.node == full


def test_nodes_of_a_training_are_lost_and_others_take_it_up(
    cluster: Any, training: Training
) -> None:
    """Two nodes with a process each; the weights are those of two processes on one machine."""
    lost = cluster.add_node(**NODE)
    also = cluster.add_node(**NODE)
    shape = {"nodes": 2, "processes": 1}
    settings = {"ray": {"address": cluster.address}, "pretraining": shape}
    path = training.profile(executor="ray", **settings)
    folder = training.folder("ray")
    driver = training.start("ray", "--profile", str(path))
    wait_for(lambda: (folder / CHECKPOINT).exists() and len(ranks(folder)) == 2, driver)
    first = ranks(folder)
    for node in (lost, also):  # two of three: one of them has a process of it
        cluster.remove_node(node, allow_graceful=False)
    wait_for(lambda: gone(first), driver)
    kept = cluster.add_node(**NODE)
    said = ended(driver)
    assert "again, because a node of it is gone" in said
    assert weights(folder) == training.sha256
    cluster.remove_node(kept)


def test_more_processes_than_a_node_holds(cluster: Any, training: Training) -> None:
    for shape, sentence in (
        ({"processes": 64}, "64 processes (pretraining: processes) need 64 cores of a node"),
        ({"nodes": 9, "processes": 1}, "asks for 9 nodes"),
    ):
        settings = {"ray": {"address": cluster.address}, "pretraining": shape}
        path = training.profile(executor="ray", **settings)
        said = ended(training.start("never", "--profile", str(path)), code=2)
        assert sentence in said
        assert not training.folder("never").exists()


def test_an_address_where_nothing_answers(undisturbed: Undisturbed, tmp_path: Path) -> None:
    path = profile(tmp_path, "127.0.0.1:9")
    said = ended(start(undisturbed.suite, tmp_path / "store", "--profile", str(path)), code=2)
    assert 'No Ray cluster answers at "127.0.0.1:9"' in said
    assert "Traceback" not in said


CONNECTED = """
import sys
import ray
from harness.executors.items import Item, Need
from harness.executors.profile import RaySection
from harness.executors.ray import RayEngine
from harness.executors.spec import Spec
from models.errors import UserError
address, cpus, memory, store = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
spec = Spec("s.yaml", {}, None, None, store, "/", "key", "not there", {})
try:
    RayEngine(spec, RaySection(address=address, cpus=cpus), [Item("i", ("c",), Need(1, memory))])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("cpus", "memory", "sentence"),
    [
        (1, 10**13, "needs about 10000.0 GB of memory, and the largest node"),
        (64, 10**9, "asks for 64 cores for each item"),
        (1, 10**9, "is not the one that the run was started on"),
    ],
)
def test_what_no_node_can_do_is_said_at_the_start(
    cluster: Any, tmp_path: Path, cpus: int, memory: int, sentence: str
) -> None:
    """A cell larger than any node; a store that the nodes do not share."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", CONNECTED, cluster.address, str(cpus), str(memory), str(tmp_path)],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sentence in done.stdout


def test_small_items_share_a_gpu_and_large_ones_need_room() -> None:
    from harness.executors.ray import _share  # noqa: PLC0415

    small = Item("a", ("c",), Need(1.0, 2_000_000_000))
    assert _share(small, RaySection(items_per_gpu=4), has_gpus=True)["num_gpus"] == 0.25
    assert "num_gpus" not in _share(small, RaySection(), has_gpus=False)
    assert _share(small, RaySection(cpus=3), has_gpus=False)["num_cpus"] == 3
    assert _share(small, RaySection(), has_gpus=False)["memory"] == 2_000_000_000


@pytest.mark.parametrize("address", ["nowhere", "host:port", "ray://127.0.0.1:9"])
def test_an_address_that_is_none(address: str) -> None:
    from harness.executors.ray_cluster import require_answer  # noqa: PLC0415

    with pytest.raises(UserError, match="No Ray cluster answers"):
        require_answer(address)
