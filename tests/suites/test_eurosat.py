"""EuroSAT folders: what is read is what the file holds, and what is broken is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.errors import UserError
from suites.datasets import simulated
from suites.datasets.eurosat import BANDS, CLASSES, EuroSat, find_folder


def test_reads_every_tile_as_stored(eurosat_folder: Path) -> None:
    data = EuroSat(eurosat_folder)
    assert len(data.ids) == 60
    row = data.ids.index("River/River_3")  # the third river: simulated tile number 28
    batch = data.read([row, 0])
    assert batch.images["sentinel2_l2a"].shape == (2, 64, 64, 1, 13)
    np.testing.assert_array_equal(
        batch.images["sentinel2_l2a"][0, :, :, 0], simulated.tile(28, 0).astype(np.float32)
    )
    assert CLASSES[data.labels[row]] == "River"
    assert batch.timestamps.tolist() == [[[1, 6, 2020]]] * 2
    assert data.card.bands["sentinel2_l2a"][-1] == "B8A"


def test_split_is_stratified_seeded_and_complete(eurosat_folder: Path) -> None:
    data = EuroSat(eurosat_folder)
    split = data.splits(3)
    rows = np.concatenate([split[name] for name in ("train", "val", "test")])
    assert sorted(rows) == list(range(60))
    for part in split.values():
        assert set(np.bincount(data.labels[part], minlength=10)) == {len(part) // 10}
    assert all(np.array_equal(split[k], EuroSat(eurosat_folder).splits(3)[k]) for k in split)
    assert not np.array_equal(split["test"], data.splits(4)["test"])


def test_identical_tiles_never_straddle_the_split(
    eurosat_folder: Path, tile_writer: Callable[[Path, np.ndarray], None]
) -> None:
    for copy in range(7, 12):
        tile_writer(eurosat_folder / "Forest" / f"Forest_{copy}.tif", simulated.tile(1, 0))
    data = EuroSat(eurosat_folder)
    twins = {"Forest/Forest_1", *(f"Forest/Forest_{copy}" for copy in range(7, 12))}
    for seed in range(8):
        homes = {
            name for name, rows in data.splits(seed).items() if twins & {data.ids[r] for r in rows}
        }
        assert len(homes) == 1


def test_published_lists_are_used_where_they_are(eurosat_folder: Path) -> None:
    stems = [f"{name}_{number}" for name in CLASSES for number in range(1, 7)]
    for name, part in (("train", stems[::3]), ("val", stems[1::3]), ("test", stems[2::3])):
        lines = "\n".join(f"{stem}.jpg" for stem in part)
        (eurosat_folder / f"eurosat-{name}.txt").write_text(lines)
    data = EuroSat(eurosat_folder)
    assert {Path(data.ids[r]).name for r in data.splits(0)["val"]} == set(stems[1::3])
    assert "published" in data.card.split_rule
    assert "seeded" in EuroSat(eurosat_folder, split="seeded").card.split_rule
    with pytest.raises(UserError, match="spatial split of eurosat needs eurosat-spatial-train"):
        EuroSat(eurosat_folder, split="spatial")
    for name, part in (("train", stems[2::3]), ("val", stems[::3]), ("test", stems[1::3])):
        lines = "\n".join(f"{stem}.jpg" for stem in part)
        (eurosat_folder / f"eurosat-spatial-{name}.txt").write_text(lines)
    apart = EuroSat(eurosat_folder, split="spatial")
    assert {Path(apart.ids[r]).name for r in apart.splits(0)["val"]} == set(stems[::3])
    assert "by longitude" in apart.card.split_rule
    assert data.splits(0)["val"].tolist() != apart.splits(0)["val"].tolist()


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"train": "River_1", "val": "River_2"}, "eurosat-test.txt is missing, but other lists"),
        (
            {"train": "River_1", "val": "River_2", "test": "River_3 River_1"},
            "eurosat-test.txt lists River_1, which eurosat-train.txt lists already",
        ),
        (
            {"train": "River_1", "val": "River_2 River_2", "test": "River_3"},
            "eurosat-val.txt lists River_2, which eurosat-val.txt lists already",
        ),
        (
            {"train": "\xff", "val": "River_2", "test": "River_3"},
            "train.txt is not a readable list",
        ),
    ],
    ids=["one is missing", "overlap", "twice", "no text"],
)
def test_damaged_lists_are_named_and_nothing_stands_in_for_them(
    eurosat_folder: Path, lists: dict[str, str], said: str
) -> None:
    for name, text in lists.items():
        (eurosat_folder / f"eurosat-{name}.txt").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=said):
        EuroSat(eurosat_folder)
    assert "seeded" in EuroSat(eurosat_folder, split="seeded").card.split_rule


def test_fingerprint_follows_the_pixels_and_is_remembered(
    eurosat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = EuroSat(eurosat_folder, cache_dir=cache).fingerprint
    assert first == EuroSat(eurosat_folder).fingerprint  # the cache changes nothing

    reads: list[Path] = []
    original = tifffile.TiffFile
    monkeypatch.setattr(
        tifffile, "TiffFile", lambda path, *a, **k: (reads.append(path), original(path, *a, **k))[1]
    )
    assert EuroSat(eurosat_folder, cache_dir=cache).fingerprint == first
    assert reads == []  # a finished suite re-checks without opening a file

    changed = eurosat_folder / "SeaLake" / "SeaLake_2.tif"
    image = simulated.tile(19, 0)
    image[5, 5, 5] += 1
    tifffile.imwrite(changed, image, planarconfig="contig", photometric="minisblack")
    os.utime(changed, ns=(1, 1))
    assert EuroSat(eurosat_folder, cache_dir=cache).fingerprint != first
    assert reads == [changed]


def test_damaged_cache_is_rebuilt(eurosat_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = EuroSat(eurosat_folder, cache_dir=cache).fingerprint
    for file in cache.iterdir():
        file.write_text('{"half": [1,')
    assert EuroSat(eurosat_folder, cache_dir=cache).fingerprint == first


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _resized(path: Path) -> None:
    tifffile.imwrite(path, simulated.tile(0, 0)[:32], planarconfig="contig")


def _rgb(path: Path) -> None:
    tifffile.imwrite(path, simulated.tile(0, 0)[:, :, :3], photometric="rgb")


def _not_numbers(path: Path) -> None:
    image = np.full((64, 64, 13), np.nan, np.float32)
    tifffile.imwrite(path, image, planarconfig="contig", photometric="minisblack")


def _constant(path: Path) -> None:
    image = np.full((64, 64, 13), 7, np.uint16)
    tifffile.imwrite(path, image, planarconfig="contig", photometric="minisblack")


def _no_tiff(path: Path) -> None:
    path.write_text("<html>404</html>")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncated, "truncated"),
        (_resized, "(32, 64, 13)"),
        (_rgb, "(64, 64, 3)"),
        (_not_numbers, "float32"),
        (_constant, "constant"),
        (_no_tiff, "not a readable TIFF"),
    ],
)
def test_broken_tile_is_named(
    eurosat_folder: Path, damage: Callable[[Path], None], says: str
) -> None:
    victim = eurosat_folder / "Pasture" / "Pasture_4.tif"
    damage(victim)
    data = EuroSat(eurosat_folder)
    for use in (lambda: data.fingerprint, lambda: data.read(range(60)), lambda: data.splits(0)):
        with pytest.raises(UserError) as caught:
            use()
        assert str(victim) in str(caught.value)
        assert says in str(caught.value)


def test_wrong_folders_are_refused(eurosat_folder: Path) -> None:
    (eurosat_folder / "Forrest").mkdir()
    with pytest.raises(UserError, match="Forrest"):
        EuroSat(eurosat_folder)
    (eurosat_folder / "Forrest").rmdir()
    for tile in (eurosat_folder / "Highway").iterdir():
        tile.unlink()
    with pytest.raises(UserError, match="Highway is missing or holds no"):
        EuroSat(eurosat_folder)


def test_real_tiles(real_data: Path) -> None:
    folder = find_folder(real_data)
    assert folder is not None
    data = EuroSat(folder)
    rows = list(range(0, len(data.ids), 50))
    images = data.read(rows).images["sentinel2_l2a"][:, :, :, 0]
    for row, image in zip(rows, images, strict=True):
        expected = tifffile.imread(folder / f"{data.ids[row]}.tif")  # the slow, general reader
        np.testing.assert_array_equal(image, expected)
    assert images[..., BANDS.index("B10")].mean() < 50
