"""Fixed sine-cosine encodings of position in time, in the year and in space.

Pure functions of sizes, cached because a data set asks for the same ones in every batch.
They must not know tokens, modalities or weights. Formulas follow the OlmoEarth reference
to the bit, its unusual frequencies included: a checkpoint has learned with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import ParamSpec

import torch
from torch import Tensor

Given = ParamSpec("Given")


def computed_on_cpu(table: Callable[Given, Tensor]) -> Callable[Given, Tensor]:
    """A table that is computed on the CPU, then brought to where tensors are being made.

    A division on the meta device would have torch import its compiler, which takes two seconds.
    """

    @wraps(table)
    def computed(*args: Given.args, **kwargs: Given.kwargs) -> Tensor:
        wanted = torch.get_default_device()
        with torch.device("cpu"):
            return table(*args, **kwargs).to(wanted)

    return computed


@contextmanager
def _constant() -> Iterator[None]:
    """Make tensors outside inference mode, so that training may use the cached ones too."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _sines(positions: Tensor, width: int) -> Tensor:
    """``[L]`` to ``[L, width]``: sines then cosines of the positions at width/2 frequencies.

    The exponent is ``i / (2 width)`` (the usual one is ``2 i / width``), and everything is
    float32 in this order of operations: at position 250 one rounding step of a frequency
    already moves a cosine by 1e-5.
    """
    frequencies = 1.0 / 10000 ** (torch.arange(width // 2, device=positions.device) / width / 2.0)
    angles = positions[:, None] * frequencies
    return torch.cat((torch.sin(angles), torch.cos(angles)), dim=1)


@lru_cache(maxsize=64)
def time_encoding(steps: int, width: int, device: torch.device) -> Tensor:
    """Index of the time step: ``[steps, width]``."""
    with _constant():
        return _sines(torch.arange(steps, device=device), width)


@lru_cache(maxsize=64)
def space_encoding(
    rows: int, columns: int, spacing: float, width: int, device: torch.device
) -> Tensor:
    """Place in the patch grid: ``[rows, columns, width]``, column half first, then row half.

    ``spacing`` is the distance between patches in units of 10 m.
    """
    half = width // 2
    grid = (rows, columns, half)
    with _constant():
        across = _sines(torch.arange(columns, device=device) * spacing, half)
        down = _sines(torch.arange(rows, device=device) * spacing, half)
        return torch.cat((across[None].expand(grid), down[:, None].expand(grid)), dim=-1)


@computed_on_cpu
def month_table(width: int) -> Tensor:
    """Month of the year (0 to 11): ``[12, width]``, half sine and half cosine of its angle."""
    angles = torch.arange(12) / (12 / (2 * math.pi))
    half = (12, width // 2)
    return torch.cat(
        (torch.sin(angles)[:, None].expand(half), torch.cos(angles)[:, None].expand(half)), dim=1
    )
