"""SatMAE's multi-spectral encoder: band groups over one grid, a class token (arXiv 2207.08051).

A plain transformer; what is its own is the code added to each token, one part for the place
and one for the band group. It must not know where weights come from, nor which variants exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.families import Channels
from models.initialisation import normal, torch_default, xavier
from models.needs import check_images
from models.patches import cut
from models.registry import Variant
from models.satmae.design import (
    MODALITY,
    MODEL,
    PATCH_SIZE,
    Options,
    group_positions,
    needs_of,
    options_of,
)
from models.satmae.positions import position_table, resized, sines
from models.tokens import TokenScheme, patch_grid
from models.transformer import Block, linear

NORM_EPS = 1e-6


@dataclass(frozen=True)
class SatMaeConfig:
    """What makes one SatMAE.

    Args:
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads per block.
        scheme: which bands share a token.
        options: ``channel_code`` of the width tell the band group, the rest the place;
            ``native_side`` pixels a side is the image that the position table is of;
            ``global_pool`` for a model fine-tuned on the mean patch token, with a norm after
            pooling and none before.
        mlp_ratio: hidden width of a block's MLP over ``dim``.
    """

    dim: int
    depth: int
    heads: int
    scheme: TokenScheme
    options: Options = field(default_factory=Options)
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        code = self.options.channel_code
        place = self.dim - code
        if place <= 0 or place % 4:
            raise UserError(
                f"A channel code of {code} does not fit {MODEL} tokens {self.dim} "
                "wide: it must leave a positive multiple of 4 for the position; "
                "set channel_code among the options of the size."
            )


class PatchEmbedding(nn.Module):
    """One linear layer per band group over its bands' pixels of a patch."""

    def __init__(self, config: SatMaeConfig) -> None:
        super().__init__()
        self.bands = group_positions(config.scheme)
        self.groups = nn.ModuleList(
            nn.Linear(PATCH_SIZE**2 * len(bands), config.dim) for bands in self.bands
        )

    def forward(self, images: Tensor) -> Tensor:
        """``[B, H, W, D]`` to ``[B, G, N, dim]``, patches row by row."""
        patches = cut(images, PATCH_SIZE).flatten(1, 2)
        tokens = []
        for layer, bands in zip(self.groups, self.bands, strict=True):
            assert isinstance(layer, nn.Linear)
            tokens.append(linear(patches[..., list(bands)].flatten(2), layer))
        return torch.stack(tokens, dim=1)


