"""The two losses of latent masked image modelling: patch discrimination and instance contrast.

Functions of tensors. They must not know how tokens were masked, encoded or predicted.

Sources: patch discrimination after Wei et al. 2024 ("Towards Latent Masked Image Modeling"),
as OlmoEarth uses it; InfoNCE: van den Oord et al. 2018, in SimCLR's symmetric form (Chen et al.
2020, eq. 1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def in_float32(tensor: Tensor) -> torch.autocast:
    """Similarities are never taken in half precision, whatever the layers before them are.

    In bfloat16 a cosine of 0.9985 is 1: no two targets would be told from near-duplicates.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def patch_discrimination(
    predictions: Tensor,
    targets: Tensor,
    real: Tensor,
    temperature: float = 0.1,
    near_duplicate: float | None = None,
) -> Tensor:
    """Each prediction must pick its own target among all targets of the same sample.

    Cross-entropy over cosine similarities divided by ``temperature``; the mean over the
    predictions of a sample, then over the samples that have at least two.

    Args:
        predictions: ``[B, M, dim]``.
        targets: ``[B, M, dim]``; no gradient flows into them.
        real: boolean ``[B, M]``; what pads shorter samples is False, predicts nothing and is
            nobody's negative.
        temperature: of the softmax.
        near_duplicate: a target whose cosine similarity with one's own is above this is no
            negative: telling two equal patches apart teaches nothing but their place. None: all
            are.
    """
    with in_float32(predictions):
        return _patch_discrimination(predictions, targets, real, temperature, near_duplicate)


def _patch_discrimination(
    predictions: Tensor,
    targets: Tensor,
    real: Tensor,
    temperature: float,
    near_duplicate: float | None,
) -> Tensor:
    p = F.normalize(predictions.float(), dim=-1)
    t = F.normalize(targets.detach().float(), dim=-1)
    logits = p @ t.transpose(1, 2) / temperature
    excluded = ~real[:, None, :].expand_as(logits)
    if near_duplicate is not None:
        same = t @ t.transpose(1, 2) > near_duplicate
        own = torch.eye(t.shape[1], dtype=torch.bool, device=t.device)
        excluded = excluded | (same & ~own)
    logits = logits.masked_fill(excluded, float("-inf"))
    own_logit = logits.diagonal(dim1=1, dim2=2)
    # What pads has -inf everywhere, of which autograd would make NaN.
    each = (logits.masked_fill(~real[:, :, None], 0.0).logsumexp(dim=2) - own_logit).masked_fill(
        ~real, 0.0
    )
    per_sample = each.sum(dim=1) / real.sum(dim=1).clamp(min=1)
    useful = can_discriminate(real)
    return per_sample[useful].sum() / useful.sum().clamp(min=1)


def can_discriminate(real: Tensor) -> Tensor:
    """Which samples have at least two predictions, boolean ``[B]``, given which are real."""
    return real.sum(dim=1) >= 2


def instance_contrast(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Symmetric InfoNCE: which of the batch's second encodings belongs to which first one?

    Args:
        a: pooled encodings ``[B, dim]`` of one masking of each sample.
        b: those of another, in the same order.
        temperature: of the softmax.
    """
    with in_float32(a):
        a, b = F.normalize(a.float(), dim=-1), F.normalize(b.float(), dim=-1)
        logits = a @ b.T / temperature
        own = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
