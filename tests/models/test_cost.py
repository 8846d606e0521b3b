"""Closed-form MACs against figures worked out by hand and published ones."""

from __future__ import annotations

from functools import partial

import pytest

from models.cost import PUBLISHED_TASK_SHAPES, closed_form_macs, published_axis
from models.errors import UserError
from models.olmoearth.encoder import OlmoEarthConfig
from models.sensors import SENTINEL2_L2A
from models.tokens import InputShape, TokenScheme, token_scheme

S2 = SENTINEL2_L2A.band_names
THREE = token_scheme("three", {"sentinel2_l2a": [S2[:4], S2[4:10], S2[10:]]})
ONE = token_scheme("one", {"sentinel2_l2a": [S2]})


def test_nano_v1_at_768_tokens_is_1_208_g_half_of_it_attention() -> None:
    count = closed_form_macs(OlmoEarthConfig(128, 4, 8, THREE), [InputShape(64, 64)], 4)
    assert count.linear == count.attention == 603_979_776  # N = 6 d: 12 d^2 = 2 N d
    assert count.linear + count.attention == pytest.approx(1.208e9, rel=1e-3)
    # 256 places, 8 x 8 pixels, 12 bands over the three groups, width 128
    assert count.patch_embedding == 256 * 64 * 12 * 128
    assert count.attention_blind == count.total - count.attention


def test_large_at_12288_tokens_is_11_1_t() -> None:
    count = closed_form_macs(OlmoEarthConfig(1024, 24, 16, THREE), [InputShape(256, 256)], 4)
    assert count.linear + count.attention == pytest.approx(11.1e12, rel=5e-3)


def test_the_per_pixel_layer_by_hand() -> None:
    config = OlmoEarthConfig(128, 4, 8, ONE, pixel_hidden=12)
    count = closed_form_macs(config, [InputShape(8, 8, 3)], 8)
    assert count.patch_embedding == 3 * (64 * 12 * 12 + 64 * 12 * 128)


def blind_axis(size: tuple[int, int, int], scheme: TokenScheme, hidden: int | None) -> float:
    config = OlmoEarthConfig(*size, scheme, pixel_hidden=hidden)
    return published_axis(partial(closed_form_macs, config)).attention_blind


def test_the_blind_count_reproduces_the_published_cost_ratio_of_v1_and_v1_1() -> None:
    # Published: 2.9 times fewer MACs on Sentinel-2 tasks, by the counter that misses attention.
    base = (768, 12, 12)
    assert blind_axis(base, THREE, None) / blind_axis(base, ONE, 64) == pytest.approx(2.9, abs=0.05)


def test_the_axis_is_a_mean_over_13_inputs_of_10_shapes() -> None:
    assert len(PUBLISHED_TASK_SHAPES) == 10
    assert sum(task.weight for task in PUBLISHED_TASK_SHAPES) == 13
    config = OlmoEarthConfig(128, 4, 8, ONE)
    total = sum(
        task.weight * closed_form_macs(config, task.inputs(), task.patch_size).total
        for task in PUBLISHED_TASK_SHAPES
    )
    assert published_axis(partial(closed_form_macs, config)).total == total / 13


def test_a_patch_size_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="does not divide"):
        closed_form_macs(OlmoEarthConfig(128, 4, 8, ONE), [InputShape(64, 64)], 5)
