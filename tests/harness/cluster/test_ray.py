"""A real Ray cluster of two nodes, each with processes of its own, on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.executors.board import Board, WorkerNote
from harness.executors.engine import Ended
from harness.executors.items import Item, Need
from harness.executors.profile import RaySection
from harness.executors.spec import Spec
from harness.executors.worker import Account
from harness.store import Store
from models.errors import UserError
from models.pretraining.checkpoint import CHECKPOINT
from tests.disturbed import (
    PATIENCE,
    Undisturbed,
    assert_same,
    assert_untouched,
    at_work,
    cells,
    ended,
    environment,
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
    from harness.executors import ray_cluster as joined  # noqa: PLC0415
    from harness.executors import ray_greeting as greeting  # noqa: PLC0415

    monkeypatch.setattr(greeting, "hello", lambda said: greeting.Greeting(refusal=said))
    joined.connect(cluster.address)
    try:
        there, gone = joined.alive(), {"NodeID": "ab" * 28}
        monkeypatch.setattr(greeting, "alive", lambda: [gone, *there])
        assert set(greeting.greet_all("")) == {node["NodeID"] for node in there}
        with pytest.raises(UserError, match=r"^No store\.$"):  # what a node says is still heard
            greeting.greet_all("No store.")
        monkeypatch.setattr(greeting, "alive", lambda: [gone])
        with pytest.raises(UserError, match="No node of the Ray cluster answers"):
            greeting.greet_all("")
    finally:
        joined.ray.shutdown()


def test_a_worker_that_hangs_is_killed_and_its_item_computed_elsewhere(
    cluster: Any, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """A stopped process does not hear Ray, which would count its slot as taken for ever."""
    store, path = tmp_path / "store", profile(tmp_path, cluster.address)
    path.write_text(f"{path.read_text()}timeout: 30\n")
    process = start(undisturbed.suite, store, "--profile", str(path))
    wait_for(lambda: at_work(store), process)
    hung = at_work(store)[0]
    os.kill(hung.pid, signal.SIGSTOP)
    said = ended(process)
    assert "again, because no progress for 30 seconds" in said
    assert_same(store, undisturbed)
    assert_gone([hung.pid])


def assert_gone(pids: Iterable[int]) -> None:
    """Of processes, soon."""
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def stops(spec: str, item: Item) -> Account:
    """Stops its own process on one node; elsewhere ends once its file is there."""
    node = ray_cluster.ray.get_runtime_context().get_node_id()
    board = Board(Store(Path(Spec.from_json(spec).store)), "key")
    hangs_on, until = item.cells
    note = WorkerNote(f"here-{os.getpid()}-{node}", "here", os.getpid(), item=item.key, stage=node)
    board.write_worker(note)
    if node == hangs_on:
        os.kill(os.getpid(), signal.SIGSTOP)
    while not Path(until).exists():
        time.sleep(0.1)
    return Account(item.key, node=node)


def test_what_hung_on_a_node_goes_to_another_one(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even if it has to wait for it: the first may be free again and hang again."""
    from harness.executors import ray as engine  # noqa: PLC0415

    monkeypatch.setattr(engine, "compute_item", stops)
    monkeypatch.setattr(engine, "greet_all", lambda _: {})
    spec, until = Spec("s.yaml", {}, None, None, str(tmp_path), "/", "key", "shake", {}), "until"
    board = Board(Store(tmp_path), "key")
    ray = engine.RayEngine(spec, RaySection(address=cluster.address), [])
    (first,) = (node["NodeID"] for node in engine.alive() if node["Resources"].get("CPU"))
    items = [Item(name, (first, str(tmp_path / until)), Need(1.0, 10**8)) for name in "ab"]
    try:
        other = None
        for item in items:  # the second one finds the first node taken
            ray.submit(item)
            has_begun(board, item.key)
            other = other or cluster.add_node(**NODE)
        (stuck,) = (note for note in board.workers() if note.item == "a")
        ray.cancel("a")
        assert_gone([stuck.pid])
        ray.submit(items[0])
        assert ray.wait(5.0) == []
        (tmp_path / until).touch()
        found: dict[str, Ended] = {}
        deadline = time.monotonic() + 120
        while len(found) < 2 and time.monotonic() < deadline:
            found |= {ended.item: ended for ended in ray.wait(0.5)}
    finally:
        ray.close()
        if other is not None:
            cluster.remove_node(other)
    accounts = [ended.account for ended in found.values()]
    assert [account and account.node for account in accounts] == [other.node_id] * 2


