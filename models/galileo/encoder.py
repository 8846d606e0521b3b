"""The Galileo encoder: images, maps, weather and places in, one vector per token out.

Tseng et al. 2025, "Galileo: Learning Global & Local Features of Many Remote Sensing
Modalities" (arXiv 2502.09356): tokens of four kinds (space-time, space, time, static), a patch
embedding whose kernel is resized to the patch size, additive encodings, a pre-norm
transformer. Written from the paper and facts, and checked against the published nano weights
token by token. It must not know where weights come from, or what the tokens are used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encodings import month_table, space_encoding, time_encoding
from models.errors import UserError
from models.families import Channels
from models.galileo.input_checks import check_inputs
from models.galileo.patch_embedding import PatchEmbedding
from models.galileo.sources import (
    MAX_STEPS,
    OTHERS,
    Source,
    space_time_sources,
    weighted_groups,
)
from models.initialisation import torch_default, xavier
from models.registry import Variant
from models.transformer import Block
from models.visible import over_visible

NORM_EPS = 1e-5


@dataclass(frozen=True)
class GalileoConfig:
    """What makes one Galileo encoder.

    Args:
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads per block.
        shown: the space-time sources, with the groups that become tokens; groups that are not
            shown are never computed.
        mlp_ratio: hidden width of a block's MLP over ``dim``.
    """

    dim: int
    depth: int
    heads: int
    shown: tuple[Source, ...]
    mlp_ratio: float = 4.0


class GalileoEncoder(nn.Module):
    """The encoder. Inference is fastest under `torch.inference_mode`.

    Weights are as `torch.nn` leaves them until `init_random` or `checkpoint.load` sets them.
    """

    def __init__(self, config: GalileoConfig) -> None:
        super().__init__()
        self.config = config
        self.sources = {source.name: source for source in (*config.shown, *OTHERS)}
        self.patch_embedding = PatchEmbedding(weighted_groups(config.shown), config.dim)
        quarter = config.dim // 4
        self.steps: Tensor
        self.months: Tensor
        # Fixed, yet part of the checkpoints: theirs are what the weights were trained with.
        steps = time_encoding(MAX_STEPS, quarter, torch.device("cpu"))
        self.register_buffer("steps", steps.to(torch.get_default_device(), copy=True))
        self.register_buffer("months", month_table(quarter))
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio, norm_eps=NORM_EPS)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)

    def forward(
        self,
        images: Mapping[str, Tensor],
        timestamps: Tensor,
        patch_size: int,
        masks: Mapping[str, Tensor] | None = None,
        pixel_size: float = 10,
    ) -> dict[str, Tensor]:
        """Encode a batch.

        Args:
            images: per source (`models.galileo.sources`) its normalised values: space-time
                ``[B, H, W, T, D]``, space ``[B, H, W, D]``, time ``[B, T, D]``, static
                ``[B, D]``; channels in the source's order. What is not given costs nothing.
            timestamps: integers ``[B, T, 3]`` = day, month (0-based), year; the model has
                months only.
            patch_size: side of a patch in pixels, 1 to 8, dividing H and W.
            masks: per source its axes with groups instead of channels, e.g. ``[B, H, W, T, G]``;
                0 is visible, anything else (hidden, or kept for a decoder) drops the token
                before the first block. A patch's value is that of its top left pixel. A source
                without a mask is visible. None does no mask work at all.
            pixel_size: ground size of a pixel in metres.

        Returns:
            Per source its tokens: ``[B, H/p, W/p, T, G, dim]``, ``[B, H/p, W/p, G, dim]``,
            ``[B, T, G, dim]`` or ``[B, G, dim]``. A hidden token is the last norm's bias.

        Raises:
            UserError: an unknown source, or shapes that do not fit together.
        """
        check_inputs(self.sources, images, timestamps, patch_size)
        grids = {
            name: self._tokens(name, values, timestamps, patch_size, pixel_size)
            for name, values in images.items()
        }
        flat = [tokens.flatten(1, 4) for tokens in grids.values()]
        x = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        if masks is None:
            x = self._transform(x)
        else:
            visible = self._visible(grids, masks, patch_size)
            x = over_visible(
                lambda kept, bias, _places, _rows: self._transform(kept, bias), x, visible
            )
        x = self.norm(x)
        parts = torch.split(x, [tokens.shape[1] for tokens in flat], dim=1)
        return {
            name: self._in_its_axes(name, part.view(grid.shape))
            for (name, grid), part in zip(grids.items(), parts, strict=True)
        }

    def _tokens(
        self, name: str, values: Tensor, timestamps: Tensor, patch_size: int, pixel_size: float
    ) -> Tensor:
        """Patch embedding plus encodings, ``[B, T, H/p, W/p, G, dim]``.

        A quarter of the width each: the group's vector, time step, month, place. They are
        added in place, the parts that a source lacks not at all.
        """
        source = self.sources[name]
        # In the encodings' precision: autocast's products are of half.
        tokens: Tensor = self.patch_embedding(source, values, patch_size).to(self.months.dtype)
        _, steps, rows, columns, _, dim = tokens.shape
        quarter = dim // 4
        tokens[..., :quarter] += self.patch_embedding.channel_vectors(source)
        if source.in_time:
            months = self.months[timestamps[:, :, 1]]
            tokens[..., quarter : 2 * quarter] += self.steps[:steps, None, None, None]
            tokens[..., 2 * quarter : 3 * quarter] += months[:, :, None, None, None]
        if source.in_space:
            # Positions count 10 m pixels, so that a scene means the same at every patch size.
            spacing = pixel_size * patch_size / 10
            space = space_encoding(rows, columns, spacing, quarter, tokens.device)
            tokens[..., 3 * quarter :] += space[:, :, None]
        return tokens

    def _transform(self, x: Tensor, attention_bias: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, attention_bias)
        return x

    def _visible(
        self, grids: Mapping[str, Tensor], masks: Mapping[str, Tensor], patch_size: int
    ) -> Tensor:
        """Which tokens are seen, ``[B, N]``, in the order in which they are concatenated."""
        unknown = [name for name in masks if name not in grids]
        if unknown:
            raise UserError(f"Masks name {', '.join(unknown)}, of which no values were given.")
        flat = []
        for name, tokens in grids.items():
            shape = tokens.shape[:5]
            if name in masks:
                seen = patch_visibility(self.sources[name], masks[name], patch_size)
                if seen.shape != shape:
                    raise UserError(
                        f"The {name} mask has shape {list(masks[name].shape)}, which does not "
                        "fit its values; give the same axes, with groups instead of channels."
                    )
                flat.append(seen.flatten(1))
            else:
                flat.append(torch.ones(shape, dtype=torch.bool, device=tokens.device).flatten(1))
        return torch.cat(flat, dim=1)

    def _in_its_axes(self, name: str, tokens: Tensor) -> Tensor:
        """``[B, T, H/p, W/p, G, dim]`` to the axes that the source has, space before time."""
        source = self.sources[name]
        tokens = tokens.permute(0, 2, 3, 1, 4, 5)
        if not source.in_time:
            tokens = tokens.squeeze(3)
        return tokens if source.in_space else tokens[:, 0, 0]


def patch_visibility(source: Source, mask: Tensor, patch_size: int) -> Tensor:
    """Which tokens a mask leaves visible, ``[B, T, H/p, W/p, G]``; absent axes have length 1."""
    if not source.in_time:
        mask = mask.unsqueeze(-2)
    mask = mask[:, ::patch_size, ::patch_size] if source.in_space else mask[:, None, None]
    return mask.permute(0, 3, 1, 2, 4) == 0


def build(variant: Variant, channels: Channels) -> GalileoEncoder:
    """The encoder of a registered variant; it takes all bands of the modalities of its scheme."""
    return GalileoEncoder(config_of(variant))


def config_of(variant: Variant) -> GalileoConfig:
    """The encoder's configuration."""
    return GalileoConfig(
        dim=variant.dim,
        depth=variant.depth,
        heads=variant.heads,
        shown=space_time_sources(variant.scheme),
        mlp_ratio=variant.mlp_ratio,
    )


