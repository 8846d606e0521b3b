"""NumPy chips: an .npy file is one array, an .npz file one array per modality.

Never unpickles: an array of objects is refused. It must know nothing of axes or bands.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from suites.chips.arrays import NamedArrays, reader_of, rows_of
from suites.chips.sidecar import Layout
from suites.chips.stored import MAX_BYTES, ReadRow, StoredChip, UnusableError, reason

title = "NumPy"
suffixes = (".npy", ".npz")
_BANDS = "bands"


def count(path: str, layout: Layout) -> int | None:
    """Chips along an .npy file's axis N, from its header alone; an .npz file is one chip."""
    if path.lower().endswith(".npz"):
        return None
    with _opened(path) as file:
        return rows_of(file, layout)


@contextmanager
def reading(path: str, layout: Layout) -> Iterator[ReadRow]:
    """The chips of a file. An .npz file keeps band names in ``bands`` or ``MODALITY_bands``."""
    with _opened(path) as file:
        if path.lower().endswith(".npz") and rows_of(file, layout) is not None:
            raise UnusableError(
                "holds an axis N in a compressed .npz file, which would be read whole for every "
                "chip: keep one chip a file, or many in .npy, HDF5 or Zarr"
            )
        read = reader_of(file, layout)
        yield lambda row: _whole(read, row)


def _whole(read: ReadRow, row: int) -> StoredChip:
    try:
        return read(row)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _broken(error) from None


@contextmanager
def _opened(path: str) -> Iterator[NamedArrays]:
    try:
        content: Any = np.load(
            path, mmap_mode=None if path.lower().endswith(".npz") else "r", allow_pickle=False
        )
        if isinstance(content, np.ndarray):
            arrays = NamedArrays({"": content})
        else:
            arrays = _of_archive(content)
    except UnusableError:
        raise
    except Exception as error:
        raise _broken(error) from None
    try:
        yield arrays
    finally:
        if not isinstance(content, np.ndarray):
            content.close()


def _of_archive(content: Any) -> NamedArrays:
    size = sum(member.file_size for member in content.zip.infolist())
    if size > MAX_BYTES:
        raise UnusableError("is larger than a chip can be (1 GiB): cut it into smaller ones")
    every = {name: content[name] for name in content.files}
    bands = {
        name.removesuffix(_BANDS).removesuffix("_"): [str(text) for text in array]
        for name, array in every.items()
        if array.dtype.kind == "U" and array.ndim == 1 and name.endswith(_BANDS)
    }
    return NamedArrays({n: a for n, a in every.items() if a.dtype.kind != "U"}, bands)


def _broken(error: Exception) -> UnusableError:
    if isinstance(error, OSError) and error.strerror:
        return UnusableError(f"cannot be read: {error.strerror}")
    return UnusableError(
        f"is not a readable NumPy file ({reason(error)}): it is damaged or truncated"
    )
