"""Masking strategies: which tokens the encoder sees, which the predictor has to predict.

A strategy draws one role for every token of a batch. Token grids are ``[rows, columns, T, G]``
per modality, concatenated in the order in which they are given. It must not know images,
encoders or losses.

Sources: OlmoEarth (FIELD: group-wise masking of v1, random-and-time masking of v1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Strategy = Literal["band-groups", "random-and-time"]
ENCODE, DECODE, LEAVE = 0, 1, 2
"""Roles of a token: seen by the encoder, predicted by the decoder, or neither."""


@dataclass(frozen=True)
class Grid:
    """Tokens of one modality: ``[rows, columns, steps, groups]``."""

    rows: int
    columns: int
    steps: int
    groups: int

    @property
    def tokens(self) -> int:
        """How many there are in one sample."""
        return self.rows * self.columns * self.steps * self.groups


Grids = Mapping[str, Grid]


def draw_roles(
    strategy: Strategy, grids: Grids, samples: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Roles of every token, int8 ``[samples, rows, columns, T, G]`` per modality."""
    return _STRATEGIES[strategy](grids, samples, generator)


def band_groups(grids: Grids, samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    """v1: whole band groups are encoded or decoded (or both), then random tokens within them.

    Of the G groups of all modalities together, a sample encodes at least two (or the only one)
    and decodes at least one; each group that is not encoded is decoded, and each that is may be
    both. Within each group a fair split gives half of the tokens to the encoder, half to the
    decoder; they take part only if their group does. With one group it is random masking.
    """
    total = sum(grid.groups for grid in grids.values())
    encoded, decoded = _choose_groups(total, samples, generator)
    halves = {name: _halves_of_groups(grid, samples, generator) for name, grid in grids.items()}
    roles: dict[str, Tensor] = {}
    first = 0
    for name, grid in grids.items():
        chosen = slice(first, first + grid.groups)
        takes = encoded[:, None, None, None, chosen], decoded[:, None, None, None, chosen]
        role = torch.full_like(halves[name], LEAVE)
        role[(halves[name] == ENCODE) & takes[0]] = ENCODE
        role[(halves[name] == DECODE) & takes[1]] = DECODE
        roles[name] = role
        first += grid.groups
    return roles


def random_and_time(grids: Grids, samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    """v1.1: half of the samples mask at random, the other half by time step.

    At random: where there are several modalities they are split into encoded and decoded ones,
    each side at least one, and half of the tokens of each take part; a single modality is split
    token by token. By time: half of the steps (rounded up) are encoded, the others decoded, all
    groups and places alike. With one time step, every sample masks at random.
    """
    by_time = torch.rand(samples, generator=generator) < 0.5
    steps = max(grid.steps for grid in grids.values())
    if steps < 2:
        by_time[:] = False
    at_random = _by_modality(grids, samples, generator)
    order = torch.rand(samples, steps, generator=generator).argsort(dim=1)
    in_time = (order >= (steps + 1) // 2).to(torch.int8)  # ENCODE 0, DECODE 1
    return {
        name: torch.where(
            by_time[:, None, None, None, None],
            in_time[:, None, None, : grid.steps, None].expand_as(at_random[name]),
            at_random[name],
        )
        for name, grid in grids.items()
    }


def _by_modality(grids: Grids, samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    halves = {name: _halves(grid, samples, generator) for name, grid in grids.items()}
    if len(grids) == 1:
        return halves
    order = torch.rand(samples, len(grids), generator=generator).argsort(dim=1)
    encoded = 1 + (torch.rand(samples, 1, generator=generator) * (len(grids) - 1)).long()
    roles = {}
    for place, name in enumerate(grids):
        side = torch.where(order[:, place : place + 1] < encoded, ENCODE, DECODE).to(torch.int8)
        side = side[:, :, None, None, None].expand_as(halves[name])
        # Half of its tokens: those that the fair split would give to the encoder.
        roles[name] = torch.where(halves[name] == ENCODE, side, LEAVE).to(torch.int8)
    return roles


def _choose_groups(total: int, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which groups are encoded and which decoded, boolean ``[samples, G]`` each."""
    least = min(2, total)
    order = torch.rand(samples, total, generator=generator).argsort(dim=1)
    count = least + (torch.rand(samples, 1, generator=generator) * (total - least + 1)).long()
    encoded = order < count
    # Groups that are not encoded can only be decoded; of the others a fair coin each.
    decoded = ~encoded | (torch.rand(samples, total, generator=generator) < 0.5)
    none = ~decoded.any(dim=1)
    decoded[none, order[none].argmin(dim=1)] = True
    return encoded, decoded


def _halves(grid: Grid, samples: int, generator: torch.Generator) -> Tensor:
    """A fair split of a modality's tokens: exactly half (rounded up) to encode, in each sample."""
    keys = torch.rand(samples, grid.tokens, generator=generator)
    rank = keys.argsort(dim=1).argsort(dim=1)
    roles = (rank >= (grid.tokens + 1) // 2).to(torch.int8)
    return roles.view(samples, grid.rows, grid.columns, grid.steps, grid.groups)


def _halves_of_groups(grid: Grid, samples: int, generator: torch.Generator) -> Tensor:
    one = Grid(grid.rows, grid.columns, grid.steps, 1)
    return torch.cat([_halves(one, samples, generator) for _ in range(grid.groups)], dim=-1)


_STRATEGIES: Mapping[Strategy, Callable[[Grids, int, torch.Generator], dict[str, Tensor]]] = {
    "band-groups": band_groups,
    "random-and-time": random_and_time,
}
STRATEGIES: Sequence[Strategy] = tuple(_STRATEGIES)
