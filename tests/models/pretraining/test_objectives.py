"""Both losses against their definitions, one similarity at a time, in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.initialisation import generator_of
from models.pretraining.objectives import instance_contrast, patch_discrimination

REAL = torch.tensor(
    [
        [True, True, True, True, True],
        [True, True, True, False, False],
        [True, False, False, False, False],  # nothing to discriminate: left out
        [False, False, False, False, False],
    ]
)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()


def slow_discrimination(
    predictions: Tensor, targets: Tensor, real: Tensor, temperature: float, near: float | None
) -> Tensor:
    samples = []
    for p, t, r in zip(predictions.double(), targets.double(), real, strict=True):
        places = [i for i in range(len(r)) if r[i]]
        losses = []
        for i in places:
            terms = []
            for j in places:
                alike = near is not None and j != i and float(cosine(t[i], t[j])) > near
                if not alike:
                    terms.append(torch.exp(cosine(p[i], t[j]) / temperature))
            own = torch.exp(cosine(p[i], t[i]) / temperature)
            losses.append(-torch.log(own / torch.stack(terms).sum()))
        if len(losses) >= 2:
            samples.append(torch.stack(losses).mean())
    return torch.stack(samples).mean()


def draws(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator_of(key))


@pytest.mark.parametrize("near", [None, 0.999])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_patch_discrimination_and_its_gradient(near: float | None, temperature: float) -> None:
    predictions = draws(4, 5, 7, key="p").requires_grad_()
    targets = draws(4, 5, 7, key="t")
    targets[0, 1] = 3 * targets[0, 0]  # the same direction: a near duplicate
    targets[0, 2] = targets[0, 0] + 0.3 * targets[0, 3]  # alike, but not that much
    targets[1, 4] = targets[1, 0]  # only pads
    loss = patch_discrimination(predictions, targets, REAL, temperature, near)
    (found,) = torch.autograd.grad(loss, predictions)
    slow = slow_discrimination(predictions, targets, REAL, temperature, near)
    (expected,) = torch.autograd.grad(slow, predictions)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not found[~REAL].any()  # what pads learns nothing
    assert bool(torch.isfinite(found).all())
    duplicates = patch_discrimination(predictions, targets, REAL, temperature, None)
    assert (duplicates.item() > loss.item()) == (near is not None)


def test_what_pads_may_hold_anything() -> None:
    predictions, targets = draws(4, 5, 7, key="p"), draws(4, 5, 7, key="t")
    expected = patch_discrimination(predictions, targets, REAL)
    for value in (0.0, 1e30):
        p, t = predictions.clone(), targets.clone()
        p[~REAL], t[~REAL] = value, value
        p.requires_grad_()
        loss = patch_discrimination(p, t, REAL)
        (gradient,) = torch.autograd.grad(loss, p)
        torch.testing.assert_close(loss, expected)
        assert bool(torch.isfinite(gradient).all())


def test_targets_do_not_learn_and_nothing_to_learn_is_no_loss() -> None:
    predictions = draws(4, 5, 7, key="p").requires_grad_()
    targets = draws(4, 5, 7, key="t").requires_grad_()
    patch_discrimination(predictions, targets, REAL).backward()
    assert targets.grad is None
    nothing = patch_discrimination(predictions, targets, torch.zeros_like(REAL))
    assert nothing.item() == 0
    (gradient,) = torch.autograd.grad(nothing, predictions)
    assert not gradient.any()


def test_a_perfect_prediction_and_a_blind_one() -> None:
    targets = torch.eye(6)[None]
    real = torch.ones(1, 6, dtype=torch.bool)
    perfect = patch_discrimination(targets, targets, real, 0.1)
    assert float(perfect) == pytest.approx(math.log(1 + 5 * math.exp(-10)), rel=1e-3)
    blind = patch_discrimination(torch.ones(1, 6, 6), targets, real, 0.1)
    assert float(blind) == pytest.approx(math.log(6), rel=1e-5)


def test_instance_contrast() -> None:
    a, b = draws(5, 7, key="a").requires_grad_(), draws(5, 7, key="b")
    terms = []
    for x, y in ((a.double(), b.double()), (b.double(), a.double())):
        for i in range(5):
            others = torch.stack([torch.exp(cosine(x[i], y[j]) / 0.2) for j in range(5)])
            terms.append(-torch.log(others[i] / others.sum()))
    expected = torch.stack(terms).mean()
    loss = instance_contrast(a, b, 0.2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(loss, a)[0], torch.autograd.grad(expected, a)[0], rtol=1e-4, atol=1e-6
    )
    same = instance_contrast(torch.ones(8, 3), torch.ones(8, 3))
    assert float(same) == pytest.approx(math.log(8), rel=1e-5)  # collapsed: a guess


def test_losses_are_float32_where_layers_are_bfloat16() -> None:
    """In bfloat16 cosines from 0.998 on are 1: near-duplicates would be told from nothing."""
    targets = draws(2, 6, 32, key="t")
    targets[:, 1] = targets[:, 0] + 0.05 * targets[:, 2]  # cosine about 0.9988: a negative
    targets[:, 4] = targets[:, 3] + 0.01 * targets[:, 5]  # about 0.99995: none
    predictions, real = draws(2, 6, 32, key="p"), torch.ones(2, 6, dtype=torch.bool)
    a, b = draws(8, 32, key="a"), draws(8, 32, key="b")

    def losses() -> tuple[Tensor, Tensor]:
        return (
            patch_discrimination(predictions, targets, real, 0.1, 0.999),
            instance_contrast(a, b),
        )

    plain = losses()
    with torch.autocast("cpu", torch.bfloat16):
        cast = losses()
    assert cast == plain
    assert plain[0] != patch_discrimination(predictions, targets, real, 0.1, None)
