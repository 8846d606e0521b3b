"""A finding of the audit: one judgement that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One judgement: its ``topic`` (units, values, images, duplicates, classes, bands)."""

    topic: str
    level: Level
    sentence: str
