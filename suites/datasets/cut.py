"""A data set with smaller images or fewer time steps: the middle of each, evenly spread steps.

Both multiply the tokens, so a protocol may want them as axes. It must know nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.base import MAP_KINDS, Batch, Dataset, DatasetCard
from suites.datasets.digests import Progress, fingerprint
from suites.datasets.splits import HasDigests


class Cut:
    """Another data set, cut. Implements `suites.datasets.base.Dataset`.

    ``side``: pixels a side that are kept, from the middle; ``steps``: how many time steps are kept,
    evenly spread from the first to the last (of one, the last). None: all. Raises `UserError` for
    more than there is.
    """

    def __init__(self, whole: Dataset, side: int | None, steps: int | None) -> None:
        self._whole = whole
        card = whole.card
        for asked, held, what in (
            (side, min(card.height, card.width), "pixels a side"),
            (steps, card.steps, "time steps"),
        ):
            if asked is not None and asked > held:
                raise UserError(f"{card.name} has {held} {what}; {asked} cannot be cut out of it.")
        self._height, self._width = (side or card.height), (side or card.width)
        self._steps = _spread(card.steps, steps or card.steps)

    @property
    def whole(self) -> Dataset:
        """The data set that is cut."""
        return self._whole

    @cached_property
    def card(self) -> DatasetCard:
        """The whole's, with its new shape."""
        card = self._whole.card
        notes = list(card.notes)
        if (self._height, self._width) != (card.height, card.width):
            notes.append(
                f"Cut to the middle {self._height} x {self._width} pixels of {card.height} x "
                f"{card.width}."
            )
        if len(self._steps) != card.steps:
            kept = ", ".join(str(step + 1) for step in self._steps)
            notes.append(f"Time steps {kept} of {card.steps} are given.")
        return replace(
            card,
            height=self._height,
            width=self._width,
            steps=len(self._steps),
            notes=tuple(notes),
        )

    @property
    def ids(self) -> Sequence[str]:
        """The whole's."""
        return self._whole.ids

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """The whole's; maps are cut as their images are."""
        labels = self._whole.labels
        if self._whole.card.kind not in MAP_KINDS:
            return labels
        return labels[:, self._rows, self._columns]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the whole's and the cut."""
        cut = f"{self._height} x {self._width}, {self._steps.tolist()}"
        return fingerprint([self._whole.fingerprint, cut])

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """The whole's: what is the same before a cut is the same after it."""
        return self._whole.digests(progress) if isinstance(self._whole, HasDigests) else self.ids

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The whole's."""
        return self._whole.splits(seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Cut images and their dates."""
        batch = self._whole.read(rows)
        images = {
            name: np.ascontiguousarray(x[:, self._rows, self._columns][:, :, :, self._steps])
            for name, x in batch.images.items()
        }
        return Batch(images, batch.timestamps[:, self._steps])

    @property
    def _rows(self) -> slice:
        return _middle(self._whole.card.height, self._height)

    @property
    def _columns(self) -> slice:
        return _middle(self._whole.card.width, self._width)


def _middle(held: int, kept: int) -> slice:
    first = (held - kept) // 2
    return slice(first, first + kept)


def _spread(held: int, kept: int) -> npt.NDArray[np.int64]:
    if kept == 1:
        return np.array([held - 1])
    return np.rint(np.linspace(0, held - 1, kept)).astype(np.int64)
