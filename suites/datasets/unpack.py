"""Unpacking a fetched archive: nothing outside its folder, nothing half-made in place.

An archive (zip, tar, compressed tar) is unpacked file by file into a temporary folder beside the
target; what of it is the target is renamed when all is whole. Folders around the one that has the
target's name are dropped, because archives disagree on how deep they start. It must know nothing
of where archives come from.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from models.errors import UserError

Progress = Callable[[int, int], None]
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, NotImplementedError,
    RuntimeError,  # zipfile's, for one that wants a password
)  # fmt: skip


class NoRoomError(UserError):
    """The archive may be sound, but the disk cannot hold what is in it."""


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked after its download."""
    return name.endswith(ARCHIVES)


def unpack(
    archive: Path,
    target: Path,
    *,
    name: str = "",
    size: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Unpack an archive so that ``target`` holds its content (or that of its folder of that name).

    With ``size``, the target is one file: the one of its name in the archive, of so many bytes.
    ``name`` is the archive's own, where the file at ``archive`` is called otherwise.

    Raises `UserError` for a damaged archive, one with names that lead outside, links or devices,
    one that needs more room than the disk has; lets `OSError` (a full disk) pass. ``target``
    appears whole or not.
    """
    temporary = target.parent / f".{target.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run
    temporary.mkdir()
    called = name or archive.name
    try:
        with _said(archive):
            reader = _zip if called.endswith(".zip") else _tar
            paths = reader(archive, called, temporary, progress)
        is_file = size is not None
        found = temporary / (
            _one(paths, target.name, called) if is_file else _root(paths, target.name)
        )
        if is_file and found.stat().st_size != size:
            raise UserError(
                f"{target.name} in {called} has {found.stat().st_size:,} bytes, but the published "
                f"one has {size:,}; nothing of it was kept."
            )
        found.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _said(archive: Path) -> Iterator[None]:
    """What the libraries raise for a damaged archive, in one sentence."""
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(f"{archive} is not a readable archive ({error}).") from None
    except OSError as error:
        # gzip's "not a gzipped file" carries no number; names that are file and folder at once do.
        clash = FileExistsError | NotADirectoryError | IsADirectoryError
        if error.errno is None or isinstance(error, clash):
            raise UserError(f"{archive} is not a readable archive ({error}).") from None
        raise


def _zip(
    archive: Path, _called: str, folder: Path, progress: Progress | None
) -> list[PurePosixPath]:
    with zipfile.ZipFile(archive) as zipped:
        members = [info for info in zipped.infolist() if not info.is_dir()]
        total = sum(info.file_size for info in members)
        _require_room(archive, folder, total)
        paths, done = [], 0
        for info in members:
            paths.append(safe_path(info.filename, archive))
        for info, path in zip(members, paths, strict=True):
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(info.filename, archive)
            with zipped.open(info) as source:
                _write(source, folder / path)
            done += info.file_size
            if progress is not None:
                progress(done, total)
    return paths


def _tar(
    archive: Path, called: str, folder: Path, progress: Progress | None
) -> list[PurePosixPath]:
    paths, done = [], 0
    length = archive.stat().st_size
    with (
        archive.open("rb") as stream,
        # Not tarfile's own decompression: it compares no checksum of the content.
        _decompressed(stream, called) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tarred,
    ):
        for member in tarred:
            if member.isdir():
                continue
            path = safe_path(member.name, archive)
            if not member.isfile() or member.issparse():
                raise _unsafe(member.name, archive)
            done += member.size
            _require_room(archive, folder, member.size, done)
            source = tarred.extractfile(member)
            assert source is not None  # it is a regular file
            with source:
                _write(source, folder / path)
            paths.append(path)
            if progress is not None:
                progress(min(stream.tell(), length), length)
        while plain.read(_CHUNK):  # what follows the last file, up to the checksum
            pass
    return paths


def _decompressed(stream: IO[bytes], called: str) -> IO[bytes]:
    if called.endswith((".tar.gz", ".tgz")):
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if called.endswith(".tar.bz2"):
        return bz2.BZ2File(stream)
    return lzma.LZMAFile(stream) if called.endswith(".tar.xz") else stream


def _write(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK)


def _require_room(archive: Path, folder: Path, wanted: int, whole: int | None = None) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        needed = f"at least {whole:,}" if whole is not None else f"{wanted:,}"
        raise NoRoomError(
            f"{archive} unpacks to {needed} bytes, but {folder.parent} has {free:,} left; make "
            "room or choose another data directory, then run the same command again: it continues."
        )


def safe_path(name: str, source: object) -> PurePosixPath:
    """A name as a path below a folder; `UserError` when it leads outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    bad = path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]
    if bad or "\0" in name:
        raise _unsafe(name, source)
    return path


def _unsafe(name: str, source: object) -> UserError:
    return UserError(
        f'{source} holds "{name}", which leads outside its folder (or is no plain file); it is not '
        "what was published and nothing of it was unpacked."
    )


def _root(paths: list[PurePosixPath], name: str) -> PurePosixPath:
    """The folder inside the archive that becomes the target: the common one of its name."""
    shared = paths[0].parent.parts if paths else ()
    for path in paths:
        same = [a == b for a, b in zip(shared, path.parent.parts, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return PurePosixPath(*shared[: shared.index(name) + 1]) if name in shared else PurePosixPath()


def _one(paths: list[PurePosixPath], name: str, archive: str) -> PurePosixPath:
    named = [path for path in paths if path.name == name]
    if len(named) != 1:
        raise UserError(
            f"{archive} holds {len(named)} files named {name}, expected one; try again."
        )
    return named[0]
