"""Who is computing what: notes in the store, so that nobody computes it a second time.

A claim is a small file that only one can create. Its owner changes it every few seconds, and one
that has stayed the same for `STALE_AFTER` seconds of the *watcher's own* clock is nobody's any
more: no two machines' clocks are ever compared. Claims save work; being right never depends on
them, because results are written whole and equal keys mean equal bytes. It must not know what is
claimed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness.shared_files import SharedFiles

Found = TypeVar("Found")
STALE_AFTER = 60.0  # seconds
BEAT_EVERY = 5.0
POLL_EVERY = 0.2


@dataclass(frozen=True)
class _Seen:
    """Somebody's claim: since when it is as it is, and when it was last looked at."""

    content: bytes
    since: float
    looked: float


class Claims:
    """The claims of this process, kept alive by a thread of its own while there are any."""

    def __init__(
        self,
        files: SharedFiles,
        stale_after: float = STALE_AFTER,
        beat_every: float = BEAT_EVERY,
        poll_every: float = POLL_EVERY,
    ) -> None:
        self._files = files
        self._stale_after, self._beat_every = stale_after, beat_every
        self._poll_every = poll_every
        self._owner = {"owner": uuid.uuid4().hex, **this_process()}
        self._held: dict[str, int] = {}  # by name, how often it was changed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._seen: dict[str, _Seen] = {}  # others' claims

    def take(self, name: str) -> bool:
        """Claim it if nobody has; a stale claim is broken on the way. Never waits."""
        with self._lock:
            if name in self._held:
                return False  # of another thread of ours
            self._held[name] = 0
        try:
            taken = self._create(name) or (self._break_if_stale(name) and self._create(name))
        except BaseException:
            self._drop(name)
            raise
        if not taken:
            self._drop(name)
            return False
        with self._lock:
            self._seen.pop(name, None)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True, name="claims")
                self._thread.start()
        return True

    def release(self, name: str) -> None:
        """Give it back; a claim that somebody else broke meanwhile is theirs and stays."""
        self._drop(name)
        self._remove_ours(name)

    def _create(self, name: str) -> bool:
        return self._files.create(_file(name), self._note(0))

    def _drop(self, name: str) -> None:
        with self._lock:
            self._held.pop(name, None)

    def _remove_ours(self, name: str) -> None:
        if self._is_ours(self._files.read(_file(name))):
            self._files.remove(_file(name))

    @contextmanager
    def first(self, name: str, known: Callable[[], Found | None]) -> Iterator[Found | None]:
        """What ``known`` finds, waiting while somebody else computes it; None: it is ours to do.

        The claim is held while the block lasts.
        """
        while True:
            found = known()
            if found is not None:
                yield found
                return
            if self.take(name):
                break
            time.sleep(self._poll_every)
        try:
            yield known()  # it may have been finished between the look and the claim
        finally:
            self.release(name)

    def _break_if_stale(self, name: str) -> bool:
        """Whether nobody's claim is in the way any more."""
        content = self._files.read(_file(name))
        if content is None:
            return True
        now, seen = time.monotonic(), self._seen.get(name)
        # Time in which nobody looked does not count: the owner may have beaten meanwhile, or could
        # not, as the store was away.
        looked = seen is not None and now - seen.looked < self._stale_after / 4
        if seen is None or content != seen.content or not looked:
            self._seen[name] = _Seen(content, now, now)
            if not is_dead_here(content):
                return False
        elif now - seen.since < self._stale_after:
            self._seen[name] = replace(seen, looked=now)
            return False
        # Two watchers may do so at once, or one too late: work is done twice then, no more.
        if self._files.read(_file(name)) == content:
            self._files.remove(_file(name))
        self._seen.pop(name, None)
        return True

    def _beat(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._beat_every):
            with self._lock:
                if not self._held:
                    self._thread = None  # `take` starts another
                    return
                for name in self._held:
                    self._held[name] += 1
                held = dict(self._held)
            for name, count in held.items():
                # A full disk, a server away: the next beat. The thread must outlive whatever it is.
                with contextlib.suppress(Exception):
                    self._beat_once(name, count)

    def _beat_once(self, name: str, count: int) -> None:
        if not self._is_ours(self._files.read(_file(name))):
            return
        self._files.replace(_file(name), self._note(count))
        with self._lock:
            released = name not in self._held
        if released:  # meanwhile: in an object store it was made again
            self._remove_ours(name)

    def _note(self, count: int) -> bytes:
        return json.dumps({**self._owner, "count": count}).encode()

    def _is_ours(self, content: bytes | None) -> bool:
        return content is not None and _read(content).get("owner") == self._owner["owner"]


def _file(name: str) -> str:
    return f"claims/{name}"


def _read(content: bytes) -> dict[str, object]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def this_process() -> dict[str, object]:
    """What tells this process from every other, as far as another process here can check it."""
    return {"host": _here(), "pid": os.getpid(), "started": _start_of(os.getpid())}


def _here() -> str:
    """This boot of this machine, and its view of process numbers: containers have their own."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115  (not a path)
    return " ".join(parts)


def _start_of(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: a number may be given to another one later."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def is_dead_here(content: bytes) -> bool:
    """Whether the owner was a process of this machine that is no more: no need to wait for it."""
    note = _read(content)
    if note.get("host") != _here() or not Path("/proc/self/stat").exists():
        return False
    pid = note.get("pid")
    return isinstance(pid, int) and _start_of(pid) != note.get("started")
