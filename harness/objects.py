"""An object store behind fsspec: S3, Google Cloud Storage, Azure and whatever else speaks to it.

Implements `harness.shared_files.SharedFiles`, and moves whole files besides. Where the store does
not answer it is asked again for a minute: clusters run for days. It must not know what is stored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from models.errors import UserError
from models.replacing import replacing

Answer = TypeVar("Answer")
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before it is asked again
AT_ONCE = 256  # objects
# An extra of this package for each protocol's own package.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
_HERE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_FINAL = (FileNotFoundError, FileExistsError, PermissionError)
_WHAT_CHANGES = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created")


class ObjectsAwayError(OSError):
    """The object store does not answer, or refuses; its message says why."""


class Objects:
    """The objects below one address, such as ``s3://bucket/folder``."""

    def __init__(self, address: str, pauses: tuple[float, ...] = PAUSES) -> None:
        self.address = address.rstrip("/")
        self._pauses = pauses

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """Fsspec's file system and its name for the address.

        Raises `UserError` where its package is not there.
        """
        from fsspec.core import url_to_fs  # noqa: PLC0415

        protocol = self.address.partition("://")[0]
        try:
            # Listings must be true now, not when they were made.
            system, base = url_to_fs(self.address, use_listings_cache=False)
            return system, str(base)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            how = f'pip install "tokenrank[{extra}]"' if extra else str(error)
            raise UserError(
                f"The store {self.address} needs a package that is not installed: {how}."
            ) from None
        except ValueError:
            raise UserError(
                f'The store {self.address} begins with "{protocol}://", which is not known; '
                "give a folder, or an object store's address (s3://BUCKET/FOLDER, gs://, az://)."
            ) from None

    def require_usable(self) -> None:
        """Raises `UserError` where objects cannot be made, once and only once."""
        name = f"probe-{os.uname().nodename}-{os.getpid()}-{time.monotonic_ns()}"
        impatient = Objects(self.address, pauses=())
        try:
            made = [impatient.create(name, b"tokenrank") for _ in range(2)]
            impatient.remove(name)
        except OSError as error:
            raise UserError(
                f"The store {self.address} cannot be used ({_first_line(error)}); check its "
                "address, and the credentials and endpoint that its service reads (for S3 "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)."
            ) from None
        if made != [True, False]:
            raise UserError(
                f"The store {self.address} lets two writers make one object (it has no conditional "
                "writes), so that workers could not tell who computes what; use a store that has "
                "them, or a shared folder."
            )

    # --- small files -----------------------------------------------------------

    def create(self, name: str, content: bytes) -> bool:
        """By a conditional write, which the service keeps among all writers."""
        try:
            self._ask(lambda: self._system.pipe_file(self._at(name), content, mode="create"))
        except FileExistsError:
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """Its content; None if there is none."""
        try:
            found: bytes = self._ask(lambda: self._system.cat_file(self._at(name)))
        except FileNotFoundError:
            return None
        return found

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of those that are there, asked for side by side."""
        wanted = {self._at(name): name for name in names}
        if not wanted:
            return {}

        def ask() -> Mapping[str, Any]:
            found: Mapping[str, Any] = self._system.cat(list(wanted), on_error="return")
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
            return found

        answers = self._ask(ask)
        return {wanted[path]: c for path, c in answers.items() if isinstance(c, bytes)}

    def write(self, name: str, content: bytes) -> None:
        """Objects appear whole."""
        self._ask(lambda: self._system.pipe_file(self._at(name), content))

    def replace(self, name: str, content: bytes) -> None:
        """As `write`: an object is never half-written."""
        self.write(name, content)

    def remove(self, name: str) -> None:
        """Remove it, if it is there."""

        def ask() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self._at(name))

        self._ask(ask)

    def names(self, folder: str) -> list[str]:
        """What is directly below, in order."""
        at = self._at(folder)
        try:
            found = self._ask(lambda: self._system.ls(at, detail=False))
        except FileNotFoundError:
            return []
        names = {path.rstrip("/").rpartition("/")[2] for path in found if path.rstrip("/") != at}
        return sorted(names)

    # --- whole files -----------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether there is such an object."""
        return bool(self._ask(lambda: self._system.isfile(self._at(name))))

    def size(self, name: str) -> int | None:
        """Its bytes; None if there is none."""
        try:
            return int(self._ask(lambda: self._system.info(self._at(name)))["size"])
        except FileNotFoundError:
            return None

    def listing(self, folder: str) -> dict[str, str]:
        """All names below a folder, relative to it; each with what changes when it is rewritten."""
        at = self._at(folder)
        try:
            found = self._ask(lambda: self._system.find(at, detail=True))
        except FileNotFoundError:
            return {}
        return {path[len(at) + 1 :]: _version(facts) for path, facts in found.items()}

    def put(self, name: str, path: Path) -> None:
        """Store a file."""
        self._ask(lambda: self._system.put_file(str(path), self._at(name)))

    def get(self, name: str, path: Path) -> bool:
        """Fetch a file, whole or not at all; False if there is none."""

        def ask() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                self._system.get_file(self._at(name), str(temporary))

        try:
            self._ask(ask)
        except FileNotFoundError:
            return False
        return True

    def _at(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    @property
    def _system(self) -> Any:
        return self._place[0]

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        """Its answer, asking again for a minute; `ObjectsAwayError` after that."""
        for pause in (*self._pauses, None):
            try:
                return ask()
            except _FINAL:
                raise
            except Exception as error:
                if not _is_the_services(error):
                    raise
                if pause is None:
                    raise ObjectsAwayError(
                        errno.EIO, f"{_first_line(error)} ({self.address})"
                    ) from error
            time.sleep(pause)
        raise AssertionError("unreachable")


def _is_the_services(error: Exception) -> bool:
    """Whether it came of the network or the service: their packages have errors of their own."""
    if isinstance(error, OSError):
        return error.errno not in _HERE  # a full disk here is not
    return type(error).__module__.partition(".")[0] not in ("builtins", "models", "harness")


def _first_line(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).strip().splitlines()[0].rstrip(".")


def _version(facts: Mapping[str, Any]) -> str:
    changes = next((str(facts[name]) for name in _WHAT_CHANGES if facts.get(name)), "")
    return f"{facts.get('size')} {changes}"
