"""Band dropout: some bands of the encoder's input are zeroed, so that no band is a crutch.

It must not know which tokens are made of the bands.

Source: OlmoEarth v1.1: one rate per step drawn from U(0, 0.2), each band dropped on its own,
at least one kept; only what the encoder sees, never the target.
"""

from __future__ import annotations

import torch
from torch import Tensor


def drop_bands(images: Tensor, highest_rate: float, generator: torch.Generator) -> Tensor:
    """Images ``[B, H, W, T, D]`` with some bands of each sample set to zero.

    One rate for the whole call, from ``U(0, highest_rate)``. A sample that would lose all of
    its bands keeps one, drawn at random.
    """
    batch, bands = images.shape[0], images.shape[-1]
    rate = torch.rand(1, generator=generator) * highest_rate
    keys = torch.rand(batch, bands, generator=generator)
    kept = keys >= rate
    kept |= keys == keys.max(dim=1, keepdim=True).values
    return images * kept[:, None, None, None, :].to(images)
