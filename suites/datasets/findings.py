"""A finding of the audit: one judgement that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One judgement: its ``topic`` (units, values, images, duplicates, classes, bands)."""

    topic: str
    level: Level
    sentence: str


@runtime_checkable
class HasFindings(Protocol):
    """A data set that has something to say of itself, such as what it left out."""

    findings: Sequence[Finding]
