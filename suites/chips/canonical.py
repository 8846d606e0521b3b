"""From pixels as stored to a chip: axes ordered, bands by name, digital numbers.

Whatever a file leaves open is settled here from what chips.yaml says, or the chip is refused
with the question that is open. Pure functions of arrays: it must know nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.pretraining.chips import Chip
from models.sensors import MODALITIES
from suites.chips.names import IGNORED, NATURAL_L2A, file_names, passed_over
from suites.chips.sidecar import Date, Layout, StoredModality, how_to_name
from suites.chips.stored import StoredChip, StoredImage, UnusableError
from suites.datasets.eurosat import ASSUMED_DATE

Pixels = npt.NDArray[np.uint16 | np.float32]
MIN_SIDE = 8
"""Smallest side of a chip, in pixels: one patch of the largest published patch size."""

OPTICAL = frozenset({"sentinel2_l2a", "landsat"})
UNNAMED = "carry no band names"
_REFLECTANCE_BELOW = 4.0
_FLOAT32_ROUNDING = 2e-3  # of reflectance 0..2.8 brought to digital numbers


def chip_of(stored: StoredChip, layout: Layout, date: Date | None = None) -> Chip:
    """The chip that a file holds. ``date`` is that of its time step, where chips.yaml has steps.

    Raises `UnusableError` when it is too small, holds values that are no numbers, is
    constant, or leaves open what it holds.
    """
    missing = [name for name in layout.modalities if name not in stored.images]
    if layout.names_modalities and missing:
        raise UnusableError(f"holds no {', '.join(missing)}")
    images = {
        name: _canonical(name, stored.images[name], layout.stored(name))
        for name in sorted(stored.images)
    }
    shapes = {image.shape[:3] for image in images.values()}
    if len(shapes) != 1:
        told = ", ".join(f"{name} {_by(image.shape[:3])}" for name, image in images.items())
        raise UnusableError(f"its modalities differ in rows, columns or time steps ({told})")
    ((height, width, steps),) = shapes
    if min(height, width) < MIN_SIDE:
        raise UnusableError(
            f"is {height} x {width} pixels; a chip needs at least {MIN_SIDE} a side"
        )
    if all(_is_constant(image) for image in images.values()):
        raise UnusableError("is constant (every pixel is the same): it holds no image")
    dates = stored.timestamps if date is None else np.array([date], dtype=np.int64)
    return Chip(images, timestamps_of(dates, layout.dates, steps))


def timestamps_of(
    stored: npt.NDArray[np.int64] | None, stated: Sequence[Date] | None, steps: int
) -> npt.NDArray[np.int64]:
    """``[T, 3]``: the chip's own dates, else those that chips.yaml states, else 1 July 2020."""
    if stored is None and stated is None and steps > 1:
        raise UnusableError(
            f"has {steps} time steps and no dates: give each file an array timestamps [T, 3], or "
            "list dates in chips.yaml (if that axis counts chips, name the axes instead)"
        )
    dates = np.array([ASSUMED_DATE] if stated is None else stated) if stored is None else stored
    if dates.shape != (steps, 3):
        raise UnusableError(f"has {steps} time steps, but dates of shape {_by(dates.shape)}")
    return dates.astype(np.int64)


def joined(steps: Sequence[Chip]) -> Chip:
    """One chip from its time steps, in order; `UnusableError` when they do not fit together."""
    if len(steps) == 1:
        return steps[0]
    kinds = {
        tuple((name, image.shape[:2]) for name, image in step.images.items()) for step in steps
    }
    if len(kinds) != 1:
        told = " and ".join(sorted({_by(s) for kind in kinds for _, s in kind}))
        raise UnusableError(f"its time steps differ in size ({told})")
    images: dict[str, Pixels] = {
        name: np.concatenate([step.images[name] for step in steps], axis=2)
        for name in steps[0].images
    }
    return Chip(images, np.concatenate([step.timestamps for step in steps]))


def is_mostly_empty(chip: Chip) -> bool:
    """Whether more than half of the pixels are 0 in every band: no data, by convention."""
    empty = [float((image == 0).all(axis=3).mean()) for image in chip.images.values()]
    return max(empty) > 0.5


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _is_constant(image: Pixels) -> bool:
    return np.array_equal(image.max(axis=(0, 1, 2)), image.min(axis=(0, 1, 2)))


def _canonical(modality: str, image: StoredImage, stated: StoredModality) -> Pixels:
    """``[H, W, T, D]`` in canonical bands and digital numbers."""
    if image.pixels.dtype.kind not in "iuf":
        raise UnusableError(f"holds {image.pixels.dtype} values, not numbers")
    if image.pixels.ndim != len(image.axes) or not image.pixels.size:
        raise UnusableError(f"has shape {image.pixels.shape}, which is no image")
    pixels = _in_order(image.pixels, image.axes)
    names = band_order(modality, pixels.shape[3], image, stated)
    chosen = pixels[..., [names.index(band) for band in MODALITIES[modality].band_names]]
    if chosen.dtype.kind == "f" and not np.isfinite(chosen).all():
        raise UnusableError("holds values that are not numbers (NaN or infinite)")
    _check_unit(modality, chosen, stated)
    return _as_kept(_digital_numbers(modality, chosen, stated), stated)


