"""Masking against the definitions in its docstrings, read token by token."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.initialisation import generator_of
from models.pretraining.masking import DECODE, ENCODE, LEAVE, Grid, Strategy, draw_roles

SIDES = st.integers(1, 4)


@st.composite
def grids(draw: Any) -> dict[str, Grid]:
    """One to three modalities that share their dates."""
    steps = draw(st.integers(1, 4))
    count = draw(st.integers(1, 3))
    return {
        f"m{i}": Grid(draw(SIDES), draw(SIDES), steps, draw(st.integers(1, 3)))
        for i in range(count)
    }


def roles_of_groups(roles: dict[str, Tensor], sample: int) -> list[Counter[int]]:
    """For every band group of a sample: how many of its tokens have each role."""
    found = []
    for tensor in roles.values():
        rows, columns, steps, groups = tensor.shape[1:]
        for group in range(groups):
            counts: Counter[int] = Counter()
            for r in range(rows):
                for c in range(columns):
                    for t in range(steps):
                        counts[int(tensor[sample, r, c, t, group])] += 1
            found.append(counts)
    return found


@given(grids(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_band_groups_take_part_whole_and_each_by_half(grids: dict[str, Grid], seed: int) -> None:
    roles = draw_roles("band-groups", grids, 5, generator_of(f"{seed}"))
    for sample in range(5):
        groups = roles_of_groups(roles, sample)
        sizes = [sum(counts.values()) for counts in groups]
        halves = [((n + 1) // 2, n // 2) for n in sizes]
        for counts, (to_encoder, to_decoder) in zip(groups, halves, strict=True):
            assert counts[ENCODE] in (0, to_encoder)
            assert counts[DECODE] in (0, to_decoder)
            if not counts[ENCODE]:  # a group that is not encoded is decoded
                assert counts[DECODE] == to_decoder
        assert sum(counts[ENCODE] > 0 for counts in groups) >= min(2, len(groups))
        if all(n >= 2 for n in sizes):
            assert any(counts[DECODE] for counts in groups)
        if len(groups) == 1:  # random masking
            assert groups[0][LEAVE] == 0


def test_how_often_band_groups_take_part() -> None:
    samples = 8000
    grids = {"a": Grid(2, 2, 1, 1), "b": Grid(1, 2, 1, 3)}
    roles = draw_roles("band-groups", grids, samples, generator_of("often"))
    groups = [roles_of_groups(roles, sample) for sample in range(samples)]
    encoded = Counter(sum(counts[ENCODE] > 0 for counts in found) for found in groups)
    assert set(encoded) == {2, 3, 4}
    for count in encoded.values():  # as many samples encode 2, 3 or 4 of the 4 groups
        assert count / samples == pytest.approx(1 / 3, abs=0.03)
    for group in range(4):
        both = sum(f[group][ENCODE] > 0 and f[group][DECODE] > 0 for f in groups)
        only = sum(f[group][ENCODE] > 0 and f[group][DECODE] == 0 for f in groups)
        never = sum(f[group][ENCODE] == 0 for f in groups)
        # Three of four are encoded on average; a coin decides whether one is decoded as well,
        # and where no group would be (1/3 x 1/16 of the samples), one of the four is.
        assert never / samples == pytest.approx(1 / 4, abs=0.02)
        assert both / samples == pytest.approx(3 / 8 + 1 / 3 / 16 / 4, abs=0.02)
        assert only / samples == pytest.approx(3 / 8 - 1 / 3 / 16 / 4, abs=0.02)
    first = (roles["b"][:, 0, 0, 0, 0] == ENCODE).float().mean()
    assert float(first) == pytest.approx(3 / 4 / 2, abs=0.02)  # any token is as likely


def is_by_time(roles: dict[str, Tensor], sample: int) -> bool:
    """Every token of a date has the same role, and half of the dates, rounded up, are encoded."""
    steps = next(iter(roles.values())).shape[3]
    each = []
    for t in range(steps):
        here = {int(v) for tensor in roles.values() for v in tensor[sample, :, :, t].flatten()}
        if len(here) != 1 or here == {LEAVE}:
            return False
        each.append(here.pop())
    return each.count(ENCODE) == (steps + 1) // 2


def is_at_random(roles: dict[str, Tensor], sample: int) -> bool:
    counts = [Counter(tensor[sample].flatten().tolist()) for tensor in roles.values()]
    sizes = [sum(found.values()) for found in counts]
    halves = [(n + 1) // 2 for n in sizes]
    if len(counts) == 1:
        return counts[0][ENCODE] == halves[0] and counts[0][DECODE] == sizes[0] - halves[0]
    sides = [ENCODE if found[ENCODE] else DECODE for found in counts]
    return {ENCODE, DECODE} == set(sides) and all(
        found[side] == half and found[LEAVE] == size - half
        for found, side, half, size in zip(counts, sides, halves, sizes, strict=True)
    )


@given(grids(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_random_and_time_is_one_or_the_other(grids: dict[str, Grid], seed: int) -> None:
    roles = draw_roles("random-and-time", grids, 6, generator_of(f"{seed}"))
    single_date = next(iter(grids.values())).steps == 1
    for sample in range(6):
        at_random = is_at_random(roles, sample)
        assert at_random or (not single_date and is_by_time(roles, sample))


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_half_of_the_samples_mask_by_time(names: tuple[str, ...]) -> None:
    samples, grid = 4000, Grid(3, 3, 3, 2)
    roles = draw_roles("random-and-time", dict.fromkeys(names, grid), samples, generator_of("half"))
    by_time = [is_by_time(roles, sample) for sample in range(samples)]
    assert sum(by_time) / samples == pytest.approx(0.5, abs=0.03)
    first = [roles["a"][s, 0, 0, 0, 0] == ENCODE for s in range(samples) if by_time[s]]
    assert sum(map(float, first)) / len(first) == pytest.approx(2 / 3, abs=0.04)
    if len(names) > 1:
        sides = [roles["b"][s] == ENCODE for s in range(samples) if not by_time[s]]
        encoded = sum(float(side.any()) for side in sides) / len(sides)
        assert encoded == pytest.approx(0.5, abs=0.04)  # one or two of the three


@pytest.mark.parametrize("strategy", ["band-groups", "random-and-time"])
def test_roles_follow_from_the_generator_alone(strategy: Strategy) -> None:
    grids = {"a": Grid(2, 3, 2, 3), "b": Grid(2, 3, 2, 1)}
    first = draw_roles(strategy, grids, 8, generator_of("x"))
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    again = draw_roles(strategy, grids, 8, generator_of("x"))
    other = draw_roles(strategy, grids, 8, generator_of("y"))
    torch.random.set_rng_state(state)
    assert all(torch.equal(first[name], again[name]) for name in grids)
    assert not all(torch.equal(first[name], other[name]) for name in grids)
    assert first["a"].dtype == torch.int8
