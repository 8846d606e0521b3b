"""What holds of the encoder without any published file: seeds, shapes, masks, sentences."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.errors import UserError
from models.galileo.encoder import GalileoConfig, GalileoEncoder, init_random
from models.galileo.patch_resizing import resize_matrix
from models.galileo.pooling import average_tokens, patch_average
from models.galileo.sources import OTHERS, SPACE_TIME, space_time_sources
from models.registry import load_registry
from models.tokens import token_scheme

S2, S1 = "sentinel2_l2a", "sentinel1"
SHOWN = space_time_sources(load_registry().variant("galileo-v1-nano").scheme)


def small(seed: int = 0, shown: Any = SHOWN) -> GalileoEncoder:
    """A narrow encoder whose biases and group vectors are far from zero, so that errors show."""
    encoder = GalileoEncoder(GalileoConfig(32, 2, 4, shown))
    init_random(encoder, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return encoder.eval()


def random_inputs(
    names: tuple[str, ...], height: int, width: int, steps: int, batch: int = 2
) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(3)
    values = {}
    for source in (*SHOWN, *OTHERS):
        if source.name in names:
            space = (height, width) if source.in_space else ()
            time = (steps,) if source.in_time else ()
            shape = (batch, *space, *time, len(source.channels))
            values[source.name] = torch.randn(shape, generator=generator)
    months = torch.randint(0, 12, (batch, steps), generator=generator)
    return values, torch.stack((months * 0 + 15, months, months * 0 + 2021), dim=-1)


EVERYTHING = tuple(source.name for source in (*SHOWN, *OTHERS))


@pytest.mark.parametrize("p", [3, 8])
def test_a_rectangular_image_is_a_square_one_with_the_rest_hidden(p: int) -> None:
    encoder = small()
    values, stamps = random_inputs(EVERYTHING, 4 * p, 4 * p, 2)
    masks, cut = {}, {}
    for name, x in values.items():
        source = encoder.sources[name]
        mask = torch.zeros(*x.shape[:-1], len(source.groups))
        if source.in_space:
            mask[:, 2 * p :] = 1
            mask[:, :, 3 * p :] = 1
            x = x[:, : 2 * p, : 3 * p]  # noqa: PLW2901
        masks[name], cut[name] = mask, x
    with torch.inference_mode():
        square = encoder(values, stamps, p, masks)
        rectangle = encoder(cut, stamps, p)
    for name, tokens in rectangle.items():
        part = square[name][:, :2, :3] if encoder.sources[name].in_space else square[name]
        torch.testing.assert_close(tokens, part, rtol=0, atol=1e-5)


def test_what_is_hidden_says_nothing_even_when_it_is_not_a_number() -> None:
    encoder = small()
    values, stamps = random_inputs((S1, S2, "location"), 8, 8, 2, batch=3)
    masks = {
        n: torch.zeros(*x.shape[:-1], len(encoder.sources[n].groups)) for n, x in values.items()
    }
    masks[S2][0, :, :, 1] = 1  # sample 0 lacks a step, sample 1 the radar, sample 2 nothing
    masks[S1][1] = 1
    spoilt = {n: x.clone() for n, x in values.items()}
    spoilt[S2][0, :, :, 1] = float("nan")
    spoilt[S1][1] = float("nan")
    with torch.inference_mode():
        clean, dirty = encoder(values, stamps, 4, masks), encoder(spoilt, stamps, 4, masks)
        alone = encoder({n: x[2:] for n, x in values.items()}, stamps[2:], 4)
    for name, tokens in clean.items():
        assert torch.equal(tokens, dirty[name])
        torch.testing.assert_close(tokens[2:], alone[name], rtol=0, atol=1e-5)
    assert torch.equal(clean[S1][1], encoder.norm.bias.expand_as(clean[S1][1]))


def test_gradients_reach_every_weight_that_is_used_and_equal_the_fast_path() -> None:
    encoder = small()
    values, stamps = random_inputs(EVERYTHING, 12, 6, 2)
    trained = encoder(values, stamps, 6)
    with torch.inference_mode():
        fast = encoder(values, stamps, 6)
    for name, tokens in trained.items():
        torch.testing.assert_close(tokens.detach(), fast[name], rtol=0, atol=1e-5)
    sum(tokens.square().sum() for tokens in trained.values()).backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None]
    assert without == [
        f"patch_embedding.groups.NDVI.{n}" for n in ("channel", "proj.weight", "proj.bias")
    ]


def test_a_group_that_is_not_shown_is_as_if_it_were_hidden() -> None:
    with_ndvi = space_time_sources(load_registry().variant("galileo-v1-nano:with-ndvi").scheme)
    all_groups, five = small(1, with_ndvi), small(1)
    five.load_state_dict(all_groups.state_dict())
    image = torch.randn(1, 16, 16, 2, 11, generator=torch.Generator().manual_seed(0))
    stamps = torch.tensor([[[1, 3, 2020], [1, 9, 2020]]])
    mask = torch.zeros(1, 16, 16, 2, 6)
    mask[..., 5] = 1
    with torch.inference_mode():
        hidden = all_groups({S2: image}, stamps, 4, {S2: mask})[S2]
        absent = five({S2: image[..., :10]}, stamps, 4)[S2]
    assert absent.shape == (1, 4, 4, 2, 5, 32)
    torch.testing.assert_close(hidden[..., :5, :], absent, rtol=0, atol=1e-5)


@pytest.mark.parametrize("p", range(1, 9))
def test_a_resized_kernel_gives_a_shrunk_patch_the_token_of_the_whole_one(p: int) -> None:
    generator = torch.Generator().manual_seed(p)
    coarse = torch.randn(1, p * p, generator=generator)
    patch = torch.randn(1, 1, 8, 8, generator=generator)

    def shrink(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(p, p), mode="bicubic", antialias=True).flatten(1)

    # For a kernel without detail finer than p x p (a combination of the resize's own columns)
    # the least-squares kernel is exact.
    kernel = coarse @ shrink(torch.eye(64).view(64, 1, 8, 8)).T
    small_kernel = resize_matrix(p) @ kernel[0]
    torch.testing.assert_close(shrink(patch) @ small_kernel, patch.flatten(1) @ kernel[0])


def test_a_scheme_of_ones_own_shapes_the_tokens_and_keeps_no_unused_groups() -> None:
    bands = tuple(channel for channel in SPACE_TIME[1].channels if channel != "NDVI")
    scheme = token_scheme("naive", {S2: [bands]}, {S2: ["B01", "B09"]})
    encoder = small(0, space_time_sources(scheme))
    images, stamps = torch.randn(2, 8, 8, 1, 10), torch.zeros(2, 1, 3, dtype=torch.int64)
    with torch.inference_mode():
        assert encoder({S2: images}, stamps, 4)[S2].shape == (2, 2, 2, 1, 1, 32)
    assert "S2_RGB" not in encoder.patch_embedding.groups


def test_random_weights_depend_on_the_seed_and_nothing_else() -> None:
    config = GalileoConfig(128, 1, 8, SHOWN)
    torch.manual_seed(1)
    first = init_random(GalileoEncoder(config), seed=3).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    spoilt = GalileoEncoder(config)
    torch.set_rng_state(state)
    with torch.no_grad():
        for tensor in spoilt.state_dict().values():
            tensor.fill_(7.0)
    again = init_random(spoilt, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[n], again[n]) for n in first)
    other = init_random(copy.deepcopy(spoilt), seed=4).state_dict()
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
    # Xavier over each of query, key and value; torch's default, U(+-1/sqrt(64 * 3)), for a patch.
    assert float(first["blocks.0.attn.qkv.weight"].std()) == pytest.approx(128**-0.5, rel=0.02)
    rgb = first["patch_embedding.groups.S2_RGB.proj.weight"]
    assert float(rgb.std()) == pytest.approx((3 * 64 * 3) ** -0.5, rel=0.02)
    assert not first["patch_embedding.groups.ERA5.proj.bias"].any()
    assert not first["patch_embedding.groups.S2_SWIR.channel"].any()


@pytest.mark.parametrize(
    ("images", "stamps", "p", "words"),
    [
        ({}, (1, 1, 3), 4, "no images"),
        ({"landsat": (1, 8, 8, 1, 11)}, (1, 1, 3), 4, 'modality "landsat".*Allowed.*sentinel1'),
        ({S2: (1, 8, 8, 1, 12)}, (1, 1, 3), 4, r"\[1, 8, 8, 1, 12\].*\[B, H, W, T, 10\].*B8A"),
        ({S2: (1, 8, 8, 10)}, (1, 1, 3), 4, r"\[1, 8, 8, 10\]"),
        ({S2: (1, 8, 8, 25, 10)}, (1, 25, 3), 4, "25 time steps.*at most 24"),
        ({S2: (1, 8, 8, 2, 10)}, (1, 1, 3), 4, r"Timestamps.*\[1, 2, 3\]"),
        ({S2: (1, 10, 8, 1, 10)}, (1, 1, 3), 4, "does not divide.*10 x 8"),
        ({S2: (1, 18, 18, 1, 10)}, (1, 1, 3), 9, "1 to 8"),
        ({"era5": (1, 2, 3)}, (1, 2, 3), 4, r"\[B, T, 2\]"),
    ],
)
def test_what_cannot_be_encoded_is_said_in_a_sentence(
    images: dict[str, tuple[int, ...]], stamps: tuple[int, ...], p: int, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        small()(
            {n: torch.zeros(s) for n, s in images.items()},
            torch.zeros(stamps, dtype=torch.int64),
            p,
        )


def test_masks_that_do_not_fit_and_samples_with_nothing_to_average_are_refused() -> None:
    encoder = small()
    values, stamps = random_inputs((S1,), 8, 8, 1)
    with pytest.raises(UserError, match="sentinel1 mask has shape"):
        encoder(values, stamps, 4, {S1: torch.zeros(2, 8, 8, 1, 3)})
    with pytest.raises(UserError, match="Masks name viirs"):
        encoder(values, stamps, 4, {"viirs": torch.zeros(2, 1, 1)})
    nothing = torch.ones(2, 8, 8, 1, 1)
    tokens = encoder(values, stamps, 4, {S1: nothing})
    seen = {S1: torch.zeros(2, 2, 2, 1, 1, dtype=torch.bool)}
    assert bool(torch.isfinite(tokens[S1]).all())
    for pool in (average_tokens, patch_average):
        with pytest.raises(UserError, match="no visible token"):
            pool(tokens, seen)
