"""Ray hands out the items: to a laptop, a node with many GPUs, a Slurm allocation, or Kubernetes.

Each item asks for what its estimate says, so that several small ones share a GPU and a large one
waits for a node that holds it. It must not know what an item is made of.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from harness.executors.board import Board
from harness.executors.engine import Ended
from harness.executors.items import Item
from harness.executors.profile import RaySection
from harness.executors.ray_cluster import alive, connect, exceptions, ray, resources
from harness.executors.ray_greeting import Greeting, greet_all
from harness.executors.ray_shares import (
    Gpus,
    has_gpu,
    is_held,
    request,
    require_gpu_room,
    require_gpus,
    require_room,
)
from harness.executors.spec import Spec
from harness.executors.worker import Account, Worker
from harness.store_place import open_store

Work = Callable[[str, Item], Account]
LOOK_AT_NODES_EVERY = 5.0  # seconds
NODE_LABEL = "ray.io/node-id"  # that Ray gives each node


class RayEngine:
    """Implements `harness.executors.engine.Engine`."""

    name = "ray"

    def __init__(
        self, spec: Spec, section: RaySection, items: list[Item], work: Work | None = None
    ) -> None:
        """Connect, and prove that each node sees the store. Raises `UserError`.

        ``work`` is what a worker does with an item, for measurements; else it computes it.
        """
        self._spec, self._section = spec.to_json(), section
        self._place, self._plan_key = spec.store, spec.plan_key
        connect(section.address, {"CUDA_VISIBLE_DEVICES": ""} if section.gpus is False else {})
        try:
            has_gpus = require_gpus(section, alive())
            require_room(items, section, alive(), has_gpus)
            answers = greet_all(self._spec)
            self._gpus = _gpus(section, answers) if has_gpus else None
            if self._gpus is not None:
                require_gpu_room(items, self._gpus)
        except BaseException:
            ray.shutdown()
            raise
        # A process keeps the GPU that it began with, and memory of it, as long as it lives; Ray
        # would give it another one with another item.
        self._run = ray.remote(max_retries=0, max_calls=0 if self._gpus is None else 1)(
            work or compute_item
        )
        self._flying: dict[Any, Item] = {}  # by reference
        self._looked, self._slots = float("-inf"), 1
        self._avoided: frozenset[str] = frozenset()
        self._choosy: dict[Any, frozenset[str]] = {}  # references, and nodes that are not for them
        self._looked_at_choosy = float("-inf")
        self._hung: dict[str, frozenset[str]] = {}  # nodes on which a cell made no progress

    @property
    def slots(self) -> int:
        """What all nodes hold at once and one more for each core: none waits for the driver."""
        if self._section.slots is not None:
            return self._section.slots
        if time.monotonic() - self._looked > LOOK_AT_NODES_EVERY:
            self._looked = time.monotonic()
            cpus = resources().get("CPU", 1.0)
            self._slots = max(1, int(2 * cpus / self._section.cpus))
        return self._slots

    def submit(self, item: Item) -> None:
        """With the item's share of a node."""
        gpus = self._gpus_there()
        asked = request(item, self._section, gpus)
        others = self._not_for(item, asked, gpus)
        if others:
            asked["label_selector"] = {NODE_LABEL: f"!in({','.join(sorted(others))})"}
        reference = self._run.options(**asked).remote(self._spec, item)
        self._flying[reference] = item
        if others:
            self._choosy[reference] = others

    def _gpus_there(self) -> Gpus | None:
        """A share of a GPU that is lost would be none of those that are left."""
        return self._gpus and self._gpus.among({node["NodeID"] for node in alive()})

    def _not_for(self, item: Item, asked: dict[str, Any], gpus: Gpus | None) -> frozenset[str]:
        """Nodes that it should not go to, while others hold it: it would wait for ever for none."""
        small = gpus.too_small(item.need.gpu) if gpus else frozenset[str]()
        hung = frozenset[str]().union(*(self._hung.get(cell, ()) for cell in item.cells))
        wishes = (small | self._avoided | hung, small | self._avoided, self._avoided)
        return next((nodes for nodes in wishes if _others(asked, nodes)), frozenset())

    def wait(self, seconds: float) -> list[Ended]:
        """Items that ended, and those of workers and nodes that were lost."""
        self._release()
        if not self._flying:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=seconds)
        if ready:  # whatever else has ended meanwhile
            ready, _ = ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        for reference in ready:
            self._choosy.pop(reference, None)
        return [_ended(self._flying.pop(reference).key, reference) for reference in ready]

    def _release(self) -> None:
        """Items wait no more for nodes that are gone: an avoided one is better than none."""
        now = time.monotonic()
        if not self._choosy or now - self._looked_at_choosy < LOOK_AT_NODES_EVERY:
            return
        self._looked_at_choosy = now
        for reference, nodes in list(self._choosy.items()):
            item = self._flying[reference]
            if not _others(request(item, self._section, self._gpus_there()), nodes):
                del self._choosy[reference], self._flying[reference]
                ray.cancel(reference, force=True)
                self.submit(item)

    def avoid(self, node: str) -> None:
        """What Ray has in its queue already may still go there, once."""
        self._avoided |= {node}

    def cancel(self, item: str) -> None:
        """End the process that has it; it starts again on another node, if there is one."""
        for reference, flying in list(self._flying.items()):
            if flying.key == item:
                del self._flying[reference]
                self._choosy.pop(reference, None)
                ray.cancel(reference, force=True)
                nodes = self._nodes_of(item)
                for cell in flying.cells:  # which may be handed out alone the next time
                    self._hung[cell] = self._hung.get(cell, frozenset()) | nodes

    def _nodes_of(self, item: str) -> frozenset[str]:
        """Where it is in work, as its worker's note tells."""
        found = set()
        with contextlib.suppress(OSError):  # the store is away
            board = Board(open_store(self._place), self._plan_key)
            for note in board.workers():
                if note.item == item:
                    found.add(note.worker.rpartition("-")[2])
        return frozenset(found)

    def close(self) -> None:
        """End what runs, and let go of the cluster; one that was started for the run ends."""
        for reference in self._flying:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        ray.shutdown()


