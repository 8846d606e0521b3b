"""The linear probe: batch normalisation and one linear layer, many trials trained at once.

All trials of a tuning round see the same minibatches in the same order and start from
the same weights, so everything that does not depend on a trial's learning rate or
weight decay is computed once for all: a view's batch statistics, its normalised rows,
and one matrix product for the logits of every trial on it. Gradients are written out
in closed form. Must not know where trials come from (``tuning.py``) or how they are
scored.

Protocol: BatchNorm1d + Linear, AdamW on all parameters, batch 32, 50 epochs, linear
warm-up over a tenth of the steps, then cosine to zero, as in olmoearth_pretrain
(evals/linear_probe.py); unlike there, in float32 throughout and down to zero rather
than to 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harness.probes.base import ProbeInputs, View
from models.errors import UserError

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # AdamW (Loshchilov & Hutter 2019), torch's defaults
_NORM_EPS, _NORM_MOMENTUM = 1e-5, 0.1  # torch.nn.BatchNorm1d's defaults


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

    ``weight``: ``[K, n_classes, dim]``, ``bias``: ``[K, n_classes]``, both float32 on the
    CPU, in the order of ``trials``. Batch normalisation (running statistics and its own
    scale and shift) is folded in. A diverged head holds NaN or infinity.
    """

    trials: tuple[Trial, ...]
    weight: Tensor
    bias: Tensor

    def logits(self, index: int, rows: Tensor, block: int = 8192) -> Tensor:
        """Logits of one trial, ``[n, n_classes]``; ``rows`` ``[n, dim]`` of that trial's view."""
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


