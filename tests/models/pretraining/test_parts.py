"""Band dropout, frozen targets and the predictor, each against its plain definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.initialisation import generator_of
from models.olmoearth.config import OlmoEarthConfig, config_of
from models.pretraining.band_dropout import drop_bands, kept_bands
from models.pretraining.loop import build
from models.pretraining.predictor import Predictor
from models.pretraining.targets import RandomProjection
from models.tokens import token_scheme
from tests.models.pretraining import small

SCHEME = token_scheme("pair", {"sentinel1": [["VH"], ["VV"]]})
CONFIG = OlmoEarthConfig(dim=16, depth=1, heads=2, scheme=SCHEME)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_bands_are_dropped_whole_at_the_rate(rate: float) -> None:
    images = torch.rand(4000, 1, 2, 1, 5, generator=generator_of("images")) + 1
    before = images.clone()
    seen = drop_bands(images, kept_bands(4000, 5, rate, generator_of("call")))
    zero = seen == 0
    assert torch.equal(zero.all(dim=(1, 2, 3)), zero.any(dim=(1, 2, 3)))
    assert torch.equal(seen[~zero], images[~zero])
    of_each_band = zero[:, 0, 0, 0].float().mean(dim=0)
    torch.testing.assert_close(of_each_band, torch.full((5,), rate), rtol=0, atol=0.02)
    assert torch.equal(images, before)


def test_one_band_at_least_is_kept_whichever() -> None:
    kept = torch.stack(
        [kept_bands(3000, 3, 0.99, generator_of(f"{call}")).float() for call in range(20)]
    )
    assert int(kept.sum(dim=-1).min()) == 1
    alone = kept[kept.sum(dim=-1) == 1].mean(dim=0)
    torch.testing.assert_close(alone, torch.full((3,), 1 / 3), rtol=0, atol=0.03)


@pytest.mark.parametrize("patch_size", [8, 4])
def test_targets_are_a_matrix_product_of_the_patches_pixels(patch_size: int) -> None:
    targets = RandomProjection(CONFIG, seed=3)
    images = torch.rand(2, 2 * patch_size, patch_size, 3, 2, generator=generator_of("i"))
    found = targets("sentinel1", images, patch_size)
    assert found.shape == (2, 2, 1, 3, 2, 16)
    weights = dict(targets.projection.named_parameters())
    for b in range(2):
        for t in range(3):
            image = images[b, :, :, t].permute(2, 0, 1)[None]
            if patch_size != 8:
                image = F.interpolate(image, size=(16, 8), mode="bicubic", antialias=True)
            for row in range(2):
                for group, band in ((0, 1), (1, 0)):  # VH, VV of the canonical VV, VH
                    pixels = [
                        float(image[0, band, 8 * row + y, x]) for y in range(8) for x in range(8)
                    ]
                    matrix = weights[f"groups.sentinel1.{group}.proj.weight"]
                    torch.testing.assert_close(
                        found[b, row, 0, t, group], matrix @ torch.tensor(pixels)
                    )


def test_centred_targets_are_those_of_the_pixels_less_a_half() -> None:
    images = torch.rand(2, 8, 8, 1, 2, generator=generator_of("i"))
    plain, centred = RandomProjection(CONFIG, 3), RandomProjection(CONFIG, 3, centred=True)
    expected = plain("sentinel1", images - 0.5, 8)
    torch.testing.assert_close(centred("sentinel1", images, 8), expected)
    assert not centred("sentinel1", torch.full_like(images, 0.5), 8).abs().gt(1e-5).any()


def test_targets_are_those_of_the_scheme_and_the_seed(tmp_path: Path) -> None:
    """A per-pixel layer, masking or loss of a recipe changes nothing of what is predicted."""

    def projection(variant: str, seed: int) -> dict[str, Tensor]:
        config = config_of(registry.variant(variant))
        return RandomProjection(config, seed).state_dict()

    registry = small.registry(tmp_path)
    hidden, plain = "olmoearth-one-pico", "olmoearth-three-pico:single"
    first = projection(hidden, 0)
    assert {k: v.tolist() for k, v in first.items()} == {
        k: v.tolist() for k, v in projection(plain, 0).items()
    }
    other = projection(hidden, 1)
    weights = [name for name in first if name.endswith("weight")]
    assert not any(torch.equal(first[name], other[name]) for name in weights)


def test_targets_never_train(tmp_path: Path) -> None:
    job = small.job(tmp_path, small.recipe(**small.V11), small.setting(), small.chips())
    before = build(job, small.ALONE).state_dict()
    small.run(job, tmp_path / "run")
    after = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    for name, value in before.items():
        other = "sentinel1" in name or "landsat" in name  # which these chips do not hold
        frozen = name.startswith("targets.") or name.endswith("months") or other
        assert torch.equal(after[name], value) == frozen, name


def plain_predictor(model: Predictor, context: Tensor, at: Tensor, place: Tensor) -> Tensor:
    """One query of one sample, head by head, in double precision."""
    state = {name: value.double() for name, value in model.state_dict().items()}
    dim, heads = len(place), model.blocks[0].attn.heads  # type: ignore[union-attr]
    width = dim // heads

    def norm(x: Tensor, name: str) -> Tensor:
        scaled = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def layer(x: Tensor, name: str) -> Tensor:
        return state[f"{name}.weight"] @ x + state[f"{name}.bias"]

    seen = [
        layer(norm(token, "norm_in"), "embed") + where
        for token, where in zip(context.double(), at.double(), strict=True)
    ]
    x = state["query"] + place.double()
    for number in range(len(model.blocks)):
        block = f"blocks.{number}"
        query = layer(norm(x, f"{block}.norm1"), f"{block}.attn.q")
        both = [layer(token, f"{block}.attn.kv") for token in seen]
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            values = slice(dim + head * width, dim + (head + 1) * width)
            scores = torch.stack([query[part] @ kv[part] / width**0.5 for kv in both])
            shares = torch.exp(scores) / torch.exp(scores).sum()
            mixed.append(sum(s * kv[values] for s, kv in zip(shares, both, strict=True)))
        x = x + layer(torch.cat(mixed), f"{block}.attn.proj")  # type: ignore[arg-type]
        hidden = layer(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        x = x + layer(hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)), f"{block}.mlp.fc2")
    return layer(norm(x, "norm_out"), "out")


@pytest.fixture
def predictor() -> Predictor:
    model = Predictor({"sentinel1": 2}, dim=16, target_dim=12, depth=2, heads=2)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator_of(name))
        parameter.data = 0.3 * values + (1.0 if ".norm" in name or "norm" in name else 0.0)
    return model


def test_predictor_is_cross_attention_to_what_was_encoded(predictor: Predictor) -> None:
    draw = {
        k: torch.randn(2, n, 16, generator=generator_of(k))
        for k, n in (("c", 5), ("a", 5), ("p", 3))
    }
    context, at, places = draw["c"], draw["a"], draw["p"]
    lengths = (5, 3)
    real = torch.tensor([[i < n for i in range(5)] for n in lengths])
    with torch.enable_grad():
        found = predictor(context, at, places, real[:, None, None])
    for b, n in enumerate(lengths):
        for m in range(3):
            expected = plain_predictor(predictor, context[b, :n], at[b, :n], places[b, m])
            torch.testing.assert_close(found[b, m].double(), expected, rtol=0, atol=1e-4)
    # Queries do not see one another, nor what only pads.
    context[1, 3:], at[1, 3:] = 1e6, -1e6
    alone = predictor(context, at, places[:, 1:2], real[:, None, None])
    torch.testing.assert_close(alone[:, 0], found[:, 1], rtol=0, atol=1e-5)


def test_places_are_told_apart_by_group_date_and_place(predictor: Predictor) -> None:
    timestamps = torch.tensor([[[1, 0, 2020], [1, 6, 2020]]])
    grid = {"sentinel1": torch.Size((1, 2, 2, 2, 2, 16))}
    found = predictor.encodings(grid, timestamps, spacing=4.0)
    assert found.shape == (1, 16, 16)
    apart = torch.cdist(found, found)[0] + torch.eye(16) > 1e-3
    assert bool(apart.all())
