"""What a model sees is right whatever a file's order, and nothing is made up unasked."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.inputs import apply_rule, channels_of, make_rules
from harness.model_input import InputPolicy, ModelInput, normalisations, poolings, resolve
from models.errors import UserError
from models.families import design_of
from models.registry import Variant, load_registry
from models.sensors import modality
from suites.datasets.base import DatasetCard

S2 = "sentinel2_l2a"
STORED = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A"]
EVERY = load_registry().variants()
STRICT = InputPolicy()
ALL_ROWS = np.arange(6)


def card(bands: dict[str, tuple[str, ...]], side: int = 16, steps: int = 1) -> DatasetCard:
    return DatasetCard(
        name="made",
        title="made by a test",
        origin="simulated",
        licence="none",
        home="",
        level="L1C",
        classes=("a", "b"),
        bands=bands,
        height=side,
        width=side,
        steps=steps,
        units_per_dn=0.5,
        split_rule="none",
        notes=(),
    )


class Images:
    """Six samples in memory, every band with a level and texture of its own."""

    def __init__(self, of: DatasetCard) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = {}
        for name, bands in of.bands.items():
            planes = [
                np.random.default_rng([sum(map(ord, band))]).gamma(
                    9, 200 + 10 * len(band), (6, of.height, of.width, of.steps)
                )
                for band in bands
            ]
            self.arrays[name] = np.stack(planes, axis=-1).astype(np.float32)

    def __len__(self) -> int:
        return 6

    def images(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        return self.arrays[name][start:stop]


def patch_of(variant: Variant) -> int:
    return max(design_of(variant).needs.patch_sizes)


def full(variant: Variant) -> dict[str, tuple[str, ...]]:
    """Every band of every modality that the variant reads, Sentinel-2 as EuroSAT stores it."""
    names = design_of(variant).needs.modalities
    return {n: tuple(STORED) if n == S2 else modality(n).band_names for n in names}


def seen(
    variant: Variant, of: DatasetCard, normalisation: str, policy: InputPolicy = STRICT
) -> tuple[ModelInput, dict[str, NDArray[np.float32]]]:
    given = resolve(variant.name, design_of(variant), of, policy, patch_of(variant))
    images = Images(of)
    rules = make_rules(of, given, normalisation, images, ALL_ROWS)
    return given, {name: apply_rule(images.arrays[name], rule) for name, rule in rules.items()}


@pytest.mark.parametrize("normalisation", ["pretraining", "dataset"])
@pytest.mark.parametrize("variant", EVERY, ids=lambda v: v.name)
def test_the_stored_order_of_bands_changes_nothing(variant: Variant, normalisation: str) -> None:
    as_stored = card(full(variant))
    rng = np.random.default_rng(3)
    shuffled = card({n: tuple(rng.permutation(b)) for n, b in as_stored.bands.items()})
    given, expected = seen(variant, as_stored, normalisation)
    again, found = seen(variant, shuffled, normalisation)
    assert given.channels == again.channels
    for name, images in expected.items():
        np.testing.assert_array_equal(found[name], images)
        assert images.shape[-1] == len(given.channels[name])


@pytest.mark.parametrize("variant", EVERY, ids=lambda v: v.name)
def test_a_missing_band_is_refused_or_a_recorded_copy_and_never_zero(variant: Variant) -> None:
    design = design_of(variant)
    if S2 not in design.needs.modalities:
        pytest.skip("reads no Sentinel-2")
    needs = design.needs.modalities[S2]
    whole = card(full(variant))
    for band in STORED:
        without = card(whole.bands | {S2: tuple(b for b in STORED if b != band)})
        used = band in seen(variant, whole, "pretraining")[0].channels[S2]
        if not used:
            np.testing.assert_array_equal(
                seen(variant, without, "pretraining")[1][S2],
                seen(variant, whole, "pretraining")[1][S2],
            )
        elif needs.whichever:
            assert band not in seen(variant, without, "pretraining")[0].channels[S2]
        else:
            with pytest.raises(UserError, match=f'"made" has no .*{band}.* never made up'):
                seen(variant, without, "pretraining")
            _copied_or_refused(variant, without, band)


def _copied_or_refused(variant: Variant, without: DatasetCard, band: str) -> None:
    waves = {b.name: b.wavelength or 0.0 for b in modality(S2).bands}
    distance = {b: abs(waves[b] - waves[band]) for b in without.bands[S2] if b in waves}
    nearest = InputPolicy(missing_bands="nearest")
    channels = design_of(variant).needs.modalities[S2].channels
    if min(distance.values()) > 100 or ("NDVI" in channels and band in ("B04", "B08")):
        with pytest.raises(UserError, match=band):
            seen(variant, without, "dataset", nearest)
        return
    given, images = seen(variant, without, "dataset", nearest)
    (source,) = [s for s in given.modalities[0].sources if s.channel == band]
    assert source.how == "imputed"
    assert any(f"{band} (from {source.bands[0]})" in note for note in given.notes)
    assert source.bands[0] == min(distance, key=lambda b: distance[b])
    copy = images[S2][..., channels.index(band)]
    if source.bands[0] in channels:
        np.testing.assert_array_equal(copy, images[S2][..., channels.index(source.bands[0])])
    assert np.abs(copy).mean() > 0.1


def test_units_are_converted_for_light_and_not_for_radar() -> None:
    # Stored values are digital numbers over 0.5: twice as large. Radar is dB, whatever the card.
    variant = load_registry().variant("olmoearth-v1-nano")
    of = card({S2: tuple(STORED), "sentinel1": ("VH", "VV")})
    _, images = seen(variant, of, "pretraining")
    needs = design_of(variant).needs.modalities
    raw = Images(of).arrays
    for name, factor in ((S2, 0.5), ("sentinel1", 1.0)):
        wanted = needs[name]
        assert wanted.shift is not None
        assert wanted.divisor is not None
        for i, channel in enumerate(wanted.channels):
            dn = raw[name][..., of.bands[name].index(channel)].astype(np.float64) * factor
            expected = (dn - wanted.shift[i]) / wanted.divisor[i]
            np.testing.assert_allclose(images[name][..., i], expected, rtol=2e-5, atol=2e-5)


def test_a_vegetation_index_is_of_raw_values_and_zero_where_undefined() -> None:
    images = np.array([[3000.0, 1000.0], [0.0, 0.0], [500.0, 500.0]], dtype=np.float32)
    index = channels_of(images, ((0, 1),))
    np.testing.assert_allclose(index[:, 0], [0.5, 0.0, 0.0])


def test_sizes_are_refused_or_brought_to_fit_as_the_protocol_says() -> None:
    variant = load_registry().variant("olmoearth-v1-nano")
    odd = card({S2: tuple(STORED)}, side=13)
    with pytest.raises(UserError, match=r'8 does not divide the 13 x 13.*"resize: fit"'):
        seen(variant, odd, "pretraining")
    with pytest.raises(UserError, match=r"patches of 8 pixels.*only 5 x 5"):
        seen(variant, card({S2: tuple(STORED)}, side=5), "pretraining")
    given, images = seen(variant, odd, "dataset", InputPolicy(resize="fit"))
    assert images[S2].shape == (6, 16, 16, 1, 12)
    assert [s.height for s in given.shapes] == [16]
    assert any("13 x 13 pixels are resized to 16 x 16" in note for note in given.notes)
    # Bilinear: nothing is invented beyond the range of what was there.
    raw = channels_of(Images(odd).arrays[S2], ((1,),))
    small = replace(make_rules(odd, given, "dataset", Images(odd), ALL_ROWS)[S2])
    resized = apply_rule(Images(odd).arrays[S2], small)[..., 0]
    low, high = ((raw - small.shift[0]) / small.divisor[0]).min(), raw.max()
    assert resized.min() >= low - 1e-4
    assert resized.max() <= (high - small.shift[0]) / small.divisor[0] + 1e-4


def test_what_a_model_cannot_take_is_said_in_a_sentence() -> None:
    variant = load_registry().variant("olmoearth-v1-nano")
    with pytest.raises(UserError, match="at most 12 time steps, but made has 13"):
        seen(variant, card({S2: tuple(STORED)}, steps=13), "pretraining")
    with pytest.raises(UserError, match=r"needs sentinel2_l2a or .*, but made holds only dem"):
        seen(variant, card({"dem": ("height",)}), "pretraining")
    with pytest.raises(UserError, match="patches of 9 x 9 pixels; allowed patch sizes: 1, 2"):
        resolve("it", design_of(variant), card({S2: tuple(STORED)}), InputPolicy(), 9)


def test_a_model_without_statistics_is_not_run_twice() -> None:
    registry = load_registry()
    both, own = ("pretraining", "dataset"), registry.variant("olmoearth-v1-nano")
    bare = registry.variant("baseline-projection-512")
    of = card({S2: tuple(STORED)})
    assert normalisations(seen(own, of, "dataset")[0], both) == both
    assert normalisations(seen(bare, of, "dataset")[0], both) == ("dataset",)
    assert poolings(1, ("mean", "max")) == ("mean",)
    assert poolings(64, ("mean", "max")) == ("mean", "max")


def test_what_is_kept_in_levels_moves_in_steps() -> None:
    variant = load_registry().variant("olmoearth-v1-nano")
    of = card({S2: tuple(STORED)})
    given = resolve("it", design_of(variant), of, InputPolicy(), 8)
    rule = make_rules(of, given, "dataset", Images(of), ALL_ROWS)[S2]
    coarse = apply_rule(Images(of).arrays[S2], replace(rule, clip=True, levels=4))
    assert sorted(set(coarse.ravel().tolist())) == [0.0, 0.25, 0.5, 0.75, 1.0]
    exact = apply_rule(Images(of).arrays[S2], replace(rule, clip=True))
    assert all(0 <= e - c < 0.25 for e, c in zip(exact.flat, coarse.flat, strict=True))
    assert all(a <= b for a, b in pairwise(sorted(coarse.ravel()[:20])))


def test_nothing_is_made_up_for_what_reads_whatever_there_is() -> None:
    variant = load_registry().variant("baseline-statistics-mean_std")
    few = card({S2: ("B02", "B03", "B04", "B08")})
    given, _ = seen(variant, few, "dataset", InputPolicy(missing_bands="nearest"))
    assert sorted(given.channels[S2]) == ["B02", "B03", "B04", "B08"]
