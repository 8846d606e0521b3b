"""The pre-norm transformer block that every family shares, and its fast linear layer.

It knows tensors of tokens ``[B, N, dim]`` and nothing else: not what a token stands
for, not positions, not which family it serves. Families differ in what they hand in
(query/key/value bias, norm epsilon, an attention bias, a rotation of queries and keys),
never in the block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  (the name everybody knows it by)
from torch import Tensor, nn

Activation = Literal["none", "gelu", "relu"]
Rotation = Callable[[Tensor], Tensor]
"""Queries and keys together, ``[B, N, 2, heads, dim / heads]``, to the same shape. What it is
given is nobody else's: while autograd does not record, it may work in place."""

# oneDNN's matrix product is ahead of the BLAS call behind `F.linear` (and applies the
# activation while the result is still in cache). Torch offers it for inference only and
# without a public name, hence the guard in `_takes_onednn` and the plain path beside it.
_ONEDNN_LINEAR: Callable[..., Tensor] | None = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch._C._has_mkldnn  # the public test calls the same, untyped
    else None
)
_ONEDNN_ALGORITHM: dict[str, str] = {"none": "", "gelu": "none", "relu": ""}  # "none" = exact erf


def linear(x: Tensor, layer: nn.Linear, activation: Activation = "none") -> Tensor:
    """``activation(x W^T + b)`` for ``x`` ``[..., in]``, by the fastest path that is allowed.

    Both paths are exact float32 products and differ by rounding only.
    """
    if _ONEDNN_LINEAR is not None and _takes_onednn(x):
        algorithm = _ONEDNN_ALGORITHM[activation]
        return _ONEDNN_LINEAR(x, layer.weight, layer.bias, activation, [], algorithm)
    y = F.linear(x, layer.weight, layer.bias)
    if activation == "gelu":
        return F.gelu(y)
    return F.relu(y) if activation == "relu" else y


def _takes_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class Attention(nn.Module):
    """Multi-head self-attention with one fused query/key/value product.

    ``qkv.weight`` is ``[3 dim, dim]``: queries, then keys, then values. A checkpoint that
    keeps the three apart is concatenated when it is loaded.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, attention_bias: Tensor | None = None, rotate: Rotation | None = None
    ) -> Tensor:
        """``[B, N, dim]`` to the same shape.

        Args:
            x: tokens.
            attention_bias: boolean (True = may be attended) or additive, broadcastable to
                ``[B, heads, N, N]``.
            rotate: applied to queries and keys (rotary position encodings).
        """
        qkv = _split(linear(x, self.qkv), 3, self.heads)
        q, k, v = _by_head(qkv)
        if rotate is not None:
            # As the fused product lays them out, so that neither is copied to be turned.
            q, k = _by_head(rotate(qkv[:, :, :2]))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_bias)
        return linear(y.transpose(1, 2).reshape(x.shape), self.proj)


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another: queries from it, the rest from a context.

    ``kv.weight`` is ``[2 dim, dim]``: keys, then values.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor, attention_bias: Tensor | None = None) -> Tensor:
        """``x`` ``[B, N, dim]`` to the same shape, given a context ``[B, M, dim]``.

        ``attention_bias``: boolean or additive, broadcastable to ``[B, heads, N, M]``.
        """
        (q,) = _by_head(_split(linear(x, self.q), 1, self.heads))
        k, v = _by_head(_split(linear(context, self.kv), 2, self.heads))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_bias)
        return linear(y.transpose(1, 2).reshape(x.shape), self.proj)


def _split(projected: Tensor, parts: int, heads: int) -> Tensor:
    """``[B, N, parts dim]`` as ``[B, N, parts, heads, dim / heads]``."""
    batch, count, width = projected.shape
    return projected.view(batch, count, parts, heads, width // (parts * heads))


def _by_head(split: Tensor) -> tuple[Tensor, ...]:
    """What `_split` gives, as so many ``[B, heads, N, dim / heads]``; nothing is copied."""
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def added(branch: Tensor, x: Tensor) -> Tensor:
    """A branch's fresh result and what it started from, as precise as the latter.

    In place where the two are equally precise: one large allocation less each time.
    """
    return branch.add_(x) if branch.dtype == x.dtype else branch + x


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, dim]`` to the same shape."""
        return linear(linear(x, self.fc1, "gelu"), self.fc2)


class Block(nn.Module):
    """Pre-norm transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    Dosovitskiy et al. 2021 (ViT), section 3.1, without dropout. ``drop_path`` is the rate at
    which training leaves branches out.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = 0.0

    def forward(
        self, x: Tensor, attention_bias: Tensor | None = None, rotate: Rotation | None = None
    ) -> Tensor:
        """Tokens ``[B, N, dim]`` to the same shape; arguments as in `Attention.forward`."""
        # Under autocast an embedding's product is of half precision. What all blocks add up is not.
        x = x.to(self.norm1.weight.dtype)
        x = added(self._kept(self.attn(self.norm1(x), attention_bias, rotate)), x)
        return added(self._kept(self.mlp(self.norm2(x))), x)

    def _kept(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016), while training: a sample's branch or nothing."""
        if not self.training or not self.drop_path:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.drop_path)
        return branch * kept / (1 - self.drop_path)
