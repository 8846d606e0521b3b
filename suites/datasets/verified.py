"""One published file, fetched and checked: what is wrong is thrown away and said.

It must know neither where files are published nor what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.errors import UserError
from models.fetching import Progress, digests_of, download
from suites.datasets.listings import Listed

_PAGE = (b"<!doctype html", b"<html")


def fetch(
    said: Listed,
    part: Path,
    progress: Progress | None,
    pause: float,
    step: Callable[[str], None] | None = None,
) -> str:
    """Complete the part file, compare it with the published checksum, return its SHA-256.

    ``step`` is told when the comparing begins, of which ``progress`` then counts the bytes.

    Raises `UserError` for other bytes than the published ones, or a web page in their place; the
    part file is deleted then.
    """
    download(said.url, part, said.size, progress, pause)
    with part.open("rb") as stream:
        start = stream.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(_PAGE):
        part.unlink()
        raise UserError(
            f"{said.url} sent a web page (of a login, or of an error) in the place of {said.name}; "
            "it was not kept. Open the address in a browser to see what it wants."
        )
    if step is not None:
        step(f"{said.name.rsplit('/', 1)[-1]}: checking")
    algorithm, _, expected = said.checksum.partition(":")
    found = digests_of(part, {"sha256", algorithm} - {""}, progress)
    if expected and found[algorithm] != expected:
        part.unlink()
        called = {"sha256": "SHA-256", "md5": "MD5", "git": "git SHA-1"}[algorithm]
        raise UserError(
            f"{said.name} from {said.url} has the wrong checksum ({called} {found[algorithm]}, "
            f"expected {expected}): the bytes are not the published ones and were deleted; try "
            "again."
        )
    return found["sha256"]
