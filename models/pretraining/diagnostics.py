"""Is a run learning, diverging or collapsing? Numbers about pooled encodings and losses.

Pure functions. They must not know the loop that asks.

Sources: effective rank: Roy and Vetterli 2007; collapse as vanishing spread of normalised
embeddings: Chen and He 2021 (SimSiam), section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

COLLAPSED_SPREAD = 0.02
"""Spread below which encodings are taken to be all the same. An untrained nano encoder has about
0.15 on images of the Earth; embeddings spread evenly over the sphere have 1."""
PATIENCE = 3
"""So many readings in a row make a verdict; one may be an odd batch."""


@torch.no_grad()
def spread(pooled: Tensor) -> float:
    """How far the encodings ``[B, dim]`` differ from one another.

    sqrt(dim) x the mean standard deviation of the unit vectors' coordinates: 0 when all are the
    same, about 1 when they fill the sphere.
    """
    unit = F.normalize(pooled.float(), dim=1)
    return float(unit.std(dim=0, correction=0).mean()) * math.sqrt(pooled.shape[1])


@torch.no_grad()
def effective_rank(pooled: Tensor) -> float:
    """Exp of the entropy of the centred encodings' normalised singular values.

    0 where there is nothing to tell: all the same, or not finite (a run that diverges).
    """
    centred = pooled.float() - pooled.float().mean(dim=0)
    if not bool(torch.isfinite(centred).all()):
        return 0.0  # of a run that diverged; a decomposition would raise before that is told
    values = torch.linalg.svdvals(centred)
    total = values.sum()
    if not bool(torch.isfinite(total)) or float(total) == 0:
        return 0.0
    shares = values / total
    return float(torch.exp(-(shares * torch.log(shares.clamp(min=1e-12))).sum()))


def is_diverging(losses: Sequence[float], patience: int = PATIENCE) -> bool:
    """Whether the last ``patience`` logged losses all lie far above the best one before them."""
    if any(not math.isfinite(loss) for loss in losses):
        return True
    if len(losses) <= patience:
        return False
    best = min(losses[:-patience])
    return all(loss > best + max(1.0, abs(best)) for loss in losses[-patience:])


def is_collapsed(spreads: Sequence[float], patience: int = PATIENCE) -> bool:
    """Whether the last ``patience`` logged spreads all say that the encodings are the same."""
    last = spreads[-patience:]
    return len(last) == patience and all(value < COLLAPSED_SPREAD for value in last)
