"""Decoded images: made once, whole, whoever else works in the same store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data_code import pixels_key
from harness.pixels import Pixels, open_pixels
from harness.store import Store
from suites.datasets.base import Batch
from suites.datasets.simulated import Simulated


class Slow:
    """The simulated set; its first reading waits until somebody else has had time to interfere."""

    def __init__(self) -> None:
        self.data = Simulated(size=100)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.rows_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def read(self, rows: Sequence[int]) -> Batch:
        batch = self.data.read(rows)
        self.begun.set()
        self.go_on.wait(10)
        self.rows_read += len(rows)
        return batch


def as_stored(pixels: Pixels) -> Any:
    return pixels.images("sentinel2_l2a", 0, len(pixels))


def test_two_runs_on_one_store_decode_once_and_whole(tmp_path: Path) -> None:
    data, store, found = Slow(), Store(tmp_path), {}

    def open_as(name: str) -> None:
        found[name] = open_pixels(data, store)  # type: ignore[arg-type]

    first = threading.Thread(target=open_as, args=("first",))
    second = threading.Thread(target=open_as, args=("second",))
    first.start()
    assert data.begun.wait(30)
    second.start()
    second.join(0.5)  # long enough to throw away what the first has begun, if it were to
    data.go_on.set()
    first.join()
    second.join()
    assert data.rows_read == 100
    expected = data.data.read(range(100)).images["sentinel2_l2a"]
    for pixels in found.values():
        np.testing.assert_array_equal(as_stored(pixels), expected)
    assert len(found) == 2


def test_what_an_interrupted_decoding_left_is_not_taken_for_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = Simulated(size=100), Store(tmp_path)
    read = Simulated.read
    with monkeypatch.context() as patched:
        patched.setattr(
            Simulated, "read", lambda self, rows: read(self, rows) if rows[0] == 0 else 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            open_pixels(data, store)
    assert [p for p in store.pixels_folder(pixels_key(data)).rglob("*") if p.is_file()] == []
    expected = data.read(range(100)).images["sentinel2_l2a"]
    np.testing.assert_array_equal(as_stored(open_pixels(data, store)), expected)
