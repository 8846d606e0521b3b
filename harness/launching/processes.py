"""A node of a launch as a child process, and its end with all that it started.

It must not know what is launched.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

STOPPED_WITHIN = 30.0  # seconds; more than the node takes for its own processes


class NodeProcess:
    """A node's process (`harness.launching.node`, watched), in a session of its own."""

    def __init__(
        self, command: Sequence[str], log: Path, cwd: Path, settings: Mapping[str, str]
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
                cwd=cwd, env={**os.environ, **settings}, start_new_session=True,
            )  # fmt: skip

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Close its input, upon which it ends as if a person had interrupted it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self, seconds: float = STOPPED_WITHIN) -> None:
        """Ask it to end, wait so long, and kill it; its own processes end with it."""
        self.ask_to_end()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
