"""Galileo's tokens, cost and inputs, by arithmetic. It must not import a tensor library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.cost import MacCount, transformer_macs
from models.design import InputNeeds, Layout, ModalityNeeds, TokenKind
from models.errors import UserError
from models.galileo.sources import MAX_STEPS, Source, space_time_sources, token_title
from models.normalisation import pretraining_statistics, two_sigma
from models.registry import Variant
from models.tokens import InputShape, patch_grid

UNCHANGED = {"NDVI": (0.0, 1.0)}
"""Shift and divisor of channels that are fed as they are, whatever the protocol."""


@dataclass(frozen=True)
class GalileoDesign:
    """See `models.design.Design`."""

    variant: Variant

    @property
    def needs(self) -> InputNeeds:
        """The channels that the token scheme shows, in the order of its groups.

        Pretraining took Sentinel-2 L1C (top of atmosphere) and brought mean - 2 std to 0,
        mean + 2 std to 1, without clipping; NDVI is computed from raw numbers and left alone.
        """
        return InputNeeds(
            modalities={source.name: _needs(source) for source in self._sources()},
            max_steps=MAX_STEPS,
            level="L1C",
        )

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """One kind per group, modality after modality."""
        kinds = []
        for shape in shapes:
            source = self._source(shape)
            rows, columns = patch_grid(shape, patch_size)
            kinds += [
                TokenKind(
                    token_title(group), source.name, group.channels, rows, columns, shape.steps
                )
                for group in source.groups
            ]
        return Layout(tuple(kinds))

    def width(self, shapes: Sequence[InputShape]) -> int:
        """The encoder's width."""
        return self.variant.dim

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """MACs of one sample.

        Per token of a group of C channels ``p^2 C dim`` to embed a patch: the kernel comes to
        the patch's size, not the patch to the kernel's. (Resizing the kernel is done once per
        batch and holds no sample; it is not counted.) The blocks: `models.cost.transformer_macs`.
        """
        v, layout = self.variant, self.layout(shapes, patch_size)
        embedding = sum(k.count * patch_size**2 * len(k.bands) * v.dim for k in layout.kinds)
        blocks = transformer_macs(layout.tokens, v.dim, v.depth, v.mlp_ratio)
        return replace(blocks, patch_embedding=embedding)

    def _sources(self) -> tuple[Source, ...]:
        return space_time_sources(self.variant.scheme)

    def _source(self, shape: InputShape) -> Source:
        self.variant.scheme.of(shape.modality)  # says what it covers when it lacks this one
        if shape.steps > MAX_STEPS:
            raise UserError(
                f"{self.variant.name} takes at most {MAX_STEPS} time steps, but the "
                f"{shape.modality} images have {shape.steps}; choose fewer."
            )
        return next(source for source in self._sources() if source.name == shape.modality)


def _needs(source: Source) -> ModalityNeeds:
    measured = [channel for channel in source.channels if channel not in UNCHANGED]
    shift, divisor = two_sigma(*pretraining_statistics(source.name, measured, "galileo"))
    pairs = {**dict(zip(measured, zip(shift, divisor, strict=True), strict=True)), **UNCHANGED}
    return ModalityNeeds(
        channels=source.channels,
        shift=tuple(float(pairs[c][0]) for c in source.channels),
        divisor=tuple(float(pairs[c][1]) for c in source.channels),
        fixed=tuple(c for c in source.channels if c in UNCHANGED),
    )


def design(variant: Variant) -> GalileoDesign:
    """The variant's design."""
    return GalileoDesign(variant)
