"""Decoded chips in one memory-mapped file, with a JSON index that is written last.

The index commits: without it, or when it names a file of another length, there is no packed
copy. Chips go to disk as they come, so a hundred thousand need no more memory than one. It
must know nothing of the files that the chips came from.

    <folder>/index.json              ids, sizes, dates, digests, where each image lies
    <folder>/pixels-<signature>.bin  images one after another, each at a multiple of 64 bytes
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from models.errors import UserError
from models.pretraining.chips import Chip
from models.replacing import replacing
from suites.datasets.digests import fingerprint, pixel_digest, write_atomically

VERSION = 1
ALIGNMENT = 64
INDEX = "index.json"
_TYPES = ("<u2", "<f4")


@dataclass
class Index:
    """What the index file holds.

    ``offsets[modality]`` and ``types[modality]`` (0: uint16, 1: float32) say where and how each
    chip's image lies; ``timestamps`` are those of all chips, one after another.
    """

    signature: str
    bands: dict[str, list[str]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    timestamps: list[list[int]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    offsets: dict[str, list[int]] = field(default_factory=dict)
    types: dict[str, list[int]] = field(default_factory=dict)
    skipped: list[list[str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    length: int = 0
    version: int = VERSION

    @property
    def pixels_name(self) -> str:
        """Name of the file that holds the pixels."""
        return f"pixels-{self.signature[:16]}.bin"


class Writer:
    """Appends chips to the pixel file of a packed copy. Used by `packing`."""

    def __init__(self, file: Any, index: Index) -> None:
        self._file = file
        self._index = index

    def add(self, name: str, chip: Chip) -> None:
        """Write one chip behind the last."""
        index = self._index
        facts: list[str] = []
        for modality, image in chip.images.items():
            kind = 0 if image.dtype == np.uint16 else 1
            self._pad()
            index.offsets.setdefault(modality, []).append(index.length)
            index.types.setdefault(modality, []).append(kind)
            pixels = np.ascontiguousarray(image, dtype=_TYPES[kind])
            self._file.write(pixels.data)
            index.length += pixels.nbytes
            facts += [modality, pixel_digest(image)]
        height, width, steps = next(iter(chip.images.values())).shape[:3]
        dates = chip.timestamps.tolist()
        index.ids.append(name)
        index.sizes.append([height, width, steps])
        index.timestamps.extend(dates)
        index.digests.append(fingerprint([*facts, json.dumps(dates)]))

    def _pad(self) -> None:
        gap = -self._index.length % ALIGNMENT
        self._file.write(bytes(gap))
        self._index.length += gap


@contextlib.contextmanager
def packing(folder: Path, index: Index) -> Iterator[Writer]:
    """A writer whose chips become the packed copy in ``folder`` when the block ends well.

    On any exception, a full disk among them, nothing of it is left and an older copy stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove(folder.glob(".*.tmp"))  # of processes that were killed: `keeping` holds the lock
    path = folder / index.pixels_name
    with replacing(path, sync=True) as temporary:
        with temporary.open("wb") as file:
            yield Writer(file, index)
        facts = zip(index.ids, index.digests, strict=True)
        names = (f"{modality} {' '.join(names)}" for modality, names in index.bands.items())
        index.fingerprint = fingerprint([*names, *(f"{i}\0{d}" for i, d in facts)])
    content = json.dumps(asdict(index), separators=(",", ":"), allow_nan=False)
    write_atomically(folder / INDEX, content.encode())
    # Whoever has mapped an older copy keeps it.
    _remove(old for old in folder.glob("pixels-*.bin") if old != path)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def load_index(folder: Path, signature: str) -> Index | None:
    """The index of a whole packed copy with this signature; ``None`` when there is none."""
    try:
        content = json.loads((folder / INDEX).read_bytes())
        if content.get("version") != VERSION or content.get("signature") != signature:
            return None
        index = Index(**{f.name: content[f.name] for f in fields(Index)})
        length = (folder / index.pixels_name).stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return index if length == index.length else None


class PackedChips:
    """A packed copy, memory-mapped. `chip` gives read-only views: nothing is copied."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._path = folder / index.pixels_name
        self._depths = {name: len(bands) for name, bands in index.bands.items()}
        self._offsets = {m: np.array(o, dtype=np.int64) for m, o in index.offsets.items()}
        self._types = {m: np.array(t, dtype=np.uint8) for m, t in index.types.items()}
        self.sizes: npt.NDArray[np.int64] = np.array(index.sizes, dtype=np.int64).reshape(-1, 3)
        self._timestamps = np.array(index.timestamps, dtype=np.int64).reshape(-1, 3)
        self._timestamps.flags.writeable = self.sizes.flags.writeable = False
        self._first_step = np.concatenate([[0], np.cumsum(self.sizes[:, 2])])
        self._map: mmap.mmap | None = self._opened()

    def _opened(self) -> mmap.mmap:
        with self._path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getstate__(self) -> dict[str, Any]:
        """Another process (a data loader's) maps the file itself instead of getting a copy."""
        return {**self.__dict__, "_map": None}

    def __len__(self) -> int:
        return len(self.sizes)

    def chip(self, row: int) -> Chip:
        """Chip number ``row`` as views of the mapped file."""
        if not 0 <= row < len(self):
            raise IndexError(f"chip {row} of {len(self)}")
        if self._map is None:
            self._map = self._opened()
        images: Mapping[str, Any] = {
            name: np.ndarray(
                (*(int(n) for n in self.sizes[row]), depth),
                _TYPES[self._types[name][row]],
                self._map,
                int(self._offsets[name][row]),
            )
            for name, depth in self._depths.items()
        }
        start, stop = self._first_step[row : row + 2]
        return Chip(images, self._timestamps[start:stop])


def keeping(place: Path, signature: str, pack: Callable[[], Index]) -> tuple[PackedChips, Index]:
    """The packed copy in ``place``, made with ``pack`` unless there is one with this signature.

    A copy that is there is opened without a lock, so that it may lie where nobody may write.
    Raises `UserError` when it cannot be written.
    """
    opened = _opened(place, signature)
    if opened is not None:
        return opened
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # The lock is the operating system's: it dies with its process, however that ends.
        with FileLock(f"{place}.lock"):
            opened = _opened(place, signature)  # made by whoever held the lock before
            if opened is None:
                index = pack()
                opened = PackedChips(place, index), index
            return opened
    except OSError as error:
        raise UserError(
            f"The decoded chips cannot be kept in {place.parent} ({error.strerror or error}): "
            "free some space there or choose another folder."
        ) from None


def _opened(place: Path, signature: str) -> tuple[PackedChips, Index] | None:
    index = load_index(place, signature)
    if index is None:
        return None
    try:
        return PackedChips(place, index), index
    except OSError:  # replaced between two looks by a process that saw other files
        return None


def repeated(digests: Iterable[str]) -> int:
    """How many chips have the pixels and dates of an earlier one."""
    every = list(digests)
    return len(every) - len(set(every))
