"""Several processes on one batch, as `torchrun` starts them; one process is the simple case.

Each works on its share of every batch and gradients are averaged, so the loss curve is that of
one process up to rounding (drop path, which each draws for itself, aside). It must not know what
is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.pretraining.batches import Share


@dataclass(frozen=True)
class Group:
    """The processes of a run, and the device that this one works on."""

    share: Share
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.share.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Rows ``[b, dim]`` of all processes, ``[world b, dim]``; gradients flow back to each."""
        if self.share.world == 1:
            return rows
        from torch.distributed.nn import functional  # noqa: PLC0415  (it wants a running group)

        parts: tuple[Tensor, ...] = functional.all_gather(rows)  # type: ignore[no-untyped-call]
        return torch.cat(parts)

    def mean(self, values: Tensor) -> Tensor:
        """The processes' mean, the same on each."""
        if self.share.world > 1:
            dist.all_reduce(values)
            values /= self.share.world
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, its gradients averaged over the processes."""
        if self.share.world == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def wait(self) -> None:
        """Until every process is here."""
        if self.share.world > 1:
            dist.barrier()


def default_device() -> torch.device:
    """This process's GPU where there are any, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def group_of_environment(device: torch.device | None = None) -> Iterator[Group]:
    """The group that `torchrun` describes in the environment; of one where nobody does."""
    device = device or default_device()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group(Share(), device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(Share(dist.get_rank(), world), device)
    finally:
        dist.destroy_process_group()
