"""The OlmoEarth v1 and v1.1 encoder: images of any sensors in, one vector per token out.

Written from the published description (FlexiViT-style patch embedding, additive channel,
time, month and space encodings, pre-norm transformer) and checked against the reference
package token by token. It must not know where weights come from (`weights`,
`olmoearth_checkpoint`), which variants exist (`registry`), or what the tokens are used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.encodings import month_table, space_encoding, time_encoding
from models.errors import UserError, did_you_mean
from models.families import Channels
from models.initialisation import torch_default, xavier
from models.registry import Variant
from models.sensors import modality
from models.tokens import MAX_PATCH_SIZE, InputShape, TokenScheme, patch_grid
from models.transformer import Block, linear

VISIBLE = 0
"""The mask value of a token that the encoder sees (the reference's ONLINE_ENCODER)."""


@dataclass(frozen=True)
class OlmoEarthConfig:
    """What makes one OlmoEarth encoder.

    Args:
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads per block.
        scheme: which bands share a token, for every modality that the encoder reads.
        mlp_ratio: hidden width of a block's MLP over ``dim``.
        pixel_hidden: width of v1.1's per-pixel layer (12 for nano, else 64); None in v1.
        max_patch_size: side of the patch that the embedding's weights stand for; smaller
            patches are enlarged to it.
        max_steps: most time steps per input.
    """

    dim: int
    depth: int
    heads: int
    scheme: TokenScheme
    mlp_ratio: float = 4.0
    pixel_hidden: int | None = None
    max_patch_size: int = MAX_PATCH_SIZE
    max_steps: int = 12


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
        """Cut into patches of the embedding's own side: ``[B*T*rows*columns, side^2, D]``.

        A smaller patch size enlarges the *image* (bicubic, antialiased), so that a patch
        also sees a little of its neighbours, as in the reference; it is not the kernel
        that is resized, as FlexiViT does.
        """
        batch, height, width, steps, bands = images.shape
        x = images.permute(0, 3, 4, 1, 2).reshape(batch * steps, bands, height, width)
        rows, columns = grid
        if patch_size != self.side:
            size = (rows * self.side, columns * self.side)
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True)
        x = x.view(batch * steps, bands, rows, self.side, columns, self.side)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.side**2, bands)


def _take(patches: Tensor, bands: tuple[int, ...]) -> Tensor:
    """Select bands on the last axis; a slice where they are neighbours, to spare a gather."""
    if bands == tuple(range(bands[0], bands[0] + len(bands))):
        if len(bands) == patches.shape[-1]:
            return patches
        return patches[..., bands[0] : bands[0] + len(bands)].contiguous()
    return patches[..., list(bands)]


