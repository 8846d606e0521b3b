"""Resumed downloads over plain HTTP: finished bytes stay in a part file and are kept.

GET redirects to the bytes and honours ``Range``; ``If-Range`` with the first answer's ETag keeps
two versions of a file from being joined. It must know nothing of what a file contains.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from models.errors import UserError
from models.servers import ATTEMPTS, IDENTITY, TIMEOUT, is_passing, refused, waiting

Progress = Callable[[int, int], None]
_CHUNK = 1 << 20


def download(
    url: str, part: Path, size: int, progress: Progress | None = None, pause: float = 1.0
) -> None:
    """Complete the part file, with several attempts; those that brought a megabyte are free.

    `UserError` when refused, when a web page comes in the place of the file, when the disk has no
    room or the server gives up too often; ``URLError`` when nobody answers.
    """
    failures = 0
    while (have := _kept(part, size)) < size:
        wait = pause * 2 ** max(failures - 1, 0)
        require_room(part.parent, size - have)
        try:
            _append(url, part, have, size, progress)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            elif not is_passing(error.code):
                raise refused(url, error.code) from None
            wait = waiting(error, pause * 2**failures)
        except urllib.error.URLError:
            if failures == ATTEMPTS - 1:
                raise
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            pass
        reached = _kept(part, size)
        failures = 0 if reached - have >= _CHUNK else failures + 1
        if reached < size and failures == ATTEMPTS:
            raise UserError(
                f"{url} stopped after {reached:,} of {size:,} bytes, {ATTEMPTS} times; run the "
                "same command again: it continues where it stopped."
            )
        if reached < size:
            time.sleep(wait)
    if not size:
        part.touch()
    _mark(part).unlink(missing_ok=True)
    if progress is not None:
        progress(size, size)


def _kept(part: Path, size: int) -> int:
    """Bytes there are already; more than there should be are of another version."""
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        return 0
    return have


def _mark(part: Path) -> Path:
    """Where the ETag of an unfinished file is kept."""
    return part.with_name(f"{part.name}.etag")


def require_room(folder: Path, wanted: int) -> None:
    """`UserError` when a folder's disk has fewer bytes left than are wanted."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise UserError(
            f"{folder} has {free:,} bytes left, but {wanted:,} more are needed; make room or "
            "choose another folder, then run the same command again: it continues."
        )


def _append(url: str, part: Path, have: int, size: int, progress: Progress | None) -> None:
    headers, mark = dict(IDENTITY), _mark(part)
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark.is_file():
            headers["If-Range"] = mark.read_text(encoding="latin-1")
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise UserError(
                f"{url} sent a web page (of a login, or of an error) in the place of the file; "
                "open the address in a browser to see what it wants, or try again later."
            )
        resumed = answer.status == http.client.PARTIAL_CONTENT
        start = answer.headers.get("Content-Range")
        if resumed and start is not None and not start.startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another range than it was asked for")
        if not resumed:  # a server may ignore Range, or have another version by now
            tag = answer.headers.get("ETag", "")
            mark.unlink(missing_ok=True)
            if tag.startswith('"'):  # a weak one does not promise equal bytes
                mark.write_text(tag, encoding="latin-1")
        with part.open("ab" if resumed else "wb") as stream:
            _copy(answer, stream, have if resumed else 0, size, progress)


def _copy(
    source: IO[bytes], target: IO[bytes], done: int, size: int, progress: Progress | None
) -> None:
    while chunk := _read(source):
        target.write(chunk)
        done += len(chunk)
        if done > size:
            raise UserError(
                f"The server sends more than the {size:,} bytes of {target.name} that were "
                "announced; try again later."
            )
        if progress is not None:
            progress(done, size)


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:  # so that it is not taken for trouble with the disk
        raise ConnectionError(str(error)) from error


def digests_of(
    path: Path, algorithms: Iterable[str], progress: Progress | None = None
) -> dict[str, str]:
    """Checksums in hexadecimals: of ``hashlib``'s names, or ``git`` (as git names a content)."""
    size, found = path.stat().st_size, {}
    for name in algorithms:
        found[name] = hashlib.new("sha1" if name == "git" else name, usedforsecurity=False)
        if name == "git":
            found[name].update(b"blob %d\0" % size)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            for digest in found.values():
                digest.update(chunk)
            if progress is not None:
                progress(min(stream.tell(), size), size)
    return {name: digest.hexdigest() for name, digest in found.items()}
