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
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.pretraining.batches import Share

ORDERLESS = 2  # so many floats have the same sum in any order


class _Gathered(torch.autograd.Function):
    """Rows of all processes; each gets back the sum of what they all say of its own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # A copy: autograd may still need what came in.
        whole = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size())[dist.get_rank()]


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
        gathered: Tensor = _Gathered.apply(rows)  # type: ignore[no-untyped-call]
        return gathered

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
        # After its first backward torch puts gradients into the order in which they came, unless it
        # looks for unused ones. Where a gradient lies decides in which order three or more are
        # added: a run that goes on would differ from one that was never interrupted.
        return nn.parallel.DistributedDataParallel(
            model, device_ids=devices, find_unused_parameters=self.share.world > ORDERLESS
        )

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
