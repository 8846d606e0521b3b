"""Peak memory of one forward pass, in closed form.

It follows the code of `models.transformer.Block` as inference runs it on the shared block:
batch 1, float32, no gradients. It must not import a tensor library, nor know any family.

    peak = 4 bytes x (tables + the larger of
        cutting   2 V                                   while images are cut into patches
        pixels    V + V_hidden + N d                    while patches are embedded
        blocks    N (5 d + h) + d x tokens of sequences that are finished )

V are the pixel values that enter the patch embedding, V_hidden those of a layer before it; N is
a sequence's length, d the width, h the hidden width of the MLP. The widest moment of a block is
its MLP, which holds five times the tokens (the embedded ones, the block's input, the residual
after attention, its norm, the MLP's output) and the hidden layer once. Attention is narrower: the
kernels never hold the N x N scores. What they do not avoid is an additive bias, which is N x N per
head; it and whatever else lies beside the tokens for the whole pass are ``tables``.

Left out: weights, input images, scratch memory of kernels (some hundred kilobytes a thread), and
what an allocator reserves beyond what is asked of it. A GPU holds the hidden layer twice, before
and after its activation; there the blocks take ``N (5 d + 2 h)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from models.design import Design
from models.registry import Variant
from models.tokens import InputShape

BYTES = 4  # float32


@runtime_checkable
class HoldsTables(Protocol):
    """A design that keeps numbers beside its tokens for the whole pass says how many."""

    def tables(self, shapes: Sequence[InputShape], patch_size: int) -> int:
        """E.g. heads x N x N for a penalty that is added to attention."""
        ...


def activation_bytes(
    variant: Variant, design: Design, shapes: Sequence[InputShape], patch_size: int
) -> int | None:
    """Peak memory of one sample; None for an encoder without transformer blocks."""
    if not variant.depth:
        return None
    tables = design.tables(shapes, patch_size) if isinstance(design, HoldsTables) else 0
    return BYTES * (
        tables
        + max(
            _patches(variant, design, shapes, patch_size),
            _blocks(variant, design, shapes, patch_size),
        )
    )


def _blocks(variant: Variant, design: Design, shapes: Sequence[InputShape], patch_size: int) -> int:
    lengths: dict[str, int] = {}
    for kind in design.layout(shapes, patch_size).kinds:
        lengths[kind.sequence] = lengths.get(kind.sequence, 0) + kind.count
    width, hidden = variant.dim, int(variant.dim * variant.mlp_ratio)
    finished, most = 0, 0
    for length in lengths.values():
        most = max(most, length * (5 * width + hidden) + finished * width)
        finished += length
    return most


def _patches(
    variant: Variant, design: Design, shapes: Sequence[InputShape], patch_size: int
) -> int:
    """Pixels as images and as patches, or as patches beside a per-pixel layer's output.

    The MACs of a plain embedding are ``V d``; with a per-pixel layer of width ``w`` over C bands
    they are ``P w (C + d)`` for P pixels.
    """
    macs = design.macs(shapes, patch_size).patch_embedding
    if not variant.pixel_hidden:
        return 2 * (macs // variant.dim)
    side = variant.max_patch_size
    kinds = design.layout(shapes, patch_size).kinds
    pixels = [(kind.count * side**2, len(kind.bands)) for kind in kinds]
    hidden = max(count * variant.pixel_hidden for count, _ in pixels)
    values = sum(count * bands for count, bands in pixels)
    tokens = sum(kind.count for kind in kinds)
    return max(2 * values, values + hidden + tokens * variant.dim)
