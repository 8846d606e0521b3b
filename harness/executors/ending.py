"""A driver that is told to end (SIGTERM) ends its workers on its way out; else they would go on.

It must not know what a driver drives.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATED = 128 + signal.SIGTERM  # the exit code


@contextmanager
def told_to_end() -> Iterator[None]:
    """SIGTERM as an exception, as Ctrl-C is one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_: int, __: object) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
