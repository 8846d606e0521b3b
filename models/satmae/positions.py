"""SatMAE's fixed codes: where a patch is, and which band group its token holds.

The usual sine-cosine code of Vaswani et al. 2017 with MAE's arrangement for two dimensions.
It must not know tokens or weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.encodings import computed_on_cpu


@computed_on_cpu
def sines(length: int, width: int) -> Tensor:
    """Of positions 0 to length - 1, ``[length, width]``.

    Sines, then cosines, at frequencies ``10000^(-2i / width)``.
    """
    frequencies = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) * 2 / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()


@computed_on_cpu
def position_table(side: int, width: int) -> Tensor:
    """Codes ``[1 + side^2, width]``: zeros for the class token, then patches row by row.

    The first half of a code is of the column, the second of the row.
    """
    codes = sines(side, width // 2)
    half = (side, side, width // 2)
    grid = torch.cat((codes[None].expand(half), codes[:, None].expand(half)), dim=-1)
    return torch.cat((torch.zeros(1, width), grid.flatten(0, 1)))


def resized(table: Tensor, rows: int, columns: int) -> Tensor:
    """The table's codes of patches, for another grid: ``[rows * columns, width]``.

    As an image of so many channels, bicubic with half-pixel centres and no antialiasing.
    """
    side = round((len(table) - 1) ** 0.5)
    patches = table[1:]
    if (rows, columns) == (side, side):
        return patches
    image = patches.t().reshape(1, -1, side, side)
    found = F.interpolate(image, size=(rows, columns), mode="bicubic", align_corners=False)
    return found.flatten(2)[0].t()