def _in_order(pixels: npt.NDArray[Any], axes: str) -> npt.NDArray[Any]:
    if "T" not in axes:
        pixels, axes = pixels[..., None], f"{axes}T"
    return pixels.transpose([axes.index(axis) for axis in "HWTD"])


def band_order(
    modality: str, depth: int, image: StoredImage, stated: StoredModality
) -> tuple[str, ...]:
    """The name of each channel: as chips.yaml states, else as the file tells or its format implies.

    Raises `UnusableError` where nobody says, or a band of the modality is missing.
    """
    names = stated.bands
    if names is not None and len(names) != depth:
        raise UnusableError(f"has {depth} bands, but chips.yaml lists {len(names)}")
    if names is None and image.bands is not None:
        names = file_names(modality, image.bands)
    if names is None:
        names = image.implied if modality == "sentinel2_l2a" else None
    if names is None:
        raise UnusableError(_open_question(modality, depth))
    missing = [band for band in MODALITIES[modality].band_names if band not in names]
    if missing:
        found = ", ".join(name for name in names if name != IGNORED)
        raise UnusableError(
            f"lacks {', '.join(missing)} of {modality}; it holds {found}"
            + _unknown(modality, names, image.bands if stated.bands is None else None)
        )
    return names


def _unknown(modality: str, names: Sequence[str], told: Sequence[str] | None) -> str:
    """The end of a sentence on missing bands: which of a file's own names were no band's."""
    if told is None:
        return ""
    odd = [text for name, text in zip(names, told, strict=True) if name == IGNORED]
    if not odd:
        return ""
    quoted = ", ".join(f'"{text}"' for text in odd)
    return f", and {quoted}, which names no band: {how_to_name(modality)}"


def remarks(stored: StoredChip, layout: Layout, date: Date | None = None) -> tuple[str, ...]:
    """What was taken for granted about a usable chip, in words for the set's card."""
    found = []
    if date is None and stored.timestamps is None and layout.dates is None:
        found.append("carry no dates: 1 July 2020 is assumed")
    for modality, image in sorted(stored.images.items()):
        depth = image.pixels.shape[image.axes.index("D")]
        names = band_order(modality, depth, image, layout.stored(modality))
        if names is image.implied:
            found.append(f"{UNNAMED}: the order {' '.join(names)} is assumed")
        unused = [band for band in passed_over(modality) if band in names]
        if unused:
            found.append(
                f"hold {', '.join(unused)}, so are top-of-atmosphere (L1C); it is not used"
            )
    return tuple(found)


def _open_question(modality: str, depth: int) -> str:
    ask = how_to_name(modality)
    if modality == "sentinel2_l2a" and depth == len(NATURAL_L2A) + 1:
        return f"has 13 bands without names, and B8A may be the 9th or the last: {ask}"
    plural = "1 band without a name" if depth == 1 else f"{depth} bands without names"
    return f"has {plural}: {ask}, or leave such files out with ignore"


def _check_unit(modality: str, pixels: npt.NDArray[Any], stated: StoredModality) -> None:
    """Refuse what is plainly in another unit than digital numbers, unless a unit is stated."""
    if modality != "sentinel2_l2a" or stated.has_units:
        return
    if pixels.dtype.itemsize == 1:
        raise UnusableError(
            "holds 8-bit values, which are no Sentinel-2 digital numbers: give units_per_dn in "
            "chips.yaml (digital numbers per stored unit)"
        )
    if pixels.dtype.kind == "f" and pixels.max() < _REFLECTANCE_BELOW:
        raise UnusableError(
            f"looks like reflectance (largest value {pixels.max():.3g}): "
            "set units_per_dn: 10000 in chips.yaml"
        )


def _digital_numbers(
    modality: str, pixels: npt.NDArray[Any], stated: StoredModality
) -> npt.NDArray[Any]:
    if stated.units_per_dn == 1 and stated.offset == 0:
        return pixels
    converted = pixels.astype(np.float64) * stated.units_per_dn + stated.offset
    if stated.offset and modality in OPTICAL:
        # Harmonised archives do so too: what was 0 for "no data" must not become negative.
        np.maximum(converted, 0, out=converted)
    return converted


def _as_kept(values: npt.NDArray[Any], stated: StoredModality) -> Pixels:
    """uint16 where that loses nothing, float32 otherwise; C-contiguous."""
    if values.dtype.kind == "f":
        whole = np.rint(values)
        slack = _FLOAT32_ROUNDING if stated.units_per_dn != 1 else 0.0
        if np.abs(values - whole).max() > slack:
            return np.ascontiguousarray(values, dtype=np.float32)
        values = whole
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        return np.ascontiguousarray(values, dtype=np.float32)
    return np.ascontiguousarray(values, dtype=np.uint16)
