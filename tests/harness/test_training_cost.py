"""Training cost: the closed form against a counter of the real modules, and against real draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.pretraining.cost import (
    Roles,
    TrainingMacs,
    expected_roles,
    macs_of_roles,
    pretraining_macs,
    training_macs,
)
from models.olmoearth.config import OlmoEarthConfig
from models.pretraining.crops import CropShape
from models.pretraining.loop import Job
from models.pretraining.masking import DECODE, ENCODE, LEAVE, Grid, draw_roles
from models.pretraining.pretrainer import Objective, Pretrainer, View
from models.pretraining.recipe import Recipe, load_recipe, load_setting, variant_of
from models.registry import load_registry
from models.tokens import token_scheme
from suites.chips import simulated_chips

S2, S1 = "sentinel2_l2a", "sentinel1"
TEN_METRES = ["B02", "B03", "B04", "B08"]
OTHERS = ["B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09"]
DIM, BATCH = 32, 3


def recipe(near_duplicate: float | None) -> Recipe:
    return Recipe(
        name="r",
        title="r",
        variant="olmoearth-v1",
        masking="band-groups",
        contrast_weight=0.1,
        near_duplicate=near_duplicate,
        decoder_depth=3,
    )


@pytest.mark.parametrize("hidden", [None, 6])
@pytest.mark.parametrize("near_duplicate", [None, 0.999])
def test_closed_form_is_what_torch_counts_of_the_real_modules(
    hidden: int | None, near_duplicate: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two modalities, two dates, fixed roles: torch's own FLOP counter is the oracle, exactly."""
    # The targets' projection needs no gradient and takes a kernel that has no formula there.
    monkeypatch.setattr("models.transformer._ONEDNN_LINEAR", None)
    scheme = token_scheme("mine", {S2: [TEN_METRES, OTHERS], S1: [["VV", "VH"]]})
    config = OlmoEarthConfig(dim=DIM, depth=2, heads=4, scheme=scheme, pixel_hidden=hidden)
    asked = recipe(near_duplicate)
    objective = Objective(0.1, near_duplicate)
    model = Pretrainer(config, objective, asked.decoder_depth, seed=0)
    grids = {S2: (BATCH, 2, 2, 2, 2), S1: (BATCH, 2, 2, 2, 1)}
    bands = {S2: 12, S1: 2}
    images = {n: torch.rand(*g[:1], 16, 16, 2, bands[n]) for n, g in grids.items()}
    roles = {}
    for name, grid in grids.items():
        drawn = torch.full(grid, LEAVE, dtype=torch.int8)
        drawn.view(BATCH, -1)[:, :3] = ENCODE
        drawn.view(BATCH, -1)[:, -5:] = DECODE
        roles[name] = drawn
    times = torch.tensor([[[15, 6, 2021], [15, 8, 2021]]]).repeat(BATCH, 1, 1)
    view = View(images, images, times, roles)
    # Nor has the kernel that a CPU takes for attention; its plain form has.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model((view, view), 8.0).total.backward()  # type: ignore[no-untyped-call]
    drawn_roles = Roles(1.0, 6, {S2: 5, S1: 5})
    mine = macs_of_roles(config, asked, CropShape(8, 2), 2, drawn_roles, BATCH)
    assert mine.total * BATCH == counter.get_total_flops() / 2
    assert all(part > 0 for part in vars(mine).values())


@pytest.mark.parametrize("strategy", ["band-groups", "random-and-time"])
@pytest.mark.parametrize(
    "grids",
    [
        {S2: Grid(3, 3, 1, 1)},
        {S2: Grid(3, 3, 1, 3)},
        {S2: Grid(2, 3, 3, 2), S1: Grid(2, 3, 3, 1)},
    ],
    ids=["one token", "three groups", "two modalities, three dates"],
)
def test_expected_roles_are_those_that_are_drawn(strategy: str, grids: dict[str, Grid]) -> None:
    """Means of the counts and of their products over 40,000 draws of the real strategies."""
    count = 40_000
    generator = torch.Generator().manual_seed(0)
    drawn = draw_roles(strategy, grids, count, generator)  # type: ignore[arg-type]
    encoded = sum((r == ENCODE).flatten(1).sum(dim=1).double() for r in drawn.values())
    expected = expected_roles(strategy, grids)  # type: ignore[arg-type]
    assert sum(roles.probability for roles in expected) == pytest.approx(1)
    for power in (1, 2):
        mean = sum(r.probability * r.encoded**power for r in expected)
        assert float((encoded**power).mean()) == pytest.approx(mean, rel=0.02)
    for name in grids:
        decoded = (drawn[name] == DECODE).flatten(1).sum(dim=1).double()
        together = sum(r.probability * r.encoded * r.decoded[name] for r in expected)
        assert float((encoded * decoded).mean()) == pytest.approx(together, rel=0.02)
        square = sum(r.probability * r.decoded[name] ** 2 for r in expected)
        assert float((decoded**2).mean()) == pytest.approx(square, rel=0.02)


def job_of(name: str, setting: str = "study") -> Job:
    found = load_recipe(name)
    variant = variant_of(found, "nano", load_registry())
    return Job(found, load_setting(setting), variant, simulated_chips(100), seed=0)


def test_a_job_costs_the_mean_over_its_crops_times_its_samples() -> None:
    """v1.1 has one token a place and half of them seen: its cost is one sum over the crops."""
    job = job_of("v1.1")
    dim, depth, mean = 128, 4, TrainingMacs()
    for side in (8,):
        n = side * side // 2
        encoder = depth * (12 * n * dim**2 + 2 * n * n * dim)
        predictor = n * dim**2 * 2 + depth * (12 * n * dim**2 + 2 * n * n * dim)
        pixels = side * side * 64
        view = TrainingMacs(
            pixels * 12 * (2 * 12 + 3 * dim), 3 * encoder, 3 * predictor, pixels * 12 * dim,
            3 * dim**2 + (2 + 1) * n * n * dim,
        )  # fmt: skip
        mean = mean.plus(view, 2)
    assert training_macs(job).total == pytest.approx(mean.total + 3 * job.setting.batch * dim)
    assert pretraining_macs(job) == round(training_macs(job).total * 28_800)
    doubled = replace(job, recipe=load_recipe("v1.1-equal-compute"))
    assert pretraining_macs(doubled) == 2 * pretraining_macs(job)


def test_three_groups_cost_about_twice_one() -> None:
    """Not three times: masking leaves out more of three groups, embedding and targets are equal."""
    ratio = training_macs(job_of("v1")).total / training_macs(job_of("v1.1")).total
    assert ratio == pytest.approx(2.11, abs=0.005)  # the figure that docs/study.md gives
