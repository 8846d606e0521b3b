"""A store by its place, as users give it: a folder, or an object store's address."""

from __future__ import annotations

from pathlib import Path

from harness.store import Store


def open_store(place: str | Path) -> Store:
    """The store of ``--store``: a folder, or what ``s3://bucket/folder`` and its like name."""
    text = str(place)
    if "://" not in text or text.startswith("file://"):
        return Store(Path(text.removeprefix("file://")))
    from harness.object_store import ObjectStore  # noqa: PLC0415

    return ObjectStore(text)
