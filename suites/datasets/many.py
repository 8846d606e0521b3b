"""A folder of many small published files, fetched a few at a time and placed when it is whole.

Files that are complete and checked wait in a hidden folder beside the target, so that a call that
was broken off goes on where it stopped. It must know nothing of what the files contain.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from models.fetching import Progress, digests_of, require_room
from suites.datasets.digests import fingerprint, write_atomically
from suites.datasets.listings import Contents, Listed
from suites.datasets.verified import fetch

AT_ONCE = 8


def fetch_all(
    contents: Contents, target: Path, stamp: Path, progress: Progress | None, pause: float
) -> str:
    """Fetch what a listing holds into ``target``; returns a SHA-256 over names and SHA-256s.

    Raises `UserError` for wrong bytes or a full disk, ``URLError`` when nobody answers; the others
    under way are finished first. ``target`` appears whole or not.
    """
    folder = target.parent / f".{target.name}.fetching"
    places = {folder / file.name: file for file in contents.files}
    wanted = {path: file for path, file in places.items() if not _is_there(path, file)}
    total = sum(file.size for file in contents.files)
    done = total - sum(file.size for file in wanted.values())
    folder.mkdir(parents=True, exist_ok=True)
    require_room(folder, total - done)
    with _pool() as pool:
        running = {pool.submit(_fetch, path, file, pause): file for path, file in wanted.items()}
        for future in as_completed(running):
            future.result()
            done += running[future].size
            if progress is not None:
                progress(done, total)
    for name, content in contents.write.items():
        write_atomically(folder / name, content)
    expected = {*places, *(folder / name for name in contents.write)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in expected:
            path.unlink()  # of an older listing
    sha256 = fingerprint(
        f"{path.relative_to(folder).as_posix()} {digests_of(path, ['sha256'])['sha256']}"
        for path in sorted(expected)
    )
    write_atomically(stamp, f"{sha256}\n".encode())  # counts only together with the target
    folder.replace(target)
    return sha256


def _is_there(path: Path, file: Listed) -> bool:
    """Whether an earlier call fetched it; it got its name only when its checksum was right."""
    return path.is_file() and path.stat().st_size == file.size


def _fetch(path: Path, file: Listed, pause: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    fetch(file, part, None, pause)
    part.replace(path)


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads; after an error or Ctrl-C what has not begun is not begun."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
