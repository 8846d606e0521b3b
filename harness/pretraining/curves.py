"""What a tracking server is told of a pretraining: plain data, without MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A number of the curve ``name`` after so many samples."""

    name: str
    samples: int
    value: float


@dataclass(frozen=True)
class Training:
    """What a run is called, found by and described with."""

    key: str
    title: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
