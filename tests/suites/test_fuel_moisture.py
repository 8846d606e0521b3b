"""Fuel moisture: what is read is what is stored, sites stay together, broken arrays are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import UserError
from suites.datasets.fuel_moisture import CHANNELS, FuelMoisture, find_folder

COUNT = 60


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 9000, (COUNT, 3, len(CHANNELS))).astype(np.float64)
    pixels[..., :2] = -pixels[..., :2] / 300  # radar in dB
    return {
        "s1_s2_era5_srtm": pixels,
        "month": (rng.integers(0, 12, (COUNT, 1)) + np.array([0, 1, 1])) % 12,
        "target": rng.uniform(40, 200, COUNT),
        "is_test": np.repeat([0, 1], [40, 20]),
        "site": np.array([f"Site {row // 4}" for row in range(COUNT)]),
    }


@pytest.fixture
def folder(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder = tmp_path / "fuel_moisture"
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_reads_both_sensors_by_name(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    assert find_folder(folder.parent) == folder
    data = FuelMoisture(folder)
    batch = data.read([7, 2])
    optical, radar = batch.images["sentinel2_l2a"], batch.images["sentinel1"]
    assert optical.shape == (2, 1, 1, 3, 11)
    assert radar.shape == (2, 1, 1, 3, 2)
    pixels = arrays["s1_s2_era5_srtm"]
    b8a = data.card.bands["sentinel2_l2a"].index("B8A")
    np.testing.assert_allclose(optical[0, 0, 0, :, b8a], pixels[7, :, CHANNELS.index("B8A")])
    np.testing.assert_allclose(radar[1, 0, 0, :, 1], pixels[2, :, CHANNELS.index("VH")], rtol=1e-6)
    np.testing.assert_array_equal(batch.timestamps[0, :, 1], arrays["month"][7])
    turning = np.flatnonzero(arrays["month"][:, 0] == 11)
    assert data.read(turning[:1]).timestamps[0].tolist() == [
        [1, 11, 2017],
        [1, 0, 2018],
        [1, 0, 2018],
    ]
    np.testing.assert_array_equal(data.labels, arrays["target"])
    assert (data.card.kind, data.card.classes) == ("values", ())


def test_no_site_stands_on_two_sides_and_the_published_test_is_kept(folder: Path) -> None:
    data = FuelMoisture(folder)
    for seed in range(5):
        split = data.splits(seed)
        sites = {name: {row // 4 for row in rows} for name, rows in split.items()}
        assert sorted(np.concatenate(list(split.values()))) == list(range(COUNT))
        assert split["test"].tolist() == list(range(40, 60))
        assert not sites["train"] & sites["val"]
        assert 4 <= len(split["val"]) <= 12
    assert not np.array_equal(data.splits(0)["val"], data.splits(1)["val"])


def test_the_fingerprint_holds_all_that_can_change_a_result(
    folder: Path, arrays: dict[str, np.ndarray]
) -> None:
    seen = {FuelMoisture(folder).fingerprint}
    for name, array in arrays.items():
        changed = array.copy()
        first = slice(0, 4) if name == "is_test" else (0,) * array.ndim  # a site as a whole
        if name == "month":
            changed[0] = (array[0] + 1) % 12
        else:
            changed[first] = "Elsewhere" if name == "site" else 1 - array.flat[0] % 2
        np.save(folder / f"{name}.npy", changed)
        seen.add(FuelMoisture(folder).fingerprint)
        np.save(folder / f"{name}.npy", array)
    assert len(seen) == 1 + len(arrays)


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        ("target", np.ones(3), r"target.npy has shape \(3,\), expected \(60,\)"),
        ("target", np.full(COUNT, np.nan), "target.npy holds NaN or infinity in row 0"),
        ("month", np.full((COUNT, 3), 12), "months outside 0 to 11"),
        ("month", np.tile([5, 4, 6], (COUNT, 1)), r"the months \[5, 4, 6\] in row 0"),
        ("is_test", np.zeros(COUNT), "is_test.npy has no test sample"),
        ("s1_s2_era5_srtm", np.full((COUNT, 3, 18), 0.3), "row 0, holds reflectance in time step"),
        ("s1_s2_era5_srtm", np.ones((COUNT, 2, 18)), r"expected \(60, 3, 18\)"),
        ("site", None, "site.npy is missing"),
        ("is_test", b"no array", "is_test.npy is not a readable NumPy array"),
    ],
)
def test_a_broken_array_is_named(folder: Path, name: str, broken: object, said: str) -> None:
    path = folder / f"{name}.npy"
    if broken is None:
        path.unlink()
    elif isinstance(broken, bytes):
        path.write_bytes(broken)
    else:
        np.save(path, broken)
    with pytest.raises(UserError, match=said):
        FuelMoisture(folder)
