"""What one element asks Slurm for, minutes and megabytes, and whether a cluster has it.

In few sizes, as all elements of an array ask for the same. It must not know submitit, or what
became of a job.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.executors.items import Item
from harness.executors.profile import SlurmSection
from harness.executors.slurm_commands import NodeKind, nodes_of
from models.errors import UserError

STEPS = 8  # sizes between what was doubled last and the most there is
MEBIBYTE = 2**20  # Slurm's megabyte; its gigabyte, which profiles are in, is 1024 of them

Bundle = tuple[Item, ...]


@dataclass(frozen=True)
class Size:
    """Of an element, or the most that one may have."""

    minutes: float
    megabytes: int


def room_for(section: SlurmSection, items: Sequence[Item]) -> Size:
    """The most that an element may ask for where its cores and GPUs are.

    Raises `UserError` for what the cluster does not have.
    """
    kinds = nodes_of(section.partition)
    where = f'partition "{section.partition}"' if section.partition else "the cluster"
    kinds = _with_processors(kinds, section, where)
    room = Size(max(kind.minutes for kind in kinds), max(kind.memory for kind in kinds))
    _require_memory(section, items, room.megabytes, where)
    _require_time(section, items, room.minutes, where)
    return room


def in_sizes(
    bundles: Sequence[Bundle], section: SlurmSection, room: Size
) -> list[tuple[Size, list[Bundle]]]:
    """Bundles that ask for the same, together."""
    found: dict[Size, list[Bundle]] = {}
    for bundle in bundles:
        found.setdefault(_size_of(bundle, section, room), []).append(bundle)
    return list(found.items())


def _size_of(bundle: Bundle, section: SlurmSection, room: Size) -> Size:
    minutes = sum(_minutes(item, section) for item in bundle)
    megabytes = max(_megabytes(item, section) for item in bundle)
    return Size(
        _rounded(minutes, section.minutes, room.minutes),
        _rounded(megabytes, _least_megabytes(section), room.megabytes),
    )


def _rounded(needed: float, least: int, most: float) -> int:
    """The least, doubled until it is enough; near the most there is, in finer steps."""
    size = least
    while size < needed:
        size *= 2
    if size <= most:
        return size
    step = most / STEPS
    return min(math.ceil(math.ceil(needed / step) * step), math.floor(most))


def _minutes(item: Item, section: SlurmSection) -> float:
    return item.need.seconds * section.time_factor / 60


def _megabytes(item: Item, section: SlurmSection) -> int:
    return math.ceil(item.need.memory * section.memory_factor / MEBIBYTE)


def _least_megabytes(section: SlurmSection) -> int:
    return math.ceil(section.memory_gb * 1024)


def _with_processors(kinds: list[NodeKind], section: SlurmSection, where: str) -> list[NodeKind]:
    """Nodes that have the cores and the GPUs of an element."""
    cores = max((kind.cores for kind in kinds), default=0)
    gpus = max((kind.gpus for kind in kinds), default=0)
    if section.cpus > cores:
        raise UserError(
            f"The profile asks for {section.cpus} cores for each job (slurm: cpus), and the "
            f"largest node of {where} has {cores}."
        )
    if section.gpus > gpus:
        raise UserError(
            f"The profile asks for {section.gpus} GPU{'s' * (section.gpus > 1)} for each job "
            f"(slurm: gpus), and the node of {where} with the most has {gpus}; lower it, or name "
            "another partition (slurm: partition)."
        )
    fit = [kind for kind in kinds if kind.cores >= section.cpus and kind.gpus >= section.gpus]
    if not fit:
        raise UserError(
            f"No node of {where} has both the cores and the GPUs that the profile asks for "
            f"(slurm: cpus: {section.cpus}, gpus: {section.gpus}); lower one of them."
        )
    return fit


def _require_memory(section: SlurmSection, items: Sequence[Item], room: int, where: str) -> None:
    needed = max([_least_megabytes(section), *(_megabytes(item, section) for item in items)])
    if needed > room:
        fit = " that has the GPUs" if section.gpus else ""
        raise UserError(
            f"A cell of this suite needs {needed / 1024:.1f} GB of memory as the profile asks for "
            f"it, and the largest node of {where}{fit} has {room / 1024:.1f} GB; lower slurm: "
            "memory_gb or memory_factor, or leave out the task or variant."
        )


def _require_time(section: SlurmSection, items: Sequence[Item], room: float, where: str) -> None:
    if section.minutes > room:
        raise UserError(
            f"The profile asks for {section.minutes} minutes for each job (slurm: minutes), and "
            f"{where} allows {room:g}; lower it, or name another partition (slurm: partition)."
        )
    needed = max((_minutes(item, section) for item in items), default=0.0)
    if needed > room:
        raise UserError(
            f"Cells of this suite that share embeddings need {needed:.0f} minutes as the profile "
            f"asks for it, and {where} allows {room:g}; lower slurm: time_factor, name another "
            "partition, or leave out the task or variant."
        )
