"""Many linear heads trained as one tensor program: forward, gradients and AdamW for all at once.

All heads see the same minibatches and start from the same weights, so everything that
does not depend on a trial's learning rate or weight decay is computed once for all: a
view's batch statistics, its normalised rows, one matrix product for the logits of every
head on it. Gradients are written out in closed form. Knows settings only as columns of
numbers; must not know the schedule, tuning or scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # AdamW (Loshchilov & Hutter 2019), torch's defaults
_NORM_EPS, _NORM_MOMENTUM = 1e-5, 0.1  # torch.nn.BatchNorm1d's defaults


class HeadProgram:
    """The parameters of K heads and one training step for all of them.

    Heads are sorted by view: ``counts[v]`` heads read view ``v``, whose training rows are
    ``rows[v]`` ``[n, dim]`` (possibly memory-mapped; minibatches are gathered by index).
    ``targets`` ``[n, outputs]`` are encoded, and ``error`` is the gradient of the mean loss by the
    outputs (`Objective`). ``weight`` ``[outputs, dim]`` and ``bias`` ``[outputs]`` start every
    head.

    Per head the parameters are one block ``[outputs + 2, dim + 1]``: the linear layer
    with its bias as last column, then batch normalisation's scale and its shift (whose
    last column is unused). One block per head lets AdamW run over everything in a handful
    of passes, and the bias ride along in the matrix products, against a column of ones
    beside the normalised rows.
    """

    def __init__(
        self,
        rows: Sequence[Tensor],
        counts: Sequence[int],
        targets: Tensor,
        error: Callable[[Tensor, Tensor], Tensor],
        weight: Tensor,
        bias: Tensor,
        learning_rates: Sequence[float],
        weight_decays: Sequence[float],
        device: torch.device,
    ) -> None:
        self.rows, self.device = rows, device
        self.outputs, self.dim = weight.shape
        k, c, d = sum(counts), self.outputs, self.dim
        self.targets, self.error = targets.T.contiguous(), error
        self.running_mean = torch.zeros(len(rows) * d, device=device)
        self.running_var = torch.ones(len(rows) * d, device=device)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=device).view(-1, 1, 1)

        rate = column(learning_rates)
        self.inverse_rate, self.decay = 1 / rate, rate * column(weight_decays)

        self.params = torch.zeros(k, c + 2, d + 1, device=device)
        self.grads, self.mean, self.square, self.scratch = (
            torch.zeros_like(self.params) for _ in range(4)
        )
        self.weight, self.bias, self.scale, self.shift = self._split(self.params)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.scale.fill_(1.0)

        self.folded, self.outer = (torch.empty(k, c, d + 1, device=device) for _ in range(2))
        self.product = torch.empty(k, c, d, device=device)
        stops = list(accumulate(counts))
        self.parts = [slice(stop - n, stop) for stop, n in zip(stops, counts, strict=True)]
        # Windows on the buffers, cut once: cutting them anew would cost a tenth of a step.
        self.folded_weight, self.folded_bias = self.folded[..., :d], self.folded[..., d]
        self.outer_weight, self.outer_bias = self.outer[..., :d], self.outer[..., d:]
        self.d_weight, self.d_bias, self.d_scale, self.d_shift = self._split(self.grads)

    def _split(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A block as weight ``[K, C, D]``, bias ``[K, C]``, scale and shift ``[K, 1, D]``."""
        c, d = self.outputs, self.dim
        return block[:, :c, :d], block[:, :c, d], block[:, c : c + 1, :d], block[:, c + 1 :, :d]

    def step(self, rows: Tensor, factor: float, number: int) -> None:
        """One minibatch for all heads.

        ``rows`` ``[b]`` are row numbers, ``factor`` scales every learning rate, ``number``
        counts steps from 1.
        """
        inputs = self._normalised(rows)
        self._fold()
        logits = torch.cat(
            [
                torch.mm(self.folded[part].flatten(0, 1), normal.T)
                for part, normal in zip(self.parts, inputs, strict=True)
            ]
        ).view(-1, self.outputs, len(rows))
        error = self.error(logits, self.targets.index_select(1, rows).to(self.device))
        for part, normal in zip(self.parts, inputs, strict=True):
            torch.mm(error[part].flatten(0, 1), normal, out=self.outer[part].flatten(0, 1))
        self._gradients()
        self._adamw(factor, number)

    def _normalised(self, rows: Tensor) -> list[Tensor]:
        """The minibatch of each view, normalised over its rows, then a one: ``[b, dim + 1]``."""
        batch = torch.cat([view.index_select(0, rows) for view in self.rows], dim=1).to(self.device)
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

    def _fold(self) -> None:
        """Batch normalisation's scale and shift, folded into the linear layer."""
        torch.mul(self.weight, self.scale, out=self.folded_weight)
        # Not a batched matrix product: torch runs one per head when rows are strided.
        torch.mul(self.weight, self.shift, out=self.product)
        torch.add(self.bias, self.product.sum(dim=2), out=self.folded_bias)

    def _gradients(self) -> None:
        """Gradients of all parameters from ``outer = error @ [normalised rows, 1]``.

        With y = (scale * x + shift) @ weight.T + bias and e = dL/dy:
        dweight = scale * (e.T x) + (sum e) shift, dbias = sum e,
        dscale = sum over classes of weight * (e.T x), dshift = weight.T (sum e).
        """
        total, product = self.outer_bias, self.product
        self.d_bias.copy_(total.squeeze(2))
        torch.mul(self.weight, self.outer_weight, out=product)
        torch.sum(product, dim=1, keepdim=True, out=self.d_scale)
        torch.mul(self.weight, total, out=product)
        torch.sum(product, dim=1, keepdim=True, out=self.d_shift)
        self.outer_weight.mul_(self.scale)
        torch.addcmul(self.outer_weight, total, self.shift, out=self.d_weight)

    def _adamw(self, factor: float, number: int) -> None:
        """AdamW over all parameters of all heads, in place.

        The learning rate differs by head, and only scalars can be folded into a fused
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

    def result(self) -> tuple[Tensor, Tensor]:
        """Weight ``[K, C, D]`` and bias ``[K, C]`` on raw rows, running statistics folded in."""
        self._fold()
        weight, bias = self.folded_weight.clone(), self.folded_bias.clone()
        deviations = (self.running_var + _NORM_EPS).sqrt().view(-1, self.dim)
        means = self.running_mean.view(-1, self.dim)
        for part, deviation, mean in zip(self.parts, deviations, means, strict=True):
            weight[part] /= deviation
            bias[part] -= weight[part] @ mean
        return weight.cpu(), bias.cpu()
