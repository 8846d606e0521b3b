"""Baselines against numpy; their random numbers belong to the band, not to its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.families import encoder_code
from models.registry import load_registry

S2 = "sentinel2_l2a"
BANDS = ("B02", "B8A", "B11")
KINDS = ("statistics-mean_std", "projection-512", "convolutions-512")


def baseline(kind: str, bands: tuple[str, ...] = BANDS, seed: int = 0) -> nn.Module:
    variant = load_registry().variant(f"baseline-{kind}")
    code = encoder_code(variant)
    return code.init_random(code.build(variant, {S2: bands}), seed).eval()


def images(height: int = 8, width: int = 12, steps: int = 2) -> Tensor:
    return torch.rand(2, height, width, steps, 3, generator=torch.Generator().manual_seed(1))


def tokens(encoder: nn.Module, x: Tensor, patch_size: int = 4) -> Tensor:
    stamps = torch.zeros(len(x), x.shape[3], 3, dtype=torch.int64)
    with torch.inference_mode():
        (found,) = encoder({S2: x}, stamps, patch_size).values()
    assert isinstance(found, Tensor)
    return found


def test_statistics_are_numpys() -> None:
    x = images()
    found = tokens(baseline("statistics-mean_std"), x)
    z = (x.double().numpy() - 0.5) * 4
    expected = np.concatenate([z.mean((1, 2, 3)), z.std((1, 2, 3))], axis=1)
    assert found.shape == (2, 1, 1, 1, 1, 6)
    np.testing.assert_allclose(found.flatten(1), expected, rtol=1e-5, atol=1e-5)


def test_a_projection_is_one_random_product_per_patch_and_keeps_distances() -> None:
    encoder = baseline("projection-512")
    x = images()
    found = tokens(encoder, x)
    assert found.shape == (2, 2, 3, 2, 1, 512)
    kernel = encoder.patch_embedding.kernels[S2][:, :, :4, :4]  # type: ignore[union-attr,index]
    patch = (x[1, 4:8, 0:4, 1].double() - 0.5) * 4
    expected = torch.einsum("rcb,bfrc->f", patch, kernel.double()) / (16 * 3) ** 0.5
    torch.testing.assert_close(found[1, 1, 0, 1, 0].double(), expected, rtol=1e-5, atol=1e-5)
    # Johnson and Lindenstrauss: squared lengths survive to a few standard errors, (2/512)^0.5.
    raw = ((x - 0.5) * 4).view(2, 2, 4, 3, 4, 2, 3).square().mean((2, 4, 6))
    ratio = found.square().mean(-1)[..., 0] / raw
    assert float(ratio.min()) > 0.7
    assert float(ratio.max()) < 1.3


def test_convolutions_are_rectified_both_ways_and_averaged_over_the_patch() -> None:
    encoder = baseline("convolutions-512")
    x = images(height=4, width=4, steps=1)
    found = tokens(encoder, x)[:, 0, 0, 0, 0].double().numpy()
    kernel = encoder.patch_embedding.kernels[S2].double().numpy()  # type: ignore[union-attr,index]
    z = np.pad((x[..., 0, :].double().numpy() - 0.5) * 4, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    answers = np.zeros((2, 4, 4, 256))
    for row in range(4):
        for column in range(4):
            window = z[:, row : row + 3, column : column + 3]
            answers[:, row, column] = np.einsum("nrcb,bfrc->nf", window, kernel) / 27**0.5
    expected = np.concatenate([np.maximum(answers, 0), np.maximum(-answers, 0)], -1).mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_band_contributes_the_same_wherever_it_stands(kind: str) -> None:
    x = images()
    order = [2, 0, 1]
    shuffled = tuple(BANDS[i] for i in order)
    one = tokens(baseline(kind), x)
    other = tokens(baseline(kind, shuffled), x[..., order])
    if kind.startswith("statistics"):
        other = other.unflatten(-1, (2, 3))[..., [order.index(i) for i in range(3)]].flatten(-2)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_seeds_draw_other_features(kind: str) -> None:
    x = images()
    assert torch.equal(tokens(baseline(kind), x), tokens(baseline(kind), x))
    assert not torch.allclose(tokens(baseline(kind), x), tokens(baseline(kind, seed=1), x))
