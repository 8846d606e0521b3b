"""The simulated set: the same everywhere, physically sensible, and about as hard as real tiles."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.errors import UserError
from suites.datasets import eurosat
from suites.datasets.simulated import Simulated, tile
from suites.datasets.spectra import BANDS, RESOLUTION

COUNT = 470


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return Simulated(COUNT).read(range(COUNT)).images["sentinel2_l2a"][:, :, :, 0]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return Simulated(COUNT).labels


def test_same_bytes_in_another_process_and_order(images: np.ndarray) -> None:
    code = (
        "import hashlib; from suites.datasets.simulated import tile; "
        "print(hashlib.sha256(b''.join(tile(i, 0).tobytes() for i in range(20))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = hashlib.sha256(b"".join(tile(i, 0).tobytes() for i in range(20))).hexdigest()
    assert other.stdout.strip() == here
    mixed = Simulated(COUNT).read([17, 3]).images["sentinel2_l2a"][:, :, :, 0]
    np.testing.assert_array_equal(mixed, images[[17, 3]])


def test_size_and_seed_are_part_of_the_identity() -> None:
    small, large, other = Simulated(100), Simulated(200), Simulated(100, seed=1)
    assert len({small.fingerprint, large.fingerprint, other.fingerprint}) == 3
    assert small.fingerprint == Simulated(100).fingerprint
    a, b = (d.read([7]).images["sentinel2_l2a"] for d in (small, large))
    np.testing.assert_array_equal(a, b)  # a larger set starts with the same tiles
    assert not np.array_equal(a, other.read([7]).images["sentinel2_l2a"])
    assert small.card.origin == "simulated"
    assert "SIMULATED" in small.card.title
    for size in (0, 99, 2_000_000):
        with pytest.raises(UserError, match="allowed: 100 to"):
            Simulated(size)


def test_native_resolutions_are_honoured(images: np.ndarray) -> None:
    """Averaged to its own grid and back, a coarse band loses little; a 10 m band loses much."""
    varied = images[np.arange(COUNT) % 10 == 4].astype(np.float64)  # industrial: much detail
    lag1 = np.square(np.diff(varied, axis=1)).mean(axis=(0, 1, 2))
    lag2 = np.square(varied[:, 2:] - varied[:, :-2]).mean(axis=(0, 1, 2))
    sharp = dict(zip(BANDS, lag1 / lag2, strict=True))
    by_resolution = {
        metres: [sharp[b] for b, r in zip(BANDS, RESOLUTION, strict=True) if r == metres]
        for metres in (10, 20, 60)
    }
    by_resolution[60].remove(sharp["B10"])  # quantised to a few counts
    assert max(by_resolution[60]) < min(by_resolution[20]) < max(by_resolution[20])
    assert max(by_resolution[20]) < min(by_resolution[10])
    assert max(by_resolution[60]) < 0.27  # a straight line between samples has 1/4


def test_spectra_are_physical(images: np.ndarray, labels: np.ndarray) -> None:
    mean = {
        eurosat.CLASSES[c]: dict(zip(BANDS, images[labels == c].mean(axis=(0, 1, 2)), strict=True))
        for c in range(10)
    }
    for name, band in mean.items():
        assert 5 < band["B10"] < 20
        assert band["B01"] > 1000  # scattered light dominates the shortest wavelength
        if name != "SeaLake":
            assert band["B8A"] > band["B06"] > band["B05"] > 0
    assert mean["Forest"]["B08"] > 4 * mean["Forest"]["B04"]  # the red edge
    assert mean["SeaLake"]["B11"] < 200 < mean["SeaLake"]["B04"]  # water is black in the SWIR
    assert mean["AnnualCrop"]["B04"] > 1.5 * mean["Forest"]["B04"]


def _statistics(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)


def _spatial(images: np.ndarray) -> np.ndarray:
    values = images.astype(np.float64)
    lags = [np.square(values[:, k:] - values[:, :-k]).mean(axis=(1, 2)) for k in (1, 2, 4)]
    return np.concatenate([_statistics(images), *(np.log(lag + 1) for lag in lags)], axis=1)


def _accuracy(features: np.ndarray, labels: np.ndarray, kind: str) -> float:
    model = (
        KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
        if kind == "knn"
        else LogisticRegression(max_iter=200)
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    guess = cross_val_predict(make_pipeline(StandardScaler(), model), features, labels, cv=folds)
    return float((guess == labels).mean())


def test_as_hard_as_real_tiles(images: np.ndarray, labels: np.ndarray) -> None:
    """Real tiles, same protocol: statistics 0.69 (kNN), 0.78 (linear); spatial 0.76, 0.84."""
    images, labels = images[:COUNT], labels[:COUNT]
    plain = {k: _accuracy(_statistics(images), labels, k) for k in ("knn", "linear")}
    spatial = {k: _accuracy(_spatial(images), labels, k) for k in ("knn", "linear")}
    assert 0.62 < plain["knn"] < 0.74
    assert 0.73 < plain["linear"] < 0.85
    assert spatial["knn"] > plain["knn"] + 0.03
    assert spatial["linear"] > plain["linear"] + 0.03


def test_brightness_matches_real_tiles(
    images: np.ndarray, labels: np.ndarray, real_data: Path
) -> None:
    folder = eurosat.find_folder(real_data)
    assert folder is not None
    real = eurosat.EuroSat(folder)
    tiles = real.read(range(len(real.ids))).images["sentinel2_l2a"][:, :, :, 0]
    for c in range(10):
        ours = images[labels == c].mean(axis=(0, 1, 2))
        theirs = tiles[real.labels == c].mean(axis=(0, 1, 2))
        checked = [i for i, b in enumerate(BANDS) if b not in ("B10", "B09")]
        if eurosat.CLASSES[c] == "SeaLake":
            assert np.abs(ours - theirs)[checked].max() < 200  # digital numbers, all dark
        else:
            assert np.abs(np.log(ours / theirs))[checked].max() < np.log(1.6)
