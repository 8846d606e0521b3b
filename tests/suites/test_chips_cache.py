"""The packed copy of a folder of chips: when it is used, when it is made, and that it is whole."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
import tracemalloc
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from models.errors import UserError
from suites.chips import ChipFolder, open_chips
from suites.datasets import simulated
from suites.datasets.spectra import BANDS as L1C_BANDS
from tests.miniatures import write_geotiff

S2 = "sentinel2_l2a"
NAMES = f"bands: [{', '.join(L1C_BANDS)}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chips = tmp_path / "chips"
    for index in range(6):
        write_geotiff(chips / f"{index}.tif", simulated.tile(index, 0), L1C_BANDS)
    return chips


def opened(folder: Path) -> ChipFolder:
    return open_chips(folder, cache_dir=folder.parent / "cache")


def _pixels(chips: ChipFolder) -> list[Any]:
    return [chips.chip(row).images[S2] for row in range(len(chips))]


def test_the_second_start_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder)

    def refuse(*_: object) -> None:
        raise AssertionError("a file was decoded")

    monkeypatch.setattr(tifffile, "TiffFile", refuse)
    second = opened(folder)
    assert second.fingerprint == first.fingerprint
    assert second.card == first.card
    np.testing.assert_array_equal(_pixels(second), _pixels(first))


def test_chips_are_views_of_the_map(folder: Path) -> None:
    chips = opened(folder)
    image = chips.chip(2).images[S2]
    assert not image.flags.owndata
    assert not image.flags.writeable
    assert image.ctypes.data == chips.chip(2).images[S2].ctypes.data
    sent = pickle.dumps(chips)  # to a data loader's process
    assert len(sent) < 20_000
    np.testing.assert_array_equal(_pixels(pickle.loads(sent)), _pixels(chips))
    with pytest.raises(IndexError):
        chips.chip(6)


def test_a_changed_file_is_read_again(folder: Path) -> None:
    before = opened(folder)
    kept = _pixels(before)[3].copy()
    write_geotiff(folder / "3.tif", simulated.tile(33, 0), L1C_BANDS)
    after = opened(folder)
    assert after.fingerprint != before.fingerprint
    assert not np.array_equal(after.chip(3).images[S2], kept)
    np.testing.assert_array_equal(before.chip(3).images[S2], kept)  # who maps the old one keeps it
    (folder / "0.tif").unlink()
    assert opened(folder).ids == tuple(f"{i}.tif" for i in range(1, 6))
    (folder / "chips.yaml").write_text("dates: [2021-03-04]\n")
    assert opened(folder).chip(0).timestamps.tolist() == [[4, 2, 2021]]
    assert len(list((folder.parent / "cache").rglob("*.bin"))) == 1


def test_the_fingerprint_is_of_the_content(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "copy"
    for index in range(6):  # other files, same chips
        image = simulated.tile(index, 0)[:, :, ::-1].astype(np.float32)
        write_geotiff(other / f"{index}.tif", image, L1C_BANDS[::-1], planar=False)
    assert opened(other).fingerprint == opened(folder).fingerprint
    (other / "chips.yaml").write_text("dates: [2021-03-04]\n")
    assert opened(other).fingerprint != opened(folder).fingerprint


@pytest.mark.parametrize("damage", ["index", "cut index", "cut pixels", "no pixels"])
def test_a_damaged_copy_is_made_anew(folder: Path, damage: str) -> None:
    first = opened(folder)
    expected = [image.copy() for image in _pixels(first)]
    (index,) = (folder.parent / "cache").rglob("index.json")
    (pixels,) = (folder.parent / "cache").rglob("*.bin")
    if damage == "index":
        content = json.loads(index.read_text())
        del content["offsets"]
        index.write_text(json.dumps(content))
    elif damage == "cut index":
        index.write_bytes(index.read_bytes()[:-20])
    elif damage == "cut pixels":
        pixels.write_bytes(pixels.read_bytes()[:-20])
    else:
        pixels.unlink()
    np.testing.assert_array_equal(_pixels(opened(folder)), expected)


_FULL = """
import resource, signal, sys
from pathlib import Path
from models.errors import UserError
from suites.chips import open_chips
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    open_chips(Path(sys.argv[1]), cache_dir=Path(sys.argv[2]))
except UserError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_nothing_that_looks_like_a_copy(folder: Path) -> None:
    cache = folder.parent / "cache"
    command = [sys.executable, "-c", _FULL, str(folder), str(cache)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"The decoded chips cannot be kept in {cache}")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(opened(folder)) == 6


def test_a_cache_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be kept in .*file"):
        open_chips(folder, cache_dir=tmp_path / "file")


def _open_at_once(folder: str, barrier: Barrier, answers: Any) -> None:
    decoded: list[int] = []
    barrier.wait()
    chips = open_chips(
        Path(folder),
        cache_dir=Path(folder).parent / "cache",
        progress=lambda done, _: decoded.append(done),
    )
    answers.put((chips.fingerprint, len(decoded), int(chips.chip(5).images[S2].sum())))


def test_two_processes_at_once_decode_once(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    started = [
        context.Process(target=_open_at_once, args=(str(folder), barrier, answers))
        for _ in range(2)
    ]
    for process in started:
        process.start()
    found = [answers.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    assert sorted(decoded for _, decoded, _ in found) == [0, 6]
    chips = opened(folder)
    assert {(mark, total) for mark, _, total in found} == {
        (chips.fingerprint, int(chips.chip(5).images[S2].sum()))
    }


def test_memory_does_not_grow_with_the_number_of_chips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    peaks = []
    for count in (200, 2000):
        folder = tmp_path / str(count) / "chips"
        folder.mkdir(parents=True)
        np.save(folder / "a.npy", rng.integers(1, 9999, (count, 32, 32, 1, 13)).astype(np.uint16))
        (folder / "chips.yaml").write_text(NAMES)
        tracemalloc.start()
        chips = opened(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(chips) == count
    pixels = 1800 * 32 * 32 * 12 * 2
    assert peaks[1] - peaks[0] < pixels / 10
