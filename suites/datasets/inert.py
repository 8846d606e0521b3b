"""Reading pickled metadata without importing or running anything foreign.

A pickle is a program; the standard unpickler runs it. GEO-Bench keeps labels and band
records in pickles, so this reader turns every class a record may name into an inert
stand-in, which is all that a call in the stream can then reach, and refuses a record
that names anything else. It must know nothing of the data sets whose metadata it reads.
"""

from __future__ import annotations

import ast
import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError

_PLAIN_NUMBERS = re.compile("[iufb][1248]")
_MAX_BYTES = 16 * 2**20
# Packages whose classes hold data in such records. Their names become stand-ins; any other
# name (os, builtins, subprocess...) has no business there and gets the file refused.
_DATA_PACKAGES = frozenset({"geobench", "affine", "rasterio", "pathlib", "datetime", "numpy"})
# Opcodes that reach outside the stream by other ways than a named class.
_REFUSED_OPCODES = frozenset({"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"})


class Inert:
    """Stands for an object of a foreign class: it keeps the stored fields and can do nothing.

    ``foreign_name`` is the class's dotted name, ``arguments`` what it would have been
    constructed from, ``fields`` its stored attributes (a dict, or whatever was stored).
    """

    foreign_name = "unknown"

    def __new__(cls, *arguments: object) -> Inert:
        """Keep the arguments; call nothing."""
        self = object.__new__(cls)
        self.arguments = arguments
        self.fields = {}
        return self

    def __init__(self, *arguments: object) -> None:
        self.arguments: tuple[object, ...]
        self.fields: Any

    def __setstate__(self, state: object) -> None:
        self.fields = state


class _RefusedError(Exception):
    """A record names something that no data record needs."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Inert]:
        # Never imports: the name only labels the stand-in.
        if module.partition(".")[0] not in _DATA_PACKAGES:
            raise _RefusedError(f"{module}.{name}")
        return type("Inert", (Inert,), {"foreign_name": f"{module}.{name}"})

    def persistent_load(self, pid: object) -> object:
        raise _RefusedError("a persistent reference")


def array_of(value: object) -> npt.NDArray[Any] | None:
    """A NumPy array that a record holds, rebuilt from its bytes; None for anything else.

    Only plain numbers are: the type's code must be one of theirs, and the bytes as many as the
    shape asks for.
    """
    if not isinstance(value, Inert) or not value.foreign_name.startswith("numpy."):
        return None
    if not value.foreign_name.endswith("_reconstruct") or not isinstance(value.fields, tuple):
        return None
    try:
        _, shape, kind, is_fortran, content = value.fields
        code = str(kind.arguments[0])
        if not _PLAIN_NUMBERS.fullmatch(code) or not isinstance(content, bytes):
            return None
        order = kind.fields[1] if isinstance(kind.fields, tuple) else "="
        plain = np.dtype(f"{order}{code}" if order in ("<", ">") else code)
        flat = np.frombuffer(content, dtype=plain)
        return flat.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, TypeError, AttributeError, IndexError):
        return None


def read_pickle(content: bytes, source: str) -> Any:
    """The plain values of a pickle, with foreign objects as `Inert`.

    ``source`` names the file in errors. Raises `UserError` when the pickle is damaged,
    oversized or asks for a call; nothing of it has been executed then.
    """
    if len(content) > _MAX_BYTES:
        raise UserError(f"{source}: its metadata record is larger than 16 MiB; it is not trusted.")
    try:
        operations = {opcode.name for opcode, _, _ in pickletools.genops(content)}
    except Exception:
        raise UserError(
            f"{source}: its metadata record is damaged; fetch the file again."
        ) from None
    outside = sorted(operations & _REFUSED_OPCODES)
    if outside:
        raise _refusal(source, f"pickle opcode {outside[0]}")
    try:
        return _InertUnpickler(io.BytesIO(content)).load()
    except _RefusedError as error:
        raise _refusal(source, str(error)) from None
    except Exception:
        raise UserError(
            f"{source}: its metadata record cannot be read; fetch the file again."
        ) from None


def _refusal(source: str, what: str) -> UserError:
    return UserError(
        f"{source}: its metadata record asks for {what}, which no data record needs; refused, "
        "nothing was executed. Fetch the file again from its official home."
    )


def read_pickle_literal(text: str, source: str) -> Any:
    """The same for a pickle stored as the text of a bytes literal (``"b'...'"``)."""
    try:
        content = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        content = None
    if not isinstance(content, bytes):
        raise UserError(
            f"{source}: its metadata record is not a pickled bytes literal; fetch the file again."
        )
    return read_pickle(content, source)
