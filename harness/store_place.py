"""A store by its place, as users give it: a folder, or an object store's address."""

from __future__ import annotations

import re
from pathlib import Path

from harness.store import Store
from models.errors import UserError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # not C: of Windows
_WHOLE_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/\s]+(/.*)?")
_PASSWORD = re.compile(r"://[^/]*:[^/]*@")


def open_store(place: str | Path) -> Store:
    """The store of ``--store``: a folder, or what ``s3://bucket/folder`` and its like name.

    Raises `UserError` for what is neither.
    """
    text = str(place)
    if text.startswith("file:///"):
        return Store(Path(text.removeprefix("file://")))
    if isinstance(place, Path) or (text and not _ADDRESS.match(text)):
        return Store(Path(text))
    if not _WHOLE_ADDRESS.fullmatch(text) or text.startswith("file:"):
        raise UserError(
            f'The store "{text}" is neither a folder nor an object store\'s address; give a '
            "folder, or s3://BUCKET/FOLDER."
        )
    if _PASSWORD.search(text):
        raise UserError(
            "The store's address holds a password, which would be shown and kept; give it as the "
            "service's own setting (for S3 AWS_SECRET_ACCESS_KEY)."
        )
    from harness.object_store import ObjectStore  # noqa: PLC0415

    return ObjectStore(text)
