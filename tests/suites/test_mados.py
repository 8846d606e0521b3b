"""MADOS: bands by wavelength, enlarged, windows with labels; what is broken is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from sklearn.metrics import f1_score

from harness.metrics import metric
from models.errors import UserError
from suites.datasets.catalogue import resolve
from suites.datasets.mados import CLASSES, Mados, find_folder
from suites.datasets.mados_bands import BANDS, MEANS

CROPS = {"train": ("Scene_0_1", "Scene_0_12"), "val": ("Scene_7_3",), "test": ("Scene_31_2",)}
RESOLUTIONS = (60, 10, 10, 10, 20, 20, 20, 10, 20, 20, 20)
# What ACOLITE writes for either satellite, in the order of `BANDS`.
S2A = (443, 492, 560, 665, 704, 740, 783, 833, 865, 1614, 2202)
S2B = (442, 492, 559, 665, 704, 739, 780, 833, 864, 1610, 2186)


def path_of(folder: Path, crop: str, place: int, names: Sequence[int]) -> Path:
    scene, _, number = crop.rpartition("_")
    name = f"{scene}_L2R_rhorc_{names[place]}_{number}.tif"
    return folder / scene / str(RESOLUTIONS[place]) / name


def mask_path(folder: Path, crop: str) -> Path:
    scene, _, number = crop.rpartition("_")
    return folder / scene / "10" / f"{scene}_L2R_cl_{number}.tif"


def names_of(crop: str) -> tuple[int, ...]:
    return S2B if crop == "Scene_7_3" else S2A


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, photometric="minisblack")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    (folder / "splits").mkdir(parents=True)
    for split, crops in CROPS.items():
        (folder / "splits" / f"{split}_X.txt").write_text("\n".join(crops) + "\n")
        for crop in crops:
            for place, resolution in enumerate(RESOLUTIONS):
                side = 2400 // resolution
                values = rng.normal(0.01 * (place + 1), 0.002, (side, side)).astype(np.float32)
                write(path_of(folder, crop, place, names_of(crop)), values)
            mask = np.zeros((240, 240), dtype=np.uint8)
            mask[70:75, 170:180] = rng.integers(1, 16, (5, 10))  # in the window 0-160
            mask[235, 100] = 15  # in the window 160-80
            write(mask_path(folder, crop), mask)
            write(mask_path(folder, crop).parent / "Scene_L2R_conf_1.tif", mask)
            rgb = mask_path(folder, crop).with_name(f"{crop}_L2R_rgb.png")
            rgb.write_bytes(b"not a band")
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return shutil.copytree(published, tmp_path / "MADOS")


def test_windows_with_labels_are_kept_and_classes_count_from_zero(folder: Path) -> None:
    assert find_folder(folder.parent) == find_folder(folder) == folder
    data = resolve("mados", folder.parent)
    assert data.ids[:3] == ("Scene_0_1/0-160", "Scene_0_1/160-80", "Scene_0_12/0-160")
    mask = tifffile.imread(mask_path(folder, "Scene_0_12")).astype(int)
    np.testing.assert_array_equal(data.labels[2], (mask - 1)[:80, 160:])
    assert data.labels[1][75, 20] == len(CLASSES) - 1
    assert (data.labels[1] != -1).sum() == 1
    for split, crops in CROPS.items():
        assert {data.ids[row].split("/")[0] for row in data.splits(5)[split]} == set(crops)


@pytest.mark.parametrize("crop", ["Scene_0_1", "Scene_7_3"])
def test_bands_of_either_satellite_are_enlarged_as_torch_does(folder: Path, crop: str) -> None:
    data = Mados(folder)
    row = data.ids.index(f"{crop}/0-160")
    batch = data.read([row])
    found = batch.images["sentinel2_l2a"]
    assert found.shape == (1, 80, 80, 1, 11)
    assert batch.timestamps.tolist() == [[[1, 6, 2020]]]
    for place in range(len(BANDS)):
        stored = torch.from_numpy(tifffile.imread(path_of(folder, crop, place, names_of(crop))))
        whole = torch.nn.functional.interpolate(stored[None, None], size=240, mode="bilinear")
        np.testing.assert_allclose(
            found[0, :, :, 0, place], whole[0, 0, :80, 160:].numpy(), rtol=1e-5
        )


def test_what_is_no_number_is_the_published_mean(folder: Path) -> None:
    path = path_of(folder, "Scene_0_1", 4, S2A)
    values = tifffile.imread(path)
    values[10:14, 90:94] = np.nan
    before = Mados(folder).fingerprint
    write(path, values)
    data = Mados(folder)
    image = data.read([0]).images["sentinel2_l2a"][0, :, :, 0]
    assert np.isfinite(image).all()
    np.testing.assert_allclose(image[22:26, 22:26, 4], MEANS["B05"], rtol=1e-6)
    assert data.fingerprint != before


def test_pixel_accuracy_is_the_micro_f1_of_published_tables(folder: Path) -> None:
    maps = Mados(folder).labels
    said = np.random.default_rng(1).integers(0, 15, maps.shape)
    asked = maps >= 0
    said = np.where(np.arange(maps.size).reshape(maps.shape) % 3 == 0, said, np.maximum(maps, 0))
    expected = f1_score(maps[asked], said[asked], average="micro")
    assert metric("pixel_accuracy").value(maps, said) == pytest.approx(expected)
    assert 0.2 < expected < 0.9


def _truncated(folder: Path) -> None:
    path = path_of(folder, "Scene_0_1", 2, S2A)
    path.write_bytes(path.read_bytes()[:300])


def _twice(folder: Path) -> None:
    other = path_of(folder, "Scene_0_1", 2, S2B)
    other.write_bytes(path_of(folder, "Scene_0_1", 2, S2A).read_bytes())


def _lists(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "splits" / f"{name}_X.txt").write_text(text)


def _mask(values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: write(mask_path(folder, "Scene_31_2"), values)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "splits" / "val_X.txt").unlink(), "val_X.txt is missing"),
        (_lists("val", "Scene_0_1"), "val_X.txt lists Scene_0_1, which is already in the train"),
        (_lists("val", "Scene_0_1 Scene_7"), 'lists "Scene_7", expected Scene_N_M'),
        (_lists("val", "Scene_0_8"), "lists Scene_0_8, but .*Scene_0_L2R_cl_8.tif is missing"),
        (
            lambda f: path_of(f, "Scene_7_3", 0, S2B).unlink(),
            r"Scene_7/60 holds no file of band B01 for crop 3 \(Scene_7_L2R_rhorc_WAVELENGTH_3",
        ),
        (_twice, "holds 2 files of band B03 for crop 1 .*_559_1.tif, .*_560_1.tif"),
        (
            lambda f: write(path_of(f, "Scene_0_1", 10, S2A), np.zeros((240, 240), np.float32)),
            r"2202_1.tif holds float32 of shape \(240, 240\), expected .* of \(120, 120\) for band",
        ),
        (
            lambda f: write(path_of(f, "Scene_0_1", 1, S2A), np.zeros((240, 240), np.uint16)),
            "492_1.tif holds uint16",
        ),
        (
            lambda f: write(path_of(f, "Scene_0_1", 1, S2A), np.full((240, 240), 800, np.float32)),
            "492_1.tif holds values up to 800, which are no reflectance",
        ),
        (_truncated, "560_1.tif is not a readable TIFF"),
        (_mask(np.full((240, 240), 16, np.uint8)), "cl_2.tif holds 16, expected 0 .* 1 to 15"),
        (_mask(np.ones((80, 240), np.uint8)), r"cl_2.tif has shape \(80, 240\), but its crop is"),
        (_mask(np.zeros((240, 240), np.uint8)), "None of mados's windows in the test split can"),
    ],
)
def test_what_is_broken_is_named(folder: Path, harm: Callable[[Path], None], said: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=said):
        _read_all(folder)


def _read_all(folder: Path) -> None:
    data = Mados(folder)
    data.splits(0)
    data.read(range(len(data.ids)))