class SatMaeEncoder(nn.Module):
    """The encoder, as pretraining left it or as fine-tuned on the mean patch token.

    ``after_pooling`` is the trained norm that belongs on an embedding pooled over a
    fine-tuned model's tokens; None where tokens are normed before.
    """

    def __init__(self, config: SatMaeConfig) -> None:
        super().__init__()
        self.config = config
        self.needs = needs_of(config.scheme, config.options.native_side)
        self.patch_embedding = PatchEmbedding(config)
        groups, code = len(config.scheme.of(MODALITY)), config.options.channel_code
        self.positions: Tensor
        self.channel_codes: Tensor
        # Fixed at first, yet part of the checkpoints: fine-tuning has changed them.
        side = config.options.native_side // PATCH_SIZE
        self.register_buffer("positions", position_table(side, config.dim - code))
        self.register_buffer("channel_codes", sines(groups, code))
        self.class_token = nn.Parameter(torch.zeros(config.dim))
        self.class_code = nn.Parameter(torch.zeros(code))
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio, norm_eps=NORM_EPS)
            for _ in range(config.depth)
        )
        last = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.norm = None if config.options.global_pool else last
        self.after_pooling = last if config.options.global_pool else None

    def forward(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        """Encode a batch; time is not read.

        Args:
            images: Sentinel-2 ``[B, H, W, 1, D]`` in [0, 1], bands in fMoW-Sentinel's order.
            timestamps: integers ``[B, 1, 3]``.
            patch_size: 8.

        Returns:
            Patch tokens ``[B, H/8, W/8, 1, G, dim]`` of the last block; normed unless the
            model was fine-tuned on their mean, whose norm is ``after_pooling``. The class
            token is not returned.

        Raises:
            UserError: images that the encoder cannot take.
        """
        grid, tokens = self._encode(images, patch_size)
        patches = tokens[:, 1:]
        if self.norm is not None:
            patches = self.norm(patches)
        batch, groups = len(patches), len(self.channel_codes)
        by_place = patches.view(batch, groups, *grid, 1, -1).permute(0, 2, 3, 4, 1, 5)
        return {MODALITY: by_place}

    def features(self, images: Mapping[str, Tensor], patch_size: int = PATCH_SIZE) -> Tensor:
        """One vector per sample ``[B, dim]``, as the authors' classifier sees it.

        The class token after the last norm; for a model fine-tuned on the mean patch token
        that mean, then its norm.
        """
        _, tokens = self._encode(images, patch_size)
        if self.after_pooling is not None:
            pooled: Tensor = self.after_pooling(tokens[:, 1:].mean(dim=1))
            return pooled
        assert self.norm is not None
        normed: Tensor = self.norm(tokens[:, 0])
        return normed

    def embed(self, images: Tensor) -> Tensor:
        """``[B, H, W, 1, D]`` to the first block's tokens ``[B, 1 + G N, dim]``.

        The class token, then all patches of the first group, of the second, and so on.
        """
        rows, columns = (int(size) // PATCH_SIZE for size in images.shape[1:3])
        tokens = self.patch_embedding(images[:, :, :, 0])
        place = resized(self.positions, rows, columns)
        groups, patches = len(self.channel_codes), len(place)
        code = torch.cat(
            (
                place[None].expand(groups, -1, -1),
                self.channel_codes[:, None].expand(-1, patches, -1),
            ),
            dim=-1,
        )
        first = self.class_token + torch.cat((self.positions[0], self.class_code))
        return torch.cat((first.expand(len(tokens), 1, -1), (tokens + code).flatten(1, 2)), dim=1)

    def _encode(
        self, images: Mapping[str, Tensor], patch_size: int
    ) -> tuple[tuple[int, int], Tensor]:
        """Rows and columns, and all tokens after the last block, before any norm."""
        (shape,) = check_images(MODEL, self.needs, images, patch_size)
        x = self.embed(images[MODALITY])
        for block in self.blocks:
            x = block(x)
        return patch_grid(shape, patch_size), x


def config_of(variant: Variant) -> SatMaeConfig:
    """The encoder's configuration."""
    return SatMaeConfig(
        dim=variant.dim,
        depth=variant.depth,
        heads=variant.heads,
        scheme=variant.scheme,
        options=options_of(variant),
        mlp_ratio=variant.mlp_ratio,
    )


def build(variant: Variant, channels: Channels) -> SatMaeEncoder:
    """The encoder of a registered variant; its channels are those of its scheme."""
    return SatMaeEncoder(config_of(variant))


@torch.no_grad()
def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Set every weight from ``seed`` alone, in place, and return the encoder.

    As the authors' pretraining starts, for both kinds of model: Xavier-uniform linear layers
    (query, key and value as one matrix) with zero biases, Xavier-uniform patch embeddings with
    torch's default biases, ones and zeros in the norms, a class token of N(0, 0.02^2). Codes
    keep their formulas.
    """
    assert isinstance(encoder, SatMaeEncoder)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            if name.startswith("patch_embedding."):
                torch_default(module, name, seed)
                bias = module.bias.clone()
                xavier(module, name, seed)
                module.bias.copy_(bias)
            else:
                xavier(module, name, seed)
    normal(encoder.class_token, 0.02, f"{seed}:class_token")
    encoder.class_code.zero_()
    return encoder
