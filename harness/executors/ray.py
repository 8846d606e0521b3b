"""Ray hands out the items: to a laptop, a node with many GPUs, a Slurm allocation, or Kubernetes.

Each item asks for what its estimate says, so that several small ones share a GPU and a large one
waits for a node that holds it. It must not know what an item is made of.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from harness.executors.driving import Ended
from harness.executors.items import Item
from harness.executors.profile import RaySection
from harness.executors.ray_cluster import (
    NodeAffinitySchedulingStrategy,
    alive,
    connect,
    exceptions,
    largest,
    ray,
    resources,
)
from harness.executors.spec import Spec
from harness.executors.worker import Account, Worker
from models.errors import UserError

GREET_WITHIN = 120.0  # seconds
LOOK_AT_NODES_EVERY = 5.0
NODE_LABEL = "ray.io/node-id"  # that Ray gives each node
_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
)


class RayEngine:
    """Implements `harness.executors.driving.Engine`."""

    name = "ray"

    def __init__(self, spec: Spec, section: RaySection, items: list[Item]) -> None:
        """Connect, and prove that each node sees the store. Raises `UserError`."""
        self._spec, self._section = spec.to_json(), section
        connect(section.address)
        try:
            self._has_gpus = largest("GPU") > 0
            _require_room(items, section, self._has_gpus)
            _greet_all(self._spec)
        except BaseException:
            ray.shutdown()
            raise
        self._run = ray.remote(max_retries=0, max_calls=0)(_do)
        self._flying: dict[Any, Item] = {}  # by reference
        self._looked, self._slots = float("-inf"), 1
        self._avoided: set[str] = set()
        self._choosy: set[Any] = set()  # references of those that must not go to an avoided node
        self._looked_at_choosy = float("-inf")

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
        share = _share(item, self._section, self._has_gpus)
        is_choosy = bool(self._avoided) and self._others(share)
        if is_choosy:
            share["label_selector"] = {NODE_LABEL: f"!in({','.join(sorted(self._avoided))})"}
        reference = self._run.options(**share).remote(self._spec, item)
        self._flying[reference] = item
        if is_choosy:
            self._choosy.add(reference)

    def wait(self, seconds: float) -> list[Ended]:
        """Items that ended, and those of workers and nodes that were lost."""
        self._release()
        if not self._flying:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=seconds)
        if ready:  # whatever else has ended meanwhile
            ready, _ = ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        self._choosy.difference_update(ready)
        return [_ended(self._flying.pop(reference).key, reference) for reference in ready]

    def _release(self) -> None:
        """Items wait no more for nodes that are gone: an avoided one is better than none."""
        now = time.monotonic()
        if not self._choosy or now - self._looked_at_choosy < LOOK_AT_NODES_EVERY:
            return
        self._looked_at_choosy = now
        for reference in list(self._choosy):
            item = self._flying[reference]
            if not self._others(_share(item, self._section, self._has_gpus)):
                self._choosy.discard(reference)
                del self._flying[reference]
                ray.cancel(reference, force=True)
                self.submit(item)

    def avoid(self, node: str) -> None:
        """What Ray has in its queue already may still go there, once."""
        self._avoided.add(node)

    def _others(self, share: Mapping[str, float]) -> bool:
        """Whether a node that is not avoided holds an item: it would wait for ever for none."""
        names = {"num_cpus": "CPU", "memory": "memory", "num_gpus": "GPU"}
        needed = {names[name]: amount for name, amount in share.items()}
        return any(
            all(node["Resources"].get(name, 0.0) >= amount for name, amount in needed.items())
            for node in alive()
            if node["NodeID"] not in self._avoided
        )

    def cancel(self, item: str) -> None:
        """Kill the process that has it."""
        for reference, flying in list(self._flying.items()):
            if flying.key == item:
                del self._flying[reference]
                self._choosy.discard(reference)
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """End what runs, and let go of the cluster; one that was started for the run ends."""
        for reference in self._flying:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        ray.shutdown()


def _do(spec: str, item: Item) -> Account:
    account = _worker(spec).do(item)
    account.node = ray.get_runtime_context().get_node_id()
    return account


_workers: dict[str, Worker] = {}


def _worker(spec: str) -> Worker:
    """The worker of this process: it makes the plan once, for all items that come here."""
    if spec not in _workers:
        _workers.clear()
        _workers[spec] = Worker(Spec.from_json(spec))
    return _workers[spec]


def _share(item: Item, section: RaySection, has_gpus: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {"num_cpus": section.cpus, "memory": item.need.memory}
    if has_gpus:
        asked["num_gpus"] = item.need.gpus or 1.0 / section.items_per_gpu
    return asked


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


def _require_room(items: list[Item], section: RaySection, has_gpus: bool) -> None:
    """An item that no node can hold would wait for ever."""
    widest = max((item.need.memory for item in items), default=0)
    room = largest("memory")
    if widest > room:
        raise UserError(
            f"A cell of this suite needs about {widest / 1e9:.1f} GB of memory, and the largest "
            f"node of the Ray cluster offers {room / 1e9:.1f} GB; add a larger node, or leave out "
            "the task or variant (tokenrank plan tells each one's memory)."
        )
    if section.cpus > largest("CPU"):
        raise UserError(
            f"The profile asks for {section.cpus:g} cores for each item (ray: cpus), and the "
            f"largest node of the Ray cluster has {largest('CPU'):g}."
        )


def _hello(spec: str) -> str:
    try:
        Spec.from_json(spec).require_shared()
    except UserError as error:
        return str(error)
    except OSError:
        pass  # its disk is full: it sees the store, and tells of the disk when it is given work
    return ""


def _greet_all(spec: str) -> None:
    """Every node must see the store that the driver writes: known now, not after hours.

    Ray lists a node for a while that is gone already; those are not waited for.
    """
    deadline, answered = time.monotonic() + GREET_WITHIN, 0
    to_greet = _node_ids()
    while to_greet:
        answers = {node: _greeting(node, spec) for node in to_greet}
        lost = set()
        for node, answer in answers.items():
            try:
                sentence = ray.get(answer, timeout=max(0.0, deadline - time.monotonic()))
            except exceptions.TaskUnschedulableError:
                continue  # Ray has no such node any more
            except _LOST:
                lost.add(node)
                continue
            except exceptions.GetTimeoutError:
                raise UserError(
                    f"Not all {len(answers)} nodes of the Ray cluster answer within "
                    f"{GREET_WITHIN:g} seconds; check them with ray status."
                ) from None
            except exceptions.RayTaskError as error:
                said = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"A node of the Ray cluster cannot run tokenrank ({said}); install the same "
                    "version of it on every node."
                ) from None
            if sentence:
                raise UserError(sentence)
            answered += 1
        to_greet = lost & _node_ids()
    if not answered:
        raise UserError("No node of the Ray cluster answers; check them with ray status.")


def _node_ids() -> set[str]:
    return {node["NodeID"] for node in alive()}


def _greeting(node: str, spec: str) -> Any:
    greet = ray.remote(num_cpus=0, max_retries=0)(_hello)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return greet.options(scheduling_strategy=there).remote(spec)
