"""The linear probe: batch normalisation and one linear layer, many trials trained at once.

Says what a trial is and how it is trained; the arithmetic for many trials at once is in
``linear_program.py``. Must not know where trials come from (``tuning.py``) or how they
are scored.

Protocol: BatchNorm1d + Linear, AdamW on all parameters, batch 32, 50 epochs, linear
warm-up over a tenth of the steps, then cosine to zero, as in olmoearth_pretrain
(evals/linear_probe.py); unlike there, in float32 throughout and down to zero rather
than to 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.probes.base import ProbeInputs, View
from harness.probes.linear_program import HeadProgram
from models.errors import UserError

_GROUP = 16  # trials in one program on a CPU core: more leave the cache, fewer waste calls


@dataclass(frozen=True)
class Training:
    """How every trial is trained: the part of the protocol that tuning does not touch.

    ``warmup`` is the fraction of all steps over which the learning rate rises linearly.
    """

    epochs: int = 50
    batch_size: int = 32
    warmup: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"The linear probe's epochs are {self.epochs}; allowed: 1 or more.")
        if self.batch_size < 2:
            raise UserError(
                f"The linear probe's batch_size is {self.batch_size}; batch normalisation "
                "needs 2 or more."
            )
        if not 0 <= self.warmup < 1:
            raise UserError(
                f"The linear probe's warmup is {self.warmup:g}; allowed: a fraction of the "
                "steps from 0 to below 1."
            )


@dataclass(frozen=True)
class Trial:
    """One setting of what is tuned."""

    learning_rate: float
    weight_decay: float
    normalisation: str
    pooling: str

    @property
    def view(self) -> View:
        """The embeddings that this trial sees."""
        return self.normalisation, self.pooling


@dataclass(frozen=True)
class Heads:
    """Trained heads of K trials, folded into ``logits = rows @ weight.T + bias``.

    ``weight``: ``[K, outputs, dim]``, ``bias``: ``[K, outputs]``, both float32 on the
    CPU, in the order of ``trials``. Batch normalisation (running statistics and its own
    scale and shift) is folded in. A diverged head holds NaN or infinity.
    """

    trials: tuple[Trial, ...]
    weight: Tensor
    bias: Tensor

    def logits(self, index: int, rows: Tensor, block: int = 8192) -> Tensor:
        """Logits of one trial, ``[n, outputs]``; ``rows`` ``[n, dim]`` of that trial's view."""
        weight, bias = self.weight[index], self.bias[index]
        parts = [
            torch.addmm(bias, rows[start : start + block], weight.T)
            for start in range(0, len(rows), block)
        ]
        return torch.cat(parts)


def learning_rate_factors(steps: int, warmup: float) -> list[float]:
    """The schedule as a factor on each trial's learning rate, one per step.

    Linear from 0 over the first ``warmup`` fraction, then half a cosine from 1 towards 0
    (SGDR, Loshchilov & Hutter 2017, without restarts).
    """
    rising = round(steps * warmup)
    falling = steps - rising
    return [step / rising for step in range(rising)] + [
        0.5 * (1 + math.cos(math.pi * step / falling)) for step in range(falling)
    ]


def minibatches(n: int, training: Training, seed: int) -> list[Tensor]:
    """Row numbers of every step of every epoch: a new seeded order each epoch.

    A last minibatch of a single row joins its predecessor, because one row has no
    variance to normalise by.
    """
    generator = torch.Generator().manual_seed(seed)
    batches: list[Tensor] = []
    for _ in range(training.epochs):
        order = torch.randperm(n, generator=generator)
        epoch = [order[i : i + training.batch_size] for i in range(0, n, training.batch_size)]
        if len(epoch) > 1 and len(epoch[-1]) == 1:
            epoch[-2:] = [torch.cat(epoch[-2:])]
        batches += epoch
    return batches


def initial_linear(dim: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight ``[outputs, dim]`` and bias ``[outputs]`` drawn as `torch.nn.Linear` draws them.

    Uniform in +-1/sqrt(dim), the same for every trial of a seed.
    """
    generator = torch.Generator().manual_seed(seed)
    bound = dim**-0.5
    weight = torch.empty(outputs, dim).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    return weight, bias


def train_heads(
    inputs: ProbeInputs,
    trials: Sequence[Trial],
    training: Training,
    seed: int,
    device: torch.device | str = "cpu",
) -> Heads:
    """Train one head per trial, many in one program.

    A trial's result depends on the seed and on its own setting; on the other trials only
    through the rounding of matrix products, and on the number of cores not at all. Raises
    `UserError` when there are fewer than two training samples.
    """
    n = len(inputs.labels.train)
    if n < 2:
        raise UserError(
            "The linear probe has 1 training sample; batch normalisation needs 2 or more."
        )
    device = torch.device(device)
    views = list(inputs.views)
    # Neighbours by view share its normalised rows; the sort is stable, so groups are fixed.
    order = sorted(range(len(trials)), key=lambda i: views.index(trials[i].view))
    size = _GROUP if device.type == "cpu" else len(trials)
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    batches = minibatches(n, training, seed)

    def train(group: list[int]) -> tuple[Tensor, Tensor]:
        return _train_group(inputs, [trials[i] for i in group], training, batches, seed, device)

    weight = torch.empty(len(trials), inputs.objective.outputs, inputs.dim)
    bias = torch.empty(len(trials), inputs.objective.outputs)
    trained = _on_all_cores(train, groups) if device.type == "cpu" else map(train, groups)
    for group, (weights, biases) in zip(groups, trained, strict=True):
        weight[group], bias[group] = weights, biases
    return Heads(tuple(trials), weight, bias)


@torch.no_grad()
def _train_group(
    inputs: ProbeInputs,
    trials: Sequence[Trial],
    training: Training,
    batches: Sequence[Tensor],
    seed: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Weight ``[K, C, D]`` and bias ``[K, C]`` of trials that are sorted by view."""
    views = list(dict.fromkeys(trial.view for trial in trials))
    objective = inputs.objective
    weight, bias = initial_linear(inputs.dim, objective.outputs, seed)
    program = HeadProgram(
        rows=[inputs.views[view].train for view in views],
        counts=[sum(trial.view == view for trial in trials) for view in views],
        targets=objective.encode(inputs.labels.train),
        error=objective.error,
        weight=weight,
        bias=bias,
        learning_rates=[trial.learning_rate for trial in trials],
        weight_decays=[trial.weight_decay for trial in trials],
        device=device,
    )
    factors = learning_rate_factors(len(batches), training.warmup)
    for number, (rows, factor) in enumerate(zip(batches, factors, strict=True), start=1):
        program.step(rows, factor, number)
    return program.result()


def _on_all_cores(
    train: Callable[[list[int]], tuple[Tensor, Tensor]], groups: Sequence[list[int]]
) -> list[tuple[Tensor, Tensor]]:
    """Train groups side by side, each on one core.

    A step is some thirty small operations. Splitting each over the cores makes every one
    of them wait for the slowest core, which costs tenfold when anything else runs on the
    machine; whole groups never wait for each other. One core a group also means the same
    bits on a machine with more cores.
    """
    cores = torch.get_num_threads()

    def on_one_core(group: list[int]) -> tuple[Tensor, Tensor]:
        torch.set_num_threads(1)
        return train(group)

    try:
        with ThreadPoolExecutor(max_workers=max(1, min(cores, len(groups)))) as pool:
            return list(pool.map(on_one_core, groups))
    finally:
        torch.set_num_threads(cores)