@torch.no_grad()
def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Set every weight from ``seed`` alone, in place, and return the encoder.

    As the authors' code initialises (github.com/nasaharvest/galileo, ``src/galileo.py``):
    Xavier-uniform linear layers with zero biases, the embeddings of time and static groups
    among them; torch's default for the patch embedding, which is a convolution there; zero
    group vectors (see `models.initialisation`). The two fixed tables are set by formula.
    """
    assert isinstance(encoder, GalileoEncoder)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            if name.startswith("patch_embedding."):
                _init_embedding(encoder, module, name, seed)
            else:
                xavier(module, name, seed, fused=3 if name.endswith(".qkv") else 1)
    for name, parameter in encoder.patch_embedding.named_parameters():
        if name.endswith(".channel"):
            parameter.zero_()
    quarter = encoder.config.dim // 4
    encoder.steps.copy_(time_encoding(MAX_STEPS, quarter, torch.device("cpu")))
    encoder.months.copy_(month_table(quarter))
    return encoder


def _init_embedding(encoder: GalileoEncoder, layer: nn.Linear, name: str, seed: int) -> None:
    group = name.removeprefix("patch_embedding.groups.").removesuffix(".proj")
    if encoder.patch_embedding.group(group).in_space:
        torch_default(layer, name, seed)
    else:
        xavier(layer, name, seed)
