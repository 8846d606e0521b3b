"""What makes one OlmoEarth encoder, as plain data. It must not import a tensor library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from models.errors import UserError, did_you_mean
from models.registry import Variant
from models.tokens import MAX_PATCH_SIZE, TokenScheme

Positions = Literal["additive", "rotary"]


@dataclass(frozen=True)
class OlmoEarthConfig:
    """What makes one OlmoEarth encoder.

    Args:
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads per block.
        scheme: which bands share a token, for every modality that the encoder reads.
        mlp_ratio: hidden width of a block's MLP over ``dim``.
        pixel_hidden: width of the per-pixel layer of v1.1 and v1.2 (12 for nano, else 64);
            None in v1.
        positions: how a token knows its place and time: encodings added to it once (v1,
            v1.1), or queries and keys rotated in every block (v1.2).
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
    positions: Positions = "additive"
    max_patch_size: int = MAX_PATCH_SIZE
    max_steps: int = 12


def config_of(variant: Variant) -> OlmoEarthConfig:
    """The encoder's configuration.

    Raises `UserError` for an option in a registry file that does not exist or does not fit.
    """
    return OlmoEarthConfig(
        dim=variant.dim,
        depth=variant.depth,
        heads=variant.heads,
        scheme=variant.scheme,
        mlp_ratio=variant.mlp_ratio,
        pixel_hidden=variant.pixel_hidden,
        positions=_positions(variant),
    )


def _positions(variant: Variant) -> Positions:
    known: tuple[Positions, ...] = get_args(Positions)
    for name in variant.options:
        if name != "positions":
            raise UserError(
                f'Variant {variant.name} has an option "{name}", which OlmoEarth does not know: '
                f"{did_you_mean(name, ['positions'])}."
            )
    given = variant.options.get("positions", "additive")
    positions = next((p for p in known if p == given), None)
    if positions is None:
        raise UserError(
            f'Variant {variant.name} has positions "{given}"; allowed: {", ".join(known)}.'
        )
    width = variant.dim // variant.heads
    if positions == "rotary" and width % 4:
        raise UserError(
            f"Variant {variant.name} has {width} features per head, but rotary positions need a "
            "multiple of 4; choose another dim or number of heads."
        )
    return positions
