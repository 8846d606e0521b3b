"""GEO-Bench's published partitions: JSON files that list the sample ids of each split.

Checked strictly, because an overlap or a path in one of them would spoil every number
measured on it. Must know nothing of samples or of what they hold.
"""

from __future__ import annotations

import json
from pathlib import Path

from models.errors import UserError, did_you_mean

_SPLIT_NAMES = {"train": "train", "valid": "val", "test": "test"}


def partitions(folder: Path) -> tuple[str, ...]:
    """Names of the published partitions in a folder, e.g. ``default``, ``0.01x_train``."""
    suffix = "_partition.json"
    return tuple(sorted(p.name.removesuffix(suffix) for p in folder.glob(f"*{suffix}")))


def read_partition(folder: Path, partition: str) -> dict[str, list[str]]:
    """Sample ids per split (train, val, test) of a published partition.

    Raises `UserError` when it is missing, damaged, empty in a split, or names a sample twice.
    """
    path = folder / f"{partition}_partition.json"
    if not path.is_file():
        raise UserError(
            f'{folder} has no partition "{partition}" ({path.name}): '
            f"{did_you_mean(partition, partitions(folder))} (in a suite: data: {{partition: ...}})."
        )
    try:
        content = json.loads(path.read_text())
        split = {
            ours: [str(name) for name in content[theirs]] for theirs, ours in _SPLIT_NAMES.items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is not a partition file (lists train, valid and test); fetch it again."
        ) from None
    empty = [name for name, ids in split.items() if not ids]
    if empty:
        raise UserError(f"{path} has no samples in {', '.join(empty)}; choose another partition.")
    everything = [name for ids in split.values() for name in ids]
    if len(set(everything)) != len(everything):
        raise UserError(f"{path} names a sample twice, so its splits overlap; fetch it again.")
    for name in everything:
        if Path(name).name != name or name.startswith("."):
            raise UserError(f'{path} names "{name}", which is no sample id; fetch it again.')
    return split
