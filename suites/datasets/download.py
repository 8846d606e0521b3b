"""Fetching data sets from where they are published: resumed, verified, placed in one step.

Plain HTTP by the standard library. `huggingface_hub` was weighed and not used: it keeps a second
copy of these multi-gigabyte archives in its own cache and checks a finished file by size, while
here an archive's checksum is checked before a single file of it is unpacked; and most sets lie
elsewhere. Where they lie is said by `sources`. It must know nothing of what the files contain.
"""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from models.errors import UserError, did_you_mean
from suites.datasets.digests import Progress, write_atomically
from suites.datasets.listings import describe, list_files
from suites.datasets.many import fetch_all
from suites.datasets.places import File, Listing, Part
from suites.datasets.sources import SOURCES
from suites.datasets.unpack import NoRoomError, is_archive, unpack
from suites.datasets.verified import fetch

Step = Callable[[str], None]
BUILT_IN = ("simulated",)


@dataclass(frozen=True)
class Fetched:
    """What `get` did for one part: where it stands, its checksum, whether it was there before.

    ``sha256`` is of the file as fetched; of a listing, over all its files' names and SHA-256.
    ``verified``: against a published checksum. Of what was there before it is not known.
    """

    target: Path
    sha256: str
    was_there: bool
    verified: bool = False


@dataclass(frozen=True)
class _Job:
    """How a part is fetched: whom to tell, and the wait before the second attempt."""

    progress: Progress | None
    step: Step
    pause: float


def get(
    name: str,
    data_dir: Path,
    progress: Progress | None = None,
    *,
    step: Step | None = None,
    pause: float = 1.0,
) -> list[Fetched]:
    """Fetch a data set into a data directory; what is already there is left alone.

    Interrupted anywhere, the same call continues: finished bytes stay in a ``.part`` file and are
    never fetched again. ``step(text)`` names what comes next, of which ``progress(done, total)``
    counts bytes. ``HF_ENDPOINT`` and ``TOKENRANK_MIRROR`` say where to ask instead. ``pause`` is
    the wait in seconds before the second attempt, doubled for each further one.

    Raises `UserError` for an unknown name, an unreachable server, wrong bytes, an unsafe archive,
    a full disk or an unwritable folder; nothing half-made is left in place.
    """
    if name in BUILT_IN:
        raise UserError(f'Data set "{name}" is built in; there is nothing to fetch.')
    if name not in SOURCES:
        raise UserError(f'Data set "{name}" cannot be fetched: {did_you_mean(name, SOURCES)}.')
    job = _Job(progress, step or (lambda _: None), pause)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{name}.lock", timeout=0):
            return [_get(part, data_dir, job) for part in SOURCES[name].parts]
    except Timeout:
        raise UserError(
            f"{name} is being fetched into {data_dir} by another process; wait for it, or stop it."
        ) from None
    except OSError as error:
        raise UserError(
            f"{name} cannot be written to {data_dir}: {error.strerror or error}; make room or "
            "choose another data directory, then run the same command again: it continues."
        ) from None


def _get(part: Part, data_dir: Path, job: _Job) -> Fetched:
    target = data_dir / part.target
    stamp = target.parent / f".{target.name}.sha256"
    if target.exists() and stamp.is_file():
        if isinstance(part.where, File):
            _unfinished(target, part.where).unlink(missing_ok=True)  # left by a kill just then
        return Fetched(target, stamp.read_text().strip(), was_there=True)
    if target.exists():
        raise UserError(
            f"{target} is already there but was not fetched by this command; move it away to "
            "fetch it anew, or use it as it is."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(part.where, File):
            return _get_file(part, part.where, target, stamp, job)
        return _get_listing(part.where, target, stamp, job)
    except urllib.error.URLError as error:
        place = urlsplit(part.where.url)
        raise UserError(
            f"{place.scheme}://{place.netloc} cannot be reached ({error.reason}); check the "
            "network, HF_ENDPOINT or TOKENRANK_MIRROR, then run the same command again: it "
            "continues where it stopped."
        ) from None


def _get_listing(where: Listing, target: Path, stamp: Path, job: _Job) -> Fetched:
    job.step(f"{target.name}: listing")
    contents = list_files(where, job.pause)
    job.step(f"{target.name} ({len(contents.files):,} files)")
    sha256 = fetch_all(contents, target, stamp, job.progress, job.pause)
    return Fetched(target, sha256, False, all(file.checksum for file in contents.files))


def _get_file(part: Part, where: File, target: Path, stamp: Path, job: _Job) -> Fetched:
    name = _last(where.path)
    job.step(name)
    said = describe(part, where, job.pause)
    unfinished = _unfinished(target, where)
    sha256 = fetch(said, unfinished, job.progress, job.pause, job.step)
    write_atomically(stamp, f"{sha256}\n".encode())  # counts only together with the target
    if is_archive(name):
        job.step(f"{name}: unpacking")
        try:
            unpack(unfinished, target, name=name, size=part.unpacked, progress=job.progress)
        except NoRoomError:
            raise
        except UserError:
            unfinished.unlink()  # so that the next call fetches it anew
            raise
        unfinished.unlink()
    else:
        unfinished.replace(target)
    return Fetched(target, sha256, False, bool(said.checksum))


def _unfinished(target: Path, where: File) -> Path:
    return target.parent / f".{_last(where.path)}.part"


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]
