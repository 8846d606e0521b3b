"""What a stated cost betrays about the input: how many patch positions a model was given.

A table says "native size" of two models, and one harness enlarged small images for the
second. For variants of the registry the closed form of MACs is a function of the number of
positions (rows x columns x time steps) alone, so a stated cost that it meets exactly tells
that number. It must know nothing of scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from harness.published.entrants import Entrant
from harness.published.tasks import Task
from models.errors import UserError
from models.families import design_of
from models.registry import Variant, load_registry
from models.tokens import InputShape

BORDER = 1.1
"""Up to a tenth more positions is a border that one model cropped and another padded."""

_FLOPS_PER_MAC = 2
_MOST_POSITIONS = 1_000_000
_MODALITY_SETS = (("sentinel2_l2a",), ("sentinel2_l2a", "sentinel1"), ("landsat",))


def implied_positions(entrant: Entrant, task: Task) -> int | None:
    """Patch positions that the stated GFLOPs stand for; None when they fit no number of them."""
    cell = entrant.cells[task]
    if cell.gflops is None:
        return None
    return _positions(entrant.variant, round(cell.gflops * 1e9))


@lru_cache(maxsize=4096)
def _positions(name: str, flops: int) -> int | None:
    try:
        variant = load_registry().variant(name)
    except UserError:
        return None
    for modalities in _MODALITY_SETS:
        if not set(modalities) <= set(design_of(variant).needs.modalities):
            continue
        found = _search(variant, modalities, flops)
        if found is not None:
            return found
    return None


def _search(variant: Variant, modalities: Sequence[str], flops: int) -> int | None:
    """The number of positions of exactly this cost, by bisection: cost grows with it."""
    low, high = 1, _MOST_POSITIONS
    while low < high:
        middle = (low + high) // 2
        if _flops(variant, modalities, middle) < flops:
            low = middle + 1
        else:
            high = middle
    return low if _flops(variant, modalities, low) == flops else None


def _flops(variant: Variant, modalities: Sequence[str], positions: int) -> int:
    side = variant.max_patch_size
    shapes = [InputShape(side, side * positions, 1, name) for name in modalities]
    return _FLOPS_PER_MAC * design_of(variant).macs(shapes, side).total


def uneven(entrants: Sequence[Entrant], task: Task) -> Mapping[int, list[str]]:
    """Entrants by implied positions, if some were given far more than others; else empty.

    Entrants whose cost tells nothing are not accused.
    """
    found: dict[int, list[str]] = {}
    for entrant in entrants:
        positions = implied_positions(entrant, task)
        if positions is not None:
            found.setdefault(positions, []).append(entrant.name)
    return found if found and max(found) > BORDER * min(found) else {}