def has_begun(board: Board, item: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(note.item == item for note in board.workers()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


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

    monkeypatch.setattr(engine, "compute_item", where)
    monkeypatch.setattr(engine, "greet_all", lambda _: {})
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


def test_gpus_that_no_node_has(cluster: Any, undisturbed: Undisturbed, tmp_path: Path) -> None:
    path = profile(tmp_path, cluster.address, gpus="true")
    said = ended(start(undisturbed.suite, tmp_path / "store", "--profile", str(path)), code=2)
    assert "asks for GPUs (ray: gpus), and no node of the Ray cluster has one" in flat(said)
    assert "Traceback" not in said
    assert cells(tmp_path / "store") == 0


def flat(said: str) -> str:
    return " ".join(said.split())


LONG = """\
name: long
title: More than a test waits for
registry: [pico.yaml]
protocol: {patch_size: 4, bootstrap: 100}
tier: random
seeds: [0, 1, 2, 3, 4, 5, 6, 7]
variants: [olmoearth-one-pico, olmoearth-three-pico]
baselines: []
tasks:
  - {name: near, dataset: simulated, data: {size: 100}, probe: {kind: knn}}
  - name: tune
    dataset: simulated
    data: {size: 2000}
    probe: {kind: finetune, trials: 8, epochs: 50, patience: 50}
"""


def test_a_run_that_is_cancelled_ends_and_leaves_nothing_in_ray(
    cluster: Any, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """One of two workers is stopped besides, and hears neither the request nor Ray."""
    (tmp_path / "pico.yaml").write_text((undisturbed.suite.parent / "pico.yaml").read_text())
    suite, store = tmp_path / "long.yaml", tmp_path / "store"
    suite.write_text(LONG)
    other = cluster.add_node(**NODE)
    try:
        process = start(suite, store, "--profile", str(profile(tmp_path, cluster.address)))
        wait_for(lambda: len(at_work(store)) == 2, process)
        pids = [note.pid for note in at_work(store)]
        os.kill(pids[0], signal.SIGSTOP)
        cancel = [sys.executable, "-m", "harness.cli", "cancel", "long", "--store", str(store)]
        done = subprocess.run(cancel, env=environment(), capture_output=True, text=True, check=True)
        assert 'Asked all who work on "long" to stop' in flat(done.stdout)
        said = flat(ended(process, code=2))
        assert 'The run of "long" was stopped (tokenrank cancel); finished cells are kept' in said
        assert "Traceback" not in said
        assert_gone(pids)
        assert_idle(cluster)
    finally:
        cluster.remove_node(other)


def assert_idle(cluster: Any) -> None:
    """All cores of the cluster are free, soon: no task waits or runs."""
    from harness.executors import ray_cluster as joined  # noqa: PLC0415

    joined.connect(cluster.address)
    try:
        deadline = time.monotonic() + PATIENCE
        while joined.ray.available_resources().get("CPU") != joined.resources()["CPU"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        joined.ray.shutdown()


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


@pytest.mark.parametrize("address", ["nowhere", "host:port", "127.0.0.1:9"])
def test_an_address_that_is_none(address: str) -> None:
    from harness.executors.ray_cluster import require_answer  # noqa: PLC0415

    with pytest.raises(UserError, match="No Ray cluster answers"):
        require_answer(address)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_something_else_listens_there(answer: bytes | None, monkeypatch: Any) -> None:
    """A web server, one that hangs up, one that says nothing; the cluster's head is let through."""
    from harness.executors import ray_cluster as joined  # noqa: PLC0415

    monkeypatch.setattr(joined, "CONNECT_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = pool.submit(_answer, server, answer)
        with pytest.raises(UserError, match=f'No Ray cluster answers at "{address}" '):
            joined.connect(address)
        assert said.result().startswith(b"PRI * HTTP/2.0")


def _answer(server: socket.socket, said: bytes | None) -> bytes:
    connection, _ = server.accept()
    with connection:
        heard = connection.recv(100)
        if said is None:
            connection.recv(1)  # until the other hangs up
        else:
            connection.sendall(said)
        return heard


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "ray://head"])
def test_an_address_of_another_kind(address: str) -> None:
    from harness.executors.ray_cluster import require_answer  # noqa: PLC0415

    with pytest.raises(UserError, match=r"allowed are HOST:PORT and auto \(ray: address"):
        require_answer(address)
