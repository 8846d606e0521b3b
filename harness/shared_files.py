"""Small files that many machines share: notes, claims, handshakes; in a folder or an object store.

Names are relative to the store, with forward slashes. Only creation has to be atomic among all
writers. It must not know what the files say.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from models.replacing import replacing


class SharedFiles(Protocol):
    """Where they are kept."""

    def create(self, name: str, content: bytes) -> bool:
        """Make the file; False if there is one."""

    def read(self, name: str) -> bytes | None:
        """Its content; None if there is none."""

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of those that are there."""

    def write(self, name: str, content: bytes) -> None:
        """Write it whole, whether or not it is there."""

    def replace(self, name: str, content: bytes) -> None:
        """Write it anew if it is there; readers may see it half-written."""

    def remove(self, name: str) -> None:
        """Remove it, if it is there."""

    def names(self, folder: str) -> list[str]:
        """Names in a folder, of files and of folders, in order; none where it is not there."""


class FolderFiles:
    """In a folder, of one machine or of a network file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, name: str, content: bytes) -> bool:
        """By exclusive creation, which NFS keeps as well (version 3 and later)."""
        path = self._made(name)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return True

    def read(self, name: str) -> bytes | None:
        """Its content; None if there is none."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of those that are there."""
        found = ((name, self.read(name)) for name in names)
        return {name: content for name, content in found if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """Beside its place, then renamed onto it."""
        with replacing(self._made(name)) as temporary:
            temporary.write_bytes(content)

    def replace(self, name: str, content: bytes) -> None:
        """In place: what was removed meanwhile is not made again."""
        with contextlib.suppress(FileNotFoundError), (self.root / name).open("r+b") as file:
            file.write(content)
            file.truncate()

    def remove(self, name: str) -> None:
        """Remove it, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Names in a folder; hidden ones are somebody's unfinished business."""
        return sorted(path.name for path in (self.root / folder).glob("[!.]*"))

    def _made(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
