"""Folders of chips that are not as they should be: what is said, what is skipped, what stops."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from models.errors import UserError
from suites.chips import ChipFolder, open_chips
from suites.chips.sidecar import read_layout
from suites.datasets import simulated
from suites.datasets.spectra import BANDS as L1C_BANDS
from tests.miniatures import write_geotiff
from tests.rslearn_miniature import write_raster

NATURAL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
NAMES = f"bands: [{', '.join(NATURAL)}]\n"


def natural(index: int) -> np.ndarray:
    return simulated.tile(index, 0)[:, :, [L1C_BANDS.index(band) for band in NATURAL]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good chips."""
    chips = tmp_path / "chips"
    for index in range(3):
        write_geotiff(chips / f"good_{index}.tif", natural(index), NATURAL)
    return chips


def opened(folder: Path, tolerate: float = 0.5) -> ChipFolder:
    return open_chips(folder, cache_dir=folder.parent / "cache", tolerate=tolerate)


def _with_nan(path: Path) -> None:
    image = natural(0).astype(np.float32)
    image[3, 4, 5] = np.nan
    write_geotiff(path, image, NATURAL)


def _cut(path: Path) -> None:
    write_geotiff(path, natural(0), NATURAL)
    path.write_bytes(path.read_bytes()[:2000])


def _marked(path: Path) -> None:
    image = natural(0).astype(np.int16)
    image[0, 0] = -9999
    tifffile.imwrite(
        path, image, photometric="minisblack", planarconfig="contig",
        extratags=[(42113, "s", 0, "-9999", True)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (_with_nan, "NaN"),
        (_cut, "damaged or truncated"),
        (_marked, "-9999"),
        (lambda path: path.write_text("<html>404</html>"), "not a readable TIFF"),
        (lambda path: path.write_bytes(b""), "not a readable TIFF"),
        (lambda path: path.symlink_to("nowhere.tif"), "cannot be read"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (lambda path: write_geotiff(path, natural(0) * 0 + 7, NATURAL), "constant"),
        (lambda path: write_geotiff(path, natural(0)[:7], NATURAL), "7 x 64 pixels"),
        (lambda path: write_geotiff(path, natural(0)[..., :10], NATURAL[:10]), "lacks B11, B12"),
        (lambda path: write_geotiff(path, natural(0), [*NATURAL[:11], "B1"]), "B01 twice"),
        (lambda path: write_geotiff(path, natural(0)[..., :4]), "4 bands without names"),
        (lambda path: write_geotiff(path, natural(0).astype(np.uint8), NATURAL), "8-bit"),
        (lambda path: write_geotiff(path, natural(0).astype(complex), NATURAL), "complex128"),
    ],
)
def test_a_bad_chip_is_skipped_counted_and_listed(
    folder: Path, write: Callable[[Path], None], says: str
) -> None:
    write(folder / "bad.tif")
    for _ in range(2):  # decoded, then from the packed copy
        chips = opened(folder)
        assert chips.ids == ("good_0.tif", "good_1.tif", "good_2.tif")
        ((name, reason),) = chips.skipped
        assert name == "bad.tif"
        assert says in reason
        assert chips.card.skipped == 1
        with pytest.raises(UserError, match=r"1 of 4 chips are unusable.*at most 20% may be") as no:
            opened(folder, tolerate=0.2)
        assert says in str(no.value)


def test_too_many_bad_chips_stop_the_reading_early(folder: Path) -> None:
    for index in range(40):
        (folder / f"bad_{index:02d}.tif").write_text("no image")
    seen: list[int] = []
    with pytest.raises(UserError, match=r"bad_00.tif, bad_01.tif, bad_02.tif and 2 more: is not"):
        open_chips(
            folder,
            cache_dir=folder.parent / "cache",
            tolerate=0.1,
            progress=lambda done, _: seen.append(done),
        )
    assert len(seen) < 6
    assert not list((folder.parent / "cache").rglob("*.bin"))


def _fortran_of_objects(path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(path.with_name("exploded")),))

    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": (1,)}
        )
        pickle.dump(Bomb(), file)


