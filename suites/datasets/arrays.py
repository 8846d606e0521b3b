"""NumPy and TIFF files, read so that what is broken is said in a sentence.

It must know nothing of data sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from models.errors import UserError

_AGAIN = "fetch it again, or replace it"


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file; a pickled one is not opened. `UserError` naming the file."""
    try:
        found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a readable NumPy array ({error}); {_AGAIN}.") from None
    return found


def read_tiff(path: Path) -> npt.NDArray[Any]:
    """The image of a TIFF, axes as stored. `UserError` naming the file."""
    try:
        return np.asarray(tifffile.imread(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except Exception as error:  # zlib, struct and tifffile's own: all mean a broken file
        raise UserError(
            f"{path} is not a readable TIFF ({error}): it is damaged or truncated; {_AGAIN}."
        ) from None
