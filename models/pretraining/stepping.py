"""One optimiser step: forward and backward over a batch's parts, and clipping.

What it draws (drop path) follows from the step's number, so that a resumed run draws the same.
It must not know records, checkpoints or how batches are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.initialisation import generator_of
from models.pretraining.batches import Batch
from models.pretraining.distributed import Group
from models.pretraining.job import Job
from models.pretraining.pretrainer import Losses
from models.pretraining.schedule import learning_rate


@dataclass(frozen=True)
class Step:
    """What a step leaves, on its device: nothing waits for the numbers until somebody reads them.

    ``terms``: loss, discrimination, contrast (means over parts and processes) and gradient norm,
    ``[4]``. ``pooled``: this process's encodings of the last part, ``[b, dim]``.
    """

    terms: Tensor
    pooled: Tensor


def make_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    parts: Sequence[Batch],
    job: Job,
    step: int,
    group: Group,
    bfloat16: bool,
) -> Step:
    """Make step number ``step`` of the job with its batch, which comes in ``parts``."""
    rate = learning_rate(job.setting.optimiser, step, job.steps)
    for settings in optimiser.param_groups:
        settings["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    terms = []
    for number, part in enumerate(parts):
        losses = _backward(model, part, job, step, number, len(parts), group, bfloat16)
        terms.append(torch.stack([losses.total, losses.discrimination, losses.contrast]).detach())
    trained = [p for settings in optimiser.param_groups for p in settings["params"]]
    norm = nn.utils.clip_grad_norm_(trained, job.setting.optimiser.clip)
    optimiser.step()
    mean = group.mean(torch.stack(terms).mean(dim=0))
    return Step(torch.cat([mean, norm.detach().reshape(1)]), losses.pooled)


def _backward(
    model: nn.Module,
    part: Batch,
    job: Job,
    step: int,
    number: int,
    count: int,
    group: Group,
    bfloat16: bool,
) -> Losses:
    last = number + 1 == count
    quiet: AbstractContextManager[Any] = nullcontext()
    if not last and isinstance(model, nn.parallel.DistributedDataParallel):
        quiet = model.no_sync()
    batch = part.to(group.device)
    with quiet, _seeded(job, step, number, group):
        with torch.autocast(group.device.type, torch.bfloat16, enabled=bfloat16):
            losses: Losses = model(batch.views, batch.spacing)
        (losses.total / count).backward()  # type: ignore[no-untyped-call]
    return losses


def _seeded(job: Job, step: int, number: int, group: Group) -> AbstractContextManager[Any]:
    """Torch's own random numbers, which drop path draws from, made to follow from the step."""
    if not job.setting.drop_path:
        return nullcontext()
    key = f"drop path:{job.seed}:{step}:{number}:{group.share.rank}"
    return _Seeded(generator_of(key).initial_seed(), group.device)


class _Seeded(AbstractContextManager[None]):
    def __init__(self, seed: int, device: torch.device) -> None:
        devices = [device] if device.type == "cuda" else []
        self._fork = torch.random.fork_rng(devices=devices)
        self._seed = seed

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)
