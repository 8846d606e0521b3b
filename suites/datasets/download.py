"""Fetching data sets from the Hugging Face hub: resumed, verified, placed in one step.

Plain HTTP by the standard library. `huggingface_hub` was weighed and not used: it keeps
a second copy of these multi-gigabyte archives in its own cache, and checks a finished
file by size, while here the archive's SHA-256 is checked before a single file of it is
unpacked. The hub's protocol is small: HEAD tells size and SHA-256 (``X-Linked-Size``,
``X-Linked-Etag``), GET redirects to the bytes and honours ``Range``. It must know
nothing of what the files contain.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.errors import UserError, did_you_mean
from suites.datasets.digests import Progress, write_atomically
from suites.datasets.unpack import unpack

DEFAULT_ENDPOINT = "https://huggingface.co"
_CHUNK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT = 30.0


@dataclass(frozen=True)
class RemoteFile:
    """One file of a hub data set repository; ``sha256`` is its known checksum, if any.

    ``target`` is the folder under the data directory that an archive is unpacked into, or
    a plain file's own path.
    """

    repository: str
    revision: str
    path: str
    sha256: str | None
    target: str

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked after the download."""
        return self.path.endswith(".zip")

    def url(self, endpoint: str) -> str:
        """Its address at a hub endpoint."""
        return f"{endpoint}/datasets/{self.repository}/resolve/{self.revision}/{self.path}"


_EUROSAT = ("torchgeo/eurosat", "1ce6f1bfb56db63fd91b6ecc466ea67f2509774c")
SOURCES: dict[str, tuple[RemoteFile, ...]] = {
    "eurosat": (
        RemoteFile(
            *_EUROSAT,
            "eurosat-train.txt",
            "1c1d2e855f95deee605a3d992f914d113fddbecf422ec61648057d029a37d695",
            "eurosat/eurosat-train.txt",
        ),
        RemoteFile(
            *_EUROSAT,
            "eurosat-val.txt",
            "b385741f31daa9f1250cf1e1fe03adfab394e1172e0693df40141af004f60330",
            "eurosat/eurosat-val.txt",
        ),
        RemoteFile(
            *_EUROSAT,
            "eurosat-test.txt",
            "cf37948894c12bd953930ff54ee9b7abf0b31478abb8d25fd2c6c721db74c592",
            "eurosat/eurosat-test.txt",
        ),
        RemoteFile(
            *_EUROSAT,
            "EuroSATallBands.zip",
            "751f070f9bffa2eed48b24ca2dd0b02959280c08837e8c9a5532a67ba611df59",
            "eurosat/ds",
        ),
    ),
    "m-eurosat": (
        RemoteFile(
            "recursix/geo-bench-1.0",
            "main",
            "classification_v1.0/m-eurosat.zip",
            None,  # the hub's own checksum is used
            "geobench_v1/classification_v1.0/m-eurosat",
        ),
    ),
}


@dataclass(frozen=True)
class Fetched:
    """What `get` did for one file: where it stands, its checksum, whether it was there before."""

    target: Path
    sha256: str
    was_there: bool


@dataclass(frozen=True)
class _Remote:
    size: int
    sha256: str | None


def get(
    name: str,
    data_dir: Path,
    progress: Progress | None = None,
    *,
    endpoint: str | None = None,
    pause: float = 1.0,
) -> list[Fetched]:
    """Fetch a data set into a data directory; what is already there is left alone.

    Interrupted anywhere, the same call continues: finished bytes stay in a ``.part`` file
    and are never fetched again. ``progress(done, total)`` counts bytes of the current
    file. ``endpoint`` defaults to ``HF_ENDPOINT`` or the public hub; ``pause`` is the wait
    in seconds before the second attempt, doubled for each further one.

    Raises `UserError` for an unknown name, an unreachable hub, wrong bytes, an unsafe
    archive, a full disk or an unwritable folder; nothing half-made is left in place.
    """
    if name not in SOURCES:
        raise UserError(f'Data set "{name}" cannot be fetched: {did_you_mean(name, SOURCES)}.')
    base = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return [_get_file(file, data_dir, base, progress, pause) for file in SOURCES[name]]
    except urllib.error.URLError as error:
        raise UserError(
            f"{base} cannot be reached ({error.reason}); check the network or HF_ENDPOINT, then "
            "run the same command again: it continues where it stopped."
        ) from None
    except OSError as error:
        raise UserError(
            f"{name} cannot be written to {data_dir}: {error.strerror or error}; make room or "
            "choose another data directory, then run the same command again: it continues."
        ) from None


def _get_file(
    file: RemoteFile, data_dir: Path, endpoint: str, progress: Progress | None, pause: float
) -> Fetched:
    target = data_dir / file.target
    stamp = target.parent / f".{target.name}.sha256"
    part = target.parent / f".{Path(file.path).name}.part"
    if target.exists() and stamp.is_file():
        part.unlink(missing_ok=True)  # left by a kill just after unpacking
        return Fetched(target, stamp.read_text().strip(), was_there=True)
    if target.exists():
        raise UserError(
            f"{target} is already there but was not fetched by this command; move it away to "
            "fetch it anew, or use it as it is."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    remote = _head(file.url(endpoint))
    expected = file.sha256 or remote.sha256
    digest = _download(file.url(endpoint), part, remote.size, progress, pause)
    if expected is not None and digest != expected:
        part.unlink()
        raise UserError(
            f"{file.path} from {endpoint} has the wrong checksum (SHA-256 {digest}, expected "
            f"{expected}): the bytes are not the published ones and were deleted; try again."
        )
    write_atomically(stamp, (digest + "\n").encode())  # counts only together with the target
    if file.is_archive:
        unpack(part, target)
        part.unlink()
    else:
        part.replace(target)
    return Fetched(target, digest, was_there=False)


class _StopAtRedirect(urllib.request.HTTPRedirectHandler):
    """The hub tells size and checksum on the redirect itself, not on where it leads."""

    def redirect_request(self, *_: object) -> None:
        return None


def _head(url: str) -> _Remote:
    request = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "identity"})
    opener = urllib.request.build_opener(_StopAtRedirect)
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
        raise UserError(f"{url} does not tell its size; check HF_ENDPOINT.")
    tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip('W/"')
    is_sha = len(tag) == 64 and all(c in "0123456789abcdef" for c in tag)
    return _Remote(int(size), tag if is_sha else None)


def _refused(url: str, status: int) -> UserError:
    return UserError(
        f"{url} answered {status} {http.client.responses.get(status, '')}; "
        "check HF_ENDPOINT, or try again later."
    )


def _download(url: str, part: Path, size: int, progress: Progress | None, pause: float) -> str:
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
