"""OlmoEarth v1.2's positions: queries and keys are turned by time, row and column.

Rotary encodings (Su et al. 2021, RoFormer) turn each pair of neighbouring features by an
angle, so that a score depends on the difference of two positions only. As in RoPE-Mixed
(Heo et al. 2024, "Rotary Position Embedding for Vision Transformer") the frequencies are
learned, by block, head and pair; here each is a vector over three coordinates. It must not
know what tokens hold, nor images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from models.initialisation import generator_of
from models.transformer import Rotation

Places = tuple[int, int, int]
"""Rows, columns and band groups of one modality's tokens; all modalities share the steps."""

BASE = 10_000.0  # from the fastest to the slowest frequency before training
UNITS_PER_DAY = 1.0 / 30.0  # the time coordinate counts months, roughly
KEPT_BYTES = 2**28  # of tables from one batch to the next; larger ones are made block by block

# Days before each month of a year without a leap day, 365.25 days a year, from the year 2000:
# the calendar that the weights were trained with, up to a day off the true one.
_DAYS_BEFORE_MONTH = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_FIRST_YEAR = 2000


def rotate(pairs: Tensor, turns: Tensor) -> Tensor:
    """Turn neighbouring features, seen as complex numbers, by complex numbers of modulus one.

    One complex product in place is several times faster on a CPU than any way of writing it
    in real arithmetic, since the two of a pair are neighbours in memory.

    Args:
        pairs: ``[B, N, 2, heads, width]``; overwritten where autograd does not record.
        turns: complex, ``[B or 1, N, 1, heads, width / 2]``.
    """
    if pairs.dtype not in (torch.float32, torch.float64):  # no complex numbers of half precision
        return rotate(pairs.float(), turns).to(pairs.dtype)
    numbers = torch.view_as_complex(pairs.view(*pairs.shape[:-1], -1, 2))
    numbers = numbers * turns if torch.is_grad_enabled() else numbers.mul_(turns)
    return torch.view_as_real(numbers).flatten(-2)


def times(timestamps: Tensor) -> Tensor:
    """Time coordinates, units of 30 days since 2000: ``[B, T, 3]`` to float32 ``[B, T]``."""
    before = torch.tensor(_DAYS_BEFORE_MONTH, device=timestamps.device)
    day, month, year = timestamps.unbind(-1)
    days = (year - _FIRST_YEAR) * 365.25 + (before[month] + day - 1)
    return days * UNITS_PER_DAY


