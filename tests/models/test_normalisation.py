"""Normalisation against the reference's figures and numpy's own statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.normalisation import (
    StatisticsAccumulator,
    dataset_statistics,
    normalise,
    pretraining_statistics,
    two_sigma,
)
from models.sensors import MODALITIES


@pytest.mark.parametrize("name", list(MODALITIES))
def test_pretraining_normalisation_equals_the_reference(name: str) -> None:
    package = pytest.importorskip("olmoearth_pretrain_minimal", reason="development dependency")
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import (  # noqa: PLC0415
        Modality,
    )

    rng = np.random.default_rng(0)
    mean, std = pretraining_statistics(name)
    x = (mean + 3 * std * rng.standard_normal((2, 5, 4, 2, len(mean)))).astype(np.float32)
    expected = package.Normalizer().normalize(Modality.get(name), x)
    np.testing.assert_allclose(normalise(x, *two_sigma(mean, std)), expected, rtol=0, atol=2e-6)


def test_a_band_that_never_varies_becomes_the_middle_of_the_range() -> None:
    x = np.full((4, 2), 7, dtype=np.uint16)
    x[:, 1] = [0, 1, 2, 3]
    statistics = dataset_statistics([x])
    y = normalise(x, *two_sigma(statistics.mean, statistics.std))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y[:, 0], 0.5)
    assert np.isfinite(y).all()
    assert y[:, 1].mean() == pytest.approx(0.5)
    assert x[0, 0] == 7  # the caller's array is left alone


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    offset=st.sampled_from([0.0, 1e4, -1e7]),
    cut=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_streamed_and_merged_statistics_equal_numpys(
    sizes: list[int], offset: float, cut: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    batches = [rng.standard_normal((n, 2, 3)) + offset for n in sizes]
    everything = np.concatenate(batches).reshape(-1, 3)
    streamed = dataset_statistics(iter(batches))
    halves = StatisticsAccumulator(), StatisticsAccumulator()
    for i, batch in enumerate(batches):
        halves[i >= cut].update(batch)
    halves[0].merge(halves[1])
    for found in (streamed, halves[0].result()):
        np.testing.assert_allclose(found.mean, everything.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.std, everything.std(0), rtol=1e-7, atol=1e-9)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="no images"):
        dataset_statistics([])
    with pytest.raises(UserError, match="NaN"):
        dataset_statistics([np.array([[1.0, np.nan]])])
    with pytest.raises(UserError, match="of 2 and of 3 bands"):
        dataset_statistics([np.zeros((2, 2)), np.zeros((2, 3))])
    with pytest.raises(UserError, match=r"13 bands .* of 12"):
        normalise(np.zeros((1, 13)), *pretraining_statistics("sentinel2_l2a"))
    with pytest.raises(UserError, match="sentinel2_l2a"):
        pretraining_statistics("sentinel2")
