"""The masks of a task of one's own: a file for each chip, of classes or of numbers.

A GeoTIFF may mark a value as no data, which nobody is then asked about. What is wrong with a mask
is said with its file. It must know nothing of tables or of chips' pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.arrays import no_data_in, read_npy, read_tiff
from suites.datasets.base import IGNORED

MASKS = (".tif", ".tiff", ".npy")


@dataclass(frozen=True)
class Mask:
    """A file's pixels ``[H, W]`` as stored; ``no_data`` is the value that it marks so, if any."""

    path: Path
    pixels: npt.NDArray[Any]
    no_data: float | None


def read_mask(folder: Path, chip: str, size: tuple[int, int]) -> Mask:
    """The mask of a chip: the file of its name in ``folder``.

    ``chip`` is its place within the chips' folder, as the chips have it: ``north/1.tif`` has its
    mask in ``north/1.tif``, or in ``1.tif`` where the masks lie in one folder.

    Raises `UserError` when there is none, or it has another size than the chip.
    """
    path = _mask_path(folder, chip)
    is_array = path.suffix.lower() == ".npy"
    pixels = np.squeeze(read_npy(path) if is_array else read_tiff(path))
    if pixels.shape != size:
        raise UserError(
            f"{path} has shape {pixels.shape}, but its chip has {size[0]} x {size[1]} pixels; a "
            "mask holds one value for each of its chip's pixels."
        )
    return Mask(path, pixels, None if is_array else no_data_in(path))


def marks_zeros(mask: Mask) -> bool:
    """Whether 0 is marked as no data in a mask that holds it: many writers do so unasked."""
    return mask.no_data == 0 and bool((mask.pixels == 0).any())


def class_mask(
    path: Path,
    mask: npt.NDArray[Any],
    classes: int,
    ignore: float | None,
    no_data: float | None = None,
) -> npt.NDArray[np.int16]:
    """What a file holds, as classes; -1 where nobody is asked.

    Nobody is asked where there is NaN, ``ignore``, or ``no_data``, the value that the file marks
    so; but a marked 0 is the first class. Raises `UserError` for other values than classes, and
    where the file marks a later class.
    """
    _check_type(path, mask)
    left_out = _left_out(mask, ignore, no_data)
    if no_data is not None and no_data != ignore and 0 < no_data < classes:
        marked = _equal(mask, no_data)
        if marked.any():
            raise UserError(
                f"{path} marks {no_data:g} as no data, but it is a class of the task; give "
                f"ignore: {no_data:g} to leave it out, or remove the mark from the file."
            )
    values = np.where(left_out, 0, mask)
    broken = values != np.floor(values)  # infinity is outside
    if broken.any():
        row, column = (int(place) for place in np.argwhere(broken)[0])
        raise UserError(
            f"{path} holds {mask[row, column]:g} in row {row}, column {column}; classes are whole "
            f"numbers, 0 to {classes - 1}."
        )
    outside = sorted(set(values[(values < 0) | (values >= classes)].tolist()))
    if outside:
        raise UserError(
            f"{path} holds {', '.join(f'{value:.10g}' for value in outside[:5])}, but the task has "
            f"classes 0 to {classes - 1}; correct it, or give ignore: N for a value that is not "
            "asked about."
        )
    return np.where(left_out, IGNORED, values.astype(np.int16)).astype(np.int16)


def number_mask(
    path: Path, mask: npt.NDArray[Any], ignore: float | None, no_data: float | None = None
) -> npt.NDArray[np.float32]:
    """What a file holds, as numbers; NaN where nobody is asked, as in `class_mask`.

    A marked 0 is a number. Raises `UserError` for what is no number, or infinite.
    """
    _check_type(path, mask)
    with np.errstate(over="ignore"):  # beyond what a type holds is infinite in it
        values = mask.astype(np.float32)
        left_out = _left_out(mask, ignore, no_data)
    infinite = ~left_out & ~np.isfinite(values)
    if infinite.any():
        row, column = (int(place) for place in np.argwhere(infinite)[0])
        raise UserError(
            f"{path} holds {mask[row, column]:g} in row {row}, column {column}; what is not asked "
            "about is NaN, or a value given as ignore: N."
        )
    return np.where(left_out, np.float32(np.nan), values)


def _check_type(path: Path, mask: npt.NDArray[Any]) -> None:
    if mask.dtype.kind not in "iufb":
        raise UserError(f"{path} holds {mask.dtype} values, not numbers; save it as float32.")


def _left_out(
    mask: npt.NDArray[Any], ignore: float | None, no_data: float | None
) -> npt.NDArray[np.bool_]:
    """Where nobody is asked. A marked 0 may be a class or a number, and by convention stays."""
    found: npt.NDArray[np.bool_] = np.isnan(mask)
    for value in (ignore, no_data or None):
        if value is not None:
            found = found | _equal(mask, value)
    return found


def _equal(mask: npt.NDArray[Any], value: float) -> npt.NDArray[np.bool_]:
    """Compared as the file rounds it: -3.4e38 is no float32."""
    is_real = mask.dtype.kind == "f"
    with np.errstate(over="ignore"):
        found: npt.NDArray[np.bool_] = mask == (
            np.asarray(value).astype(mask.dtype) if is_real else value
        )
    return found


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
    raise UserError(
        f"There is no mask {folder / bare}.tif (or .npy) for chip {chip}; masks are named as "
        "their chips."
    )