def _gpus(section: RaySection, answers: dict[str, Greeting]) -> Gpus:
    """What the profile says of them, else the nodes themselves."""
    nodes = [node["NodeID"] for node in alive() if has_gpu(node)]
    told = {node: answers[node].gpu_memory for node in nodes if node in answers}
    if section.gpu_memory_gb is not None:
        told = dict.fromkeys(nodes, round(section.gpu_memory_gb * 1e9))
    return Gpus({node: size for node, size in told.items() if size}, section.items_per_gpu)


def _others(asked: dict[str, Any], nodes: frozenset[str]) -> bool:
    """Whether some other node than these holds an item."""
    return any(is_held(asked, node) for node in alive() if node["NodeID"] not in nodes)


def compute_item(spec: str, item: Item) -> Account:
    """In a worker's process: it makes the plan when its first item comes."""
    account = _worker(spec).do(item)
    account.node = ray.get_runtime_context().get_node_id()
    return account


_workers: dict[str, Worker] = {}


def _worker(spec: str) -> Worker:
    """The worker of this process: it makes the plan once, for all items that come here."""
    if spec not in _workers:
        _workers.clear()
        node = ray.get_runtime_context().get_node_id()
        name = f"{os.uname().nodename}-{os.getpid()}-{node}"  # which tells the engine the node
        _workers[spec] = Worker(Spec.from_json(spec), name)
    return _workers[spec]


def _ended(item: str, reference: Any) -> Ended:
    try:
        return Ended(item, "done", ray.get(reference))
    except exceptions.OutOfMemoryError:
        return Ended(item, "memory", reason="its node had not enough memory")
    except exceptions.NodeDiedError:
        return Ended(item, "lost", reason="its node is gone")
    except (exceptions.WorkerCrashedError, exceptions.OwnerDiedError):
        return Ended(item, "lost", reason="its worker was killed")
    except exceptions.RayError as error:
        first = str(error).strip().splitlines()[-1] if str(error).strip() else ""
        return Ended(item, "lost", reason=f"{type(error).__name__}: {first}")
