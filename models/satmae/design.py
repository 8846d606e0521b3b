"""SatMAE's tokens, cost and inputs, by arithmetic. It must not import a tensor library.

arXiv 2207.08051, section 3.2, the multi-spectral model: each of a few groups of bands has its
own tokens over the grid of 8 x 8 patches, after a class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.cost import MacCount, transformer_macs
from models.design import InputNeeds, Layout, ModalityNeeds, TokenKind
from models.errors import UserError
from models.needs import check_shapes
from models.normalisation import known_statistics, pretraining_statistics, two_sigma
from models.registry import Variant
from models.tokens import InputShape, TokenScheme, patch_grid

PATCH_SIZE = 8
MODEL = "SatMAE"
MODALITY = "sentinel2_l2a"


class Options(BaseModel):
    """What shapes a SatMAE beside its size; see ``variants/satmae.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel_code: int = Field(default=256, gt=0, multiple_of=2)
    native_side: int = Field(default=96, gt=0, multiple_of=PATCH_SIZE)
    global_pool: bool = False


def options_of(variant: Variant) -> Options:
    """The variant's; `UserError` for an option that SatMAE has not."""
    try:
        return Options.model_validate(dict(variant.options))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f'{variant.name}: option "{first["loc"][0]}": {first["msg"]}; {MODEL} has the options '
            f"{', '.join(Options.model_fields)}."
        ) from None


def channels_of(scheme: TokenScheme) -> tuple[str, ...]:
    """The scheme's bands in fMoW-Sentinel's order, which the images have."""
    if set(scheme.groups) != {MODALITY}:
        raise UserError(
            f'Token scheme "{scheme.name}" does not suit {MODEL}, which reads {MODALITY} only; '
            "use a scheme of that alone."
        )
    wanted = {band for group in scheme.of(MODALITY) for band in group}
    known = known_statistics("satmae")[MODALITY]
    unknown = sorted(wanted - set(known))
    if unknown:
        raise UserError(
            f'Token scheme "{scheme.name}" does not suit {MODEL}: its pretraining has no '
            f"statistics of {', '.join(unknown)}; it knows {', '.join(known)}."
        )
    return tuple(band for band in known if band in wanted)


def group_positions(scheme: TokenScheme) -> tuple[tuple[int, ...], ...]:
    """For each band group, where its bands are on the images' last axis."""
    channels = channels_of(scheme)
    return tuple(tuple(channels.index(band) for band in group) for group in scheme.of(MODALITY))


def needs_of(scheme: TokenScheme, native_side: int) -> InputNeeds:
    """The pretraining's statistics, in 8 bits: cut to [0, 1] in 255 steps."""
    channels = channels_of(scheme)
    shift, divisor = two_sigma(*pretraining_statistics(MODALITY, channels, "satmae"))
    return InputNeeds(
        modalities={
            MODALITY: ModalityNeeds(
                channels=channels,
                shift=tuple(shift.tolist()),
                divisor=tuple(divisor.tolist()),
                clip=True,
                levels=255,
            )
        },
        required=(MODALITY,),
        patch_sizes=(PATCH_SIZE,),
        max_steps=1,
        native_side=native_side,
        level="L1C",
    )


@dataclass(frozen=True)
class SatMaeDesign:
    """See `models.design.Design`."""

    variant: Variant

    @property
    def needs(self) -> InputNeeds:
        """See `needs_of`."""
        return needs_of(self.variant.scheme, options_of(self.variant).native_side)

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """The class token, then one kind per band group."""
        rows, columns = self._grid(shapes, patch_size)
        groups = self.variant.scheme.of(MODALITY)
        return Layout(
            (
                TokenKind("class token", None, (), 1, 1, 1),
                *(
                    TokenKind(" ".join(group), MODALITY, group, rows, columns, 1)
                    for group in groups
                ),
            )
        )

    def width(self, shapes: Sequence[InputShape]) -> int:
        """The encoder's, whatever the input."""
        return self.variant.dim

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """`models.cost.transformer_macs` of one sequence, and the patches' linear layers."""
        v = self.variant
        tokens = self.layout(shapes, patch_size).tokens
        rows, columns = self._grid(shapes, patch_size)
        embedding = rows * columns * PATCH_SIZE**2 * len(channels_of(v.scheme)) * v.dim
        blocks = transformer_macs(tokens, v.dim, v.depth, v.mlp_ratio)
        return replace(blocks, patch_embedding=embedding)

    def _grid(self, shapes: Sequence[InputShape], patch_size: int) -> tuple[int, int]:
        check_shapes(MODEL, self.needs, shapes, patch_size)
        return patch_grid(shapes[0], patch_size)


def design(variant: Variant) -> SatMaeDesign:
    """The variant's design."""
    return SatMaeDesign(variant)
