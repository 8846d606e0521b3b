"""Whether a pixel's series is what it is said to be: numbers, in one unit at every time step.

Of a single pixel no audit of textures or band order is possible, so that what can be told from
its values alone is refused while it is read. It must know nothing of files or of classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.errors import UserError

MOST_REFLECTANCE = 3.0
"""Clouds and snow reach 2.8 in reflectance; a lit pixel is hundreds of digital numbers bright."""


def check_digital_numbers(optical: npt.NDArray[np.floating], what: str) -> None:
    """Refuse a series ``[T, D]`` of optical bands that are not all digital numbers.

    ``what`` names the series and its file. Raises `UserError` for what is not finite, and for a
    step whose brightest band is no brighter than a reflectance (a step of zeros is let pass).
    """
    if not np.isfinite(optical).all():
        raise UserError(f"{what} holds NaN or infinity; fetch the data set again.")
    brightest = optical.max(axis=1)
    scaled = (brightest > 0) & (brightest < MOST_REFLECTANCE)
    if scaled.any():
        step = int(scaled.argmax())
        raise UserError(
            f"{what} holds reflectance in time step {step + 1} (its brightest band is "
            f"{brightest[step]:.4g}), but digital numbers (reflectance x 10000) are expected at "
            "every step; fetch the data set again."
        )
