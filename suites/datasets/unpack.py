"""Unpacking a fetched archive: nothing outside its folder, nothing half-made in place.

An archive is unpacked into a temporary folder beside the target, which is renamed when
it is whole. Folders around the one that has the target's name are dropped, because archives
disagree on how deep they start. It must know nothing of where archives come from.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from models.errors import UserError


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip so that ``target`` holds its content (or that of its folder of that name).

    Raises `UserError` for a damaged archive or one with names that lead outside, links
    or absolute paths; lets `OSError` (a full disk) pass. ``target`` appears whole or not.
    """
    temporary = target.parent / f".{target.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [info for info in zipped.infolist() if not info.is_dir()]
            for info in members:
                _refuse_unsafe(info, archive)
            root = _root([PurePosixPath(info.filename) for info in members], target.name)
            for info in members:
                path = temporary / PurePosixPath(info.filename).relative_to(root)
                path.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(info) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
        temporary.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"{archive} is not a readable zip archive ({error}).") from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _refuse_unsafe(info: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(info.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise UserError(
            f'{archive} holds "{info.filename}", which leads outside its folder; it is not the '
            "published archive and nothing of it was unpacked."
        )


def _root(paths: list[PurePosixPath], name: str) -> PurePosixPath:
    """The folder inside the archive that becomes the target: the common one of its name."""
    shared = paths[0].parent.parts if paths else ()
    for path in paths:
        same = [a == b for a, b in zip(shared, path.parent.parts, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return PurePosixPath(*shared[: shared.index(name) + 1]) if name in shared else PurePosixPath()
