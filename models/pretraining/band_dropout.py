"""Band dropout: some bands of the encoder's input are zeroed, so that no band is a crutch.

It must not know which tokens are made of the bands.

Source: OlmoEarth v1.1: one rate per step drawn from U(0, 0.2), each band of the optical sensors
dropped on its own, at least one kept; only what the encoder sees, never the target.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kept_bands(samples: int, bands: int, rate: float, generator: torch.Generator) -> Tensor:
    """Which bands of each sample are kept, boolean ``[samples, bands]``; each dropped at a rate.

    A sample that would lose all of its bands keeps one, drawn at random.
    """
    keys = torch.rand(samples, bands, generator=generator)
    kept = keys >= rate
    kept |= keys == keys.max(dim=1, keepdim=True).values
    return kept


def drop_bands(images: Tensor, kept: Tensor) -> Tensor:
    """Images ``[B, H, W, T, D]`` with the bands that are not kept (``[B, D]``) set to zero."""
    return images * kept[:, None, None, None, :].to(images)