def test_a_modality_that_is_asked_for_must_be_there(folder: Path) -> None:
    (folder / "chips.yaml").write_text("modalities: {sentinel2_l2a: {}, sentinel1: {}}\n")
    with pytest.raises(UserError, match="holds no sentinel1"):
        opened(folder)


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("x.npy", _fortran_of_objects, "not a readable NumPy file"),
        ("x.npy", lambda path: np.save(path, natural(0).transpose(2, 0, 1)), "axes: DHW"),
        ("x.npy", lambda path: np.save(path, natural(0)[:12]), "which axis holds the 12 bands"),
        ("x.npy", lambda path: np.save(path, np.stack([natural(0)] * 2, 2)), "2 time steps and no"),
        ("x.npy", lambda path: np.save(path, natural(0)[0]), "but (64, 12)"),
        ("x.npz", lambda path: path.write_bytes(b"PK"), "not a readable NumPy file"),
        (
            "x.npz",
            lambda path: np.savez(path, a=natural(0), timestamps=np.array([[1, 12, 2020]])),
            "0-based",
        ),
        ("x.npz", lambda path: np.savez(path, a=natural(0), b=natural(1)), "neither one image"),
        ("x.h5", lambda path: path.write_bytes(b"\x89HDF"), "not a readable HDF5 file"),
        ("x.zarr", lambda path: (path / "c").mkdir(parents=True), "not a readable Zarr store"),
    ],
)
def test_bad_arrays_are_named(
    tmp_path: Path, name: str, write: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    (folder / "chips.yaml").write_text(NAMES)
    write(folder / name)
    with pytest.raises(UserError) as no:
        opened(folder)
    assert name in str(no.value)
    assert says in str(no.value)
    assert not (folder / "exploded").exists()


def test_a_damaged_zarr_chunk_is_that_chips_fault(tmp_path: Path) -> None:
    store = tmp_path / "all.zarr"
    array = zarr.create_array(
        store, shape=(3, 64, 64, 1, 12), chunks=(1, 64, 64, 1, 12), dtype="u2"
    )
    array[...] = np.stack([natural(i)[:, :, None] for i in range(3)])
    array.attrs["bands"] = list(NATURAL)
    (chunk,) = [p for p in store.rglob("*") if p.is_file() and "c/1/" in p.as_posix()]
    chunk.write_bytes(b"broken")
    chips = open_chips(store, cache_dir=tmp_path / "cache", tolerate=0.5)
    assert chips.ids == ("all.zarr[0]", "all.zarr[2]")
    assert chips.skipped[0][0] == "all.zarr[1]"


def test_zarr_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr.create_array(tmp_path / "chips" / "a.zarr", shape=(64, 64, 12), dtype="u2")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r'pip install "tokenrank\[zarr\]"'):
        opened(tmp_path / "chips")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be listed"):
        opened(tmp_path / "chips")
    (tmp_path / "chips" / "deep").mkdir(parents=True)
    (tmp_path / "chips" / "deep" / "a.jp2").write_bytes(b"")
    (tmp_path / "chips" / "._a.tif").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no chips: looked for .*\.tif.*; it holds 1 \.jp2"):
        opened(tmp_path / "chips")