def initial_linear(dim: int, n_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight ``[n_classes, dim]`` and bias ``[n_classes]`` drawn as `torch.nn.Linear` draws them.

    Uniform in +-1/sqrt(dim), the same for every trial of a seed.
    """
    generator = torch.Generator().manual_seed(seed)
    bound = dim**-0.5
    weight = torch.empty(n_classes, dim).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(n_classes).uniform_(-bound, bound, generator=generator)
    return weight, bias


@torch.no_grad()
def train_heads(
    inputs: ProbeInputs,
    trials: Sequence[Trial],
    training: Training,
    seed: int,
    device: torch.device | str = "cpu",
) -> Heads:
    """Train one head per trial, all in one program.

    A trial's result depends on the seed and on its own setting; on the other trials only
    through the rounding of matrix products. Raises `UserError` when there are fewer than
    two training samples.
    """
    n = len(inputs.labels.train)
    if n < 2:
        raise UserError(
            "The linear probe has 1 training sample; batch normalisation needs 2 or more."
        )
    device = torch.device(device)
    program = _Program(inputs, trials, seed, device)
    batches = minibatches(n, training, seed)
    factors = learning_rate_factors(len(batches), training.warmup)
    for step, (rows, factor) in enumerate(zip(batches, factors, strict=True), start=1):
        program.step(rows, factor, step)
    return program.heads()


class _Program:
    """The batched training program: its state is the parameters of all trials together.

    Trials are kept sorted by view, so that a view's trials are one slice of every tensor.
    Per trial the parameters are rows of one block ``[n_classes + 2, dim + 1]``: the linear
    layer with its bias as last column, then batch normalisation's scale and its shift
    (whose last column is unused). One block per trial lets AdamW run over everything in a
    handful of passes, and the bias ride along in the matrix products, against a column of
    ones beside the normalised rows.
    """

    def __init__(
        self, inputs: ProbeInputs, trials: Sequence[Trial], seed: int, device: torch.device
    ) -> None:
        views = [view for view in inputs.views if any(trial.view == view for trial in trials)]
        self.order = sorted(range(len(trials)), key=lambda i: views.index(trials[i].view))
        self.trials = tuple(trials)
        self.dim, self.n_classes, self.device = inputs.dim, inputs.n_classes, device
        self.rows = [inputs.views[view].train for view in views]
        counts = [sum(trial.view == view for trial in trials) for view in views]
        starts = [sum(counts[:i]) for i in range(len(counts))]
        self.slices = [slice(s, s + c) for s, c in zip(starts, counts, strict=True)]
        self.one_hot = F.one_hot(inputs.labels.train, self.n_classes).to(torch.float32)
        self.running_mean = torch.zeros(len(views) * self.dim, device=device)
        self.running_var = torch.ones(len(views) * self.dim, device=device)

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, device=device).view(-1, 1, 1)

        sorted_trials = [trials[i] for i in self.order]
        self.inverse_rate = column([1 / trial.learning_rate for trial in sorted_trials])
        self.decay = column([trial.learning_rate * trial.weight_decay for trial in sorted_trials])
        self.params = self._initial_params(seed)
        self.grads, self.mean, self.square = (torch.zeros_like(self.params) for _ in range(3))
        self.scratch = torch.empty_like(self.params)
        self.product = torch.empty(len(trials), self.n_classes, self.dim, device=device)
        self.folded, self.outer = (
            torch.empty(len(trials), self.n_classes, self.dim + 1, device=device) for _ in range(2)
        )

    def _initial_params(self, seed: int) -> Tensor:
        k, c, d = len(self.trials), self.n_classes, self.dim
        weight, bias = initial_linear(d, c, seed)
        params = torch.zeros(k, c + 2, d + 1)
        params[:, :c, :d], params[:, :c, d] = weight, bias
        params[:, c, :d] = 1.0
        return params.to(self.device)

    def step(self, rows: Tensor, factor: float, number: int) -> None:
        """One minibatch for all trials: forward, gradients, AdamW. ``number`` counts from 1."""
        inputs = self._normalised(rows)
        labels = self.one_hot[rows].T.to(self.device)
        self._fold()
        logits = torch.empty(len(self.trials), self.n_classes, len(rows), device=self.device)
        for part, normal in zip(self.slices, inputs, strict=True):
            torch.mm(self.folded[part].flatten(0, 1), normal.T, out=logits[part].flatten(0, 1))
        # Gradient of the mean cross-entropy by the logits.
        error = logits.softmax(dim=1).sub_(labels).div_(len(rows))
        for part, normal in zip(self.slices, inputs, strict=True):
            torch.mm(error[part].flatten(0, 1), normal, out=self.outer[part].flatten(0, 1))
        self._gradients()
        self._adamw(factor, number)

    def _normalised(self, rows: Tensor) -> list[Tensor]:
        """The minibatch of each view, normalised over its rows, then a one: ``[b, dim + 1]``."""
        batch = torch.cat([view[rows] for view in self.rows], dim=1).to(self.device)
        normal = F.batch_norm(
            batch,
            self.running_mean,
            self.running_var,
            training=True,
            momentum=_NORM_MOMENTUM,
            eps=_NORM_EPS,
        )
        ones = normal.new_ones(len(rows), 1)
        return [torch.cat([part, ones], dim=1) for part in normal.chunk(len(self.rows), dim=1)]

    def _split(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A block as weight ``[K, C, D]``, bias ``[K, C]``, scale and shift ``[K, 1, D]``."""
        c, d = self.n_classes, self.dim
        linear = block[:, :c]
        return linear[..., :d], linear[..., d], block[:, c : c + 1, :d], block[:, c + 1 :, :d]

    def _fold(self) -> None:
        """Batch normalisation's scale and shift, folded into the linear layer."""
        weight, bias, scale, shift = self._split(self.params)
        torch.mul(weight, scale, out=self.folded[..., : self.dim])
        # Not a batched matrix product: torch runs one per trial when rows are strided.
        torch.mul(weight, shift, out=self.product)
        torch.add(bias, self.product.sum(dim=2), out=self.folded[..., self.dim])

    def _gradients(self) -> None:
        """Gradients of all parameters from ``outer = error @ [normalised rows, 1]``.

        With y = (scale * x + shift) @ weight.T + bias and e = dL/dy:
        dweight = scale * (e.T x) + (sum e) shift, dbias = sum e,
        dscale = sum over classes of weight * (e.T x), dshift = weight.T (sum e).
        """
        weight, _, scale, shift = self._split(self.params)
        d_weight, d_bias, d_scale, d_shift = self._split(self.grads)
        outer, total = self.outer[..., : self.dim], self.outer[..., self.dim]
        d_bias.copy_(total)
        total = total.unsqueeze(2)
        torch.sum(torch.mul(weight, outer, out=self.product), dim=1, keepdim=True, out=d_scale)
        torch.sum(torch.mul(weight, total, out=self.product), dim=1, keepdim=True, out=d_shift)
        torch.addcmul(outer.mul_(scale), total, shift, out=d_weight)

    def _adamw(self, factor: float, number: int) -> None:
        """AdamW over all parameters of all trials, in place.

        The learning rate differs by trial, and only scalars can be folded into a fused
        update, so it is divided into the denominator: p -= m / ((sqrt(v) + eps') / lr).
        """
        correction1 = 1 - _BETA1**number
        correction2 = math.sqrt(1 - _BETA2**number)
        self.mean.lerp_(self.grads, 1 - _BETA1)
        self.square.mul_(_BETA2).addcmul_(self.grads, self.grads, value=1 - _BETA2)
        torch.sqrt(self.square, out=self.scratch)
        self.scratch.add_(_EPS * correction2).mul_(self.inverse_rate)
        self.params.mul_(1 - factor * self.decay)
        self.params.addcdiv_(self.mean, self.scratch, value=-factor * correction2 / correction1)

    def heads(self) -> Heads:
        """The trained heads with the running statistics folded in, in the caller's order."""
        self._fold()
        weight = torch.empty(len(self.trials), self.n_classes, self.dim)
        bias = torch.empty(len(self.trials), self.n_classes)
        for number, part in enumerate(self.slices):
            columns = slice(number * self.dim, (number + 1) * self.dim)
            deviation = (self.running_var[columns] + _NORM_EPS).sqrt()
            scaled = self.folded[part, :, : self.dim] / deviation
            shifted = self.folded[part, :, self.dim] - scaled @ self.running_mean[columns]
            where = self.order[part]
            weight[where], bias[where] = scaled.cpu(), shifted.cpu()
        return Heads(self.trials, weight, bias)
