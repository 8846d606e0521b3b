"""One look at a simulated landscape: from what covers the ground to the digital numbers of a tile.

Materials get spectra of this place and day, slopes light, the sky its haze, the detector its
grids and noise (docs/simulated.md). It must know nothing of classes or of what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from suites.datasets.patterns import (
    F32,
    SCENE,
    Rng,
    at_resolution,
    bell,
    blur,
    grain,
    number,
    smooth,
)
from suites.datasets.scenes import Cover
from suites.datasets.spectra import CIRRUS, RESOLUTION, Sky, mix, spectrum, to_sensor

SIDE = 64


@dataclass(frozen=True)
class Seen:
    """A tile: ``pixels`` ``[64, 64, 13]`` L1C digital numbers, cut from its scene at ``corner``.

    ``cover`` is the whole scene's.
    """

    pixels: npt.NDArray[np.uint16]
    cover: Cover
    corner: tuple[int, int]

    def cut(self, scene: F32) -> F32:
        """The part ``[64, 64]`` of a scene ``[SCENE, SCENE]`` that the tile shows."""
        top, left = self.corner
        return scene[top : top + SIDE, left : left + SIDE]


def overpass(cover: Cover, rng: Rng, corner: tuple[int, int] | None = None) -> Seen:
    """Look at a landscape; the tile lies at ``corner``, or anywhere."""
    spectra = {name: spectrum(name, *_character(rng)) for name in cover}
    surface = mix(cover, spectra) * _relief(rng)
    counts = _detected(to_sensor(surface, sky(rng)), rng)
    anywhere = tuple(int(v) for v in rng.integers(0, SCENE - SIDE + 1, size=2))
    top, left = corner or anywhere
    pixels = counts[:, top : top + SIDE, left : left + SIDE].transpose(1, 2, 0)
    return Seen(np.ascontiguousarray(pixels), cover, (top, left))


def sky(rng: Rng) -> Sky:
    """The light and air of one day."""
    return Sky(
        sun=number(rng, 0.90, 1.12),
        haze=1.0 + 0.08 * float(bell(rng)),
        vapour=number(rng, 0.7, 1.35),
        cirrus=number(rng, 6.0, 17.0),
        veil=200.0 * _skewed(rng),
    )


def quantised(seen: F32) -> npt.NDArray[np.uint16]:
    """Whole digital numbers of a product."""
    counts: npt.NDArray[np.uint16] = np.clip(np.floor(seen + np.float32(0.5)), 1, 28_000).astype(
        np.uint16
    )
    return counts


def _character(rng: Rng) -> tuple[float, float]:
    """Brightness and colour of a material in one tile: soils, roofs and leaves differ by place."""
    return 1.0 + 0.13 * float(bell(rng)), 0.10 * float(bell(rng))


def _relief(rng: Rng) -> F32:
    """Illumination of each pixel: gentle slopes, and the roughness every surface has."""
    slope = np.float32(number(rng, 0.0, 0.05)) * smooth(rng, 3)
    rough = np.float32(number(rng, 0.01, 0.05)) * grain(rng)
    light: F32 = np.clip(1 + slope + rough, 0.5, 1.5)
    return light


def _skewed(rng: Rng) -> float:
    """Mostly near 0, now and then near 1 (a product, because ``**`` is not exact everywhere)."""
    value = number(rng, 0.0, 1.0)
    return value * value * value * value


def _detected(seen: F32, rng: Rng) -> npt.NDArray[np.uint16]:
    """Sample every band of ``[13, SCENE, SCENE]`` on its own grid, add detector noise, quantise."""
    seen[CIRRUS] += np.float32(0.8) * smooth(rng, 4)
    fine = [i for i, resolution in enumerate(RESOLUTION) if resolution == 10]
    seen[fine] = blur(seen[fine], number(rng, 0.08, 0.2))
    noise = rng.random(seen.shape, dtype=np.float32) - np.float32(0.5)
    noise[CIRRUS] *= np.float32(0.3)
    seen += np.float32(20.0) * noise
    for metres, cell in ((20, 2), (60, 6)):
        chosen = [i for i, resolution in enumerate(RESOLUTION) if resolution == metres]
        seen[chosen] = at_resolution(seen[chosen], cell)
    return quantised(seen)
