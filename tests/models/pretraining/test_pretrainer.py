"""The whole loss against its parts put together one sample at a time; and what may influence it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.initialisation import generator_of
from models.pretraining.loop import build
from models.pretraining.masking import DECODE, ENCODE, LEAVE, Grid, Strategy, draw_roles
from models.pretraining.objectives import instance_contrast, patch_discrimination
from models.pretraining.pretrainer import Losses, Pretrainer, View
from tests.models.pretraining import small
from tests.models.pretraining.small import S1, S2

BATCH, SIDE, STEPS = 5, 2, 2
SPACING = 8.0


@pytest.fixture(params=[(S2,), (S2, S1)], ids=["one modality", "two"])
def modalities(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture(params=["band-groups", "random-and-time"])
def strategy(request: pytest.FixtureRequest) -> Strategy:
    found: Strategy = request.param
    return found


@pytest.fixture
def model(tmp_path: Path, modalities: tuple[str, ...]) -> Pretrainer:
    recipe = small.recipe(near_duplicate=0.9, temperature=0.3, contrast_weight=0.7)
    job = small.job(tmp_path, recipe, small.setting(), small.chips(modalities))
    return build(job, small.ALONE)


def views(modalities: tuple[str, ...], strategy: Strategy, model: Pretrainer) -> tuple[View, View]:
    scheme = model.encoder.config.scheme
    generator = generator_of("views")
    found = []
    for _ in range(2):
        bands = {S2: 12, S1: 2}
        images = {
            name: torch.rand(BATCH, 8 * SIDE, 8 * SIDE, STEPS, bands[name], generator=generator)
            for name in modalities
        }
        grids = {name: Grid(SIDE, SIDE, STEPS, len(scheme.of(name))) for name in modalities}
        roles = draw_roles(strategy, grids, BATCH, generator)
        months = torch.randint(0, 12, (BATCH, STEPS), generator=generator)
        timestamps = torch.stack([torch.ones_like(months), months, months * 0 + 2020], dim=-1)
        found.append(View(images, images, timestamps, roles))
    return found[0], found[1]


def one(view: View, sample: int) -> View:
    def of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[sample : sample + 1] for name, tensor in tensors.items()}

    time = view.timestamps[sample : sample + 1]
    return View(of(view.images), of(view.seen), time, of(view.roles))


def pooled_and_losses(
    model: Pretrainer, view: View, names: tuple[str, ...]
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Of one sample: no batch, so nothing has to be gathered or padded."""
    pixels = {n: r.repeat_interleave(8, 1).repeat_interleave(8, 2) for n, r in view.roles.items()}
    grids = model.encoder(view.seen, view.timestamps, 8, pixels, SPACING * 10 / 8)
    places = model.predictor.encodings(
        {n: g.shape for n, g in grids.items()}, view.timestamps, SPACING
    )[0]
    tokens = torch.cat([grids[n][0].flatten(0, 3) for n in names])
    roles = torch.cat([view.roles[n][0].flatten() for n in names])
    seen = [i for i in range(len(roles)) if roles[i] == ENCODE]
    losses: dict[str, Tensor | None] = {}
    first = 0
    for name in names:
        targets = model.targets(name, view.images[name], 8)[0].flatten(0, 3)
        asked = [i for i in range(len(targets)) if roles[first + i] == DECODE]
        losses[name] = None
        if len(asked) >= 2:  # one prediction alone has nothing to be told from
            where = places[[first + i for i in asked]]
            predicted = model.predictor(tokens[seen][None], places[seen][None], where[None], None)
            real = torch.ones(1, len(asked), dtype=torch.bool)
            losses[name] = patch_discrimination(predicted, targets[asked][None], real, 0.3, 0.9)
        first += len(targets)
    return tokens[seen].mean(dim=0), losses


