"""A few numbers of some test embeddings, by which a later run of the same weights is held to them.

It must not know cells, data sets or stores.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

SKETCH_ROWS, SKETCH_NUMBERS = 8, 8


def sketch(views: Iterable[npt.NDArray[Any]]) -> list[float]:
    """A few test embeddings ``[n, ..., dim]`` of every view, each projected to a few numbers.

    Kept with the result so that a later run of the same weights can be held to it: rounding
    moves a sketch by parts in a million, a changed encoder by far more. (A random projection
    keeps distances: W. Johnson and J. Lindenstrauss, 1984.)
    """
    values: list[float] = []
    for embedded in views:
        flat = embedded.reshape(-1, embedded.shape[-1])
        projection = np.random.default_rng(0).standard_normal((flat.shape[1], SKETCH_NUMBERS))
        embeddings = flat[spread(len(flat))].astype(np.float64)
        values += (embeddings @ projection / flat.shape[1] ** 0.5).ravel().tolist()
    return [float(f"{value:.8g}") for value in values]


def spread(count: int) -> npt.NDArray[np.int64]:
    """Which of so many rows a sketch is of."""
    return np.linspace(0, count - 1, min(SKETCH_ROWS, count)).astype(np.int64)
