"""OlmoEarth's tokens, cost and inputs, by arithmetic. It must not import a tensor library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.cost import MacCount, closed_form_macs
from models.design import InputNeeds, Layout, ModalityNeeds, TokenKind
from models.normalisation import pretraining_statistics, two_sigma
from models.olmoearth.config import config_of
from models.registry import Variant
from models.sensors import modality
from models.tokens import InputShape, patch_grid


@dataclass(frozen=True)
class OlmoEarthDesign:
    """See `models.design.Design`."""

    variant: Variant

    @property
    def needs(self) -> InputNeeds:
        """Every modality that the token scheme covers, all bands, pretraining statistics."""
        return InputNeeds(
            modalities={name: _needs(name) for name in self.variant.scheme.groups},
            max_steps=config_of(self.variant).max_steps,
        )

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """One kind per band group, modality after modality."""
        kinds = []
        for shape in shapes:
            rows, columns = patch_grid(shape, patch_size)
            kinds += [
                TokenKind(" ".join(group), shape.modality, group, rows, columns, shape.steps)
                for group in self.variant.scheme.of(shape.modality)
            ]
        return Layout(tuple(kinds))

    def width(self, shapes: Sequence[InputShape]) -> int:
        """The encoder's width."""
        return self.variant.dim

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """See `models.cost.closed_form_macs`."""
        return closed_form_macs(self.variant, shapes, patch_size)

    def tables(self, shapes: Sequence[InputShape], patch_size: int) -> int:
        """Numbers held beside the tokens: rotary positions keep every block's rotations."""
        if config_of(self.variant).positions != "rotary":
            return 0
        return self.variant.depth * self.layout(shapes, patch_size).tokens * self.variant.dim


def _needs(name: str) -> ModalityNeeds:
    shift, divisor = two_sigma(*pretraining_statistics(name))
    return ModalityNeeds(
        channels=modality(name).band_names,
        shift=tuple(shift.tolist()),
        divisor=tuple(divisor.tolist()),
    )


def design(variant: Variant) -> OlmoEarthDesign:
    """The variant's design; `UserError` for options that make no encoder."""
    config_of(variant)
    return OlmoEarthDesign(variant)
