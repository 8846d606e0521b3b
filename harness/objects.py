"""An object store behind fsspec: S3, Google Cloud Storage and whatever else has conditional writes.

Implements `harness.shared_files.SharedFiles`, and moves whole files besides. Where the store does
not answer it is asked again for a minute: clusters run for days. It must not know what is stored.
"""

from __future__ import annotations

import contextlib
import errno
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from models.errors import DISK_FULL, AwayError, UserError
from models.replacing import replacing

Answer = TypeVar("Answer")
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before it is asked again
AT_START = (1.0,)
AT_ONCE = 32  # requests
# An extra of this package for each protocol's own package.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# How a small object is read: in parts side by side, it would be asked for its size first.
SMALL = {protocol: {"max_concurrency": 1} for protocol in ("s3", "s3a")}
_OF_THIS_MACHINE = (*DISK_FULL, errno.EROFS)
_ANSWERS = (FileNotFoundError, FileExistsError)
# What no second question changes: rights, credentials, and a request that is refused as such.
_REFUSALS = ("PermissionError", "NoCredentialsError", "PartialCredentialsError")
_WHAT_CHANGES = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")
_WHEN = ("LastModified", "mtime", "updated", "created")


class ObjectsAwayError(AwayError):
    """The object store does not answer, or refuses; its message says why."""


@dataclass(frozen=True)
class Listed:
    """An object in a listing: ``version`` changes when it is rewritten; ``written``: Unix time."""

    version: str
    written: float


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
                "give a folder, or an object store's address (s3://BUCKET/FOLDER, gs://)."
            ) from None

    def require_usable(self) -> None:
        """Raises `UserError` where objects cannot be made, once and only once."""
        name = f"handshakes/probe-{uuid.uuid4().hex}"
        asked = Objects(self.address, pauses=AT_START)
        try:
            made = [asked.create(name, uuid.uuid4().bytes) for _ in range(2)]
        except (OSError, TypeError) as error:
            raise UserError(
                f"The store {self.address} cannot be used ({_first_line(error)}); check its "
                "address, and the credentials and endpoint that its service reads (for S3 "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)."
            ) from None
        finally:
            with contextlib.suppress(OSError):
                Objects(self.address, pauses=()).remove(name)
        if made != [True, False]:
            raise UserError(
                f"The store {self.address} lets two writers make one object (it has no conditional "
                "writes), so that workers could not tell who computes what; use a store that has "
                "them, or a shared folder."
            )

    # --- small files -----------------------------------------------------------

    def create(self, name: str, content: bytes) -> bool:
        """By a conditional write, which the service keeps among all writers.

        Contents must differ between writers: one whose answer was lost on the way is known by it.
        """
        try:
            self._ask(lambda: self._system.pipe_file(self._at(name), content, mode="create"))
        except FileExistsError:
            return self.read(name) == content
        except OSError as error:
            # Some services say no more than that the condition does not hold.
            if error.errno != errno.EINVAL or (found := self.read(name)) is None:
                raise
            return found == content
        return True

    def read(self, name: str) -> bytes | None:
        """Its content; None if there is none."""
        try:
            found: bytes = self._ask(lambda: self._system.cat_file(self._at(name), **self._small))
        except FileNotFoundError:
            return None
        return found

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of those that are there, asked for side by side.

        By threads: of a list fsspec itself first asks whether each is there.
        """
        wanted = list(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            contents = pool.map(self.read, wanted)
            return {
                n: content
                for n, content in zip(wanted, contents, strict=True)
                if content is not None
            }

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
        return self._facts(name) is not None

    def size(self, name: str) -> int | None:
        """Its bytes; None if there is none."""
        facts = self._facts(name)
        return None if facts is None else int(facts["size"])

    def version(self, name: str) -> str | None:
        """What changes when it is rewritten; None if there is none."""
        facts = self._facts(name)
        return None if facts is None else _version(facts)

    def _facts(self, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._ask(lambda: self._system.info(self._at(name)))
        except FileNotFoundError:
            return None
        return found

    def listing(self, folder: str) -> dict[str, Listed]:
        """All objects below a folder, by name relative to it."""
        at = self._at(folder)
        try:
            found = self._ask(lambda: self._system.find(at, detail=True))
        except FileNotFoundError:
            return {}
        names = {path[len(at) + 1 :]: facts for path, facts in found.items()}
        # Anybody may name an object so that as a file it would lie elsewhere.
        return {
            name: Listed(_version(facts), _written(facts))
            for name, facts in names.items()
            if ".." not in PurePosixPath(name).parts
        }

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
    def _small(self) -> Mapping[str, Any]:
        return SMALL.get(self.address.partition("://")[0], {})

    @property
    def _system(self) -> Any:
        return self._place[0]

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        """Its answer, asking again for a minute; `ObjectsAwayError` after that."""
        for pause in (*self._pauses, None):
            try:
                return ask()
            except _ANSWERS:
                raise
            except Exception as error:
                if not _is_the_services(error):
                    raise
                if pause is None or _is_refusal(error):
                    number = getattr(error, "errno", None)
                    said = f"the object store {self.address} answers: {_first_line(error)}"
                    kept = errno.EINVAL if number == errno.EINVAL else errno.EIO
                    raise ObjectsAwayError(kept, said) from error
            time.sleep(pause)
        raise AssertionError("unreachable")


def _is_the_services(error: Exception) -> bool:
    """Whether it came of the network or the service: their packages have errors of their own."""
    if isinstance(error, OSError):
        return error.errno not in _OF_THIS_MACHINE
    return type(error).__module__.partition(".")[0] not in ("builtins", "models", "harness")


def _is_refusal(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & set(_REFUSALS)) or getattr(error, "errno", None) == errno.EINVAL


def _first_line(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).strip().splitlines()[0].rstrip(".")


def _version(facts: Mapping[str, Any]) -> str:
    changes = next((str(facts[name]) for name in _WHAT_CHANGES if facts.get(name)), "")
    return f"{facts.get('size')} {changes}"


def _written(facts: Mapping[str, Any]) -> float:
    when = next((facts[name] for name in _WHEN if facts.get(name)), 0.0)
    if isinstance(when, str):
        with contextlib.suppress(ValueError):
            when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        return when.timestamp()
    return float(when) if isinstance(when, int | float) else 0.0
