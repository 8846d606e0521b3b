"""What a publisher says of its files: names, sizes, checksums, as Zenodo, buckets and GitHub do.

It asks and understands, and downloads nothing. Checksums are ``algorithm:hexadecimals``, empty
where the publisher gives none. It must know nothing of what the files contain.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from models.errors import UserError
from models.servers import head, read_json
from suites.datasets.places import File, InBucket, InCommit, Listing, OnHub, OnZenodo, Part
from suites.datasets.unpack import safe_path


@dataclass(frozen=True)
class Listed:
    """A file as its publisher describes it; ``name`` is its path below the part's target."""

    name: str
    url: str
    size: int
    checksum: str


def describe(part: Part, where: File, pause: float) -> Listed:
    """A single file; what the part itself says outranks what the server does."""
    said = _described(part, where, pause)
    if part.size is not None and said.size != part.size:
        raise UserError(
            f"{where.url} has {said.size:,} bytes, but the published {where.path} has "
            f"{part.size:,}; check HF_ENDPOINT and TOKENRANK_MIRROR, or try again later."
        )
    return Listed(where.path, where.url, said.size, part.checksum or said.checksum)


def _described(part: Part, where: File, pause: float) -> Listed:
    if isinstance(where, OnZenodo):
        found = _zenodo(where, pause)
        if found is not None:
            return found
    elif part.size is not None and part.checksum:  # nothing is left to ask
        return Listed(where.path, where.url, part.size, part.checksum)
    remote = head(where.url, pause)
    told = remote.sha256 if isinstance(where, OnHub) else None  # elsewhere it means other things
    return Listed(where.path, where.url, remote.size, f"sha256:{told}" if told else "")


def _zenodo(where: OnZenodo, pause: float) -> Listed | None:
    """From the record's description, or ``None`` where there is no description."""
    record = read_json(where.record_url, pause)
    if record is None:
        return None
    with _understood(where.record_url):
        for file in record["files"]:
            if file["key"] == where.path:
                algorithm, _, digest = str(file["checksum"]).partition(":")
                checksum = f"md5:{digest.lower()}" if algorithm == "md5" else ""
                return Listed(where.path, where.url, int(file["size"]), checksum)
    raise UserError(
        f"{where.record_url} lists no file {where.path}; the record is another one than expected."
    )


@dataclass(frozen=True)
class Contents:
    """What a listing comes to: ``files`` to fetch, and files to ``write`` that follow from it."""

    files: tuple[Listed, ...]
    write: Mapping[str, bytes]


def list_files(where: Listing, pause: float) -> Contents:
    """All files of a listing, by name; `UserError` when there is none or one leads outside."""
    write: dict[str, bytes] = {}
    with _understood(where.url):
        if isinstance(where, InBucket):
            rows = list(_bucket(where, pause))
        else:
            tree = _page(where.url, pause)
            if tree.get("truncated"):
                raise UserError(f"{where.url} lists only a part of its files; try again later.")
            rows = list(_commit(where, tree))
            write = {where.parts[0]: _parts(where, tree)}
    found = {safe_path(file.name, where.url).as_posix(): file for file in rows}
    if not found:
        raise UserError(f"{where.url} lists none of the files that are wanted; try again later.")
    return Contents(tuple(found[name] for name in sorted(found)), write)


@contextmanager
def _understood(url: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{url} describes its files in a way that is not understood ({type(error).__name__}: "
            f"{error}); check TOKENRANK_MIRROR, or try again later."
        ) from None


def _page(url: str, pause: float) -> Any:
    page = read_json(url, pause)
    if page is None:
        raise UserError(f"{url} is not there; check TOKENRANK_MIRROR, or try again later.")
    return page


def _bucket(where: InBucket, pause: float) -> Iterator[Listed]:
    pages = deque((prefix, "") for prefix in where.prefixes)
    while pages:
        prefix, token = pages.popleft()
        page = _page(where.page_url(prefix, token), pause)
        for item in page.get("items", []):
            name = str(item["name"])
            if not name.endswith("/"):  # a folder's own entry
                md5 = base64.b64decode(item["md5Hash"], validate=True) if "md5Hash" in item else b""
                yield Listed(
                    name.removeprefix(where.base),
                    where.file_url(name),
                    int(item["size"]),
                    f"md5:{md5.hex()}" if md5 else "",
                )
        if page.get("nextPageToken"):
            pages.appendleft((prefix, str(page["nextPageToken"])))


def _commit(where: InCommit, tree: Any) -> Iterator[Listed]:
    for item in tree["tree"]:
        path = str(item["path"])
        for pattern, name in where.names:
            found = re.fullmatch(pattern, path)
            if found and item["type"] == "blob":
                yield Listed(
                    found.expand(name),
                    where.file_url(path),
                    int(item["size"]),
                    f"git:{item['sha']}",
                )


def _parts(where: InCommit, tree: Any) -> bytes:
    """JSON: which site is in which part, as the folders say."""
    paths = (re.fullmatch(where.parts[1], str(item["path"])) for item in tree["tree"])
    return json.dumps({path[2]: path[1] for path in paths if path}, indent=0).encode()
