"""The predictor (the field also says decoder): hidden tokens from the encoded ones.

A query per token to predict (a learned vector plus what tells it its band group, date and
place) attends to the encoded tokens, layer by layer. Thrown away after pretraining. It must
not know masking strategies, targets or losses.

Source: latent masked image modelling with a cross-attention decoder (Wei et al. 2024), as in
OlmoEarth.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.encodings import month_table
from models.olmoearth.encoder import added_encodings
from models.transformer import CrossAttention, Mlp


class CrossBlock(nn.Module):
    """Pre-norm: ``x + attention(norm(x), context)``, then ``x + mlp(norm(x))``."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, context: Tensor, attention_bias: Tensor | None) -> Tensor:
        """``x`` ``[B, N, dim]`` to the same shape, given a context ``[B, M, dim]``."""
        x = x + self.attn(self.norm1(x), context, attention_bias)
        mixed: Tensor = self.mlp(self.norm2(x))
        return x + mixed


class Predictor(nn.Module):
    """Predicts ``[B, M, target_dim]`` for M chosen places of a sample.

    Args:
        groups: number of band groups per modality, in the encoder's order.
        dim: width of the encoder's tokens, and of the predictor.
        target_dim: width of what is predicted.
        depth: number of blocks.
        heads: attention heads.
    """

    def __init__(
        self, groups: Mapping[str, int], dim: int, target_dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(dim)
        self.embed = nn.Linear(dim, dim)
        self.query = nn.Parameter(torch.zeros(dim))
        self.channel_embeddings = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(count, dim // 4)) for name, count in groups.items()}
        )
        self.months: Tensor
        self.register_buffer("months", month_table(dim // 4), persistent=False)
        self.blocks = nn.ModuleList(CrossBlock(dim, heads) for _ in range(depth))
        self.norm_out = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, target_dim)

    def encodings(
        self, grids: Mapping[str, torch.Size], timestamps: Tensor, spacing: float
    ) -> Tensor:
        """What tells every token of a sample its place, ``[B, N, dim]``, modality by modality."""
        parts = [
            added_encodings(
                shape, self.channel_embeddings[name], self.months, timestamps, spacing
            ).flatten(1, 4)
            for name, shape in grids.items()
        ]
        return torch.cat(parts, dim=1)

    def forward(
        self,
        encoded: Tensor,
        encoded_at: Tensor,
        predicted_at: Tensor,
        attention_bias: Tensor | None,
    ) -> Tensor:
        """Predictions ``[B, M, target_dim]``.

        Args:
            encoded: tokens from the encoder, ``[B, n, dim]``.
            encoded_at: their `encodings`, ``[B, n, dim]``.
            predicted_at: encodings of the places to predict, ``[B, M, dim]``.
            attention_bias: which encoded tokens are real, boolean ``[B, 1, 1, n]``; None: all.
        """
        context = self.embed(self.norm_in(encoded)) + encoded_at
        x = self.query + predicted_at
        for block in self.blocks:
            x = block(x, context, attention_bias)
        predicted: Tensor = self.out(self.norm_out(x))
        return predicted
