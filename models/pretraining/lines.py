"""Records of a run as lines of JSON: one file, one kind, in the order of steps.

It must not know what is recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from models.replacing import replacing

Kind = TypeVar("Kind")


def read_lines(path: Path, kind: type[Kind]) -> list[Kind]:
    """All records of ``kind``, a data class; none where there is no file.

    A line that was being written when its process was killed ends them.
    """
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return found


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Replace the file by these records, in one step: others may be reading it."""
    with replacing(path, sync=True) as temporary:
        temporary.write_text("".join(map(_line, records)), encoding="utf-8")


def append_line(path: Path, record: Any) -> None:
    """Add one record, and see it on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))
        file.flush()
        os.fsync(file.fileno())


def _line(record: Any) -> str:
    return json.dumps(asdict(record)) + "\n"