class RotaryPositions(nn.Module):
    """The frequencies of all blocks, and the rotations that follow from them.

    ``frequencies[i]`` is block i's ``[3, heads, width / 2]``: radians per 30 days, per 10 m
    down and per 10 m across, for each head and pair of features.
    """

    def __init__(self, depth: int, heads: int, width: int) -> None:
        """``width``: features per head, a multiple of 4."""
        super().__init__()
        self.frequencies = nn.ParameterList(
            nn.Parameter(torch.zeros(3, heads, width // 2)) for _ in range(depth)
        )
        self._kept: _Kept | None = None

    def forward(
        self,
        places: Sequence[Places],
        spacing: float,
        timestamps: Tensor,
        order: Tensor | None = None,
    ) -> Iterator[Rotation]:
        """One rotation per block, in order.

        Args:
            places: of each modality, in the order of the sequence.
            spacing: distance between patches in units of 10 m.
            timestamps: integers ``[B, T, 3]`` = day, month (0-based), year.
            order: places in the sequence ``[B, n]`` of the tokens that are there; None for all.
        """
        time = times(timestamps)
        for turns in self._tables(tuple(places), spacing, time):
            if order is None:
                yield partial(rotate, turns=turns)
            else:
                there = order[:, :, None, None, None]
                yield partial(rotate, turns=turns.take_along_dim(there, dim=1))

    def _tables(
        self, places: tuple[Places, ...], spacing: float, time: Tensor
    ) -> Iterator[Tensor] | tuple[Tensor, ...]:
        """The blocks' turns; those of one date (or series of dates) are kept for the next batch."""
        parameters = list(self.frequencies)
        # Looking at dates would cost an accelerator more than it saves.
        if time.device.type != "cpu" or bool((time != time[:1]).any()):
            return (_turns(p, places, spacing, time) for p in parameters)
        time = time[:1]
        tokens = time.shape[1] * sum(rows * columns * groups for rows, columns, groups in places)
        size = 8 * tokens * sum(p[0].numel() for p in parameters)
        learning = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        # An inference tensor has no version that would tell of a change.
        if learning or size > KEPT_BYTES or any(p.is_inference() for p in parameters):
            return (_turns(p, places, spacing, time) for p in parameters)
        key = (places, spacing, tuple(time[0].tolist()))
        kept = self._kept
        if kept is None or kept.key != key or not kept.holds_for(parameters):
            with torch.inference_mode(False), torch.no_grad():  # training may read them, too
                tables = tuple(_turns(p, places, spacing, time) for p in parameters)
            aliases = tuple(p.detach() for p in parameters)
            kept = _Kept(key, aliases, tuple(p._version for p in parameters), tables)
            self._kept = kept
        return kept.tables

    @torch.no_grad()
    def init_random(self, name: str, seed: int) -> None:
        """As the reference: each head gets two random directions at right angles.

        Along each lie ``width / 4`` frequencies, from 1 down towards 1 / `BASE`.
        """
        for block, frequencies in enumerate(self.frequencies):
            _, heads, pairs = frequencies.shape
            generator = generator_of(f"{seed}:{name}.frequencies.{block}")
            first, second = torch.randn(2, heads, 3, generator=generator)
            first = first / first.norm(dim=-1, keepdim=True)
            second = second - (second * first).sum(dim=-1, keepdim=True) * first
            second = second / second.norm(dim=-1, keepdim=True)
            speeds = BASE ** -(torch.arange(pairs // 2) / (pairs // 2))
            along = [direction.T[..., None] * speeds for direction in (first, second)]
            frequencies.copy_(torch.cat(along, dim=-1))


@dataclass(frozen=True)
class _Kept:
    """Tables, what they are for, and the frequencies that they were made from.

    Aliases of the parameters keep their memory, so that an address cannot come to mean
    other values; versions count changes in place.
    """

    key: tuple[tuple[Places, ...], float, tuple[float, ...]]
    frequencies: tuple[Tensor, ...]
    versions: tuple[int, ...]
    tables: tuple[Tensor, ...]

    def holds_for(self, parameters: Sequence[Tensor]) -> bool:
        return all(
            now.data_ptr() == then.data_ptr() and now._version == version
            for now, then, version in zip(parameters, self.frequencies, self.versions, strict=True)
        )


def _turns(frequencies: Tensor, places: Sequence[Places], spacing: float, time: Tensor) -> Tensor:
    """One block's turns for the whole sequence, complex ``[B, N, 1, heads, width / 2]``.

    Angles are single precision (or better), in the reference's order of operations: twenty
    years are 250 units, where one rounding step is 3e-5 radians.
    """
    dtype = torch.promote_types(frequencies.dtype, torch.float32)
    per_time, per_row, per_column = frequencies.to(dtype).unbind(0)
    by_time = time[:, None, None, :, None, None] * per_time  # [B, 1, 1, T, heads, pairs]
    tables: dict[Places, Tensor] = {}
    for rows, columns, groups in places:
        if (rows, columns, groups) in tables:
            continue
        row, column = (
            torch.arange(n, device=time.device)[:, None, None, None] * spacing
            for n in (rows, columns)
        )
        angles = by_time + (row * per_row)[:, None] + column * per_column
        turns = torch.complex(angles.cos(), angles.sin())  # four times as fast as torch.polar
        turns = turns.unsqueeze(4).expand(*turns.shape[:4], groups, *turns.shape[4:])
        tables[rows, columns, groups] = turns.flatten(1, 4)
    parts = [tables[place] for place in places]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return whole.unsqueeze(2)
