"""GEO-Bench beyond one class a sample: labels in pickled arrays, maps, dates, units, odd bands."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from models.errors import UserError
from suites.datasets.geobench import SPECS, GeoBench, find_folder
from suites.datasets.inert import array_of, read_pickle
from tests.miniatures import write_geobench


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "geobench_v1"


def made(archive: Path, name: str, labels: list[object]) -> Path:
    folder = archive / SPECS[name].part / name
    write_geobench(folder, SPECS[name], labels)
    return folder


def test_several_labels_come_from_a_numpy_array_in_the_record(archive: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 2, 43) for _ in range(6)]
    made(archive, "m-bigearthnet", [*labels[:5], labels[5].tolist()])
    folder = find_folder(archive.parent, "m-bigearthnet")
    assert folder is not None
    data = GeoBench(folder, "m-bigearthnet")
    assert (data.card.kind, len(data.card.classes)) == ("labels", 43)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.labels.dtype == np.uint8
    assert data.read([2]).images["sentinel2_l2a"].shape == (1, 120, 120, 1, 12)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.zeros(42, dtype=np.int64), "holds no 43 labels"),
        (np.full(43, 2), "not all 0 or 1"),
        (3, "holds no 43 labels"),
        (np.array(["a"] * 43), "holds no 43 labels"),
    ],
)
def test_bad_labels_are_named(archive: Path, label: object, said: str) -> None:
    good = np.zeros(43, dtype=np.int64)
    folder = made(archive, "m-bigearthnet", [good, label, good])
    with pytest.raises(UserError, match=rf"sample_1.hdf5.*{said}"):
        _ = GeoBench(folder, "m-bigearthnet").labels


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.random.default_rng(0).random((3, 4))),
        np.array([True, False]),
    ],
    ids=["int64", "big-endian", "fortran", "bool"],
)
def test_an_array_is_rebuilt_from_its_bytes_and_nothing_is_run(array: np.ndarray) -> None:
    found = array_of(read_pickle(pickle.dumps(array), "here"))
    assert found is not None
    np.testing.assert_array_equal(found, array)


def test_what_is_no_array_of_numbers_is_none() -> None:
    for value in (np.array(["x"]), np.array([None]), np.dtype("i8")):
        assert array_of(read_pickle(pickle.dumps(value), "here")) is None
    assert array_of([1, 2]) is None


def dated(folder: Path, suffixes: list[str]) -> None:
    """Rename the first band after its date, as sets with dates are written."""
    for path in folder.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            for array in SPECS["m-cashew-plant"].arrays:
                values = file[array][...]
                del file[array]
                for suffix in suffixes if array.startswith("02") else suffixes[:1]:
                    file.create_dataset(array + suffix, data=values)


def test_maps_and_dates(archive: Path) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 7, (256, 256)).astype(np.uint8) for _ in range(3)]
    folder = made(archive, "m-cashew-plant", maps)
    undated = GeoBench(folder, "m-cashew-plant")
    assert undated.read([0]).timestamps.tolist() == [[[1, 6, 2020]]]
    assert any("1 July 2020 is assumed" in note for note in undated.card.notes)
    before = undated.fingerprint
    dated(folder, ["_2019-11-30"])
    data = GeoBench(folder, "m-cashew-plant")
    assert data.card.kind == "maps"
    np.testing.assert_array_equal(data.labels, maps)
    assert data.read([0]).timestamps.tolist() == [[[30, 10, 2019]]]
    assert not any("assumed" in note for note in data.card.notes)
    assert data.fingerprint != before


def test_a_mask_of_another_size_class_or_date_is_named(archive: Path) -> None:
    good = np.zeros((256, 256), dtype=np.uint8)
    small = good[:255]
    high = np.where(np.eye(256) == 1, 7, 0).astype(np.uint8)
    for number, (label, said) in enumerate(
        ((small, r"has shape \(255, 256\)"), (high, "labels run from 0 to 7"))
    ):
        folder = made(archive / str(number), "m-cashew-plant", [good, label, good])
        with pytest.raises(UserError, match=rf"sample_1.hdf5.*{said}"):
            _ = GeoBench(folder, "m-cashew-plant").fingerprint
    folder = made(archive / "dates", "m-cashew-plant", [good] * 3)
    dated(folder, ["_2019-11-30", "_2020-01-04"])
    with pytest.raises(UserError, match='holds "02 - Blue" of 2 dates'):
        GeoBench(folder, "m-cashew-plant").read([0])
    folder = made(archive / "no-date", "m-cashew-plant", [good] * 3)
    dated(folder, ["_2019-13-30"])
    with pytest.raises(UserError, match=r'the date of array "01 - .*_2019-13-30" is none'):
        GeoBench(folder, "m-cashew-plant").read([0])


def test_brick_kiln_bands_are_corrected_and_so2sat_is_reflectance(archive: Path) -> None:
    folder = made(archive, "m-brick-kiln", [0, 1, 0])
    corrected = GeoBench(folder, "m-brick-kiln")
    wrong = GeoBench(folder, "m-brick-kiln", band_order="as-published")
    with h5py.File(folder / "sample_0.hdf5") as file:
        stored = file["08A - Vegetation Red Edge"][...]
    bands = corrected.card.bands["sentinel2_l2a"]
    image = corrected.read([0]).images["sentinel2_l2a"][0, :, :, 0]
    np.testing.assert_array_equal(image[..., bands.index("B11")], stored)
    assert wrong.card.bands["sentinel2_l2a"].index("B8A") == bands.index("B11")
    assert any("KNOWN" in note.upper() for note in wrong.card.notes)
    assert corrected.fingerprint != wrong.fingerprint
    folder = made(archive, "m-so2sat", [0, 16, 3])
    assert GeoBench(folder, "m-so2sat").card.units_per_dn == 10_000
    assert GeoBench(folder, "m-so2sat").read([0]).images["sentinel2_l2a"].max() < 1


@pytest.mark.parametrize(
    ("name", "factor", "said"),
    [
        (
            "m-brick-kiln",
            1e-4,
            r"sample_1.hdf5 holds reflectance \(up to 0.3999\), but m-brick-kiln",
        ),
        ("m-so2sat", 1e4, "sample_1.hdf5 holds digital numbers .* is stored as reflectance"),
    ],
)
def test_a_sample_in_other_units_is_named(
    archive: Path, name: str, factor: float, said: str
) -> None:
    folder = made(archive, name, [0, 1, 0])
    with h5py.File(folder / "sample_1.hdf5", "r+") as file:
        for array in SPECS[name].arrays:
            file[array][...] = file[array][...] * factor
    with pytest.raises(UserError, match=said):
        _ = GeoBench(folder, name).fingerprint


def test_every_spec_is_consistent() -> None:
    for spec in SPECS.values():
        assert len(spec.arrays) == len(spec.published) == len(spec.corrected)
        assert len(set(spec.arrays)) == len(spec.arrays)
        assert len(set(spec.classes)) == len(spec.classes)
        assert bool(spec.correction) == (spec.published != spec.corrected)
    assert replace(SPECS["m-eurosat"], kind="maps").part == "segmentation_v1.0"