def test_the_loss_is_its_parts_put_together(
    model: Pretrainer, modalities: tuple[str, ...], strategy: Strategy
) -> None:
    both = views(modalities, strategy, model)
    found = model(both, SPACING)
    discrimination = 0.0
    pooled: list[Tensor] = []
    for view in both:
        samples = [pooled_and_losses(model, one(view, i), modalities) for i in range(BATCH)]
        for name in modalities:  # a softmax, and a mean over the samples, for each modality
            terms = [losses[name] for _, losses in samples]
            kept = [term.item() for term in terms if term is not None]
            discrimination += sum(kept) / max(1, len(kept)) / 2
        pooled.append(torch.stack([each for each, _ in samples]))
    contrast = instance_contrast(model.head(pooled[0]), model.head(pooled[1]), 0.1)
    assert found.discrimination.item() == pytest.approx(discrimination, rel=1e-4)
    assert found.contrast.item() == pytest.approx(contrast.item(), rel=1e-3)
    assert found.total.item() == pytest.approx(discrimination + 0.7 * contrast.item(), rel=1e-4)
    torch.testing.assert_close(found.pooled, pooled[0].detach(), rtol=0, atol=1e-4)
    assert not found.pooled.requires_grad


def planted(
    model: Pretrainer, view: View, roles: tuple[int, ...], value: float
) -> dict[str, Tensor]:
    """Images whose pixels of the tokens with these roles hold a value."""
    found = {}
    for name, image in view.images.items():
        changed = image.clone()
        bands = model.encoder.config.scheme.band_indices(name)
        role = view.roles[name]
        for b, r, c, t, g in torch.nonzero(torch.isin(role, torch.tensor(roles))).tolist():
            for band in bands[g]:
                changed[b, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8, t, band] = value
        found[name] = changed
    return found


def forward(model: Pretrainer, both: tuple[View, View]) -> tuple[Losses, dict[str, Tensor]]:
    model.zero_grad()
    losses: Losses = model(both, SPACING)
    losses.total.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients


@pytest.mark.parametrize("value", [-3.0, 1e4])
def test_a_hidden_token_matters_as_a_target_only(
    model: Pretrainer, modalities: tuple[str, ...], strategy: Strategy, value: float
) -> None:
    both = views(modalities, strategy, model)
    expected, gradients = forward(model, both)
    unseen = tuple(replace(v, seen=planted(model, v, (DECODE, LEAVE), value)) for v in both)
    untold = tuple(replace(v, images=planted(model, v, (ENCODE, LEAVE), value)) for v in both)
    for changed in (unseen, untold):
        found, others = forward(model, (changed[0], changed[1]))
        assert found.total.item() == expected.total.item()
        assert torch.equal(found.pooled, expected.pooled)
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-7)
    # And the others do matter, each in its place.
    for role in ("seen", "images"):
        kind = (ENCODE,) if role == "seen" else (DECODE,)
        changed = tuple(replace(v, **{role: planted(model, v, kind, value)}) for v in both)
        found, _ = forward(model, (changed[0], changed[1]))
        assert found.discrimination.item() != expected.discrimination.item()
        assert torch.equal(found.pooled, expected.pooled) == (role == "images")


def test_not_even_nan_comes_out_of_a_hidden_token(
    model: Pretrainer, modalities: tuple[str, ...], strategy: Strategy
) -> None:
    both = views(modalities, strategy, model)
    nan = float("nan")
    changed = tuple(
        replace(
            v,
            seen=planted(model, v, (DECODE, LEAVE), nan),
            images=planted(model, v, (ENCODE, LEAVE), nan),
        )
        for v in both
    )
    with torch.no_grad():
        expected, found = model(both, SPACING), model((changed[0], changed[1]), SPACING)
    assert found.total.item() == expected.total.item()


def test_samples_do_not_influence_one_another_but_by_contrast(
    model: Pretrainer, modalities: tuple[str, ...], strategy: Strategy
) -> None:
    both = views(modalities, strategy, model)
    with torch.no_grad():
        whole = model(both, SPACING)
        for i in range(BATCH):
            alone = model((one(both[0], i), one(both[1], i)), SPACING)
            torch.testing.assert_close(alone.pooled[0], whole.pooled[i], rtol=0, atol=1e-4)
