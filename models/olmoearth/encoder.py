"""The OlmoEarth encoder, v1 to v1.2: images of any sensors in, one vector per token out.

Written from the published description (FlexiViT-style patch embedding; channel and month
encodings added; time and place added too, or, in v1.2, rotary; pre-norm transformer) and
checked against the reference package token by token. It must not know where weights come
from (`models.weights`, `checkpoint`), or what the tokens are used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat

import torch
from torch import Tensor, nn

from models.encodings import month_table, space_encoding, time_encoding
from models.errors import UserError
from models.families import Channels
from models.initialisation import torch_default, xavier
from models.needs import check_known, check_times
from models.olmoearth.config import OlmoEarthConfig, config_of
from models.olmoearth.patches import PatchEmbedding
from models.olmoearth.rotary import RotaryPositions
from models.registry import Variant
from models.sensors import modality
from models.transformer import Block, Rotation
from models.visible import over_visible

Rotations = Callable[[Tensor | None, Tensor | None], Iterable[Rotation | None]]
"""From which tokens are kept (places in the sequence ``[B, n]``; None: all) to one per block."""

VISIBLE = 0
"""The mask value of a token that the encoder sees (the reference's ONLINE_ENCODER)."""


class OlmoEarthEncoder(nn.Module):
    """The encoder. Inference is fastest under `torch.inference_mode`.

    Weights are as `torch.nn` leaves them until `init_random` or
    `checkpoint.load` sets them.
    """

    def __init__(self, config: OlmoEarthConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        quarter = config.dim // 4
        self.rotary = (
            RotaryPositions(config.depth, config.heads, config.dim // config.heads)
            if config.positions == "rotary"
            else None
        )
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
        # Positions count 10 m pixels, so that a scene means the same at every patch size.
        spacing = input_res * patch_size / 10
        grids = {
            name: self._tokens(name, image, timestamps, patch_size, spacing)
            for name, image in images.items()
        }
        rotations = self._rotations(grids, spacing, timestamps)
        flat = [tokens.flatten(1, 4) for tokens in grids.values()]
        x = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        if masks is None:
            x = self._transform(x, None, rotations(None, None))
        else:
            x = over_visible(
                lambda kept, bias, places, rows: self._transform(
                    kept, bias, rotations(places, rows)
                ),
                x,
                _visible(grids, masks, patch_size),
            )
        parts = torch.split(x, [tokens.shape[1] for tokens in flat], dim=1)
        return {
            name: part.view(grid.shape)
            for (name, grid), part in zip(grids.items(), parts, strict=True)
        }

    def _tokens(
        self, name: str, images: Tensor, timestamps: Tensor, patch_size: int, spacing: float
    ) -> Tensor:
        """Patch embedding plus encodings; those of time and space are zero where rotary."""
        tokens: Tensor = self.patch_embedding(name, images, patch_size)
        channel = self.channel_embeddings[name]
        place = None if self.rotary is not None else spacing
        return tokens + added_encodings(tokens.shape, channel, self.months, timestamps, place)

    def _rotations(
        self, grids: Mapping[str, Tensor], spacing: float, timestamps: Tensor
    ) -> Rotations:
        if self.rotary is None:
            return lambda _places, _rows: repeat(None, len(self.blocks))
        rotary = self.rotary
        grid = [(tokens.shape[1], tokens.shape[2], tokens.shape[4]) for tokens in grids.values()]

        def rotations(places: Tensor | None, rows: Tensor | None) -> Iterable[Rotation]:
            dates = timestamps if rows is None else timestamps[rows]
            turned: Iterable[Rotation] = rotary(grid, spacing, dates, places)
            return turned

        return rotations

    def _transform(
        self, x: Tensor, attention_bias: Tensor | None, rotations: Iterable[Rotation | None]
    ) -> Tensor:
        for block, rotate in zip(self.blocks, rotations, strict=True):
            x = block(x, attention_bias, rotate)
        normed: Tensor = self.norm(x)
        return normed

    def _check(self, images: Mapping[str, Tensor], timestamps: Tensor) -> None:
        if not images:
            raise UserError("The encoder was given no images; pass at least one modality.")
        for name, image in images.items():
            check_known(name, self.config.scheme.groups)
            bands = len(modality(name).bands)
            if image.ndim != 5 or image.shape[-1] != bands:
                raise UserError(
                    f"{name} images have shape {list(image.shape)}; expected [B, H, W, T, {bands}]."
                )
            steps, most = image.shape[3], self.config.max_steps
            check_times(name, len(image), steps, most, timestamps)


def added_encodings(
    shape: torch.Size,
    channel: Tensor,
    months: Tensor,
    timestamps: Tensor,
    spacing: float | None,
) -> Tensor:
    """What tells a token its band group, step, month and place; to be added to it.

    A quarter of the width for each of the four kinds.

    Args:
        shape: of the tokens, ``[B, rows, columns, T, G, dim]``.
        channel: learned, ``[G, dim / 4]``.
        months: of the year, ``[12, dim / 4]``.
        timestamps: ``[B, T, 3]``.
        spacing: of patches, in units of 10 m; None leaves step and place out (zero).

    Returns:
        ``[B, rows, columns, T, G, dim]``, or the same with the places' axes of length 1.
    """
    batch, rows, columns, steps, groups, dim = shape
    month = months[timestamps[:, :, 1]][:, None, None, :, None]
    if spacing is not None:
        time = time_encoding(steps, dim // 4, channel.device)[:, None]
        space = space_encoding(rows, columns, spacing, dim // 4, channel.device)[:, :, None, None]
    else:
        time = space = month.new_zeros(())
        rows = columns = 1  # the same at every place
    quarter = (batch, rows, columns, steps, groups, dim // 4)
    return torch.cat([part.expand(quarter) for part in (channel, time, month, space)], dim=-1)


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
    the month table, which is fixed. v1.2's rotary frequencies are among both.
    """
    with torch.device("meta"):
        encoder = OlmoEarthEncoder(config)
    return sum(parameter.numel() for parameter in encoder.parameters())


def build(variant: Variant, channels: Channels) -> OlmoEarthEncoder:
    """The encoder of a registered variant; it takes all bands of the modalities of its scheme."""
    return OlmoEarthEncoder(config_of(variant))


@torch.no_grad()
def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Set every weight from ``seed`` alone, in place, and return the encoder.

    As the reference initialises: Xavier-uniform linear layers (queries, keys and values
    each as a matrix of their own) with zero biases, ones and zeros in the norms, zero
    channel embeddings, rotary frequencies in random directions, and torch's default
    ``U(+-1/sqrt(fan_in))`` for weights and biases of the patch embedding (see
    `models.initialisation`).
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
    if encoder.rotary is not None:
        encoder.rotary.init_random("rotary", seed)
    for embedding in encoder.channel_embeddings.values():
        embedding.zero_()
    return encoder
