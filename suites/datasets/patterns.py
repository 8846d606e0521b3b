"""Shapes that make a landscape: noise, parcels, strips, roads, meanders, and sampling grids.

Pure functions from a random generator to small arrays, built from additions,
multiplications, square roots and comparisons only, because those round the same way on
every machine. They must know nothing of spectra or of classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Rng = np.random.Generator

SCENE = 72
"""Side of a scene in 10 m pixels: a multiple of the 20 m and 60 m cells, cropped afterwards."""

_ROWS, _COLUMNS = (a.astype(np.float32) for a in np.mgrid[0:SCENE, 0:SCENE])


@dataclass(frozen=True)
class Frame:
    """Coordinates turned by a random angle about a random centre: ``along``, ``across`` (px)."""

    along: F32
    across: F32


def bell(rng: Rng, size: int | tuple[int, ...] = ()) -> F32:
    """Bell-shaped values, mean 0, variance 1: four uniforms summed, exact on every machine."""
    shape = (size,) if isinstance(size, int) else size
    total = rng.random((4, *shape), dtype=np.float32)
    value: F32 = (total[0] + total[1] + total[2] + total[3] - np.float32(2)) * np.float32(3**0.5)
    return value


def number(rng: Rng, low: float, high: float) -> float:
    """One uniform number."""
    return low + (high - low) * float(rng.random())


def frame(rng: Rng) -> Frame:
    """A random direction and centre, without a sine."""
    while True:
        x, y = number(rng, -1, 1), number(rng, -1, 1)
        length = (x * x + y * y) ** 0.5
        if 0.1 < length <= 1:
            break
    cos, sin = np.float32(x / length), np.float32(y / length)
    row, column = np.float32(number(rng, 20, 52)), np.float32(number(rng, 20, 52))
    dy, dx = _ROWS - row, _COLUMNS - column
    return Frame(cos * dx + sin * dy, cos * dy - sin * dx)


def smooth(rng: Rng, cells: int) -> F32:
    """Smooth noise ``[SCENE, SCENE]`` of about unit variance with ``cells`` waves a side."""
    coarse = bell(rng, (cells + 2, cells + 2))
    return _stretch(_stretch(coarse, cells).T, cells).T * np.float32(1.4)


def _stretch(grid: F32, cells: int) -> F32:
    position = np.arange(SCENE, dtype=np.float32) * np.float32(cells / SCENE)
    below = position.astype(np.int64)
    share = position - below
    share = share * share * (np.float32(3) - np.float32(2) * share)
    stretched: F32 = grid[below] * (1 - share)[:, None] + grid[below + 1] * share[:, None]
    return stretched


def grain(rng: Rng) -> F32:
    """Pixel noise ``[SCENE, SCENE]``, mean 0, variance 1."""
    return bell(rng, (SCENE, SCENE))


def parcels(rng: Rng, width: float, length: float, *, jitter: float = 0.5) -> I64:
    """Field numbers ``[SCENE, SCENE]`` in 0..4095: strips cut into parcels, in a random direction.

    Real field patterns are strips along a shared direction, each cut at its own places.
    """
    place = frame(rng)
    strip = np.floor(place.across / np.float32(width)).astype(np.int64) & 63
    cut = rng.random(64, dtype=np.float32) * np.float32(length)
    scale = 1 + np.float32(jitter) * (rng.random(64, dtype=np.float32) - np.float32(0.5))
    order = np.floor((place.along + cut[strip]) / (np.float32(length) * scale[strip]))
    number_of: I64 = strip * 64 + (order.astype(np.int64) & 63)
    return number_of


def rows(rng: Rng, period: float) -> F32:
    """Parallel planting rows: a triangle wave in 0..1 with the period in pixels."""
    phase = frame(rng).across / np.float32(period)
    phase = phase - np.floor(phase)
    wave: F32 = np.abs(phase * 2 - 1)
    return wave


def ribbon_distance(rng: Rng, bend: float, *, wander: float = 0.0) -> F32:
    """Distance (px) of each pixel from a curve across the scene; ``wander`` makes it meander."""
    place = frame(rng)
    centre = np.float32(bend) * place.along * place.along / np.float32(SCENE)
    if wander:
        centre = centre + np.float32(wander) * _wave(rng, place.along)
    distance: F32 = np.abs(place.across - centre)
    return distance


def covered(distance: F32, width: float) -> F32:
    """Share of each pixel inside a band of a width (px) about a curve."""
    cover: F32 = np.clip(np.float32(width / 2 + 0.5) - distance, 0, 1)
    return cover


def ribbon(rng: Rng, width: float, bend: float) -> F32:
    """Share of each pixel covered by a curved band (a road, a hedge) of a width in pixels."""
    return covered(ribbon_distance(rng, bend), width)


def _wave(rng: Rng, along: F32) -> F32:
    knots = bell(rng, 16)
    position = np.clip(along / np.float32(14) + 7, 0, 13.99)
    below = position.astype(np.int64)
    share = position - below
    share = share * share * (np.float32(3) - np.float32(2) * share)
    wave: F32 = knots[below] * (1 - share) + knots[below + 1] * share
    return wave


def blocks(rng: Rng, size: float, gap: float) -> tuple[F32, I64]:
    """A grid of rectangles with gaps: the share covered (0..1), and each pixel's rectangle."""
    place = frame(rng)
    stretch = number(rng, 0.7, 1.5)
    u, v = place.along / np.float32(size * stretch), place.across / np.float32(size)
    cell_u, cell_v = np.floor(u), np.floor(v)
    edge_u = (0.5 - np.abs(u - cell_u - np.float32(0.5))) * np.float32(size * stretch)
    edge_v = (0.5 - np.abs(v - cell_v - np.float32(0.5))) * np.float32(size)
    cover = np.clip(np.minimum(edge_u, edge_v) - np.float32(gap / 2) + np.float32(0.5), 0, 1)
    cell = (cell_u.astype(np.int64) & 63) * 64 + (cell_v.astype(np.int64) & 63)
    return cover.astype(np.float32), cell


