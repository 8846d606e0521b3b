"""What is kept of embeddings: patch by patch or pooled, and how much half precision took off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from harness.embed import embed_into
from harness.inputs import InputRule
from models.errors import UserError

N, SIDE, BANDS = 10, 4, 3


class Images:
    """Random images of one modality. Implements `harness.embed.Samples`."""

    def __init__(self, scale: float) -> None:
        rng = np.random.default_rng(0)
        self.x = (scale * rng.standard_normal((N, SIDE, SIDE, 1, BANDS))).astype(np.float32)

    def __len__(self) -> int:
        return N

    def images(self, modality: str, start: int, stop: int) -> npt.NDArray[Any]:
        return self.x[start:stop]

    def timestamps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return np.zeros((stop - start, 1, 3), dtype=np.int64)


class PixelsAsTokens(nn.Module):
    """Every pixel is a token, its bands the embedding."""

    def forward(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        return {name: x[..., None, :] for name, x in images.items()}


RULE = InputRule(
    positions=((0,), (1,), (2,)), shift=np.zeros(BANDS), divisor=np.ones(BANDS), size=None
)


def embedded(arrays: dict[str, npt.NDArray[Any]], scale: float = 1.0) -> Mapping[str, float]:
    rules = {"s2": RULE}
    return embed_into(arrays, PixelsAsTokens(), Images(scale), rules, 1, 3, torch.device("cpu"))


def test_patches_in_half_precision_record_their_largest_error() -> None:
    arrays = {"mean": np.zeros((N, SIDE, SIDE, BANDS), dtype=np.float16)}
    errors = embedded(arrays)
    truth = Images(1.0).x[:, :, :, 0]
    expected = np.abs(truth.astype(np.float16).astype(np.float64) - truth).max()
    np.testing.assert_array_equal(arrays["mean"], truth.astype(np.float16))
    assert errors["mean"] == pytest.approx(expected, rel=1e-6)
    assert 0 < errors["mean"] <= 2.0**-11 * np.abs(truth).max()  # of IEEE 754's rounding
    pooled = {"mean": np.zeros((N, BANDS), dtype=np.float32)}
    assert embedded(pooled) == {"mean": 0.0}
    np.testing.assert_allclose(pooled["mean"], truth.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_what_half_precision_cannot_hold_is_refused() -> None:
    with pytest.raises(UserError, match="half precision"):
        embedded({"mean": np.zeros((N, SIDE, SIDE, BANDS), dtype=np.float16)}, scale=1e5)
