"""CROMA's position encoding: no table, but a penalty on attention that grows with distance.

2D-ALiBi of arXiv 2311.00566, section 3 (after Press et al. 2022 for text): each head has a
slope, and a pair of patches loses slope times the Euclidean distance of their centres, in
patches. Nothing is learned or interpolated, so any grid will do; on a rectangular one the
distance means the same. It must not know tokens or weights.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def slopes(heads: int) -> tuple[float, ...]:
    """One slope per head, ``2^(-8 k / n)`` for ``k = 1..n`` where n is a power of two.

    For other n: those of the largest power of two below it, then every other one of twice
    that power, from the first, until there are n (as Press et al. published it).
    """
    power = 2 ** int(math.log2(heads))
    own = [2.0 ** (-8 * k / power) for k in range(1, power + 1)]
    between = [2.0 ** (-8 * k / (2 * power)) for k in range(1, 2 * power + 1, 2)]
    return tuple(own + between[: heads - power])


@lru_cache(maxsize=4)  # 67 MB for 16 heads at 256 x 256 pixels
def alibi(rows: int, columns: int, heads: int, device: torch.device) -> Tensor:
    """Additive attention bias ``[1, heads, N, N]`` of a grid, patches row by row."""
    # Outside inference mode, so that training may use the cached one too.
    with torch.inference_mode(False), torch.no_grad():
        down = torch.arange(rows, device=device)[:, None].expand(rows, columns).reshape(-1)
        across = torch.arange(columns, device=device)[None].expand(rows, columns).reshape(-1)
        squares = (down[:, None] - down) ** 2 + (across[:, None] - across) ** 2
        slope = torch.tensor(slopes(heads), dtype=torch.float32, device=device)
        return (squares.sqrt() * -slope[:, None, None])[None]
