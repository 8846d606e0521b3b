"""CROMA's encoders: optical, radar, and the joint one that fuses the two (arXiv 2311.00566).

Pre-norm blocks without query, key and value biases, with a distance penalty on attention in
place of positions (`alibi`). It must not know where weights come from, nor which variants
exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.croma.alibi import alibi
from models.croma.design import (
    MODEL,
    PATCH_SIZE,
    check_same_grid,
    depths,
    needs_of,
    sensors_of,
)
from models.families import Channels
from models.initialisation import torch_default
from models.needs import check_images
from models.patches import cut
from models.registry import Variant
from models.tokens import TokenScheme, patch_grid
from models.transformer import Attention, Block, CrossAttention, Mlp, added, linear

POOLED = {"optical": "optical_GAP", "radar": "SAR_GAP", "joint": "joint_GAP"}
"""The authors' names of the pooled encodings."""


@dataclass(frozen=True)
class CromaConfig:
    """What makes one CROMA.

    Args:
        dim: width of a token.
        depth: blocks of the optical encoder; the radar and the joint one have half.
        heads: attention heads per block (16 in the published models, whatever the width).
        scheme: which sensors are read, and the order of their bands.
        mlp_ratio: hidden width of a block's MLP, and of the pooling's, over ``dim``.
    """

    dim: int
    depth: int
    heads: int
    scheme: TokenScheme
    mlp_ratio: float = 4.0


class PatchEmbedding(nn.Module):
    """One linear layer per sensor, over all bands of a patch; no positions."""

    def __init__(self, config: CromaConfig) -> None:
        super().__init__()
        self.sensors = nn.ModuleDict(
            {
                name: nn.Linear(PATCH_SIZE**2 * len(config.scheme.of(name)[0]), config.dim)
                for name in sensors_of(config.scheme)
            }
        )

    def forward(self, name: str, images: Tensor) -> Tensor:
        """``[B, H, W, 1, D]`` to tokens ``[B, N, dim]``, patches row by row."""
        layer = self.sensors[name]
        assert isinstance(layer, nn.Linear)
        return linear(cut(images[:, :, :, 0], PATCH_SIZE).flatten(3).flatten(1, 2), layer)


