"""Run a transformer over the visible tokens only, sample by sample.

It must not know what a token stands for or why it is hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Transform = Callable[[Tensor, Tensor | None, Tensor, Tensor], Tensor]

PARTS = 4
"""A batch is cut into at most so many parts: small ones use a machine badly."""


def over_visible(transform: Transform, x: Tensor, visible: Tensor) -> Tensor:
    """Transform the visible tokens of ``x`` ``[B, N, dim]``; the others come out zero.

    Visible tokens move to the front and samples with about as many of them go together, cut to
    the longest one; what pads the shorter ones is hidden from attention, so samples of a batch
    never influence one another.

    Args:
        transform: from tokens ``[b, n, dim]``, an attention bias (None, or boolean
            ``[b, 1, 1, n]``, True = may be attended), the places ``[b, n]`` that they had in the
            sequence, and the samples' rows ``[b]`` in the batch, to tokens of the same shape.
        x: tokens.
        visible: boolean ``[B, N]``.
    """
    return in_parts(
        lambda rows: _over_padded(transform, x[rows], visible[rows], rows), visible.sum(dim=1)
    )


def in_parts(function: Callable[[Tensor], Tensor], lengths: Tensor) -> Tensor:
    """What ``function`` makes of the samples of a batch, those of about one length at a time.

    Padding every sample to the batch's longest is work for nothing where lengths differ much, as
    they do when whole band groups are masked.

    Args:
        function: from places in the batch ``[b]`` to rows ``[b, ...]``, one for each.
        lengths: of each sample, ``[B]``.
    """
    parts = _alike(lengths)
    if len(parts) == 1:
        return function(parts[0])
    return torch.cat([function(rows) for rows in parts])[torch.cat(parts).argsort()]


def _alike(lengths: Tensor) -> list[Tensor]:
    """Places of samples of one length; where lengths are many, of the next longer ones together."""
    order = lengths.argsort(stable=True)
    _, counts = torch.unique(lengths, return_counts=True)
    if len(counts) > PARTS:
        parts = order.tensor_split(PARTS)
    else:
        parts = order.tensor_split(counts.cumsum(0)[:-1].cpu())
    return [rows for rows in parts if len(rows)]


def _over_padded(transform: Transform, x: Tensor, visible: Tensor, rows: Tensor) -> Tensor:
    order, real = to_front(visible)
    if not order.shape[1]:
        return torch.zeros_like(x)
    places = order[..., None].expand(-1, -1, x.shape[-1])
    # A hidden value may be anything, NaN too, which a weight of zero would not silence.
    taken = x.gather(1, places).masked_fill(~real[..., None], 0.0)
    bias = None
    if not bool(real.all()):
        # A sample without any visible token attends to its first padding: a softmax over
        # nothing is NaN, and so are its gradients.
        attended = real.clone()
        attended[:, 0] = True
        bias = attended[:, None, None]
    encoded = transform(taken, bias, order, rows).masked_fill(~real[..., None], 0.0)
    return torch.zeros_like(x, dtype=encoded.dtype).scatter(1, places, encoded)


def to_front(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Where each sample's chosen tokens stand, in order, padded to the longest sample.

    Args:
        chosen: boolean ``[B, N]``.

    Returns:
        Places in the sequence, int64 ``[B, n]``; and which of them are chosen ones, not padding,
        boolean ``[B, n]``. n is 0 where nothing is chosen.
    """
    counts = chosen.sum(dim=1)
    longest = int(counts.max())
    order = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    return order, torch.arange(longest, device=chosen.device) < counts[:, None]