def table(rng: Rng, numbers: I64) -> F32:
    """One uniform value in 0..1 for each parcel or rectangle, spread over its pixels."""
    return rng.random(4096, dtype=np.float32)[numbers]


def blur(bands: F32, strength: float) -> F32:
    """The optics' point spread on ``[B, H, W]``: neighbours share in each pixel."""
    side = np.float32(strength)
    spread = bands * (1 - 2 * side)
    spread[:, 1:-1] += side * (bands[:, :-2] + bands[:, 2:])
    spread[:, 0] += side * (bands[:, 0] + bands[:, 1])
    spread[:, -1] += side * (bands[:, -1] + bands[:, -2])
    both: F32 = spread * (1 - 2 * side)
    both[:, :, 1:-1] += side * (spread[:, :, :-2] + spread[:, :, 2:])
    both[:, :, 0] += side * (spread[:, :, 0] + spread[:, :, 1])
    both[:, :, -1] += side * (spread[:, :, -1] + spread[:, :, -2])
    return both


def at_resolution(bands: F32, cell: int) -> F32:
    """What a coarser detector sees: averaged over cells, then brought back by cubic convolution.

    ``bands`` is ``[B, SCENE, SCENE]``; ``cell`` is 2 (20 m) or 6 (60 m). The cubic kernel
    is what makes upsampled bands as smooth as in the real tiles (R. Keys, 1981).
    """
    total = bands[:, ::cell, :]
    for i in range(1, cell):
        total = total + bands[:, i::cell, :]
    columns = total[:, :, ::cell]
    for i in range(1, cell):
        columns = columns + total[:, :, i::cell]
    coarse = blur(columns / np.float32(cell * cell), 0.08)
    fine = _cubic(coarse, cell)
    return np.ascontiguousarray(_cubic(fine.swapaxes(1, 2), cell).swapaxes(1, 2))


def _cubic(coarse: F32, cell: int) -> F32:
    """Upsample axis 1 by ``cell`` with the Keys kernel (a = -1/2), edges repeated."""
    count = coarse.shape[1]
    position = (np.arange(count * cell, dtype=np.float64) + 0.5) / cell - 0.5
    base = np.floor(position)
    t = position - base
    weights = (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    total: F32 | None = None
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = np.clip(base.astype(np.int64) + offset, 0, count - 1)
        term = coarse[:, index] * weight.astype(np.float32)[None, :, None]
        total = term if total is None else total + term
    if total is None:
        raise ValueError("unreachable: the kernel has four taps")
    return total
