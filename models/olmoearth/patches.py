"""OlmoEarth's patch embedding: images of any sensor to one vector per patch, step and band group.

FlexiViT-style: one set of weights serves every patch size. It must not know positions, nor
what becomes of the vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.olmoearth.config import OlmoEarthConfig
from models.tokens import InputShape, patch_grid
from models.transformer import linear


class GroupEmbedding(nn.Module):
    """One band group's patch embedding: ``[..., p * p, bands]`` to ``[..., dim]``.

    ``proj`` reads a patch flattened as (row, column, channel). v1's convolution is this
    same product with its kernel laid out differently; v1.1 puts a ReLU layer over each
    pixel's bands before it.
    """

    def __init__(self, bands: int, config: OlmoEarthConfig) -> None:
        super().__init__()
        self.pixel = nn.Linear(bands, config.pixel_hidden) if config.pixel_hidden else None
        channels = config.pixel_hidden or bands
        self.proj = nn.Linear(channels * config.max_patch_size**2, config.dim)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``[P, p * p, bands]`` to tokens ``[P, dim]``."""
        if self.pixel is not None:
            patches = linear(patches, self.pixel, "relu")
        return linear(patches.flatten(1), self.proj)


class PatchEmbedding(nn.Module):
    """Images to tokens, for every modality and band group of the scheme; no positions yet."""

    def __init__(self, config: OlmoEarthConfig) -> None:
        super().__init__()
        self.side = config.max_patch_size
        self.bands = {name: config.scheme.band_indices(name) for name in config.scheme.groups}
        self.groups = nn.ModuleDict(
            {
                name: nn.ModuleList(GroupEmbedding(len(group), config) for group in groups)
                for name, groups in self.bands.items()
            }
        )

    def forward(self, name: str, images: Tensor, patch_size: int) -> Tensor:
        """One modality: ``[B, H, W, T, D]`` to tokens ``[B, H/p, W/p, T, G, dim]``."""
        batch, height, width, steps, _ = images.shape
        grid = patch_grid(InputShape(height, width, steps, name), patch_size)
        patches = self._patches(images, grid, patch_size)
        embeddings = self.groups[name]
        assert isinstance(embeddings, nn.ModuleList)
        tokens = [
            embed(_take(patches, bands))
            for embed, bands in zip(embeddings, self.bands[name], strict=True)
        ]
        stacked = torch.stack(tokens, dim=-2).view(batch, steps, *grid, len(tokens), -1)
        return stacked.permute(0, 2, 3, 1, 4, 5)

    def _patches(self, images: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
        """Cut into patches of the embedding's own side: ``[B*T*rows*columns, side^2, D]``."""
        batch, _, _, steps, bands = images.shape
        x = enlarged(images, patch_size, self.side)
        rows, columns = grid
        x = x.reshape(batch * steps, bands, rows, self.side, columns, self.side)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.side**2, bands)


def enlarged(images: Tensor, patch_size: int, side: int) -> Tensor:
    """Images ``[B, H, W, T, D]`` as ``[B * T, D, H', W']``, patches ``side`` pixels a side.

    A smaller patch size enlarges the *image* (bicubic, antialiased), so that a patch also sees a
    little of its neighbours, as in the reference; it is not the kernel that is resized, as
    FlexiViT does.
    """
    batch, height, width, steps, bands = images.shape
    x = images.permute(0, 3, 4, 1, 2).reshape(batch * steps, bands, height, width)
    if patch_size == side:
        return x
    size = (height // patch_size * side, width // patch_size * side)
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)


def _take(patches: Tensor, bands: tuple[int, ...]) -> Tensor:
    """Select bands on the last axis; a slice where they are neighbours, to spare a gather."""
    if bands == tuple(range(bands[0], bands[0] + len(bands))):
        if len(bands) == patches.shape[-1]:
            return patches
        return patches[..., bands[0] : bands[0] + len(bands)].contiguous()
    return patches[..., list(bands)]
