"""Fetching from a local server that speaks the hub's protocol, and misbehaves on request."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models import fetching
from models.errors import UserError
from suites.datasets.download import get
from suites.datasets.sources import SOURCES

ROUTE = "/datasets/recursix/geo-bench-1.0/resolve/main/classification_v1.0/m-eurosat.zip"
TARGET = "geobench_v1/classification_v1.0/m-eurosat"


def make_zip(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = make_zip(
    {"m-eurosat/id_1.hdf5": os.urandom(3_000_000), "m-eurosat/default_partition.json": b"{}"}
)


class Hub(ThreadingHTTPServer):
    """Serves one archive: HEAD and GET redirect to the bytes, as the hub's storage does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = ARCHIVE
        self.served = ARCHIVE  # what is sent: differs from `content` when bytes go wrong
        self.cut_after: list[int] = []  # for each coming GET: hang up after so many bytes
        self.stall = False
        self.ignore_range = False
        self.ranges: list[str | None] = []
        self.sent = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._redirect() if self.path == ROUTE else self._missing()

    def do_GET(self) -> None:
        if self.path == "/storage":
            self._bytes()
        elif self.path == ROUTE:
            self._redirect()
        else:
            self._missing()

    def _missing(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _redirect(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/storage")
        self.send_header("X-Linked-Size", str(len(self.server.content)))
        digest = hashlib.sha256(self.server.content).hexdigest()
        self.send_header("X-Linked-Etag", f'"{digest}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _bytes(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = 0
        if asked and not self.server.ignore_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
        body = self.server.served[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.server.cut_after.pop(0) if self.server.cut_after else len(body)
        self.wfile.write(body[:cut])
        self.wfile.flush()
        self.server.sent += len(body[:cut])
        if self.server.stall:
            time.sleep(60)
        self.close_connection = cut < len(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


def whole(data_dir: Path) -> bool:
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as archive:
        return all(
            (data_dir / TARGET / Path(name).name).read_bytes() == archive.read(name)
            for name in archive.namelist()
        )


def leftovers(data_dir: Path) -> list[str]:
    return [p.name for p in data_dir.rglob("*") if p.name.endswith((".part", ".unpacking", ".tmp"))]


def test_fetches_verifies_and_unpacks(hub: Hub, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    (done,) = get(
        "m-eurosat",
        tmp_path,
        lambda a, b: seen[list(seen)[-1]].append((a, b)),
        step=lambda text: seen.update({text: []}),
    )
    assert whole(tmp_path)
    assert done.sha256 == hashlib.sha256(ARCHIVE).hexdigest()
    assert done.verified
    name = "m-eurosat.zip"
    assert list(seen) == [name, f"{name}: checking", f"{name}: unpacking"]
    assert seen[name][-1] == seen[f"{name}: checking"][-1] == (len(ARCHIVE), len(ARCHIVE))
    for step in seen.values():
        assert step[-1][0] == step[-1][1]
        assert sorted(step) == step
    assert leftovers(tmp_path) == []

    hub.served = b"never asked for again"
    (again,) = get("m-eurosat", tmp_path)
    assert again.was_there
    assert again.sha256 == done.sha256
    assert len(hub.ranges) == 1


def test_cut_connections_are_resumed_not_restarted(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [1_000_000, 500_000]
    get("m-eurosat", tmp_path, pause=0)
    assert whole(tmp_path)
    assert hub.ranges == [None, "bytes=1000000-", "bytes=1500000-"]
    assert hub.sent == len(ARCHIVE)


def test_server_without_ranges_still_gives_the_right_bytes(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [1_000_000]
    hub.ignore_range = True
    get("m-eurosat", tmp_path, pause=0)
    assert whole(tmp_path)


def test_killed_then_run_again_continues(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.stall = [2_000_000], True
    command = (
        "from pathlib import Path; from suites.datasets.download import get; "
        f"get('m-eurosat', Path({str(tmp_path)!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", command])
    part = tmp_path / Path(TARGET).parent / ".m-eurosat.zip.part"
    deadline = time.monotonic() + 40
    while not (part.exists() and part.stat().st_size >= 1_000_000):
        assert time.monotonic() < deadline, "the download never got under way"
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = part.stat().st_size
    assert not (tmp_path / TARGET).exists()

    hub.stall = False
    get("m-eurosat", tmp_path)
    assert whole(tmp_path)
    assert hub.ranges[-1] == f"bytes={kept}-"


def test_wrong_bytes_are_thrown_away(hub: Hub, tmp_path: Path) -> None:
    hub.served = ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1])
    with pytest.raises(UserError, match="wrong checksum"):
        get("m-eurosat", tmp_path)
    assert not (tmp_path / TARGET).exists()
    assert leftovers(tmp_path) == []
    hub.served = ARCHIVE
    get("m-eurosat", tmp_path)
    assert whole(tmp_path)


def test_known_checksum_outranks_the_servers(hub: Hub, tmp_path: Path) -> None:
    """A mirror that serves other bytes with a matching checksum header is still refused."""
    source = SOURCES["m-eurosat"]
    known = replace(source.parts[0], checksum="sha256:" + "0" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "m-eurosat", replace(source, parts=(known,)))
        with pytest.raises(UserError, match="wrong checksum"):
            get("m-eurosat", tmp_path)


def test_giving_up_says_how_to_go_on(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [10_000] * 5
    with pytest.raises(UserError, match=r"50,000 of .* it continues"):
        get("m-eurosat", tmp_path, pause=0)
    get("m-eurosat", tmp_path)
    assert whole(tmp_path)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "m-eurosat/../../x.txt"])
def test_archive_that_leads_outside_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.content = hub.served = make_zip({"m-eurosat/fine.txt": b"1", name: b"2"})
    with pytest.raises(UserError, match="leads outside its folder"):
        get("m-eurosat", tmp_path / "data")
    assert not (tmp_path / "data" / TARGET).exists()
    assert not list(tmp_path.rglob("outside.txt"))


def test_damaged_archive_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.content = hub.served = b"not a zip at all"
    with pytest.raises(UserError, match="not a readable archive"):
        get("m-eurosat", tmp_path)
    assert not (tmp_path / TARGET).exists()


def test_flat_archive_lands_in_the_same_place(hub: Hub, tmp_path: Path) -> None:
    hub.content = hub.served = make_zip({"id_1.hdf5": b"x", "default_partition.json": b"{}"})
    get("m-eurosat", tmp_path)
    assert (tmp_path / TARGET / "id_1.hdf5").read_bytes() == b"x"


def test_missing_file_and_unreachable_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="404"):
        get("eurosat", tmp_path)
    with pytest.raises(UserError, match='did you mean "m-eurosat"'):
        get("m-eurosatt", tmp_path)
    with pytest.raises(UserError, match="built in"):
        get("simulated", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        get("m-eurosat", tmp_path, pause=0)


def test_full_disk_and_unwritable_folder(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        get("m-eurosat", in_the_way / "data")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "_copy", full)
    with pytest.raises(UserError, match=r"No space left on device; make room"):
        get("m-eurosat", tmp_path / "data")
