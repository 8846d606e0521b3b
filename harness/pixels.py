"""A data set's images, decoded once and memory-mapped, so that every encoder streams them.

Decoding TIFFs or simulating scenes once per variant would cost more than a small
encoder does. The decoded copy lives in the store under the data's fingerprint and
its loader's code, in the stored units, exact. It must know nothing of models or normalisation.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data_code import pixels_key
from harness.store import Store, reserve, write_json
from suites.datasets.base import Dataset

CHUNK = 64
MARK = "complete.json"
Progress = Callable[[int, int], None]


class Pixels:
    """Decoded images of one data set, consecutive samples at a time, in the order of its ids."""

    def __init__(self, folder: Path, modalities: tuple[str, ...]) -> None:
        self._images = {m: np.load(folder / f"{m}.npy", mmap_mode="r") for m in modalities}
        self._timestamps: npt.NDArray[np.int64] = np.load(folder / "timestamps.npy")

    def __len__(self) -> int:
        return len(self._timestamps)

    def images(self, modality: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Images ``[B, H, W, T, D]`` of samples ``start .. stop``, bands and type as stored."""
        stored: npt.NDArray[Any] = self._images[modality][start:stop]
        return stored

    def timestamps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Timestamps ``[B, T, 3]`` of samples ``start .. stop``."""
        return self._timestamps[start:stop]


def open_pixels(dataset: Dataset, store: Store, progress: Progress | None = None) -> Pixels:
    """The decoded copy, made now if there is none. Raises `UserError` for a broken file."""
    folder = store.pixels_folder(pixels_key(dataset))
    mark = folder / MARK
    if not mark.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Two runs on one store may want the same images at the same time; the second waits.
        with store.claims_here.first(
            f"pixels-{folder.name}", lambda: mark.exists() or None
        ) as there:
            if not there:
                _decode(dataset, folder, progress)
    modalities = tuple(json.loads(mark.read_text(encoding="utf-8"))["modalities"])
    return Pixels(folder, modalities)


def _decode(dataset: Dataset, folder: Path, progress: Progress | None) -> None:
    """Into a folder of its own, moved into place when it is whole: others may read meanwhile."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # by a run that was killed
    in_work = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    in_work.mkdir()
    try:
        real: set[str] = set()  # modalities that uint16 cannot keep exactly
        while True:
            try:
                modalities = _write(dataset, in_work, real, progress)
                break
            except _NotIntegralError as found:
                real.add(found.modality)
        write_json(in_work / MARK, {"dataset": dataset.card.name, "modalities": modalities})
        if not (folder / MARK).exists():
            shutil.rmtree(folder, ignore_errors=True)
            in_work.rename(folder)
    finally:
        shutil.rmtree(in_work, ignore_errors=True)


class _NotIntegralError(Exception):
    """A modality's images hold values that uint16 cannot keep exactly."""

    def __init__(self, modality: str) -> None:
        super().__init__(modality)
        self.modality = modality


def _write(
    dataset: Dataset, folder: Path, real: Collection[str], progress: Progress | None
) -> list[str]:
    total = len(dataset.ids)
    arrays: dict[str, np.memmap[tuple[int, ...], np.dtype[np.generic]]] = {}
    timestamps: list[npt.NDArray[np.int64]] = []
    for start in range(0, total, CHUNK):
        batch = dataset.read(range(start, min(start + CHUNK, total)))
        for name, images in batch.images.items():
            dtype: np.dtype[np.generic] = np.dtype(np.float32 if name in real else np.uint16)
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(total, *images.shape[1:])
                )
                reserve(folder / f"{name}.npy")
            stored = images.astype(dtype)
            if dtype == np.uint16 and not np.array_equal(stored, images):
                raise _NotIntegralError(name)
            arrays[name][start : start + len(stored)] = stored
        timestamps.append(batch.timestamps)
        if progress:
            progress(min(start + CHUNK, total), total)
    for array in arrays.values():
        array.flush()
    np.save(folder / "timestamps.npy", np.concatenate(timestamps))
    return sorted(arrays)
