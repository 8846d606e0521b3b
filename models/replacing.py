"""Files that appear whole or not at all: written beside their place, then renamed onto it.

It must not know what is written.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it on success and removed on failure.

    ``sync``: its content reaches the disk first, so that it outlives a power cut, and a full disk
    is told before the old content is gone (some file systems tell of one only then).
    """
    # Machines that share the folder may give one number to two processes.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
