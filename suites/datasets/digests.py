"""What the pixels of a folder of samples hash to, remembered so that a second look costs a stat.

A data set's fingerprint and its duplicates both rest on one SHA-256 per sample, taken
over the decoded pixels in true band order. Computing it reads and validates every file;
a cache file keyed by path, size and modification time makes the next check of 27,000
files a matter of a second. This module must know nothing of file formats: it is handed
a function that digests one sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.replacing import replacing

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""


def pixel_digest(image: npt.NDArray[np.generic]) -> str:
    """SHA-256 (hex) of an image's shape, type and values, whatever its memory layout."""
    values = np.ascontiguousarray(image)
    digest = hashlib.sha256(f"{values.dtype.newbyteorder('<').str}{values.shape}".encode())
    digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def fingerprint(facts: Iterable[str]) -> str:
    """SHA-256 (hex) over an ordered series of facts; unambiguous whatever they contain."""
    digest = hashlib.sha256()
    for fact in facts:
        encoded = fact.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


@dataclass(frozen=True)
class DigestCache:
    """A small JSON file: ``{path: [size, mtime_ns, digest]}`` for one folder and reader.

    It only ever saves time: a missing, stale or damaged cache is rebuilt, and a cache
    folder that cannot be written costs the speed of the next run, nothing else.
    """

    file: Path | None

    @classmethod
    def of(cls, cache_dir: Path | None, folder: Path, reader: str) -> DigestCache:
        """The cache for a folder as seen by a reader (its name and version)."""
        if cache_dir is None:
            return cls(None)
        name = fingerprint([str(folder.resolve()), reader])[:16]
        return cls(cache_dir / f"pixel-digests-{name}.json")

    def load(self) -> dict[str, list[int | str]]:
        """What is remembered; empty when there is nothing usable."""
        if self.file is None:
            return {}
        try:
            content = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {k: v for k, v in content.items() if isinstance(v, list) and len(v) == 3}

    def save(self, content: dict[str, list[int | str]]) -> None:
        """Replace the cache file in one step."""
        if self.file is None:
            return
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps(content).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def digest_files(
    paths: Sequence[Path],
    digest_one: Callable[[Path], str],
    cache: DigestCache,
    progress: Progress | None = None,
) -> list[str]:
    """One pixel digest per file, in order; files unchanged since the last call are not read.

    Raises whatever ``digest_one`` raises for a broken file (a `UserError` naming it);
    what was digested before that is kept, so the next attempt starts where this one ended.
    """
    known = cache.load()
    fresh: dict[str, list[int | str]] = {}
    changed = False
    try:
        for done, path in enumerate(paths, start=1):
            entry, was_read = _entry(path, known.get(str(path)), digest_one)
            fresh[str(path)] = entry
            changed = changed or was_read
            if progress is not None:
                progress(done, len(paths))
    finally:
        if changed:
            cache.save({**known, **fresh})
    return [str(fresh[str(path)][2]) for path in paths]


def _entry(
    path: Path, known: list[int | str] | None, digest_one: Callable[[Path], str]
) -> tuple[list[int | str], bool]:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    if known is not None and known[0] == status.st_size and known[1] == status.st_mtime_ns:
        return known, False
    return [status.st_size, status.st_mtime_ns, digest_one(path)], True
