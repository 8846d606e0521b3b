"""Galileo's patch embedding: one linear layer per group, over a patch or a single value.

It must not know positions, months or which groups a scheme shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.galileo.patch_resizing import STORED_SIDE, resize_kernel
from models.galileo.sources import Group, Kind, Source
from models.transformer import linear


class GroupEmbedding(nn.Module):
    """One group's layer, and the learned vector that tells its tokens from other groups'.

    ``proj.weight`` reads a patch flattened as (row, column, channel): the published
    convolution's kernel, laid out differently. Groups that do not vary in space have one pixel.
    """

    def __init__(self, group: Group, kind: Kind, dim: int) -> None:
        super().__init__()
        self.in_space = kind in ("space_time", "space")
        pixels = STORED_SIDE**2 if self.in_space else 1
        self.proj = nn.Linear(pixels * len(group.channels), dim)
        self.channel = nn.Parameter(torch.zeros(dim // 4))

    def forward(self, patches: Tensor, patch_size: int) -> Tensor:
        """Patches ``[P, p * p * C]`` to tokens ``[P, dim]``."""
        if not self.in_space or patch_size == STORED_SIDE:
            return linear(patches, self.proj)
        return F.linear(patches, resize_kernel(self.proj.weight, patch_size), self.proj.bias)


class PatchEmbedding(nn.Module):
    """Every group's layer, by the group's name."""

    def __init__(self, groups: Sequence[tuple[Kind, Group]], dim: int) -> None:
        super().__init__()
        self.groups = nn.ModuleDict(
            {group.name: GroupEmbedding(group, kind, dim) for kind, group in groups}
        )

    def forward(self, source: Source, values: Tensor, patch_size: int) -> Tensor:
        """One source's values, in its axes, to tokens ``[B, T, H/p, W/p, G, dim]``.

        Axes that the source lacks have length 1.
        """
        if not source.in_time:
            values = values.unsqueeze(-2)
        if not source.in_space:
            values, patch_size = values[:, None, None], 1
        batch, height, width, steps, channels = values.shape
        rows, columns = height // patch_size, width // patch_size
        pixels = values.reshape(batch, rows, patch_size, columns, patch_size, steps, channels)
        pixels = pixels.permute(0, 5, 1, 3, 2, 4, 6)
        tokens, start = [], 0
        for group in source.groups:
            end = start + len(group.channels)
            patches = pixels[..., start:end].reshape(-1, patch_size**2 * (end - start))
            tokens.append(self.groups[group.name](patches, patch_size))
            start = end
        stacked = tokens[0].unsqueeze(1) if len(tokens) == 1 else torch.stack(tokens, dim=1)
        return stacked.view(batch, steps, rows, columns, len(tokens), -1)

    def channel_vectors(self, source: Source) -> Tensor:
        """``[G, dim / 4]``."""
        return torch.stack([self.group(group.name).channel for group in source.groups])

    def group(self, name: str) -> GroupEmbedding:
        """One group's layer."""
        embedding = self.groups[name]
        assert isinstance(embedding, GroupEmbedding)
        return embedding
