"""Specifications to SVG and PNG, by vl-convert: no browser, no network, the same bytes each time.

Many are shared out between this process and a second one, for vl-convert renders one at a time
and holds Python's lock meanwhile. Run as a program, this module is that second process: jobs
come in as JSON, drawings go out as JSON. It must know nothing of what is drawn, nor of us.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert

_MOST_PIXELS = 4e6
_FEW = 4  # fewer jobs than this are done sooner than a second process starts


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


def draw_all(jobs: Sequence[Job]) -> list[Drawing]:
    """Render many, in the order given; half of the work in a second process where that helps."""
    texts = [json.dumps([job.spec, job.version, job.png]) for job in jobs]
    helper = _helper() if len(jobs) >= _FEW and _cores() > 1 else None
    if helper is None:
        return [draw(job) for job in jobs]
    theirs = _half(texts)
    sent = _send(helper, [texts[i] for i in theirs])
    drawn = {i: draw(job) for i, job in enumerate(jobs) if i not in theirs}
    received = _receive(helper) if sent else []
    if len(received) == len(theirs):
        drawn |= dict(zip(theirs, received, strict=True))
    # A helper that could not run (no memory, no processes) leaves its share to us.
    return [drawn[i] if i in drawn else draw(job) for i, job in enumerate(jobs)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _half(texts: Sequence[str]) -> list[int]:
    """Places of about half the work, which grows with the length of a specification."""
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    ours, theirs, chosen = 0, 0, []
    for i in order:
        if theirs < ours:
            chosen.append(i)
            theirs += len(texts[i])
        else:
            ours += len(texts[i])
    return sorted(chosen)


def _helper() -> subprocess.Popen[bytes] | None:
    # -P: this file's folder is not for importing from; it has an io.py.
    command = [sys.executable, "-P", __file__]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None


def _send(helper: subprocess.Popen[bytes], texts: Sequence[str]) -> bool:
    assert helper.stdin is not None
    try:
        helper.stdin.write(f"[{','.join(texts)}]".encode())
        helper.stdin.close()
    except OSError:
        helper.kill()
        helper.wait()
        return False
    return True


def _receive(helper: subprocess.Popen[bytes]) -> list[Drawing]:
    assert helper.stdout is not None
    raw = helper.stdout.read()
    if helper.wait() != 0:
        return []
    return [Drawing(svg, base64.b64decode(png)) for svg, png in json.loads(raw)]


def _main() -> None:
    jobs = [Job(*found) for found in json.loads(sys.stdin.buffer.read())]
    drawn = [draw(job) for job in jobs]
    out = json.dumps([[d.svg, base64.b64encode(d.png).decode()] for d in drawn])
    sys.stdout.buffer.write(out.encode())


if __name__ == "__main__":
    _main()
