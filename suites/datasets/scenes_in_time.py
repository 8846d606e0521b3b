"""Simulated landscapes that change: a forest before and after felling, a field through its year.

They serve the kinds of tasks that a single image cannot pose. Every date has its own sky, so that
two images of the same ground differ too. It must know nothing of tasks, splits or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suites.datasets.overpass import quantised, sky
from suites.datasets.patterns import F32, Rng, number, parcels, smooth, table
from suites.datasets.scenes import Cover, forest, over
from suites.datasets.spectra import mix, spectrum, to_sensor

MONTHS = 12
_CLOUDY, _CLOUD = 0.12, 2_500.0  # share of months under thin cloud; its brightest, digital numbers


@dataclass(frozen=True)
class Felling:
    """A forest at two dates; ``felled`` ``[SCENE, SCENE]`` is 1 where trees were cut between."""

    before: Cover
    after: Cover
    felled: F32


def felling(rng: Rng) -> Felling:
    """Stands felled between the dates, among clearings as old as the forest is known."""
    stand = parcels(rng, number(rng, 6, 22), number(rng, 8, 30))
    drawn = table(rng, stand)
    share = np.float32(number(rng, 0.03, 0.4))
    felled = (drawn < share).astype(np.float32)
    old = (drawn > np.float32(1 - number(rng, 0.0, 0.3))).astype(np.float32)
    before = over(forest(rng), _cleared(rng, old), old)
    return Felling(before, over(before, _cleared(rng, felled), felled), felled)


def _cleared(rng: Rng, where: F32) -> Cover:
    """Slash and bare soil, or what has grown since."""
    green = np.clip(np.float32(number(rng, 0.0, 0.7)) + 0.2 * smooth(rng, 9), 0, 1)
    straw = (1 - green) * np.float32(number(rng, 0.2, 0.9))
    return {
        "shrub": where * green,
        "dry_grass": where * straw,
        "dark_soil": where * (1 - green - straw),
    }


@dataclass(frozen=True)
class Crop:
    """A year of a crop: months (0 January) of green-up, full canopy, ripening and harvest.

    ``leaf``: the material of its canopy; ``after``: the share of green that follows the harvest.
    """

    leaf: str
    green_up: float
    full: float
    ripe: float
    harvest: float
    after: float = 0.0


CROPS = {
    "winter cereal": Crop("green_crop", 1.0, 3.6, 5.2, 6.4),
    "spring cereal": Crop("green_crop", 3.0, 4.8, 5.8, 7.0),
    "rapeseed": Crop("grass", 0.5, 3.0, 5.0, 6.0),
    "maize": Crop("green_crop", 4.3, 6.3, 8.0, 9.2),
    "grassland": Crop("grass", 1.2, 3.5, 10.0, 11.8, 0.5),
    "cereal and catch crop": Crop("green_crop", 1.0, 3.6, 5.2, 6.4, 0.8),
}


def crop_year(name: str, rng: Rng) -> F32:
    """One pixel of a field, monthly: ``[12, 13]`` L1C digital numbers, some under thin cloud."""
    crop, shift = CROPS[name], number(rng, -0.7, 0.7)
    vigour, bright = number(rng, 0.55, 1.0), number(rng, 0.1, 0.9)
    spectra = {
        material: spectrum(material, number(rng, 0.88, 1.12), number(rng, -0.1, 0.1))
        for material in (crop.leaf, "dry_grass", "bright_soil", "dark_soil")
    }
    months = []
    for month in range(MONTHS):
        green, straw = _canopy(crop, month + number(rng, 0.0, 0.9) - shift)
        green *= vigour
        straw = min(straw, 1 - green)
        soil = 1 - green - straw
        shares = (green, straw, soil * bright, soil * (1 - bright))
        cover = {
            material: np.full((1, 1), share, dtype=np.float32)
            for material, share in zip(spectra, shares, strict=True)
        }
        seen = to_sensor(mix(cover, spectra), sky(rng))
        if rng.random() < _CLOUDY:
            seen += np.float32(_CLOUD * number(rng, 0.1, 1.0))
        noise = rng.random(seen.shape, dtype=np.float32) - np.float32(0.5)
        months.append(quantised(seen + 30 * noise)[:, 0, 0])
    return np.stack(months).astype(np.float32)


def _canopy(crop: Crop, time: float) -> tuple[float, float]:
    """Shares of green leaf and of straw at a time of the year, in months."""
    grown = _rise(crop.green_up, crop.full, time)
    ripened = _rise(crop.ripe, crop.harvest, time)
    again = crop.after * _rise(crop.harvest, crop.harvest + 2.0, time)
    green = max(grown * (1 - ripened), again)
    straw = grown * ripened * (1 - _rise(crop.harvest, crop.harvest + 1.0, time))
    return green, straw


def _rise(start: float, end: float, time: float) -> float:
    """From 0 at the start to 1 at the end, smoothly."""
    share = min(1.0, max(0.0, (time - start) / (end - start)))
    return share * share * (3 - 2 * share)
