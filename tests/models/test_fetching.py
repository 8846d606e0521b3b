"""Downloads through servers that are busy, change their mind, or send something else."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from models.fetching import digests_of, download
from models.servers import head, mirrored, read_json

OLD, NEW = b"old." * 500_000, b"new!" * 500_000
SIZE = len(NEW)


class Scripted(ThreadingHTTPServer):
    """Gives the answers that a test has laid out, in order: status, headers, body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        status, headers, body = self.server.answers.popleft()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):  # the client may have seen enough
                self.wfile.write(body)
                self.wfile.flush()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Scripted()
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def test_a_busy_server_is_asked_again_with_growing_pauses(
    server: Scripted, slept: list[float], tmp_path: Path
) -> None:
    busy: Any = [(503, {}, b""), (429, {"Retry-After": "7"}, b""), (500, {}, b"")]
    server.answers.extend([*busy, (200, {}, NEW)])
    download(server.url, tmp_path / "part", SIZE)
    assert (tmp_path / "part").read_bytes() == NEW
    assert slept == [1, 7, 4]

    slept.clear()
    server.answers.extend([*busy, (200, {"Content-Length": "5"}, b"")])
    assert head(server.url).size == 5
    assert slept == [1, 7, 4]

    server.answers.extend([(503, {}, b"")] * 5)
    with pytest.raises(UserError, match="stopped after 0 of 9 bytes, 5 times"):
        download(server.url, tmp_path / "never", 9)
    server.answers.extend([(503, {}, b"")] * 5)
    with pytest.raises(UserError, match="answered 503 Service Unavailable"):
        read_json(server.url)


def test_a_long_file_may_break_off_often_as_long_as_it_grows(
    server: Scripted, slept: list[float], tmp_path: Path
) -> None:
    content = bytes(1 << 20) * 8
    server.answers.append((200, {}, content[: 1 << 20]))
    server.answers.extend((206, {}, content[: 1 << 20]) for _ in range(7))
    download(server.url, tmp_path / "part", len(content))
    assert (tmp_path / "part").read_bytes() == content


def test_a_file_that_changed_meanwhile_is_not_joined_to_the_old(
    server: Scripted, slept: list[float], tmp_path: Path
) -> None:
    part = tmp_path / "part"
    server.answers.append((200, {"ETag": '"v1"', "Content-Length": str(SIZE)}, OLD[:1_500_000]))
    server.answers.append((200, {"ETag": '"v2"'}, NEW))
    download(server.url, part, SIZE)
    assert server.asked[1]["Range"] == "bytes=1500000-"
    assert server.asked[1]["If-Range"] == '"v1"'
    assert part.read_bytes() == NEW
    assert [p.name for p in tmp_path.iterdir()] == ["part"]


@pytest.mark.parametrize(
    ("status", "headers"), [(416, {}), (206, {"Content-Range": f"bytes 0-9/{SIZE}"})]
)
def test_what_does_not_fit_what_is_there_is_begun_anew(
    server: Scripted, slept: list[float], tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    part = tmp_path / "part"
    part.write_bytes(OLD[:100])
    server.answers.extend([(status, headers, b"x" * 10), (200, {}, NEW)])
    download(server.url, part, SIZE)
    assert part.read_bytes() == NEW


def test_a_page_in_the_place_of_the_rest_leaves_what_is_there(
    server: Scripted, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    part.write_bytes(NEW[:100])
    server.answers.append((200, {"Content-Type": "text/html; charset=utf-8"}, b"<p>Log in"))
    with pytest.raises(UserError, match="sent a web page"):
        download(server.url, part, SIZE)
    assert part.read_bytes() == NEW[:100]


def test_more_than_was_announced_is_not_written_without_end(
    server: Scripted, tmp_path: Path
) -> None:
    server.answers.append((200, {}, NEW * 3))
    with pytest.raises(UserError, match="more than the 100 bytes"):
        download(server.url, tmp_path / "part", 100)


def test_a_disk_without_room_is_said_before_anything_is_asked(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"1,000 bytes left, but 2,000,000 more are needed"):
        download(server.url, tmp_path / "part", SIZE)
    assert server.asked == []


def test_redirects_are_followed_until_one_tells_the_size(server: Scripted) -> None:
    server.answers.append((307, {"Location": "/renamed"}, b""))
    linked = {
        "Location": "http://127.0.0.1:9/away",
        "X-Linked-Size": "12",
        "X-Linked-Etag": "a" * 64,
    }
    server.answers.append((302, linked, b""))
    found = head(server.url)
    assert (found.size, found.sha256) == (12, "a" * 64)
    server.answers.extend([(302, {"Location": "/file.bin"}, b"")] * 10)
    with pytest.raises(UserError, match="in a circle"):
        head(server.url)


def test_a_mirror_is_asked_by_host_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://zenodo.org/records/1/files/a.zip?download=1"
    monkeypatch.delenv("TOKENRANK_MIRROR", raising=False)
    assert mirrored(address) == address
    monkeypatch.setenv("TOKENRANK_MIRROR", "http://localhost:8080/data/")
    assert mirrored(address) == (
        "http://localhost:8080/data/zenodo.org/records/1/files/a.zip?download=1"
    )


def test_checksums_are_those_that_others_compute(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    assert digests_of(tmp_path / "file", ["git", "md5", "sha256"]) == {  # git hash-object, md5sum
        "git": "ce013625030ba8dba906f756967f9e9ca394464a",
        "md5": "b1946ac92492d2347c6235b4d2611184",
        "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    }
