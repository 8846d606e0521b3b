"""Which files of a folder are chips: found by suffix, in a fixed order, without opening one.

The same walk tells whether a packed copy is still good, by names, sizes and modification
times, so it costs one stat a file and no more. It must know nothing of what is in a file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from models.errors import UserError
from suites.chips.formats import FILE_SUFFIXES, FOLDER_SUFFIXES
from suites.chips.sidecar import SIDECAR, Layout
from suites.datasets.digests import fingerprint

_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True, slots=True)
class Found:
    """One file (or folder that is one store).

    ``name`` is relative to the searched folder, with ``/``; ``status`` is size, modification
    time and whether it may be read, for a store those of every file in it, hashed.
    """

    name: str
    suffix: str
    status: str


def find(root: Path, layout: Layout, only: str | None = None) -> list[Found]:
    """All chip files under a folder, by name; ``only`` names the one entry to look at.

    Raises `UserError` when there are none, a folder cannot be listed, or a link leads back to
    a folder that holds it.
    """
    others: Counter[str] = Counter()
    found = sorted(
        (
            file
            for file in _walk(root, "", (_identity(root),), others, only)
            if not any(fnmatch(file.name, pattern) for pattern in layout.ignore)
        ),
        key=lambda file: file.name,
    )
    if not found:
        raise UserError(_nothing(root, layout, others))
    return found


def signature(found: list[Found], layout: Layout, reader: str) -> str:
    """What a packed copy is recognised by: the files, chips.yaml and the reader's version."""
    return fingerprint([reader, layout.text, *(f"{f.name}\0{f.status}" for f in found)])


def _walk(
    folder: Path,
    prefix: str,
    above: tuple[_Identity, ...],
    others: Counter[str],
    only: str | None = None,
) -> Iterator[Found]:
    for entry in _entries(folder):
        name, suffix = f"{prefix}{entry.name}", _suffix(entry.name)
        if only is not None and entry.name != only:
            continue
        if _is_folder(entry):
            inside = (*above, _not_above(entry, above))
            if suffix in FOLDER_SUFFIXES:
                yield Found(name, suffix, _store_status(Path(entry.path), inside))
            else:
                yield from _walk(Path(entry.path), f"{name}/", inside, others)
        elif suffix in FILE_SUFFIXES:
            yield Found(name, suffix, _status(entry))
        elif entry.name == SIDECAR:
            _refuse_deeper(entry, prefix)
        else:
            others[suffix or entry.name] += 1


def _refuse_deeper(sidecar: os.DirEntry[str], prefix: str) -> None:
    if prefix:
        raise UserError(
            f"{sidecar.path} would not be read, because it does not lie in the folder that was "
            f"given itself: move it there, or open {Path(sidecar.path).parent} alone."
        )


def _store_status(folder: Path, above: tuple[_Identity, ...]) -> str:
    def files(folder: Path, prefix: str, above: tuple[_Identity, ...]) -> Iterator[str]:
        for entry in _entries(folder, hidden=True):
            name = f"{prefix}{entry.name}"
            if _is_folder(entry):
                yield from files(Path(entry.path), f"{name}/", (*above, _not_above(entry, above)))
            else:
                yield f"{name}\0{_status(entry)}"

    return fingerprint(sorted(files(folder, "", above)))


def _entries(folder: Path, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            # Names that start with a dot are other programs' (._x of a Mac, .snapshot).
            return [entry for entry in entries if hidden or not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"{folder} cannot be listed ({error.strerror or error}): correct the path or its "
            "permissions."
        ) from None


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name[1:] else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> _Identity:
    try:
        status = folder.stat()
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror or error}).") from None
    return status.st_dev, status.st_ino


def _not_above(entry: os.DirEntry[str], above: tuple[_Identity, ...]) -> _Identity:
    identity = _identity(Path(entry.path))
    if identity in above:
        raise UserError(
            f"{entry.path} leads back to a folder that holds it, so the search would never end: "
            "remove that link."
        )
    return identity


def _status(entry: os.DirEntry[str]) -> str:
    """Whether it may be read is in it: mending permissions changes no modification time."""
    try:
        status = entry.stat()
    except OSError:
        return "gone"
    return f"{status.st_size} {status.st_mtime_ns} {os.access(entry.path, os.R_OK)}"


def _nothing(root: Path, layout: Layout, others: Counter[str]) -> str:
    looked = ", ".join(sorted({*FILE_SUFFIXES, *FOLDER_SUFFIXES}))
    ignored = f" and does not match {', '.join(layout.ignore)}" if layout.ignore else ""
    common = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(3))
    holds = f"; it holds {common}" if common else "; it is empty"
    return f"{root} holds no chips: looked for what ends in {looked}{ignored}{holds}."
