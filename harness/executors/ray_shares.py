"""What an item asks of a Ray cluster: cores, memory, and its share of a GPU.

Several small items share a GPU, a large one has more of it or all. Pure: needs and what nodes have
in, requests out. It must not know how anything is handed out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.executors.items import GpuNeed, Item
from harness.executors.profile import RaySection
from models.errors import UserError

STEPS = 20  # shares are rounded up to twentieths: Ray keeps a queue for each kind of request


@dataclass(frozen=True)
class Gpus:
    """The cluster's GPUs: ``memory`` is that of a node's smallest one, in bytes, by node.

    Nodes that do not tell are not in it. ``at_most``: items that share one.
    """

    memory: Mapping[str, int]
    at_most: int

    def among(self, nodes: Collection[str]) -> Gpus:
        """Those that are still there; all, where none is that tells: some may come back."""
        left = {node: size for node, size in self.memory.items() if node in nodes}
        return replace(self, memory=left) if left else self

    def share(self, need: GpuNeed | None) -> float:
        """Of a GPU that holds it: all of one where nobody knows what it needs.

        Where nobody knows how large the GPUs are, it is that of ``at_most`` items.
        """
        least = math.floor(1e4 / self.at_most) / 1e4  # Ray counts in ten-thousandths
        if not self.memory:
            return least
        if need is None:
            return 1.0
        part = need.memory / self._chosen(need)
        return min(1.0, max(least, math.ceil(part * STEPS) / STEPS))

    def too_small(self, need: GpuNeed | None) -> frozenset[str]:
        """Nodes whose GPUs an item must not go to, as others hold more of it."""
        if not self.memory or need is None:
            return frozenset()
        return frozenset(node for node, size in self.memory.items() if size < self._chosen(need))

    def _chosen(self, need: GpuNeed) -> int:
        """The smallest GPU that holds its batches, else the largest: they are halved there."""
        holding = [size for size in self.memory.values() if size >= need.memory]
        return min(holding) if holding else max(self.memory.values())


def request(item: Item, section: RaySection, gpus: Gpus | None) -> dict[str, Any]:
    """An item's resources, as options of a Ray task."""
    asked: dict[str, Any] = {"num_cpus": section.cpus, "memory": item.need.memory}
    if gpus is not None:
        asked["num_gpus"] = gpus.share(item.need.gpu)
    return asked


def is_held(asked: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether a node, as Ray tells it, is large enough."""
    names = {"num_cpus": "CPU", "memory": "memory", "num_gpus": "GPU"}
    return all(node["Resources"].get(names[name], 0.0) >= asked[name] for name in asked)


def require_gpus(section: RaySection, nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether items are computed on GPUs.

    Raises `UserError` where the profile wants them, or gives their memory, and no node has one.
    """
    there = any(has_gpu(node) for node in nodes)
    if section.gpus is False:
        return False
    if not there and (section.gpus or section.gpu_memory_gb is not None):
        named = "gpus" if section.gpus else "gpu_memory_gb"
        raise UserError(
            f"The profile asks for GPUs (ray: {named}), and no node of the Ray cluster has one; "
            "start nodes with them (ray start --num-gpus), or take that setting out to compute on "
            "processor cores."
        )
    return there


def has_gpu(node: Mapping[str, Any]) -> bool:
    """Whether a node, as Ray tells it, has a GPU."""
    return bool(node["Resources"].get("GPU", 0.0) > 0)


def require_room(
    items: Collection[Item],
    section: RaySection,
    nodes: Collection[Mapping[str, Any]],
    on_gpus: bool,
) -> None:
    """An item that no node can hold would wait for ever. Raises `UserError`."""
    able = [node for node in nodes if has_gpu(node) or not on_gpus]
    named = "largest node of the Ray cluster" + (" that has a GPU" if on_gpus else "")
    widest = max((item.need.memory for item in items), default=0)
    room = _largest("memory", able)
    if widest > room:
        raise UserError(
            f"A cell of this suite needs about {widest / 1e9:.1f} GB of memory, and the {named} "
            f"offers {room / 1e9:.1f} GB; add a larger node, or leave out the task or variant "
            "(tokenrank plan tells each one's memory)."
        )
    if section.cpus > _largest("CPU", able):
        raise UserError(
            f"The profile asks for {section.cpus:g} cores for each item (ray: cpus), and the "
            f"{named} has {_largest('CPU', able):g}."
        )


def require_gpu_room(items: Iterable[Item], gpus: Gpus) -> None:
    """Raises `UserError` where no GPU holds an item, however small its batches become."""
    room = max(gpus.memory.values(), default=0)
    needs = [item.need.gpu.least for item in items if item.need.gpu is not None]
    if room and max(needs, default=0) > room:
        raise UserError(
            f"A cell of this suite needs about {max(needs) / 1e9:.1f} GB of a GPU's memory, and "
            f"the largest GPU of the Ray cluster has {room / 1e9:.1f} GB; add a larger one, leave "
            "out the task or variant, or compute on processor cores (ray: {gpus: false} in the "
            "profile)."
        )


def _largest(resource: str, nodes: Iterable[Mapping[str, Any]]) -> float:
    return max((float(node["Resources"].get(resource, 0.0)) for node in nodes), default=0.0)
