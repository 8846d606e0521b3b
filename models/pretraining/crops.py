"""Crops, flips and colour factors: which pixels of which chips a step looks at, twice.

Everything is drawn from numbers derived from (seed, step), so any step can be made again by
itself: resuming needs no random state. It must not know encoders, masks or losses.

Source: OlmoEarth's variable patch and crop sizes under a token budget (published recipe).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.pretraining.chips import Chips
from models.pretraining.recipe import Crops, Views
from models.sensors import modality
from models.tokens import TokenScheme

Pixels = npt.NDArray[np.float32]
ALL = slice(None)


@dataclass(frozen=True)
class CropShape:
    """Patch size (pixels) and side (patches) of a step's crops."""

    patch_size: int
    side: int

    @property
    def pixels(self) -> int:
        """Rows, and columns, of a crop."""
        return self.patch_size * self.side


@dataclass(frozen=True)
class Look:
    """One look at a batch: per modality ``[B, H, W, T, D]``, and ``timestamps`` ``[B, T, 3]``."""

    images: Mapping[str, Pixels]
    timestamps: npt.NDArray[np.int64]


def stream(*parts: object) -> np.random.Generator:
    """A generator seeded by text: the same parts, the same numbers, on every machine."""
    digest = hashlib.sha256(":".join(str(part) for part in parts).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))


def crop_shapes(crops: Crops, chips: Chips, scheme: TokenScheme) -> tuple[CropShape, ...]:
    """All shapes that a step may draw.

    A shape must fit into the smallest chip, and its tokens, at the chips' largest number of
    time steps, into the budget; a band group must have two tokens at least, or masking could
    leave nothing to predict. Raises `UserError` when no shape does.
    """
    smallest = int(chips.sizes[:, :2].min())
    fewest, steps = int(chips.sizes[:, 2].min()), int(chips.sizes[:, 2].max())
    groups = sum(len(group_list) for group_list in scheme.groups.values())
    shapes = tuple(
        CropShape(p, side)
        for p in crops.patch_sizes
        for side in crops.sides
        if crops.least_pixels <= p * side <= smallest
        and side * side * steps * groups <= crops.token_budget
        and side * side * fewest >= 2
    )
    if not shapes:
        raise UserError(
            f"No crop fits: chips are {smallest} pixels a side at least, with up to {steps} time "
            f"steps of {groups} band groups; patch sizes {_list(crops.patch_sizes)} with sides of "
            f"{_list(crops.sides)} patches are larger, or below {crops.least_pixels} pixels, or "
            f"exceed {crops.token_budget} tokens, or are one token a band group. Change crops in "
            "the setting."
        )
    return shapes


def _list(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)


def rows_of(step: int, batch: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Which chips step number ``step`` (from 0) looks at, ``[batch]``.

    Epoch after epoch in an order of its own; a batch may reach over the end of one into the
    next.
    """
    first = step * batch
    rows: list[npt.NDArray[np.int64]] = []
    taken = 0
    while taken < batch:
        epoch, place = divmod(first + taken, count)
        part = _order(seed, epoch, count)[place : place + batch - taken]
        rows.append(part)
        taken += len(part)
    return np.concatenate(rows)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    return stream("order", seed, epoch).permutation(count)


def look(
    chips: Chips,
    rows: Sequence[int] | npt.NDArray[np.int64],
    shape: CropShape,
    views: Views,
    places: np.random.Generator,
    factors: np.random.Generator,
    part: slice = ALL,
) -> Look:
    """Crop, flip and colour the given chips, or a part of them, as they are in the whole.

    ``places`` decides where and how a crop lies; two looks given equal generators see the same
    crop. Chips of several time steps give as many as the one with fewest, in order of time.
    """
    side = shape.pixels
    steps = int(chips.sizes[np.asarray(rows), 2].min())
    # Drawn for all rows, so that a sample's crop follows from its place among them alone.
    corner = places.random((len(rows), 2))
    turn = places.integers(0, 8, len(rows)) if views.flips else np.zeros(len(rows), dtype=np.int64)
    keys = places.random((len(rows), int(chips.sizes[:, 2].max())))
    read = range(len(rows))[part]
    images = {
        name: np.empty((len(read), side, side, steps, len(bands)), dtype=np.float32)
        for name, bands in chips.bands.items()
    }
    timestamps = np.empty((len(read), steps, 3), dtype=np.int64)
    for place, i in enumerate(read):
        row = rows[i]
        chip = chips.chip(int(row))
        height, width, available = (int(n) for n in chips.sizes[int(row)])
        y = int(corner[i, 0] * (height - side + 1))
        x = int(corner[i, 1] * (width - side + 1))
        chosen = np.sort(np.argsort(keys[i, :available])[:steps])
        timestamps[place] = chip.timestamps[chosen]
        for name, into in images.items():
            crop = chip.images[name][y : y + side, x : x + side]
            into[place] = _turned(crop if steps == available else crop[:, :, chosen], int(turn[i]))
    for name, bands in chips.bands.items():
        drawn = _colour_factors(len(rows), len(bands), views, factors)
        if drawn is not None and modality(name).is_optical:
            images[name] *= drawn[part, None, None, None, :]
    return Look(images, timestamps)


def _turned(image: npt.NDArray[np.generic], turn: int) -> npt.NDArray[np.generic]:
    """One of the eight symmetries of the square, on the first two axes."""
    turned = np.rot90(image, turn % 4)
    return turned[:, ::-1] if turn >= 4 else turned


def _colour_factors(
    samples: int, bands: int, views: Views, factors: np.random.Generator
) -> Pixels | None:
    """Log-normal factors of all bands, and of each, ``[samples, bands]``; None where none is."""
    if not (views.brightness or views.band_gain):
        return None
    overall = factors.normal(0, views.brightness, (samples, 1))
    each = factors.normal(0, views.band_gain, (samples, bands))
    return np.exp(overall + each).astype(np.float32)
