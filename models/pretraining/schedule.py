"""AdamW as the field uses it for pretraining, and its learning rate over time."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.pretraining.recipe import Optimiser


def warmup_steps(optimiser: Optimiser, steps: int) -> int:
    """Steps of the linear warm-up."""
    if optimiser.warmup_steps is not None:
        return optimiser.warmup_steps
    return round((optimiser.warmup_fraction or 0.0) * steps)


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """Of step number ``step`` (from 0) of ``steps``: linear warm-up, then a cosine to zero.

    Loshchilov and Hutter 2017 (SGDR), eq. 5, without restarts.
    """
    warm = warmup_steps(optimiser, steps)
    if step < warm:
        return optimiser.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def adamw(model: nn.Module, optimiser: Optimiser) -> torch.optim.AdamW:
    """AdamW over all that trains; only matrices decay (Loshchilov and Hutter 2019)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": optimiser.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optimiser.learning_rate, betas=optimiser.betas, fused=True)
