"""The audit: band order from pixels alone, and everything else a card may be wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suites.datasets import simulated
from suites.datasets.audit import Finding, check
from suites.datasets.band_order import recognise
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.eurosat import BANDS, EuroSat, find_folder
from suites.datasets.geobench import GeoBench
from suites.datasets.loose import band_name, check_folder, find_files, read_image
from suites.datasets.simulated import Simulated

WAVELENGTH_ORDER = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return Simulated(100).read(range(40)).images["sentinel2_l2a"][:, :, :, 0]


class Altered:
    """The simulated set with something done to it: what an audit must notice."""

    def __init__(self, images: np.ndarray, **card: object) -> None:
        self._base = Simulated(len(images))
        self._images = images[:, :, :, None]
        self._card = replace(self._base.card, **card)  # type: ignore[arg-type]

    @property
    def card(self) -> DatasetCard:
        return self._card

    @property
    def fingerprint(self) -> str:
        return "0" * 64

    @property
    def ids(self) -> Sequence[str]:
        return self._base.ids

    @property
    def labels(self) -> np.ndarray:
        return self._base.labels

    def splits(self, seed: int) -> dict[str, np.ndarray]:
        return dict(self._base.splits(seed))

    def read(self, rows: Sequence[int]) -> Batch:
        return Batch(
            {"sentinel2_l2a": self._images[list(rows)]}, np.zeros((len(rows), 1, 3), np.int64)
        )


@pytest.fixture(scope="module")
def hundred() -> np.ndarray:
    return Simulated(100).read(range(100)).images["sentinel2_l2a"][:, :, :, 0]


def _finding(dataset: Altered, topic: str, level: str) -> Finding:
    found = [f for f in check(dataset).findings if f.topic == topic and f.level == level]
    assert found, f"no {level} about {topic}"
    return found[0]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.permutations(range(13)))
def test_any_order_of_the_channels_is_recognised(order: list[int]) -> None:
    images = Simulated(100).read(range(20)).images["sentinel2_l2a"][:, :, :, 0]
    truth = tuple(BANDS[i] for i in order)
    found = recognise(images[..., order], BANDS)
    assert found.recognised == truth
    assert found.verdict == ("confirmed" if truth == BANDS else "mismatch")
    assert recognise(images[..., order], truth).verdict == "confirmed"


def test_correct_file_passes_and_both_mislabellings_are_named(tiles: np.ndarray) -> None:
    assert recognise(tiles, BANDS).verdict == "confirmed"
    shifted = recognise(tiles, WAVELENGTH_ORDER)
    assert shifted.verdict == "mismatch"
    assert shifted.recognised == BANDS
    assert "m-eurosat mislabelling" in shifted.sentence
    natural = tiles[..., [BANDS.index(b) for b in WAVELENGTH_ORDER]]
    assert recognise(natural, WAVELENGTH_ORDER).verdict == "confirmed"
    assert "wavelength order" in recognise(natural, BANDS).sentence
    swapped = tiles[..., [0, 3, 2, 1, *range(4, 13)]]
    assert "RGB read as BGR" in recognise(swapped, BANDS).sentence


def test_too_little_evidence_is_said(tiles: np.ndarray) -> None:
    plain = recognise(np.full((3, 64, 64, 13), 500.0) + tiles[:3] * 1e-6, BANDS)
    assert plain.verdict not in ("confirmed", "mismatch")
    noise = np.random.default_rng(0).uniform(0, 60_000, (5, 64, 64, 13))
    assert recognise(noise, BANDS).verdict == "unsure"
    assert recognise(tiles[:, :1, :1], BANDS).verdict == "unsure"  # pixel time series
    assert recognise(tiles[..., :5], ("red", "green", "blue", "x", "y")).verdict == "unsure"


def test_single_tiles_raise_no_false_alarm_but_show_a_gross_error(tiles: np.ndarray) -> None:
    for i in range(len(tiles)):
        assert recognise(tiles[i : i + 1], BANDS).verdict != "mismatch"
        assert recognise(tiles[i : i + 1], WAVELENGTH_ORDER).verdict == "mismatch"


def test_band_subsets_without_cirrus(tiles: np.ndarray) -> None:
    names = [b for b in BANDS if b != "B10"]
    twelve = tiles[..., [BANDS.index(b) for b in names]]
    assert recognise(twelve, names).verdict == "confirmed"
    rgb_nir = ["B02", "B03", "B04", "B08", "B11", "B12"]
    some = tiles[..., [BANDS.index(b) for b in rgb_nir]]
    assert recognise(some, rgb_nir).verdict == "confirmed"
    wrong = recognise(some[..., [0, 1, 2, 4, 3, 5]], rgb_nir)
    assert (wrong.verdict, wrong.recognised[3]) == ("mismatch", "B11")


def test_clean_set_passes(hundred: np.ndarray) -> None:
    report = check(Altered(hundred))
    assert report.level == "ok"
    assert report.band_order is not None
    assert report.band_order.verdict == "confirmed"
    b04 = report.bands[BANDS.index("B04")]
    np.testing.assert_allclose(
        [b04.minimum, b04.mean, b04.deviation, b04.maximum],
        [f(hundred[..., 3].astype(np.float64)) for f in (np.min, np.mean, np.std, np.max)],
        rtol=1e-6,
    )


def test_units_are_told_from_the_range(hundred: np.ndarray) -> None:
    reflectance = Altered(hundred / 10_000)
    assert "reflectance" in _finding(reflectance, "units", "error").sentence
    declared = check(Altered(hundred / 10_000, units_per_dn=10_000.0))
    assert declared.level == "ok"
    assert declared.band_order is not None
    assert declared.band_order.verdict == "confirmed"
    eight_bit = Altered(np.clip(np.round(hundred / 4000 * 255), 0, 255))
    assert "8-bit" in _finding(eight_bit, "units", "error").sentence


def test_a_few_images_in_other_units_are_named(hundred: np.ndarray) -> None:
    mixed = hundred.astype(np.float32)
    mixed[[7, 42]] /= 10_000
    data = Altered(mixed)
    said = _finding(data, "units", "error").sentence
    assert said.startswith(f"Units are mixed: {data.ids[7]}, {data.ids[42]} hold reflectance")


def test_offset_of_baseline_0400_is_suspected(hundred: np.ndarray) -> None:
    moved = Altered(hundred + 1000)
    assert "04.00" in _finding(moved, "units", "warning").sentence
    order = check(moved).band_order
    assert order is not None
    assert order.verdict == "confirmed"  # and does not disturb the band order


def test_broken_images_are_listed(hundred: np.ndarray) -> None:
    broken = hundred.copy()
    broken[7, 3, 3, 3] = np.nan
    broken[11] = 500
    sentences = " ".join(f.sentence for f in check(Altered(broken)).findings if f.level == "error")
    assert "sim-000007 hold values that are not numbers" in sentences
    assert "sim-000011 are constant" in sentences
    dead = hundred.copy()
    dead[..., 4] = 900
    assert "B05" in _finding(Altered(dead), "values", "error").sentence
    empty = hundred.copy()
    empty[:, :8] = 0
    assert "no data" in _finding(Altered(empty), "values", "warning").sentence


def test_duplicates_across_splits_are_found(hundred: np.ndarray) -> None:
    split = Simulated(100).splits(0)
    one, two = int(split["train"][0]), int(split["test"][0])
    copied = hundred.copy()
    copied[two] = copied[one]
    report = check(Altered(copied))
    assert report.duplicates is not None
    assert [set(g) for g in report.duplicates.straddling] == [{f"sim-{one:06d}", f"sim-{two:06d}"}]
    assert report.level == "error"


def test_published_order_of_m_eurosat_is_caught_in_place(geobench_folder: Path) -> None:
    wrong = check(GeoBench(geobench_folder, band_order="as-published"))
    assert wrong.level == "error"
    assert wrong.band_order is not None
    assert "m-eurosat mislabelling" in wrong.band_order.sentence
    assert check(GeoBench(geobench_folder)).level == "ok"
    loose = check_folder(geobench_folder)
    assert loose.band_order is not None
    assert loose.band_order.verdict == "mismatch"  # names taken from the files themselves


def test_broken_file_in_a_folder_is_a_finding(eurosat_folder: Path) -> None:
    victim = eurosat_folder / "River" / "River_2.tif"
    victim.write_bytes(victim.read_bytes()[:3000])
    report = check_folder(eurosat_folder)
    assert report.samples == 59
    assert any(str(victim) in f.sentence for f in report.findings if f.level == "error")
    assert report.band_order is not None
    assert report.band_order.recognised == BANDS


def test_band_names_as_people_write_them() -> None:
    written = ["01 - Coastal aerosol", "B2", "b03", "08A - Vegetation Red Edge", "B8A", "12 - SWIR"]
    assert [band_name(text) for text in written] == ["B01", "B02", "B03", "B8A", "B8A", "B12"]
    assert band_name("NDVI") is None
    assert band_name("2021 composite") is None


def test_real_tiles(real_data: Path) -> None:
    folder = find_folder(real_data)
    assert folder is not None
    data = EuroSat(folder)
    rows = list(range(0, len(data.ids), 9))
    images = data.read(rows).images["sentinel2_l2a"][:, :, :, 0]
    assert recognise(images, BANDS).verdict == "confirmed"
    assert "m-eurosat mislabelling" in recognise(images, WAVELENGTH_ORDER).sentence
    sample = real_data / "geobench_v1/classification_v1.0/m-eurosat/id_1905.hdf5"
    if sample.is_file():
        one = check_folder(sample).band_order
        assert one is not None
        assert "m-eurosat mislabelling" in one.sentence


def test_real_l2a_tiles(real_data: Path) -> None:
    folder = real_data / "s2_l2a_unlabelled"
    if not folder.is_dir():
        pytest.skip("the data folder holds no L2A tiles")
    read = [read_image(path) for path in find_files(folder)[:400:20]]
    images = np.stack([r.image for r in read])
    assert read[0].names is not None
    found = recognise(images, read[0].names)
    assert (found.verdict, found.level) == ("confirmed", "L2A")
    swapped = list(read[0].names)
    swapped[10], swapped[11] = swapped[11], swapped[10]
    assert recognise(images, swapped).recognised == read[0].names


def test_simulated_tiles_are_what_the_module_says() -> None:
    assert simulated.BANDS == BANDS
