"""CROMA's tokens, cost and inputs, by arithmetic. It must not import a tensor library.

arXiv 2311.00566: one token per 8 x 8 patch for all bands of a sensor; an optical encoder, a
radar encoder half as deep, and a joint one in which the radar's encodings attend to the
optical ones. The token scheme says which of them a variant has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.cost import MacCount, transformer_macs
from models.design import InputNeeds, Layout, ModalityNeeds, TokenKind
from models.errors import UserError
from models.needs import check_shapes
from models.registry import Variant
from models.tokens import InputShape, TokenScheme, patch_grid

PATCH_SIZE = 8
MODEL = "CROMA"
SENSORS = {"sentinel2_l2a": "optical", "sentinel1": "radar"}
"""Modality to the name of the encoder, and of the sequence, that its tokens are in."""


def sensors_of(scheme: TokenScheme) -> dict[str, str]:
    """Those of `SENSORS` that the scheme has, optical first; `UserError` for other schemes."""
    for name, groups in scheme.groups.items():
        if name not in SENSORS or len(groups) != 1:
            raise UserError(
                f'Token scheme "{scheme.name}" does not suit {MODEL}, which has one token for all '
                f"bands of {' and of '.join(SENSORS)}; use one of its own schemes."
            )
    return {name: part for name, part in SENSORS.items() if name in scheme.groups}


def needs_of(scheme: TokenScheme) -> InputNeeds:
    """Every sensor of the scheme; the data's own statistics, cut to [0, 1] in 255 steps."""
    sensors = sensors_of(scheme)
    return InputNeeds(
        modalities={
            name: ModalityNeeds(channels=scheme.of(name)[0], clip=True, levels=255)
            for name in sensors
        },
        required=tuple(sensors),
        patch_sizes=(PATCH_SIZE,),
        max_steps=1,
        native_side=120,
    )


def depths(depth: int) -> dict[str, int]:
    """Blocks of each encoder, where the optical one has ``depth``."""
    return {"optical": depth, "radar": depth // 2, "joint": depth // 2}


@dataclass(frozen=True)
class CromaDesign:
    """See `models.design.Design`."""

    variant: Variant

    @property
    def needs(self) -> InputNeeds:
        """See `needs_of`."""
        return needs_of(self.variant.scheme)

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """A sequence per sensor; where there are both, the joint one, which is returned."""
        rows, columns = self._grid(shapes, patch_size)
        kinds = [
            TokenKind(" ".join(bands), name, bands, rows, columns, 1, part)
            for name, part in sensors_of(self.variant.scheme).items()
            for bands in self.variant.scheme.of(name)
        ]
        if len(kinds) > 1:
            # The joint sequence starts as the radar's encodings.
            radar = kinds[-1]
            kinds.append(replace(radar, name=f"{radar.name} with optical", sequence="joint"))
        return Layout(tuple(kinds))

    def width(self, shapes: Sequence[InputShape]) -> int:
        """The encoder's, whatever the input."""
        return self.variant.dim

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """Each encoder's blocks over the N patches; the joint ones have a cross-attention more.

        That is ``4 N dim^2`` in linear layers and ``2 N^2 dim`` in attention, as for
        self-attention. The pooling networks are not part of a forward pass.
        """
        v = self.variant
        rows, columns = self._grid(shapes, patch_size)
        patches = rows * columns
        sensors = sensors_of(v.scheme)
        total = MacCount(
            sum(patches * PATCH_SIZE**2 * len(v.scheme.of(name)[0]) * v.dim for name in sensors),
            linear=0,
            attention=0,
        )
        parts = [*sensors.values(), *(["joint"] if len(sensors) > 1 else [])]
        for part in parts:
            depth = depths(v.depth)[part]
            total += transformer_macs(patches, v.dim, depth, v.mlp_ratio)
            if part == "joint":
                total += transformer_macs(patches, v.dim, depth, mlp_ratio=0)
        return total

    def tables(self, shapes: Sequence[InputShape], patch_size: int) -> int:
        """Numbers held beside the tokens: the distance penalty, N x N for each head."""
        rows, columns = self._grid(shapes, patch_size)
        return self.variant.heads * (rows * columns) ** 2

    def _grid(self, shapes: Sequence[InputShape], patch_size: int) -> tuple[int, int]:
        check_shapes(MODEL, self.needs, shapes, patch_size)
        check_same_grid(shapes)
        return patch_grid(shapes[0], patch_size)


def check_same_grid(shapes: Sequence[InputShape]) -> None:
    """`UserError` unless the two sensors' images show the same pixels."""
    sizes = {(shape.height, shape.width) for shape in shapes}
    if len(sizes) > 1:
        told = " and ".join(f"{s.modality} {s.height} x {s.width}" for s in shapes)
        raise UserError(f"{MODEL} needs both sensors at one image size; these are {told} pixels.")


def design(variant: Variant) -> CromaDesign:
    """The variant's design."""
    return CromaDesign(variant)
