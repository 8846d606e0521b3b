"""Specifications to SVG and PNG, by vl-convert: no browser, no network, the same bytes each time.

vl-convert renders one at a time and holds Python's lock meanwhile, so a second process helps.
Run as a program, this module is that process: a job comes in as a line of JSON, its drawing
goes out as one. It must know nothing of what is drawn, and imports nothing of ours.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

import vl_convert

_MOST_PIXELS = 4e6


@dataclass(frozen=True)
class Job:
    """One Vega-Lite specification, the Vega-Lite version to read it by, and what is wanted."""

    spec: dict[str, Any]
    version: str
    png: bool = False


@dataclass(frozen=True)
class Drawing:
    """A rendered specification; ``png`` is empty where none was asked for."""

    svg: str
    png: bytes


def draw(job: Job) -> Drawing:
    """Render one specification here and now."""
    svg = to_svg(job.spec, job.version)
    return Drawing(svg, to_png(svg) if job.png else b"")


def to_svg(spec: dict[str, Any], version: str) -> str:
    """Render a specification; text stays text."""
    return str(vl_convert.vegalite_to_svg(spec, vl_version=version))


def to_png(svg: str) -> bytes:
    """A rendered figure at twice its size, for print and dense screens; a huge one as it is."""
    found = re.search(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"', svg)
    pixels = float(found[1]) * float(found[2]) if found else 0.0
    return bytes(vl_convert.svg_to_png(svg, scale=2 if pixels * 4 <= _MOST_PIXELS else 1))


class Studio:
    """Renders while its user still thinks: a second process takes job after job from the start.

    `finish` lets this process take jobs as well until all are done. Who draws what does not
    change a byte. Without a second core (OMP_NUM_THREADS may say that there is one for us), or
    where the second process cannot run (no memory, no processes), everything is drawn in `finish`.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._all: list[Job] = []
        self._drawn: dict[int, Drawing] = {}
        self._second = _second_process() if _cores() > 1 else None
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        if self._second is not None:
            self._feeder.start()

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, job: Job) -> int:
        """Take a job; its place in what `finish` returns."""
        self._all.append(job)
        self._jobs.put(len(self._all) - 1)
        return len(self._all) - 1

    def finish(self) -> list[Drawing]:
        """All drawings, in the order of submission."""
        while (place := self._next()) is not None:
            self._drawn[place] = draw(self._all[place])
        self.close()
        # What the second process left undone when it failed.
        return [self._drawn.get(i) or draw(job) for i, job in enumerate(self._all)]

    def close(self) -> None:
        """Let the second process end, after the job in its hands."""
        while self._next() is not None:
            pass
        self._jobs.put(_STOP)
        if self._second is not None:
            self._feeder.join()
            self._second.kill()
            self._second.wait()
            self._second = None

    def _next(self) -> int | None:
        try:
            place = self._jobs.get_nowait()
        except queue.Empty:
            return None
        return place if place != _STOP else None

    def _feed(self) -> None:
        """Hand over one job at a time; stop at the end, or when the second process fails."""
        second = self._second
        assert second is not None
        assert second.stdin is not None
        assert second.stdout is not None
        while (place := self._jobs.get()) != _STOP:
            job = self._all[place]
            try:
                second.stdin.write(json.dumps([job.spec, job.version, job.png]).encode() + b"\n")
                second.stdin.flush()
                svg, png = json.loads(second.stdout.readline())
            except (OSError, ValueError):
                return
            self._drawn[place] = Drawing(svg, base64.b64decode(png))


_STOP = -1


def _cores() -> int:
    """Processor cores for this process; the variable by which numerical libraries are told, too."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    most = int(given) if given.isdecimal() and int(given) else None
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), most or sys.maxsize)
    return most or os.cpu_count() or 1


def _second_process() -> subprocess.Popen[bytes] | None:
    # -P: this file's folder is not for importing from; it has an io.py.
    command = [sys.executable, "-P", __file__]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None


def _main() -> None:
    for line in sys.stdin.buffer:
        drawn = draw(Job(*json.loads(line)))
        reply = [drawn.svg, base64.b64encode(drawn.png).decode()]
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
