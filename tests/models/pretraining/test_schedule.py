"""The learning rate over time, what decays, and the verdicts about a run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.initialisation import generator_of
from models.pretraining.diagnostics import (
    COLLAPSED_SPREAD,
    effective_rank,
    is_collapsed,
    is_diverging,
    spread,
)
from models.pretraining.recipe import Optimiser
from models.pretraining.schedule import adamw, learning_rate, warmup_steps

LOW = COLLAPSED_SPREAD / 2


def test_linear_warm_up_then_a_cosine_to_zero() -> None:
    optimiser = Optimiser(learning_rate=0.4, weight_decay=0, warmup_steps=4)
    rates = [learning_rate(optimiser, step, 12) for step in range(12)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    halves = [0.2 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates[4:] == pytest.approx(halves)
    assert rates[8] == pytest.approx(0.2)  # half way down
    assert 0 < rates[-1] < 0.02
    fraction = Optimiser(learning_rate=0.4, weight_decay=0, warmup_fraction=1 / 3)
    assert warmup_steps(fraction, 12) == 4
    assert [learning_rate(fraction, step, 12) for step in range(12)] == rates
    none = Optimiser(learning_rate=0.4, weight_decay=0, warmup_steps=0)
    assert learning_rate(none, 0, 12) == 0.4
    long = Optimiser(learning_rate=0.4, weight_decay=0, warmup_steps=100)
    assert learning_rate(long, 11, 12) == pytest.approx(0.4 * 12 / 100)


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3))
    model[2].requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = adamw(model, Optimiser(learning_rate=0.1, weight_decay=0.5, warmup_steps=0))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in model.named_parameters():
        shrunk = 0.95 if name == "0.weight" else 1.0
        torch.testing.assert_close(parameter.detach(), shrunk * before[name])


def test_spread_and_effective_rank() -> None:
    same = torch.ones(50, 8) * torch.linspace(1, 3, 50)[:, None]  # one direction
    assert spread(same) == pytest.approx(0, abs=1e-3)
    assert effective_rank(torch.ones(50, 8)) == 0
    sphere = torch.randn(4000, 8, generator=generator_of("sphere"))
    assert spread(sphere) == pytest.approx(1, abs=0.02)
    assert effective_rank(sphere) == pytest.approx(8, abs=0.05)
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]) * 5
    assert effective_rank(corners) == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_encodings_that_are_not_finite_have_no_rank(value: float) -> None:
    pooled = torch.randn(6, 4, generator=generator_of("x"))
    pooled[2, 1] = value
    assert effective_rank(pooled) == 0
    assert not spread(pooled) > 0.02


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([2.0, 1.0, 1.1, 0.9, 1.2], False),
        ([2.0, 1.0, 5.0, 5.0, 5.0], True),
        ([2.0, 1.0, 5.0, 5.0], False),  # two in a row may be odd batches
        ([2.0, 1.0, 5.0, 1.0, 5.0], False),
        ([9.0, 9.0, 9.0, 9.0], False),
        ([2.0, math.nan], True),
        ([math.inf], True),
        ([0.1, 0.1, 1.0, 1.0, 1.0], False),  # within one of the best
        ([0.1, 0.1, 1.2, 1.2, 1.2], True),
        ([], False),
    ],
)
def test_divergence(losses: list[float], verdict: bool) -> None:
    assert is_diverging(losses) == verdict


@pytest.mark.parametrize(
    ("spreads", "verdict"),
    [
        ([0.5, LOW, LOW, LOW], True),
        ([LOW, LOW, LOW, 0.5], False),
        ([0.5, LOW, LOW], False),
        ([LOW, LOW], False),
        ([], False),
    ],
)
def test_collapse(spreads: list[float], verdict: bool) -> None:
    assert is_collapsed(spreads) == verdict
