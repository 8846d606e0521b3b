"""Bark beetle: windows hold what the sites hold, sites stay together, broken files are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.errors import UserError
from suites.datasets.bark_beetle import BarkBeetle, find_folder

SIZES = {
    "11": (40, 33),
    "12": (64, 64),
    "13": (70, 130),
    "14": (33, 50),
    "15": (20, 20),
    "16": (64, 64),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bark_beetle"
    rng = np.random.default_rng(0)
    for part in ("2019", "2020", "mask"):
        (folder / part).mkdir(parents=True)
    for site, size in SIZES.items():
        for year in ("2019", "2020"):
            image = rng.integers(0, 5000, (12, *size)).astype(np.uint16)
            tifffile.imwrite(folder / year / f"{site}.tif", image)
        mask = rng.integers(0, 2, size).astype(np.uint8)
        tifffile.imwrite(folder / "mask" / f"{site}.tif", mask)
    splits = {site: "test" if site in ("12", "15") else "train" for site in SIZES}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def test_windows_hold_the_sites(folder: Path) -> None:
    assert find_folder(folder.parent) == folder
    data = BarkBeetle(folder)
    # 70 x 130 pixels are two rows of three windows.
    assert len(data.ids) == 5 + 6
    row = data.ids.index("13/64-128")
    image = tifffile.imread(folder / "2020" / "13.tif")
    mask = tifffile.imread(folder / "mask" / "13.tif")
    found = data.read([row]).images["sentinel2_l2a"][0, :, :, 0]
    np.testing.assert_array_equal(found[:6, :2], image.transpose(1, 2, 0)[64:, 128:])
    np.testing.assert_array_equal(data.labels[row, :6, :2], mask[64:, 128:])
    asked = data.labels[row] != -1
    assert asked.sum() == 6 * 2
    assert asked[:6, :2].all()
    # Beyond the site it is mirrored, so that no edge of zeros is there to be learned.
    np.testing.assert_array_equal(found[6], found[5])
    whole = data.labels[data.ids.index("12/0-0")]
    np.testing.assert_array_equal(whole, tifffile.imread(folder / "mask" / "12.tif"))


def test_both_dates_are_two_steps(folder: Path) -> None:
    data = BarkBeetle(folder, dates="both")
    batch = data.read([0])
    for step, year in enumerate((2019, 2020)):
        image = tifffile.imread(folder / str(year) / "11.tif").transpose(1, 2, 0)
        np.testing.assert_array_equal(
            batch.images["sentinel2_l2a"][0, :40, :33, step], image.astype(np.float32)
        )
        assert batch.timestamps[0, step].tolist() == [1, 6, year]
    assert data.card.steps == 2
    assert data.fingerprint != BarkBeetle(folder).fingerprint


def test_windows_of_a_site_stay_together(folder: Path) -> None:
    data = BarkBeetle(folder)
    for seed in range(4):
        split = data.splits(seed)
        sites = [{data.ids[row].split("/")[0] for row in rows} for rows in split.values()]
        assert sites[2] == {"12", "15"}
        assert not sites[0] & sites[1]
        assert sorted(np.concatenate(list(split.values()))) == list(range(11))


def _mask_of_another_size(folder: Path) -> None:
    tifffile.imwrite(folder / "mask" / "11.tif", np.zeros((40, 34), dtype=np.uint8))


def _third_class(folder: Path) -> None:
    tifffile.imwrite(folder / "mask" / "11.tif", np.full((40, 33), 2, dtype=np.uint8))


def _truncated(folder: Path) -> None:
    path = folder / "2020" / "11.tif"
    path.write_bytes(path.read_bytes()[:100])


def _bands(folder: Path) -> None:
    tifffile.imwrite(folder / "2020" / "11.tif", np.ones((13, 40, 33), dtype=np.uint16))


def _read_all(folder: Path) -> None:
    data = BarkBeetle(folder)
    _ = data.labels
    data.read([0])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_mask_of_another_size, "11.tif is 40 x 33 pixels, but its mask is 40 x 34"),
        (_third_class, r"of 0 \(healthy\) and 1 \(damaged\).*\[2\]"),
        (_truncated, "2020/11.tif is not a readable TIFF"),
        (_bands, r"shape \(13, 40, 33\), expected uint16 of \(12"),
        (lambda folder: (folder / "mask" / "11.tif").unlink(), "mask/11.tif is missing"),
        (lambda folder: (folder / "splits.json").write_text('{"11": "maybe"}'), "splits.json must"),
        (
            lambda folder: (folder / "splits.json").write_text('{"11": "train", "12": "train"}'),
            "splits.json has 2 sites for training and 0 for the test",
        ),
    ],
)
def test_a_broken_file_is_named(folder: Path, harm, said: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=said):
        _read_all(folder)