class SensorEncoder(nn.Module):
    """The transformer of one sensor: blocks and a last norm."""

    def __init__(self, config: CromaConfig, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio, qkv_bias=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``[B, N, dim]`` to the same shape, ``bias`` as of `alibi`."""
        for block in self.blocks:
            x = block(x, bias)
        normed: Tensor = self.norm(x)
        return normed


class JointBlock(nn.Module):
    """Self-attention, cross-attention, MLP, each pre-norm and residual.

    The norm before the cross-attention serves the sequence and the context alike.
    """

    def __init__(self, config: CromaConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim)
        self.attn = Attention(config.dim, config.heads, qkv_bias=False)
        self.norm_cross = nn.LayerNorm(config.dim)
        self.cross = CrossAttention(config.dim, config.heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(config.dim)
        self.mlp = Mlp(config.dim, int(config.dim * config.mlp_ratio))

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """Sequence and context ``[B, N, dim]`` to the sequence's shape."""
        x = added(self.attn(self.norm1(x), bias), x)
        x = added(self.cross(self.norm_cross(x), self.norm_cross(context), bias), x)
        return added(self.mlp(self.norm2(x)), x)


class JointEncoder(nn.Module):
    """Radar encodings that attend to the optical ones, the same in every block."""

    def __init__(self, config: CromaConfig, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(JointBlock(config) for _ in range(depth))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, radar: Tensor, optical: Tensor, bias: Tensor) -> Tensor:
        """Two ``[B, N, dim]`` to one."""
        x = radar
        for block in self.blocks:
            x = block(x, optical, bias)
        normed: Tensor = self.norm(x)
        return normed


class PoolingNetwork(nn.Module):
    """What pretraining's contrast saw: a norm and an MLP on the mean token, no residual."""

    def __init__(self, config: CromaConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.mlp = Mlp(config.dim, int(config.dim * config.mlp_ratio))

    def forward(self, encodings: Tensor) -> Tensor:
        """``[B, N, dim]`` to ``[B, dim]``."""
        pooled: Tensor = self.mlp(self.norm(encodings.mean(dim=1)))
        return pooled


class CromaEncoder(nn.Module):
    """The encoders that a token scheme uses, and no others."""

    def __init__(self, config: CromaConfig) -> None:
        super().__init__()
        self.config = config
        self.needs = needs_of(config.scheme)
        self.sensors = sensors_of(config.scheme)
        blocks = depths(config.depth)
        self.patch_embedding = PatchEmbedding(config)
        self.encoders = nn.ModuleDict(
            {part: SensorEncoder(config, blocks[part]) for part in self.sensors.values()}
        )
        self.joint = JointEncoder(config, blocks["joint"]) if len(self.sensors) > 1 else None
        self.pooling = nn.ModuleDict(
            {part: PoolingNetwork(config) for part in self.sensors.values()}
        )

    def forward(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        """Encode a batch; time is not read.

        Args:
            images: per modality ``[B, H, W, 1, D]`` in [0, 1], bands in the scheme's order.
            timestamps: integers ``[B, 1, 3]``.
            patch_size: 8.

        Returns:
            Encodings after the last norm, ``[B, H/8, W/8, 1, 1, dim]``, under the modality's
            name, or under ``"joint"`` where both sensors are read.

        Raises:
            UserError: images that the variant cannot take.
        """
        encodings = self.encode(images, patch_size)
        last = "joint" if self.joint is not None else next(iter(self.sensors.values()))
        name = "joint" if self.joint is not None else next(iter(self.sensors))
        image, found = next(iter(images.values())), encodings[last]
        rows = image.shape[1] // patch_size
        return {name: found.view(len(found), rows, -1, 1, 1, self.config.dim)}

    def encode(
        self, images: Mapping[str, Tensor], patch_size: int = PATCH_SIZE
    ) -> dict[str, Tensor]:
        """Encodings ``[B, N, dim]`` by encoder: ``optical``, ``radar``, ``joint``."""
        shapes = check_images(MODEL, self.needs, images, patch_size)
        check_same_grid(shapes)
        device = next(iter(images.values())).device
        rows, columns = patch_grid(shapes[0], patch_size)
        bias = alibi(rows, columns, self.config.heads, device)
        found: dict[str, Tensor] = {}
        for name, part in self.sensors.items():
            tokens = self.patch_embedding(name, images[name])
            bias = bias.to(tokens.dtype)
            found[part] = self.encoders[part](tokens, bias)
        if self.joint is not None:
            found["joint"] = self.joint(found["radar"], found["optical"], bias)
        return found

    def pool(self, encodings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pooled encodings ``[B, dim]`` of `encode`'s, by the authors' names (`POOLED`).

        The mean token through the encoder's pooling network; of the joint encodings the mean.
        """
        return {
            POOLED[part]: self.pooling[part](x) if part in self.pooling else x.mean(dim=1)
            for part, x in encodings.items()
        }


def config_of(variant: Variant) -> CromaConfig:
    """The encoder's configuration."""
    return CromaConfig(
        dim=variant.dim,
        depth=variant.depth,
        heads=variant.heads,
        scheme=variant.scheme,
        mlp_ratio=variant.mlp_ratio,
    )


def build(variant: Variant, channels: Channels) -> CromaEncoder:
    """The encoder of a registered variant; its channels are those of its scheme."""
    return CromaEncoder(config_of(variant))


@torch.no_grad()
def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Set every weight from ``seed`` alone, in place, and return the encoder.

    As the authors' code does: torch's own defaults throughout, ``U(+-1/sqrt(fan_in))`` for
    weights and biases of linear layers, ones and zeros in the norms.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            torch_default(module, name, seed)
    return encoder