class OlmoEarthEncoder(nn.Module):
    """The encoder. Inference is fastest under `torch.inference_mode`.

    Weights are as `torch.nn` leaves them until `init_random` or
    `olmoearth_checkpoint.load_reference_state_dict` sets them.
    """

    def __init__(self, config: OlmoEarthConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        quarter = config.dim // 4
        self.channel_embeddings = nn.ParameterDict(
            {n: nn.Parameter(torch.zeros(len(g), quarter)) for n, g in config.scheme.groups.items()}
        )
        self.months: Tensor
        # Fixed, yet part of the checkpoints: theirs is what the weights were trained with.
        self.register_buffer("months", month_table(quarter))
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self,
        images: Mapping[str, Tensor],
        timestamps: Tensor,
        patch_size: int,
        masks: Mapping[str, Tensor] | None = None,
        input_res: float = 10,
    ) -> dict[str, Tensor]:
        """Encode a batch.

        Args:
            images: per modality ``[B, H, W, T, D]``, normalised, bands in the canonical
                order of `models.sensors`. All modalities share B and T.
            timestamps: integers ``[B, T, 3]`` = day, month (0-based), year.
            patch_size: side of a patch in pixels, 1 to 8, dividing H and W.
            masks: per modality ``[B, H, W, T, G]``; a token whose first (top left) pixel is
                `VISIBLE` (0) is encoded, any other value (decoder, missing, ...) drops it:
                nothing attends to it and its output is zero. A modality without a mask is
                visible. Samples of a batch never influence one another; the reference, in
                eval mode, lets samples with fewer visible tokens attend to their padding.
                None does no mask work at all.
            input_res: ground size of a pixel in metres.

        Returns:
            Per modality ``[B, H/p, W/p, T, G, dim]``.

        Raises:
            UserError: an unknown modality, or shapes that do not fit together.
        """
        self._check(images, timestamps)
        grids = {
            name: self._tokens(name, image, timestamps, patch_size, input_res)
            for name, image in images.items()
        }
        flat = [tokens.flatten(1, 4) for tokens in grids.values()]
        x = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        if masks is None:
            x = self._transform(x)
        else:
            x = self._transform_visible(x, _visible(grids, masks, patch_size))
        parts = torch.split(x, [tokens.shape[1] for tokens in flat], dim=1)
        return {
            name: part.view(grid.shape)
            for (name, grid), part in zip(grids.items(), parts, strict=True)
        }

    def embed_patches(self, name: str, images: Tensor, patch_size: int) -> Tensor:
        """Tokens before any encoding, ``[B, H/p, W/p, T, G, dim]``: pretraining's targets."""
        tokens: Tensor = self.patch_embedding(name, images, patch_size)
        return tokens

    def _tokens(
        self, name: str, images: Tensor, timestamps: Tensor, patch_size: int, input_res: float
    ) -> Tensor:
        """Patch embedding plus encodings; a quarter of the width for each of the four kinds."""
        tokens: Tensor = self.patch_embedding(name, images, patch_size)
        _, rows, columns, steps, _, dim = tokens.shape
        quarter = (*tokens.shape[:5], dim // 4)
        # Positions count 10 m pixels, so that a scene means the same at every patch size.
        spacing = input_res * patch_size / 10
        space = space_encoding(rows, columns, spacing, dim // 4, tokens.device)
        encoding = torch.cat(
            (
                self.channel_embeddings[name].expand(quarter),
                time_encoding(steps, dim // 4, tokens.device)[:, None].expand(quarter),
                self.months[timestamps[:, :, 1]][:, None, None, :, None].expand(quarter),
                space[:, :, None, None].expand(quarter),
            ),
            dim=-1,
        )
        return tokens + encoding

    def _transform(self, x: Tensor, attention_bias: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, attention_bias)
        normed: Tensor = self.norm(x)
        return normed

    def _transform_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        """Encode only the visible tokens of ``x`` ``[B, N, dim]``; the others come out zero.

        Visible tokens move to the front and all samples are cut to the longest; what pads
        the shorter ones is hidden from attention.
        """
        counts = visible.sum(dim=1)
        longest = int(counts.max())
        if longest == 0:
            return torch.zeros_like(x)
        order = visible.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
        places = order[..., None].expand(-1, -1, x.shape[-1])
        real = torch.arange(longest, device=x.device) < counts[:, None]
        bias = None
        if int(counts.min()) < longest:
            # A sample without any visible token attends to its first padding token: a softmax
            # over nothing would be NaN, and NaN gradients survive being multiplied by zero.
            attended = real.clone()
            attended[:, 0] = True
            bias = attended[:, None, None]
        encoded = self._transform(x.gather(1, places), bias)
        encoded = encoded.masked_fill(~real[..., None], 0.0)
        return torch.zeros_like(x, dtype=encoded.dtype).scatter(1, places, encoded)

    def _check(self, images: Mapping[str, Tensor], timestamps: Tensor) -> None:
        if not images:
            raise UserError("The encoder was given no images; pass at least one modality.")
        for name, image in images.items():
            if name not in self.config.scheme.groups:
                raise UserError(
                    f'This encoder does not read modality "{name}": '
                    f"{did_you_mean(name, self.config.scheme.groups)}."
                )
            bands = len(modality(name).bands)
            if image.ndim != 5 or image.shape[-1] != bands:
                raise UserError(
                    f"{name} images have shape {list(image.shape)}; expected [B, H, W, T, {bands}]."
                )
            if image.shape[3] > self.config.max_steps:
                raise UserError(
                    f"{name} images have {image.shape[3]} time steps; "
                    f"this encoder takes at most {self.config.max_steps}."
                )
            expected = (image.shape[0], image.shape[3], 3)
            if tuple(timestamps.shape) != expected:
                raise UserError(
                    f"Timestamps have shape {list(timestamps.shape)} but the {name} images need "
                    f"{list(expected)}: day, month (0-based) and year of each step."
                )


def _visible(grids: Mapping[str, Tensor], masks: Mapping[str, Tensor], patch_size: int) -> Tensor:
    """Which tokens are seen, ``[B, N]``, in the order in which the tokens are concatenated."""
    unknown = [name for name in masks if name not in grids]
    if unknown:
        raise UserError(f"Masks name {', '.join(unknown)}, of which there are no images.")
    flat = []
    for name, tokens in grids.items():
        shape = tokens.shape[:5]
        if name not in masks:
            flat.append(torch.ones(shape, dtype=torch.bool, device=tokens.device).flatten(1))
            continue
        seen = masks[name][:, ::patch_size, ::patch_size] == VISIBLE
        if seen.shape != shape:
            raise UserError(
                f"The {name} mask has shape {list(masks[name].shape)}; expected [B, H, W, T, G] = "
                f"{[shape[0], shape[1] * patch_size, shape[2] * patch_size, *shape[3:]]}."
            )
        flat.append(seen.flatten(1))
    return torch.cat(flat, dim=1)


def parameter_count(config: OlmoEarthConfig) -> int:
    """Learned values of the encoder as built here, counted on the meta device.

    Smaller than the published figure: that one also counts what only pretraining uses, the
    embeddings of the six decode-only modalities, the projection head (``dim^2 + dim``) and
    the month table, which is fixed.
    """
    with torch.device("meta"):
        encoder = OlmoEarthEncoder(config)
    return sum(parameter.numel() for parameter in encoder.parameters())


def build(variant: Variant, channels: Channels) -> OlmoEarthEncoder:
    """The encoder of a registered variant; it takes all bands of the modalities of its scheme."""
    return OlmoEarthEncoder(config_of(variant))


def config_of(variant: Variant) -> OlmoEarthConfig:
    """The encoder's configuration."""
    return OlmoEarthConfig(
        dim=variant.dim,
        depth=variant.depth,
        heads=variant.heads,
        scheme=variant.scheme,
        mlp_ratio=variant.mlp_ratio,
        pixel_hidden=variant.pixel_hidden,
    )


@torch.no_grad()
def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Set every weight from ``seed`` alone, in place, and return the encoder.

    As the reference initialises: Xavier-uniform linear layers (queries, keys and values
    each as a matrix of their own) with zero biases, ones and zeros in the norms, zero
    channel embeddings, and torch's default ``U(+-1/sqrt(fan_in))`` for weights and biases of
    the patch embedding (see `models.initialisation`).
    """
    assert isinstance(encoder, OlmoEarthEncoder)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            if name.startswith("patch_embedding."):
                torch_default(module, name, seed)
            else:
                xavier(module, name, seed, fused=3 if name.endswith(".qkv") else 1)
    for embedding in encoder.channel_embeddings.values():
        embedding.zero_()
    return encoder
