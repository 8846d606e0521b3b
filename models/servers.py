"""What a server says of a file before it sends it: size, checksum, a listing in JSON.

Asked again while the server is busy, and of a mirror where one is set. It must know nothing of
what a file contains.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from models.errors import UserError

MIRROR = "TOKENRANK_MIRROR"
"""Environment variable: ``https://mirror/`` is asked for ``https://host/path`` as
``https://mirror/host/path``."""

ATTEMPTS = 5
TIMEOUT = 30.0
IDENTITY = {"Accept-Encoding": "identity"}
_LONGEST_WAIT = 120.0
_REDIRECTS = 10
_LARGEST_JSON = 64 << 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class Remote:
    """What a server tells of a file before it sends it; ``sha256`` only where it knows."""

    size: int
    sha256: str | None


class _StopAtRedirect(urllib.request.HTTPRedirectHandler):
    """The hub tells size and checksum on the redirect itself, not on where it leads."""

    def redirect_request(self, *_: object) -> None:
        return None


def mirrored(url: str) -> str:
    """The address to ask in the place of ``url``, where `MIRROR` names a mirror."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if not mirror:
        return url
    parts = urlsplit(mirror)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(
            f'{MIRROR} is "{mirror}"; it must be an address such as https://mirror.example/data.'
        )
    return f"{mirror}/{url.split('://', 1)[1]}"


def head(url: str, pause: float = 1.0) -> Remote:
    """Size and checksum. `UserError` when refused, ``URLError`` when nobody answers.

    Redirects are followed up to the first that tells the size, as the hub's do.
    """
    for _ in range(_REDIRECTS):
        status, headers = _patiently(lambda: _head(url), url, pause)  # noqa: B023
        if status < 300 or headers.get("X-Linked-Size") or not headers.get("Location"):
            break
        url = urljoin(url, headers["Location"])
    else:
        raise UserError(f"{url} leads in a circle; check the address.")
    size = headers.get("X-Linked-Size") or headers.get("Content-Length")
    if size is None or not size.isdigit():
        raise UserError(
            f"{url} does not tell its size; check the address (HF_ENDPOINT for the hub)."
        )
    tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip('W/"')
    is_sha = len(tag) == 64 and all(c in "0123456789abcdef" for c in tag)
    return Remote(int(size), tag if is_sha else None)


def _head(url: str) -> tuple[int, Message]:
    request = urllib.request.Request(url, method="HEAD", headers=IDENTITY)
    opener = urllib.request.build_opener(_StopAtRedirect)
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        if error.code >= 400:
            raise
        return error.code, error.headers


def read_json(url: str, pause: float = 1.0) -> Any:
    """What a server answers in JSON; ``None`` where it has no such page (404, 410).

    `UserError` when refused or not JSON, ``URLError`` when nobody answers.
    """

    def ask() -> bytes | None:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                content: bytes = answer.read(_LARGEST_JSON)
                return content
        except urllib.error.HTTPError as error:
            if error.code in (http.client.NOT_FOUND, http.client.GONE):
                return None
            raise

    content = _patiently(ask, url, pause)
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        raise UserError(
            f"{url} did not answer in JSON; check the network (a login page?) and {MIRROR}."
        ) from None


def _patiently(ask: Callable[[], _T], url: str, pause: float) -> _T:
    """The answer, asked for again while the server is busy."""
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except urllib.error.HTTPError as error:
            if attempt == ATTEMPTS - 1 or not is_passing(error.code):
                raise refused(url, error.code) from None
            time.sleep(waiting(error, pause * 2**attempt))
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise urllib.error.URLError(str(error) or type(error).__name__) from None
    raise AssertionError("the last attempt returns or raises")


def is_passing(status: int) -> bool:
    """Whether the same question may be answered later."""
    return status >= 500 or status in (http.client.TOO_MANY_REQUESTS, http.client.REQUEST_TIMEOUT)


def waiting(error: urllib.error.HTTPError, otherwise: float) -> float:
    """Seconds until the next attempt: as the server says, if it does."""
    said = (error.headers or Message()).get("Retry-After", "").strip()
    return min(float(said), _LONGEST_WAIT) if said.isdigit() else otherwise


def refused(url: str, status: int) -> UserError:
    """The sentence for an answer that is none."""
    return UserError(
        f"{url} answered {status} {http.client.responses.get(status, '')}; "
        f"check the address (HF_ENDPOINT for the hub, {MIRROR}), or try again later."
    )
