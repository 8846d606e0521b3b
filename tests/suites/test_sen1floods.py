"""Sen1Floods11: windows with water and whole radar, published lists; what is broken is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.errors import UserError
from suites.datasets.audit import check
from suites.datasets.catalogue import resolve
from suites.datasets.sen1floods import Sen1Floods, find_folder

LISTS = {
    "train": ("Ghana_11", "Sri-Lanka_12"),
    "valid": ("Mekong_13",),
    "test": ("USA_14",),
    "bolivia": ("Bolivia_15",),
}
CHIPS = "data/flood_events/HandLabeled"


def write(folder: Path, part: str, chip: str, image: np.ndarray) -> None:
    """As published: bands in planes, deflated."""
    path = folder / CHIPS / part / f"{chip}_{part}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"planarconfig": "separate"} if image.ndim == 3 else {}
    tifffile.imwrite(path, image, photometric="minisblack", compression="zlib", **form)


def write_list(folder: Path, name: str, chips: tuple[str, ...]) -> None:
    lines = [f"{chip}_S1Hand.tif,{chip}_LabelHand.tif\n" for chip in chips]
    path = folder / "splits/flood_handlabeled" / f"flood_{name}_data.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chips with a row of windows of every kind; elsewhere they are dry and even (fast to pack)."""
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    for chip in (chip for chips in LISTS.values() for chip in chips):
        radar = np.full((2, 512, 512), -20, dtype=np.float32)
        radar[:, 64:128] = rng.normal(-15, 5, (2, 64, 512))
        optical = np.full((13, 512, 512), 700, dtype=np.int16)
        optical[:, 64:128] = rng.integers(0, 5000, (13, 64, 512))
        label = np.zeros((512, 512), dtype=np.int16)
        label[64:128, :256] = rng.integers(-1, 2, (64, 256))  # row 64: four windows with water,
        radar[1, 100, 70] = np.nan  # of which the second lacks a pixel of radar
        radar[0, 100, 140] = -np.inf  # and the third has one of nothing
        label[128:192] = -1  # row 128: nobody knows
        for part, image in (("LabelHand", label), ("S1Hand", radar), ("S2Hand", optical)):
            write(folder, part, chip, image)
    for name, chips in LISTS.items():
        write_list(folder, name, chips)
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return shutil.copytree(published, tmp_path / "sen1floods11" / "v1.1")


def read(folder: Path, part: str, chip: str) -> np.ndarray:
    return tifffile.imread(folder / CHIPS / part / f"{chip}_{part}.tif")


def test_windows_with_water_and_whole_radar_are_kept(folder: Path) -> None:
    data = Sen1Floods(folder)
    for chip in ("Ghana_11", "Sri-Lanka_12", "Mekong_13", "USA_14"):
        assert [name for name in data.ids if name.startswith(chip)] == [
            f"{chip}/64-0",
            f"{chip}/64-192",
        ]
    row = data.ids.index("Mekong_13/64-192")
    label = read(folder, "LabelHand", "Mekong_13")[64:128, 192:256]
    np.testing.assert_array_equal(data.labels[row], label)
    assert (data.labels[row] == -1).any()
    batch = data.read([row, 0])
    radar = read(folder, "S1Hand", "Mekong_13")[:, 64:128, 192:256]
    found = batch.images["sentinel1"]
    assert found.shape == (2, 64, 64, 1, 2)
    np.testing.assert_array_equal(found[0, :, :, 0], radar.transpose(1, 2, 0))
    # The date of each flood's radar image; months count from 0.
    assert batch.timestamps.tolist() == [[[5, 7, 2018]], [[18, 8, 2018]]]
    assert set(batch.images) == {"sentinel1"}


def test_both_sensors_have_the_same_windows(folder: Path) -> None:
    radar, both = Sen1Floods(folder), Sen1Floods(folder, sensors="both")
    assert both.ids == radar.ids
    assert both.card.level == "L1C"
    optical = Sen1Floods(folder, sensors="s2")
    assert len({radar.fingerprint, both.fingerprint, optical.fingerprint}) == 3
    row = both.ids.index("USA_14/64-0")
    images = both.read([row]).images
    stored = read(folder, "S2Hand", "USA_14")[:, 64:128, :64].transpose(1, 2, 0)
    np.testing.assert_array_equal(images["sentinel2_l2a"][0, :, :, 0], stored)
    np.testing.assert_array_equal(images["sentinel1"], radar.read([row]).images["sentinel1"])


