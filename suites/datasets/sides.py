"""Images of different sizes brought to one: cut around the middle, or mirrored.

It must know nothing of data sets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def brought(
    image: npt.NDArray[Any], shape: tuple[int, ...], fill: float | None = None
) -> npt.NDArray[Any]:
    """The middle of an image ``[H, W, ...]``; where it is too small, mirrored, or filled."""
    for axis, wanted in enumerate(shape):
        spare = image.shape[axis] - wanted
        if spare > 0:
            image = np.take(image, np.arange(spare // 2, spare // 2 + wanted), axis=axis)
        elif spare < 0:
            pad = [(0, 0)] * image.ndim
            pad[axis] = (-spare // 2, -spare - -spare // 2)
            if fill is None:
                image = np.pad(image, pad, mode="symmetric")
            else:
                image = np.pad(image, pad, constant_values=fill)
    return image
