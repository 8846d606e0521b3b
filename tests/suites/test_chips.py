"""Chips of every format: the pixels, bands and dates that come out are those that went in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from models.errors import UserError
from models.pretraining.chips import Chips
from models.sensors import LANDSAT, SENTINEL1, SENTINEL2_L2A
from suites.chips import ChipFolder, open_chips, simulated_chips
from suites.chips.canonical import chip_of
from suites.chips.sidecar import Layout, StoredModality
from suites.chips.stored import StoredChip, StoredImage
from suites.datasets import simulated
from suites.datasets.spectra import BANDS as L1C_BANDS
from tests.miniatures import write_geotiff

S2 = "sentinel2_l2a"
NATURAL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
NAMES = f"bands: [{', '.join(NATURAL)}]\n"


def natural(index: int) -> np.ndarray:
    """A simulated tile [64, 64, 12] with the bands in natural order."""
    return simulated.tile(index, 0)[:, :, [L1C_BANDS.index(band) for band in NATURAL]]


def canonical(image: np.ndarray, names: tuple[str, ...] = NATURAL) -> np.ndarray:
    return np.stack([image[..., names.index(b)] for b in SENTINEL2_L2A.band_names], axis=-1)


def opened(tmp_path: Path, **options: float) -> ChipFolder:
    return open_chips(tmp_path / "chips", cache_dir=tmp_path / "cache", **options)


def _npz(folder: Path) -> None:
    np.savez_compressed(
        folder / "a.npz", sentinel2_l2a=natural(3)[:, :, None], bands=np.array(NATURAL)
    )


def _bands_of_hdf5(folder: Path) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        for i, name in enumerate(NATURAL):
            file[f"{name} - whatever"] = natural(3)[:, :, i]


def _image_of_hdf5(folder: Path) -> None:
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["image"] = natural(3)
        file["image"].attrs["bands"] = list(NATURAL)
        file["label"] = 3


def _zarr(version: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=version)
        array = group.create_array(S2, shape=(64, 64, 1, 12), chunks=(32, 64, 1, 12), dtype="u2")
        array[...] = natural(3)[:, :, None]
        array.attrs["bands"] = list(NATURAL)

    return write


def _npy(axes: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        order = ["HWTD".index(axis) for axis in axes]
        np.save(folder / "a.npy", natural(3)[:, :, None].transpose(order))
        (folder / "chips.yaml").write_text(f"{NAMES}axes: {axes}\n")

    return write


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_geotiff(folder / "a.tif", natural(3), NATURAL),
        lambda folder: write_geotiff(folder / "a.TIFF", natural(3), NATURAL[::1], planar=False),
        lambda folder: write_geotiff(folder / "a.tif", natural(3)),
        lambda folder: tifffile.imwrite(folder / "a.tif", natural(3).transpose(2, 0, 1)),
        _npz,
        _npy("HWTD"),
        _npy("TDHW"),
        _bands_of_hdf5,
        _image_of_hdf5,
        _zarr(2),
        _zarr(3),
    ],
    ids=["tiff", "interleaved", "nameless", "pages", "npz", "npy", "npy-TDHW", "h5-bands", "h5",
         "zarr2", "zarr3"],
)  # fmt: skip
def test_every_format_gives_the_same_chip(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "chips").mkdir()
    write(tmp_path / "chips")
    chips: Chips = opened(tmp_path)
    chip = chips.chip(0)
    np.testing.assert_array_equal(chip.images[S2][:, :, 0], canonical(natural(3)))
    assert chip.images[S2].dtype == np.uint16
    assert chip.timestamps.tolist() == [[1, 6, 2020]]
    assert chips.sizes.tolist() == [[64, 64, 1]]
    assert chips.bands == {S2: SENTINEL2_L2A.band_names}


def test_bands_go_by_their_descriptions(tmp_path: Path) -> None:
    shuffled = (*NATURAL[::-1], "NDVI")
    image = np.concatenate([natural(1)[:, :, ::-1], natural(1)[:, :, :1]], axis=2)
    write_geotiff(tmp_path / "chips" / "a.tif", image, shuffled)
    chip = opened(tmp_path).chip(0)
    np.testing.assert_array_equal(chip.images[S2][:, :, 0], canonical(natural(1)))


def test_any_order_of_axes() -> None:
    image = np.stack([natural(1), natural(2)], axis=2)[:20]  # HWTD = 20, 64, 2, 12
    layout = Layout({S2: StoredModality(bands=NATURAL)}, dates=((1, 0, 2020), (1, 1, 2020)))
    for axes in itertools.permutations("HWTD"):
        moved = image.transpose(["HWTD".index(axis) for axis in axes])
        chip = chip_of(StoredChip({S2: StoredImage(moved, "".join(axes), None)}), layout)
        np.testing.assert_array_equal(chip.images[S2], canonical(image))


def test_geobench_samples_have_their_corrected_bands(geobench_folder: Path, tmp_path: Path) -> None:
    chips = open_chips(geobench_folder, cache_dir=tmp_path / "cache")
    assert len(chips) == 30
    row = chips.ids.index("id_7.hdf5")
    expected = canonical(simulated.tile(7, 1), L1C_BANDS)
    np.testing.assert_array_equal(chips.chip(row).images[S2][:, :, 0], expected)


def test_a_lone_geobench_sample_must_say_whose_it_is(geobench_folder: Path, tmp_path: Path) -> None:
    chips = tmp_path / "chips"
    chips.mkdir()
    (geobench_folder / "id_7.hdf5").rename(chips / "id_7.hdf5")
    with pytest.raises(UserError, match="geobench: m-eurosat"):
        opened(tmp_path)
    (chips / "chips.yaml").write_text("geobench: m-eurosat\n")
    expected = canonical(simulated.tile(7, 1), L1C_BANDS)
    np.testing.assert_array_equal(opened(tmp_path).chip(0).images[S2][:, :, 0], expected)


def test_thirteen_nameless_bands_are_asked_for(eurosat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"60 chips are unusable.*B8A may be the 9th or the last"):
        open_chips(eurosat_folder, cache_dir=tmp_path / "cache", tolerate=1.0)
    (eurosat_folder / "chips.yaml").write_text(f"bands: [{', '.join(L1C_BANDS)}]\nlicence: MIT\n")
    chips = open_chips(eurosat_folder, cache_dir=tmp_path / "cache")
    row = chips.ids.index("River/River_3.tif")
    expected = canonical(simulated.tile(28, 0), L1C_BANDS)
    np.testing.assert_array_equal(chips.chip(row).images[S2][:, :, 0], expected)
    assert chips.card.licence == "MIT"
    assert any("B10" in note and "L1C" in note for note in chips.card.notes)
    assert str(tmp_path) not in repr(chips.card)


@pytest.mark.parametrize("kind", ["npy", "zarr", "h5"])
def test_many_chips_in_one_array(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    dates = np.array([[[5, i % 12, 2019], [6, i % 12, 2020]] for i in range(7)])
    tiles = np.stack([np.stack([natural(i), natural(i + 7)], axis=2) for i in range(7)])
    if kind == "npy":
        np.save(folder / "all.npy", tiles)
        (folder / "chips.yaml").write_text(f"{NAMES}dates: [[5, 0, 2019], 2020-01-06]\n")
        dates[:] = [[5, 0, 2019], [6, 0, 2020]]
    elif kind == "zarr":
        group = zarr.open_group(folder / "all.zarr", mode="w")
        array = group.create_array(S2, shape=tiles.shape, chunks=(3, 64, 64, 1, 12), dtype="u2")
        array[...], array.attrs["bands"] = tiles, list(NATURAL)
        group.create_array("timestamps", data=dates)
    else:
        with h5py.File(folder / "all.h5", "w") as file:
            file.create_dataset(S2, data=tiles, chunks=(3, 64, 64, 2, 12))
            file[S2].attrs["bands"] = list(NATURAL)
            file["timestamps"] = dates
    chips = opened(tmp_path)
    assert chips.ids == tuple(f"all.{kind}[{i}]" for i in range(7))
    assert chips.sizes.tolist() == [[64, 64, 2]] * 7
    for row in range(7):
        np.testing.assert_array_equal(chips.chip(row).images[S2], canonical(tiles[row]))
        np.testing.assert_array_equal(chips.chip(row).timestamps, dates[row])


def test_steps_in_folders_become_one_chip(tmp_path: Path) -> None:
    folder = tmp_path / "chips"
    for index, size in ((0, 40), (1, 64), (2, 33)):
        for step, add in (("2019", 10), ("2020", 20)):
            write_geotiff(folder / step / f"{index}.tif", natural(index + add)[:size])
        tifffile.imwrite(folder / f"{index}-mask.tif", np.zeros((size, 64), np.uint8))
    write_geotiff(folder / "2020" / "late.tif", natural(5))
    (folder / "chips.yaml").write_text("steps:\n  2019: [1, 6, 2019]\n  2020: [15, 7, 2020]\n")
    chips = opened(tmp_path, tolerate=0.3)
    assert chips.ids == ("0.tif", "1.tif", "2.tif")
    assert chips.skipped == (("late.tif", "has no file in step 2019"),)
    assert chips.sizes.tolist() == [[40, 64, 2], [64, 64, 2], [33, 64, 2]]
    assert chips.chip(0).timestamps.tolist() == [[1, 6, 2019], [15, 7, 2020]]
    for step, add in enumerate((10, 20)):
        image = chips.chip(2).images[S2][:, :, step]
        np.testing.assert_array_equal(image, canonical(natural(2 + add)[:33]))
    card = chips.card
    assert (card.count, card.sides, card.steps, card.skipped) == (3, (33, 64), (2, 2), 1)


def test_modalities_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    radar = rng.normal(-12, 3, (64, 64, 1, 2)).astype(np.float32)
    landsat = rng.integers(7000, 20000, (64, 64, 1, 11)).astype(np.uint16)
    folder = tmp_path / "chips"
    folder.mkdir()
    arrays = {S2: natural(0)[:, :, None], "sentinel1": radar[..., ::-1], "landsat": landsat}
    np.savez(folder / "a.npz", timestamps=np.array([[3, 4, 2021]]), **arrays)
    (folder / "chips.yaml").write_text(
        f"modalities:\n  sentinel2_l2a: {{{NAMES.strip()}}}\n  sentinel1: {{bands: [VH, VV]}}\n"
        f"  landsat: {{bands: [{', '.join(LANDSAT.band_names)}]}}\n"
    )
    chips = opened(tmp_path)
    chip = chips.chip(0)
    assert chips.bands["sentinel1"] == SENTINEL1.band_names
    np.testing.assert_array_equal(chip.images["sentinel1"], radar)
    np.testing.assert_array_equal(chip.images["landsat"], landsat)
    np.testing.assert_array_equal(chip.images[S2][:, :, 0], canonical(natural(0)))
    assert chip.timestamps.tolist() == [[3, 4, 2021]]


def test_units_become_digital_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "chips"
    reflectance = (natural(4) / 10_000).astype(np.float32)
    write_geotiff(folder / "a.tif", reflectance, NATURAL)
    with pytest.raises(UserError, match="looks like reflectance"):
        opened(tmp_path)
    (folder / "chips.yaml").write_text("units_per_dn: 10000\n")
    image = opened(tmp_path).chip(0).images[S2][:, :, 0]
    assert image.dtype == np.uint16  # what float32 rounded away is no information
    np.testing.assert_array_equal(image, canonical(natural(4)))


def test_an_offset_is_taken_off_and_no_data_stays_zero(tmp_path: Path) -> None:
    stored = natural(4) + 1000
    stored[:5] = 0
    write_geotiff(tmp_path / "chips" / "a.tif", stored, NATURAL)
    (tmp_path / "chips" / "chips.yaml").write_text("offset: -1000\n")
    image = opened(tmp_path).chip(0).images[S2][:, :, 0]
    np.testing.assert_array_equal(image[5:], canonical(natural(4))[5:])
    assert not image[:5].any()


def test_fractions_are_kept(tmp_path: Path) -> None:
    stored = natural(4).astype(np.float32) + np.float32(0.25)
    write_geotiff(tmp_path / "chips" / "a.tif", stored, NATURAL)
    image = opened(tmp_path).chip(0).images[S2][:, :, 0]
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, canonical(stored))


def test_simulated_chips_are_the_simulated_set(tmp_path: Path) -> None:
    drawn = simulated_chips(100, 3)
    packed = simulated_chips(100, 3, cache_dir=tmp_path)
    assert drawn.fingerprint == packed.fingerprint != simulated_chips(100, 4).fingerprint
    assert drawn.origin == drawn.card.origin == "simulated"
    expected = canonical(simulated.tile(42, 3), L1C_BANDS)
    for chips in (drawn, packed, simulated_chips(100, 3, cache_dir=tmp_path)):
        np.testing.assert_array_equal(chips.chip(42).images[S2][:, :, 0], expected)
        assert len(chips) == len(chips.sizes) == 100


def test_real_tiles(real_data: Path, tmp_path: Path) -> None:
    chips = open_chips(real_data / "s2_l2a_unlabelled", cache_dir=tmp_path)
    assert (len(chips), chips.skipped) == (2400, ())
    for row in range(0, 2400, 400):
        stored = tifffile.imread(real_data / "s2_l2a_unlabelled" / chips.ids[row])
        expected = canonical(stored.transpose(1, 2, 0))
        np.testing.assert_array_equal(chips.chip(row).images[S2][:, :, 0], expected)
    assert not any("order" in note for note in chips.card.notes)


def test_real_dates(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    for step in ("2019", "2020"):
        (folder / step).symlink_to(real_data / "bark_beetle" / step)
    (folder / "chips.yaml").write_text("steps:\n  2019: [1, 6, 2019]\n  2020: [1, 6, 2020]\n")
    chips = opened(tmp_path)
    assert (len(chips), chips.card.steps, chips.card.sides) == (200, (2, 2), (33, 260))
    stored = tifffile.imread(folder / "2020" / chips.ids[17]).transpose(1, 2, 0)
    np.testing.assert_array_equal(chips.chip(17).images[S2][:, :, 1], canonical(stored))
