"""What was once found out about a class, kept by content so that it need not be imported again.

Plans and tables of a finished suite are made from these notes, without a tensor library. A
note's key is a hash of the class's code, options and versions; the folder may be deleted at
any time. It must not know what the notes say.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.cache import cache_folder
from models.replacing import replacing


def notes_folder() -> Path:
    """Where notes of users' own classes are kept."""
    return cache_folder() / "own-models"


def noted(what: dict[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The note under ``what`` (plain data), made by ``find`` when there is none."""
    versions = {name: version(name) for name in ("torch", "fvcore")}
    text = json.dumps({**what, "versions": versions, "by": _own_code()}, sort_keys=True)
    path = notes_folder() / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known
    except (OSError, ValueError):
        found = find()
    with contextlib.suppress(OSError):  # a note only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(found), encoding="utf-8")
    return found


@lru_cache(maxsize=1)
def _own_code() -> str:
    """Version of the code that makes notes: its files' contents."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
