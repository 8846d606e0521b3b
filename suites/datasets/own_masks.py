"""The masks of a task of one's own: a file for each chip, of classes or of numbers.

What is wrong with one is said with its file. It must know nothing of tables or of chips' pixels.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.arrays import read_npy, read_tiff
from suites.datasets.base import IGNORED

MASKS = (".tif", ".tiff", ".npy")


def mask_of(
    folder: Path, chip: str, size: tuple[int, int], classes: int, ignore: float | None
) -> npt.NDArray[np.int16]:
    """The mask of a chip, of classes: the file of its name in ``folder``; -1 where nobody is asked.

    ``chip`` is its place within the chips' folder, as the chips have it: ``north/1.tif`` has its
    mask in ``north/1.tif``, or in ``1.tif`` where the masks lie in one folder.

    Raises `UserError` when there is none, it has another size than the chip, or holds a class
    that there is not.
    """
    path, mask = _mask(folder, chip, size)
    return class_mask(path, mask, classes, ignore)


def class_mask(
    path: Path, mask: npt.NDArray[Any], classes: int, ignore: float | None
) -> npt.NDArray[np.int16]:
    """What a file holds, as classes; -1 where nobody is asked. `UserError` for other classes."""
    if mask.dtype.kind not in "iufb":
        raise UserError(f"{path} holds {mask.dtype} values, not classes; save it as uint8.")
    asked = np.full(mask.shape, True) if ignore is None else mask != ignore
    broken = asked & (mask != np.floor(mask))
    if broken.any():  # cut to a whole number, half a class would be another one
        raise UserError(
            f"{path} holds {mask[broken][0]:g}, but classes are whole numbers from 0 to "
            f"{classes - 1}; correct it."
        )
    values = np.where(asked, mask, 0).astype(np.int64)
    outside = sorted(set(values[asked & ((values < 0) | (values >= classes))].tolist()))
    if outside:
        raise UserError(
            f"{path} holds {', '.join(map(str, outside[:5]))}, but the task has classes 0 to "
            f"{classes - 1}; correct it, or give ignore: N for a value that is not asked about."
        )
    return np.where(asked, values, IGNORED).astype(np.int16)


def number_mask_of(
    folder: Path, chip: str, size: tuple[int, int], ignore: float | None
) -> npt.NDArray[np.float32]:
    """The mask of a chip, of numbers: NaN where nobody is asked, which ``ignore`` says as well.

    The file is found as `mask_of` finds it. Raises `UserError` when there is none, it has another
    size than the chip, or holds no numbers, or infinite ones.
    """
    path, mask = _mask(folder, chip, size)
    return number_mask(path, mask, ignore)


def number_mask(
    path: Path, mask: npt.NDArray[Any], ignore: float | None
) -> npt.NDArray[np.float32]:
    """What a file holds, as numbers; NaN where nobody is asked. `UserError` for other values."""
    if mask.dtype.kind not in "iufb":
        raise UserError(f"{path} holds {mask.dtype} values, not numbers; save it as float32.")
    with np.errstate(over="ignore"):  # beyond what a type holds is infinite in it
        values = mask.astype(np.float32)
        left_out = np.isnan(mask)
        if ignore is not None:  # compared as the file rounds it: -3.4e38 is no float32
            is_real = mask.dtype.kind == "f"
            left_out |= mask == (np.asarray(ignore).astype(mask.dtype) if is_real else ignore)
    infinite = ~left_out & ~np.isfinite(values)
    if infinite.any():
        row, column = (int(place) for place in np.argwhere(infinite)[0])
        raise UserError(
            f"{path} holds {mask[row, column]:g} in row {row}, column {column}; what is not asked "
            "about is NaN, or a value given as ignore: N."
        )
    return np.where(left_out, np.float32(np.nan), values)


def _mask(folder: Path, chip: str, size: tuple[int, int]) -> tuple[Path, npt.NDArray[Any]]:
    path = _mask_path(folder, chip)
    mask = np.squeeze(read_npy(path) if path.suffix == ".npy" else read_tiff(path))
    if mask.shape != size:
        raise UserError(
            f"{path} has shape {mask.shape}, but its chip has {size[0]} x {size[1]} pixels."
        )
    return path, mask


def _mask_path(folder: Path, chip: str) -> Path:
    if chip.endswith("]"):
        raise UserError(
            f"Chip {chip} is one of many in a file, which no mask can be told apart by; masks need "
            "a file for each chip."
        )
    bare = PurePosixPath(chip).with_suffix("")
    for place in (folder / bare, folder / bare.name):
        found = [p for kind in MASKS if (p := place.parent / f"{place.name}{kind}").is_file()]
        if len(found) > 1:
            names = " and ".join(p.name for p in found)
            raise UserError(f"{folder} holds two masks of chip {chip}: {names}; remove one.")
        if found:
            return found[0]
    raise UserError(f"There is no mask {folder / bare}.tif (or .npy) for chip {chip}.")