def test_published_lists_or_the_flood_held_out(folder: Path) -> None:
    for test in ("test", "bolivia"):
        options = {"test": "bolivia"} if test == "bolivia" else {}
        data = resolve("sen1floods11", folder.parent.parent, options)
        for split, name in (("train", "train"), ("val", "valid"), ("test", test)):
            found = {data.ids[row].split("/")[0] for row in data.splits(3)[split]}
            assert found == set(LISTS[name])
    assert find_folder(folder) == find_folder(folder.parent) == folder


def test_a_second_look_reads_no_radar(folder: Path, tmp_path: Path, monkeypatch) -> None:
    first = Sen1Floods(folder, cache_dir=tmp_path)
    ids, mark = first.ids, first.fingerprint
    monkeypatch.setattr("suites.datasets.sen1floods_files.image", lambda *_: pytest.fail("read"))
    again = Sen1Floods(folder, cache_dir=tmp_path)
    assert (again.ids, again.fingerprint) == (ids, mark)


def test_the_audit_does_not_take_radar_for_reflectance(folder: Path) -> None:
    report = check(Sen1Floods(folder))
    assert report.units is None
    assert not [finding for finding in report.findings if finding.level == "error"]


def _truncated(folder: Path) -> None:
    path = folder / CHIPS / "S1Hand" / "Ghana_11_S1Hand.tif"
    path.write_bytes(path.read_bytes()[:2000])


def _dry(folder: Path) -> None:
    write(folder, "LabelHand", "USA_14", np.full((512, 512), -1, dtype=np.int16))


def _write_lists(folder: Path, text: str) -> None:
    (folder / "splits/flood_handlabeled/flood_test_data.csv").write_text(text)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            lambda f: (f / "splits/flood_handlabeled/flood_valid_data.csv").unlink(),
            "flood_valid_data.csv is missing",
        ),
        (lambda f: write_list(f, "test", ("Mekong_13",)), "Mekong_13, which is already in the val"),
        (
            lambda f: write_list(f, "test", ("USA_9",)),
            "lists USA_9, but .*USA_9_LabelHand.tif is m",
        ),
        (lambda f: write_list(f, "test", ()), "flood_test_data.csv lists no chip"),
        (lambda f: _write_lists(f, "USA_14.tif\n"), 'line 1 is "USA_14.tif", expected EVENT_NUMB'),
        (lambda f: write_list(f, "test", ("Peru_1",)), 'names the flood "Peru".*Bolivia'),
        (
            lambda f: write(f, "LabelHand", "Ghana_11", np.zeros((256, 512), np.int16)),
            r"Ghana_11_LabelHand.tif has shape \(256, 512\), but its chip is 512 x 512",
        ),
        (
            lambda f: write(f, "LabelHand", "Ghana_11", np.full((512, 512), 2, np.int16)),
            "Ghana_11_LabelHand.tif holds 2, expected -1",
        ),
        (
            lambda f: write(f, "S1Hand", "Ghana_11", np.zeros((3, 512, 512), np.float32)),
            r"shape \(3, 512, 512\), expected real numbers of \(2, 512, 512\) \(VV, VH\)",
        ),
        (
            lambda f: write(f, "S2Hand", "Ghana_11", np.zeros((12, 512, 512), np.int16)),
            r"S2Hand.tif holds int16 of shape \(12, .*expected whole numbers of \(13, 512, 512\)",
        ),
        (
            lambda f: write(f, "S1Hand", "Ghana_11", np.full((2, 512, 512), 0.1, np.float32)),
            "Ghana_11_S1Hand.tif holds radar from 0.1 to 0.1, which is power",
        ),
        (_truncated, "Ghana_11_S1Hand.tif is not a readable TIFF"),
        (_dry, "None of sen1floods11-both's windows in the test split can be used"),
    ],
)
def test_what_is_broken_is_named(folder: Path, harm: Callable[[Path], None], said: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=said):
        _read_all(folder)


def _read_all(folder: Path) -> None:
    data = Sen1Floods(folder, sensors="both")
    data.splits(0)
    data.read(range(len(data.ids)))


def test_an_unknown_option_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(UserError, match=r'"sensors" of data set "sen1floods11" is "S1".*s1'):
        Sen1Floods(folder, sensors="S1")
