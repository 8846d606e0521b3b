"""How much of a GPU's memory a cell will take, so that several cells can share one.

From the closed form of activations and the batch that is encoded at once there. What a GPU reserves
beyond it is a guess, on the safe side. It must not know any engine, nor import a tensor library.
"""

from __future__ import annotations

from collections.abc import Collection

from harness.atlas.memory import BYTES, activation_bytes
from harness.costs import Cost, with_channels
from harness.estimates import held_bytes
from harness.executors.items import GpuNeed
from harness.plan import Cell, EmbeddingJob
from harness.suite_file import FinetuneProbe
from models.families import design_of
from models.registry import Variant
from models.tokens import InputShape

CONTEXT = 500_000_000  # bytes: CUDA's own, and the kernels of its libraries
PROBES = 500_000_000  # bytes: blocks of distances or logits, which probes bound
BATCH = 100_000_000  # tokens x width that are encoded at once (`harness.embed`)
RESERVED = 1.2  # what the allocator holds for each byte that is asked of it
# Weights, their gradient, AdamW's two moments, the best epoch's copy, and halves for the products.
TUNED_WEIGHTS = 6


def gpu_need(
    cell: Cell, count: int, cost: Cost, stored: Collection[str] = frozenset()
) -> GpuNeed | None:
    """Of one cell of a data set of ``count`` samples; embeddings that are ``stored`` are not made.

    None for an encoder that has weights and whose activations have no closed form: a user's own.
    """
    if isinstance(cell.task.probe, FinetuneProbe):
        return _fine_tuning(cell, cost, cell.task.probe.batch_size)
    probing = PROBES + held_bytes(cell, count)
    most = least = probing
    for job in cell.embeddings:
        if job.key in stored:
            continue
        each = _sample_bytes(job.variant, job.given.shapes, job.patch_size, cost)
        if each is None:
            return None
        weights = BYTES * cost.params
        most = max(most, weights + each * _batch_of(job))
        least = max(least, weights + each)
    return GpuNeed(CONTEXT + most, CONTEXT + least)


def wider(one: GpuNeed | None, other: GpuNeed | None) -> GpuNeed | None:
    """Of two cells that one worker computes one after another."""
    if one is None or other is None:
        return None
    return GpuNeed(max(one.memory, other.memory), max(one.least, other.least))


def _fine_tuning(cell: Cell, cost: Cost, batch: int) -> GpuNeed | None:
    """The batch is the protocol's; where a GPU does not hold it, it is learned in parts."""
    variant = cell.variant
    each = _sample_bytes(variant, cell.given.shapes, cell.task.patch_size, cost)
    if each is None:
        return None
    blocks = max(1, variant.depth)  # the gradient wants all of them
    held = CONTEXT + TUNED_WEIGHTS * BYTES * cost.params
    return GpuNeed(held + each * batch * blocks, held + each * blocks)


def _sample_bytes(
    variant: Variant, shapes: tuple[InputShape, ...], patch_size: int, cost: Cost
) -> int | None:
    """One sample's activations and its images."""
    design = design_of(variant)
    images = BYTES * sum(
        shape.height * shape.width * shape.steps * len(shape.bands or ())
        for shape in with_channels(design, shapes)
    )
    activations = activation_bytes(variant, design, shapes, patch_size)
    if activations is None:
        return None if cost.params else round(RESERVED * 2 * images)
    # A GPU holds an MLP's hidden layer before and after its activation.
    ratio = variant.mlp_ratio
    return round(RESERVED * (images + activations * (5 + 2 * ratio) / (5 + ratio)))


def _batch_of(job: EmbeddingJob) -> int:
    design = design_of(job.variant)
    tokens = design.layout(job.given.shapes, job.patch_size).tokens
    return batch(tokens, design.width(job.given.shapes))


def batch(tokens: int, width: int) -> int:
    """Samples that are encoded at once."""
    return max(1, min(256, BATCH // max(1, tokens * width)))
