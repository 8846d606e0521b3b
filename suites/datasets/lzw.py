"""TIFF images packed by LZW (TIFF 6.0, section 13), where the library has no decoder for them.

GDAL packs so when told "lzw", as much Earth-observation software does. `tifffile` needs the package
imagecodecs for it and uses that where it is installed; here is the slow way that always works.
It must know nothing of data sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

LZW = 5
_CLEAR, _END, _FIRST = 256, 257, 258
_WIDER_AT = (511, 1023, 2047)  # one entry early, as TIFF has it


def needs_lzw(path: Path) -> bool:
    """Whether the first image of a TIFF is packed by LZW."""
    with tifffile.TiffFile(path) as tiff:
        return int(tiff.pages.first.compression) == LZW


def read_lzw(path: Path) -> npt.NDArray[Any]:
    """The first image of a TIFF packed by LZW, axes as stored: ``[H, W]``, ``[H, W, D]``, ...

    Raises `ValueError` for data that are damaged or end early.
    """
    with tifffile.TiffFile(path) as tiff:
        return read_lzw_page(tiff, tiff.pages.first)


def read_lzw_page(tiff: Any, page: Any) -> npt.NDArray[Any]:
    """As `read_lzw`, of any page of an open TIFF that the library has not tried to read yet."""
    page.compression = 1  # segments are handed to the library unpacked
    # Planes, depth, rows, columns, samples: as the library counts them.
    image = np.zeros(page.shaped, dtype=page.dtype)
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    for index, (offset, count) in enumerate(segments):
        if not count:
            continue  # a tile without data
        tiff.filehandle.seek(offset)
        unpacked = unpacked_by_lzw(tiff.filehandle.read(count))
        segment, (plane, depth, row, column, _), _ = page.decode(unpacked, index)
        target = image[plane, depth:, row:, column:][: segment.shape[0]]
        target = target[:, : segment.shape[1], : segment.shape[2]]
        # Tiles at the edges reach beyond the image.
        target[...] = segment[:, : target.shape[1], : target.shape[2]]
    return image.reshape(page.shape)


def unpacked_by_lzw(packed: bytes) -> bytes:
    """What a series of codes of 9 to 12 bits stands for, high bits first.

    Raises `ValueError` for a code that the table does not hold.
    """
    table = [bytes((value,)) for value in range(256)] + [b"", b""]
    found: list[bytes] = []
    buffer = held = 0
    width, previous = 9, b""
    for byte in packed:
        buffer, held = buffer << 8 | byte, held + 8
        if held < width:
            continue
        held -= width
        code, buffer = buffer >> held, buffer & ((1 << held) - 1)
        if code == _CLEAR:
            del table[_FIRST:]
            width, previous = 9, b""
            continue
        if code == _END:
            break
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise ValueError(f"LZW code {code} is not in the table")
        if previous:
            table.append(previous + entry[:1])
            if len(table) in _WIDER_AT:
                width += 1
        found.append(entry)
        previous = entry
    return b"".join(found)
