"""Arrays as short text, the same text for the same numbers on every machine.

Classes are packed to as few bits as they need and written in base64: a general compressor
would save little more, and its bytes differ between versions of its library. It must know
nothing of what the numbers mean.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.int64]


def pack_classes(classes: Classes, bits: int) -> str:
    """Class indices ``[S]``, each below ``2 ** bits``, as base64 of their bits, highest first."""
    if len(classes) and not (classes.min() >= 0 and classes.max() < 1 << bits):
        raise ValueError(f"classes {classes.min()} to {classes.max()} do not fit {bits} bits")
    places = np.arange(bits - 1, -1, -1)
    split = ((classes[:, None] >> places) & 1).astype(np.uint8)
    return base64.b64encode(np.packbits(split.ravel()).tobytes()).decode("ascii")


def unpack_classes(text: str, bits: int, count: int) -> Classes:
    """What `pack_classes` packed. Raises ``ValueError`` when it holds another number of classes."""
    raw = np.frombuffer(_decoded(text), dtype=np.uint8)
    if len(raw) != -(-count * bits // 8):
        raise ValueError(f"{len(raw)} bytes for {count} classes of {bits} bits")
    split = np.unpackbits(raw)[: count * bits].reshape(count, bits).astype(np.int64)
    return np.asarray(split @ (1 << np.arange(bits - 1, -1, -1)), dtype=np.int64)


def bits_for(classes: int) -> int:
    """Bits that tell so many classes apart; at least one."""
    return max(1, (classes - 1).bit_length())


def pack_floats(values: Sequence[float]) -> str:
    """Numbers as base64 of little-endian float32."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")


def unpack_floats(text: str) -> tuple[float, ...]:
    """What `pack_floats` packed."""
    return tuple(np.frombuffer(_decoded(text), dtype="<f4").astype(np.float64).tolist())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
