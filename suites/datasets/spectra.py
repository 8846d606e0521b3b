"""Surface spectra and a simple atmosphere for the simulated Sentinel-2 scenes.

A table of reflectance curves for a handful of materials, and the step from surface
reflectance to L1C digital numbers: path radiance, transmission, illumination. It must
know nothing of scenes, classes or files. The curves are typical broadband shapes
(vegetation's red edge and water absorptions, soil's rise into the SWIR, water's fall);
level and atmosphere were fitted by eye to class means of real EuroSAT tiles, as told in
docs/simulated.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A",
)  # fmt: skip
RESOLUTION = (60, 10, 10, 10, 20, 20, 20, 10, 60, 60, 20, 20, 20)
CIRRUS = BANDS.index("B10")

# Surface reflectance x 10000, in BANDS order. B10 sees no surface: its column is zero.
MATERIALS: dict[str, tuple[int, ...]] = {
    "bright_soil": (900, 1150, 1600, 2150, 2450, 2650, 2800, 2900, 3050, 0, 3900, 3200, 3100),
    "dark_soil": (450, 560, 800, 1080, 1280, 1430, 1560, 1680, 1800, 0, 2350, 1850, 1800),
    "green_crop": (260, 320, 680, 400, 1100, 3200, 4000, 4150, 4400, 0, 2000, 950, 4400),
    "grass": (330, 400, 730, 560, 1250, 2800, 3350, 3450, 3700, 0, 2250, 1150, 3700),
    "dry_grass": (560, 680, 960, 1150, 1500, 2000, 2250, 2400, 2600, 0, 2950, 1950, 2600),
    "shrub": (280, 330, 520, 480, 850, 1900, 2250, 2350, 2550, 0, 1750, 950, 2550),
    "conifer": (160, 190, 330, 230, 560, 1750, 2200, 2250, 2450, 0, 1000, 430, 2450),
    "broadleaf": (180, 210, 430, 250, 760, 2650, 3350, 3400, 3700, 0, 1600, 680, 3700),
    "asphalt": (750, 850, 980, 1080, 1130, 1200, 1260, 1300, 1350, 0, 1500, 1400, 1350),
    "concrete": (1500, 1750, 2050, 2250, 2350, 2420, 2480, 2550, 2600, 0, 2800, 2550, 2600),
    "tile_roof": (650, 760, 1050, 1700, 1950, 2150, 2250, 2400, 2500, 0, 2900, 2500, 2500),
    "metal_roof": (2500, 2900, 3200, 3350, 3400, 3450, 3450, 3450, 3400, 0, 3200, 2900, 3400),
    "clear_water": (260, 290, 240, 130, 100, 80, 70, 60, 50, 0, 25, 15, 50),
    "turbid_water": (520, 650, 820, 600, 520, 380, 330, 290, 230, 0, 60, 30, 240),
}

# Light scattered into the sensor by a clear atmosphere, and the share of the surface signal
# that reaches it: strong scattering in the blue, water vapour in B09.
PATH = (1010, 660, 380, 215, 165, 130, 105, 90, 15, 0, 8, 4, 70)
TRANSMISSION = (0.52, 0.62, 0.74, 0.80, 0.83, 0.87, 0.89, 0.84, 0.29, 0.0, 0.90, 0.88, 0.93)

# Position along the spectrum from -1 (blue) to 1 (SWIR): how a material's colour tilts.
TILT = (-1.0, -0.9, -0.75, -0.55, -0.45, -0.35, -0.25, -0.15, 0.0, 0.0, 0.6, 1.0, -0.1)


@dataclass(frozen=True)
class Sky:
    """One overpass: ``sun`` scales the surface, ``haze`` the path radiance, ``vapour`` dims B09.

    ``veil`` (digital numbers) is a grey layer over all: thin cloud, or glint on water.
    """

    sun: float
    haze: float
    vapour: float
    cirrus: float
    veil: float


def spectrum(name: str, brightness: float = 1.0, tilt: float = 0.0) -> F32:
    """Surface reflectance x 10000 of a material, ``[13]``, brightened and tilted in colour."""
    base = np.array(MATERIALS[name], dtype=np.float32)
    lean = np.float32(1.0) + np.float32(tilt) * np.array(TILT, dtype=np.float32)
    varied: F32 = base * np.float32(brightness) * lean
    return varied


def mix(abundances: dict[str, F32], spectra: dict[str, F32]) -> F32:
    """Linear mixture, ``[13, H, W]``: the sum over materials of abundance x spectrum.

    Summed term by term, so that no linear-algebra library decides the rounding.
    """
    total: F32 | None = None
    for name, share in abundances.items():
        term = share[None, :, :] * spectra[name][:, None, None]
        total = term if total is None else total + term
    if total is None:
        raise ValueError("a mixture needs at least one material")
    return total


def to_sensor(surface: F32, sky: Sky) -> F32:
    """L1C digital numbers (float) of a surface ``[13, H, W]`` seen through a sky."""
    path = np.array(PATH, dtype=np.float32) * np.float32(sky.haze)
    gain = np.array(TRANSMISSION, dtype=np.float32) * np.float32(sky.sun)
    gain[BANDS.index("B09")] *= np.float32(sky.vapour)
    seen: F32 = surface * gain[:, None, None] + path[:, None, None]
    seen += np.float32(sky.veil)
    seen[CIRRUS] = np.float32(sky.cirrus)
    return seen
