"""Seeded initial weights, each tensor from a generator of its own.

A tensor's values follow from the seed and its name alone: the global random state is neither
read nor changed, and variants that share a tensor's name and shape share its values. It must
not know any family.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn


def generator_of(key: str) -> torch.Generator:
    """A CPU generator seeded by text, e.g. ``"0:blocks.1.attn.qkv.weight"``."""
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


@torch.no_grad()
def uniform(tensor: Tensor, bound: float, key: str) -> None:
    """Fill with ``U(-bound, bound)``; drawn on the CPU, so the same on every device."""
    values = torch.rand(tensor.shape, generator=generator_of(key))
    tensor.copy_(values.mul_(2 * bound).sub_(bound))


@torch.no_grad()
def normal(tensor: Tensor, std: float, key: str) -> None:
    """Fill with ``N(0, std^2)``; drawn on the CPU, so the same on every device."""
    tensor.copy_(torch.randn(tensor.shape, generator=generator_of(key)).mul_(std))


@torch.no_grad()
def xavier(layer: nn.Linear, name: str, seed: int, fused: int = 1) -> None:
    """Xavier-uniform weights and zero bias (Glorot and Bengio 2010).

    ``fused``: the layer is so many layers of equal width in one (3 for query, key, value).
    """
    fan_out, fan_in = layer.weight.shape
    uniform(layer.weight, math.sqrt(6 / (fan_in + fan_out // fused)), f"{seed}:{name}.weight")
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def torch_default(layer: nn.Linear, name: str, seed: int) -> None:
    """Torch's default for linear and convolution layers: ``U(+-1/sqrt(fan_in))`` throughout."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    uniform(layer.weight, bound, f"{seed}:{name}.weight")
    if layer.bias is not None:
        uniform(layer.bias, bound, f"{seed}:{name}.bias")
