"""What a reader must know of a set of chips before believing what was trained on it.

Plain data for tables and pages, without a path of the machine it was read on. It must know
nothing of formats or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from suites.datasets.base import Origin


@dataclass(frozen=True)
class ChipCard:
    """Facts about a set of chips.

    ``folder`` is its last name only. ``bands``: modality -> canonical names. ``sides`` is the
    smallest and largest side in pixels, ``steps`` the fewest and most time steps. ``notes``
    are sentences that must show wherever the chips are used (assumed dates and band orders,
    what is left unused); ``skipped`` counts the chips that could not be used.
    """

    title: str
    folder: str
    count: int
    origin: Origin
    licence: str
    bands: Mapping[str, tuple[str, ...]]
    sides: tuple[int, int]
    steps: tuple[int, int]
    formats: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: int
