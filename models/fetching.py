"""Resumed downloads over plain HTTP: finished bytes stay in a part file and are kept.

The protocol is small: HEAD tells the size (and, on the hub, the SHA-256), GET redirects to
the bytes and honours ``Range``. It must know nothing of what a file contains.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.errors import UserError

Progress = Callable[[int, int], None]
_CHUNK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Remote:
    """What a server tells of a file before it sends it; ``sha256`` only where it knows."""

    size: int
    sha256: str | None


class _StopAtRedirect(urllib.request.HTTPRedirectHandler):
    """The hub tells size and checksum on the redirect itself, not on where it leads."""

    def redirect_request(self, *_: object) -> None:
        return None


def head(url: str, follow: bool = False) -> Remote:
    """Size and checksum. `UserError` when refused, ``URLError`` when nobody answers.

    The hub tells both on its redirect; elsewhere one has to ``follow`` it.
    """
    request = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "identity"})
    opener = urllib.request.build_opener(*([] if follow else [_StopAtRedirect]))
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            headers, status = answer.headers, answer.status
    except urllib.error.HTTPError as error:
        headers, status = error.headers, error.code
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise urllib.error.URLError(str(error) or type(error).__name__) from None
    if status >= 400:
        raise _refused(url, status)
    size = headers.get("X-Linked-Size") or headers.get("Content-Length")
    if size is None or not size.isdigit():
        raise UserError(
            f"{url} does not tell its size; check the address (HF_ENDPOINT for the hub)."
        )
    tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip('W/"')
    is_sha = len(tag) == 64 and all(c in "0123456789abcdef" for c in tag)
    return Remote(int(size), tag if is_sha else None)


def _refused(url: str, status: int) -> UserError:
    return UserError(
        f"{url} answered {status} {http.client.responses.get(status, '')}; "
        "check the address (HF_ENDPOINT for the hub), or try again later."
    )


def download(
    url: str, part: Path, size: int, progress: Progress | None = None, pause: float = 1.0
) -> str:
    """Complete the part file, with several attempts; returns the SHA-256 of the whole."""
    for attempt in range(_ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if have > size:  # of another version
            part.unlink()
            have = 0
        if have == size:
            break
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _append(url, part, have, size, progress)
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            continue
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise _refused(url, error.code) from None
        except urllib.error.URLError:
            if attempt == _ATTEMPTS - 1:
                raise
    have = part.stat().st_size if part.exists() else 0
    if have != size:
        raise UserError(
            f"{url} stopped after {have:,} of {size:,} bytes, {_ATTEMPTS} times; run the same "
            "command again: it continues where it stopped."
        )
    if progress is not None:
        progress(size, size)
    with part.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _append(url: str, part: Path, have: int, size: int, progress: Progress | None) -> None:
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as stream:  # a server may ignore Range
            _copy(answer, stream, have if resumed else 0, size, progress)


def _copy(
    source: IO[bytes], target: IO[bytes], done: int, size: int, progress: Progress | None
) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(min(done, size), size)