def test_a_link_back_is_named_and_a_link_elsewhere_followed(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert opened(folder).ids[0] == "linked/good_0.tif"
    (tmp_path / "elsewhere" / "loop").symlink_to(folder)
    with pytest.raises(UserError, match="loop leads back to a folder that holds it"):
        opened(folder)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("bands: [B01, B02]", 1, "lacks B03"),
        (f"\n{NAMES.replace('B8A', 'B8B')}", 2, 'no band "B8B": did you mean "B8A"'),
        (NAMES.replace("B8A", "B08"), 1, "B08 twice"),
        ("licence: MIT\nbandz: [B01]", 2, 'did you mean "bands"'),
        ("modality: sentinel2_l1c", 1, 'did you mean "sentinel2_l2a"'),
        ("axes: HWX", 1, "HWTD"),
        ("units_per_dn: 0", 1, "greater than 0"),
        ("origin: reel", 1, 'did you mean "real"'),
        ("dates:\n  - [1, 6, 2020]\n  - [1, 12, 2020]", 3, "0-based"),
        ("steps:\n  2019: [31, 1, 2019]", 2, "no date"),
        ("steps: {a: 2020-01-01}\ndates: [2020-01-01]", 2, '"steps" has the dates'),
        ("geobench: m-brick-kiln", 1, "m-eurosat"),
        ("modalities: {sentinel1: {bands: [VV]}}", 1, "lacks VH"),
        ("modality: landsat\nmodalities: {sentinel1: {}}", 1, "belongs below"),
        ("dates: [today]", 1, '"dates.0" is not valid'),
        ("bands: 12", 1, '"bands" is not valid'),
        ("- bands", 1, "mapping"),
        ("steps: {2017: [1, 6, 2017]}", None, 'step "2017" has no chips'),
    ],
)
def test_mistakes_in_chips_yaml_are_answered_with_their_line(
    folder: Path, text: str, line: int | None, says: str
) -> None:
    sidecar = folder / "chips.yaml"
    sidecar.write_text(text)
    with pytest.raises(UserError) as no:
        opened(folder)
    assert str(no.value).startswith(f"{sidecar}:{line}: " if line else f"{sidecar}: ")
    assert says in str(no.value)


def test_an_assumed_order_that_the_pixels_contradict_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "chips"
    wrong = [L1C_BANDS.index(band) for band in ("B08", *NATURAL[1:7], "B01", *NATURAL[8:])]
    for index in range(30):
        write_geotiff(folder / f"{index}.tif", simulated.tile(index, 0)[:, :, wrong])
    with pytest.raises(UserError, match=r"usual order is not theirs.*B01 holds B08"):
        opened(folder)
    stated = NAMES.replace("B01", "x").replace("B08", "B01").replace("x", "B08")
    (folder / "chips.yaml").write_text(stated)
    assert not any("order" in note for note in opened(folder).card.notes)


def test_a_chips_yaml_further_down_is_not_passed_over(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "chips.yaml").write_text("origin: simulated\n")
    with pytest.raises(UserError, match=r"deep/chips.yaml would not be read"):
        opened(folder)


def test_files_can_be_left_out(folder: Path) -> None:
    (folder / "masks").mkdir()
    tifffile.imwrite(folder / "masks" / "good_0.tif", np.zeros((64, 64), np.uint8))
    with pytest.raises(UserError, match=r"1 band without a name.*ignore"):
        opened(folder, tolerate=0.0)
    (folder / "chips.yaml").write_text('ignore: ["masks/*"]\n')
    assert len(opened(folder, tolerate=0.0)) == 3


def test_the_examples_in_the_documentation_are_valid(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        (folder / "chips.yaml").write_text(example)
        assert read_layout(folder).text == example


def test_chips_packed_by_lzw_or_by_what_no_library_here_unpacks(folder: Path) -> None:
    file, plain = folder / "good_1.tif", opened(folder).chip(1)
    write_raster(file, natural(1), (0, 0), 10, tile=16)  # as rasterio does for compress="lzw"
    again = opened(folder)
    assert not again.skipped
    np.testing.assert_array_equal(
        again.chip(1).images["sentinel2_l2a"], plain.images["sentinel2_l2a"]
    )
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tiff:
        assert tiff.pages.first.compression == 5
        place = tiff.pages.first.tags["Compression"].valueoffset
    content[place : place + 2] = (50000).to_bytes(2, "little")  # Zstandard
    file.write_bytes(content)
    with pytest.raises(
        UserError, match=r"good_1.tif is compressed in a way that needs .* pip inst"
    ):
        opened(folder)
