"""The baselines' tokens, cost and inputs. It must not import a tensor library.

A baseline reads whatever bands of a modality the data hold, normalised with the data set's
own statistics, because it has none of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.cost import MacCount
from models.design import InputNeeds, Layout, ModalityNeeds, TokenKind
from models.registry import Variant
from models.sensors import modality
from models.tokens import InputShape, patch_grid

ANY_STEPS = 10_000
FILTER_SIDE = 3  # pixels
TRAINABLE = False


def bands_of(shape: InputShape) -> tuple[str, ...]:
    """Channels that are given of a modality; all of its bands when that is not said."""
    return shape.bands if shape.bands is not None else modality(shape.modality).band_names


@dataclass(frozen=True)
class BaselineDesign:
    """See `models.design.Design`; its option ``kind`` says which baseline."""

    variant: Variant

    @property
    def kind(self) -> str:
        """Which baseline: ``statistics``, ``projection`` or ``convolutions``."""
        return str(self.variant.options["kind"])

    @property
    def needs(self) -> InputNeeds:
        """Whatever there is."""
        return InputNeeds(
            modalities={
                name: ModalityNeeds(modality(name).band_names, whichever=True, z_scores=True)
                for name in self.variant.scheme.groups
            },
            max_steps=ANY_STEPS,
            level="any",
        )

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """One token per patch and step, or a single one of the whole sample (statistics)."""
        if self.kind == "statistics":
            bands = tuple(band for shape in shapes for band in bands_of(shape))
            return Layout((TokenKind("whole sample", shapes[0].modality, bands, 1, 1, 1),))
        kinds = []
        for shape in shapes:
            rows, columns = patch_grid(shape, patch_size)
            bands = bands_of(shape)
            kinds.append(
                TokenKind(" ".join(bands), shape.modality, bands, rows, columns, shape.steps)
            )
        return Layout(tuple(kinds))

    def width(self, shapes: Sequence[InputShape]) -> int:
        """Two numbers per band (statistics), else the number of random features."""
        if self.kind == "statistics":
            return 2 * sum(len(bands_of(shape)) for shape in shapes)
        return self.variant.dim

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """MACs of one sample: squares of all pixels, or one random product per patch or pixel."""
        total = 0
        for shape in shapes:
            values = shape.height * shape.width * shape.steps * len(bands_of(shape))
            if self.kind == "statistics":
                total += values
            elif self.kind == "projection":
                total += values * self.variant.dim
            else:
                # Each filter gives two features: what it answers above and below zero.
                total += values * FILTER_SIDE**2 * (self.variant.dim // 2)
        return MacCount(patch_embedding=total, linear=0, attention=0)


def design(variant: Variant) -> BaselineDesign:
    """The variant's design."""
    return BaselineDesign(variant)
