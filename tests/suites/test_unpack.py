"""Archives: whole or not at all, below their folder, and within the room that there is."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import UserError
from suites.datasets.unpack import is_archive, unpack

Member = tuple[str, bytes, bytes]  # name, type, content
FINE: Member = ("set/fine.txt", tarfile.REGTYPE, b"1")


def tar(path: Path, members: list[Member], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(member, io.BytesIO(content))
    return path


def nothing_but(folder: Path, *names: str) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_folders_around_the_one_of_its_name_are_dropped(tmp_path: Path, suffix: str) -> None:
    files = {"a/b/set/one.txt": b"1" * 3_000_000, "a/b/set/deep/two.txt": b"2"}
    archive = tmp_path / f"set{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
    else:
        mode = {".tar": "w", ".tar.xz": "w:xz"}.get(suffix, "w:gz")
        folders: list[Member] = [("a/b/set", tarfile.DIRTYPE, b"")]
        tar(archive, [*folders, *((n, tarfile.REGTYPE, c) for n, c in files.items())], mode)
    assert is_archive(archive.name)
    seen: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "set", progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "set/one.txt").read_bytes() == files["a/b/set/one.txt"]
    assert (tmp_path / "set/deep/two.txt").read_bytes() == b"2"
    nothing_but(tmp_path, archive.name, "set")
    assert sorted(seen) == seen
    assert all(done <= total for done, total in seen)


@pytest.mark.parametrize(
    "bad",
    [
        ("../outside", tarfile.REGTYPE, b"2"),
        ("/outside", tarfile.REGTYPE, b"2"),
        ("set/../../outside", tarfile.REGTYPE, b"2"),
        ("..\\outside", tarfile.REGTYPE, b"2"),
        ("set/link", tarfile.SYMTYPE, b""),
        ("set/hard", tarfile.LNKTYPE, b""),
        ("set/device", tarfile.CHRTYPE, b""),
        ("set/pipe", tarfile.FIFOTYPE, b""),
    ],
    ids=lambda member: str(member[0]),
)
def test_a_tar_that_leads_outside_leaves_nothing(tmp_path: Path, bad: Member) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    archive = tar(folder / "set.tar.gz", [FINE, bad])
    with pytest.raises(UserError, match="leads outside its folder"):
        unpack(archive, folder / "set")
    nothing_but(folder, "set.tar.gz")
    nothing_but(tmp_path, "data")


def test_a_zip_with_a_link_leaves_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        link = zipfile.ZipInfo("set/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="leads outside its folder"):
        unpack(tmp_path / "set.zip", tmp_path / "set")
    nothing_but(tmp_path, "set.zip")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_is_refused_by_the_room_there_is(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / f"set{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("set/zeros", bytes(5_000_000))
    else:
        tar(archive, [FINE, ("set/zeros", tarfile.REGTYPE, bytes(5_000_000))])
    assert archive.stat().st_size < 10_000
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4_000_000))
    with pytest.raises(UserError, match=r"unpacks to (at least )?5,000,00\d bytes.*make room"):
        unpack(archive, tmp_path / "set")
    nothing_but(tmp_path, archive.name)


def _cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-30])


def _spoil(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(bytes(content))


def _page(archive: Path) -> None:
    archive.write_bytes(b"<p>not an archive</p>" * 100)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("damage", [_cut, _spoil, _page])
def test_a_damaged_archive_is_one_sentence(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    archive = tmp_path / f"set{suffix}"
    content = bytes(range(256)) * 1000
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("set/file", content)
    else:
        tar(archive, [("set/file", tarfile.REGTYPE, content)])
    damage(archive)
    with pytest.raises(UserError, match="is not a readable archive") as error:
        unpack(archive, tmp_path / "set")
    assert "\n" not in str(error.value)
    nothing_but(tmp_path, archive.name)


def test_a_name_that_is_file_and_folder_at_once_is_damage(tmp_path: Path) -> None:
    both: list[Member] = [FINE, ("set/fine.txt/inner", tarfile.REGTYPE, b"2")]
    archive = tar(tmp_path / "set.tar.gz", both)
    with pytest.raises(UserError, match="is not a readable archive"):
        unpack(archive, tmp_path / "set")
    nothing_but(tmp_path, "set.tar.gz")


def test_one_file_of_an_archive_must_be_there_once_and_of_its_size(tmp_path: Path) -> None:
    archive = tar(tmp_path / ".part", [("x/y/set.h5", tarfile.REGTYPE, b"123")], "w:gz")
    unpack(archive, tmp_path / "set.h5", name="set.h5.tar.gz", size=3)
    assert (tmp_path / "set.h5").read_bytes() == b"123"
    (tmp_path / "set.h5").unlink()
    with pytest.raises(UserError, match=r"set\.h5 in set\.h5\.tar\.gz has 3 bytes.*has 4"):
        unpack(archive, tmp_path / "set.h5", name="set.h5.tar.gz", size=4)
    with pytest.raises(UserError, match=r"holds 0 files named other\.h5"):
        unpack(archive, tmp_path / "other.h5", name="set.h5.tar.gz", size=3)
    nothing_but(tmp_path, ".part")
