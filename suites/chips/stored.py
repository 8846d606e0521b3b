"""What a file format hands over: pixels as they lie in the file, and what the file says of them.

Every format module yields these types and every later step reads them, so that a new format
is one new module. It must know nothing of any format, of chips.yaml or of the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

MAX_BYTES = 2**30
"""A larger array is no chip: it would fill the memory before anything could be said of it."""

_LONGEST = 120  # characters of another library's message


class UnusableError(Exception):
    """One chip cannot be used. The message says why, without the name of the file."""


@dataclass(frozen=True)
class StoredImage:
    """One modality of a chip as stored.

    ``axes`` names the axes of ``pixels`` with H, W, D and perhaps T. ``bands`` are the names
    along D as the file gives them, ``None`` where it gives none (or not all). ``implied`` is
    the order of canonical names that such a file has by convention, if there is one.
    """

    pixels: npt.NDArray[np.generic]
    axes: str
    bands: tuple[str, ...] | None
    implied: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StoredChip:
    """One chip as stored: modality -> image, and ``[T, 3]`` dates where the file has them."""

    images: Mapping[str, StoredImage]
    timestamps: npt.NDArray[np.int64] | None = None


ReadRow = Callable[[int], StoredChip]
"""Reads chip number ``row`` of an open file; raises `UnusableError`."""


class Format(Protocol):
    """One way of keeping chips in files."""

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name endings, lower case, with the dot."""
        ...

    def count(self, path: str, layout: Any) -> int | None:
        """How many chips the file holds, told without decoding one; ``None``: it is one chip.

        Raises `UnusableError`.
        """
        ...

    def reading(self, path: str, layout: Any) -> AbstractContextManager[ReadRow]:
        """The file opened for reading its chips; raises `UnusableError`."""
        ...


def refuse_giants(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `UnusableError` for an array that is too large to be one chip."""
    size = dtype.itemsize
    for length in shape:
        size *= int(length)
    if size > MAX_BYTES:
        raise UnusableError(
            f"is {' x '.join(str(n) for n in shape)} values large, more than a chip can be "
            "(1 GiB): cut it into smaller ones"
        )


def reason(error: BaseException) -> str:
    """The first line of a library's complaint, without its tail where it is long."""
    text = str(error).strip()
    first = text.splitlines()[0].rstrip(".") if text else type(error).__name__
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST]}..."
