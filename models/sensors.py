"""Sensors: which bands a modality has, in which order we keep them, at which native resolution.

A pure table. Everything that orders, selects or checks bands looks them up here,
by name, so that no other module ever counts band positions by hand. It must know
nothing of tokens, models or files.

Sources: the Sentinel-2 MSI, Sentinel-1 and Landsat 8/9 user guides for resolutions
and wavelengths; band orders follow the OlmoEarth convention (10 m, then 20 m, then
60 m bands), because its checkpoints are laid out that way.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Band:
    """One spectral band: its name, native ground resolution (m) and centre wavelength (nm).

    The wavelength is ``None`` for radar, which has none in this sense.
    """

    name: str
    resolution: float
    wavelength: float | None


@dataclass(frozen=True)
class Modality:
    """What one instrument (and processing level) delivers: an ordered list of bands."""

    name: str
    title: str
    bands: tuple[Band, ...]

    @property
    def band_names(self) -> tuple[str, ...]:
        """The canonical order: the last axis D of an image ``[H, W, T, D]``."""
        return tuple(band.name for band in self.bands)

    @property
    def is_optical(self) -> bool:
        """Whether it measures light, in values proportional to it; radar is in dB."""
        return all(band.wavelength is not None for band in self.bands)

    def index(self, band: str) -> int:
        """Position of a band on the last axis; a `UserError` names the valid ones."""
        try:
            return self.band_names.index(band)
        except ValueError:
            raise UserError(
                f'{self.title} has no band "{band}": {did_you_mean(band, self.band_names)}.'
            ) from None


SENTINEL2_L2A = Modality(
    "sentinel2_l2a",
    "Sentinel-2",
    (
        Band("B02", 10, 492.4),
        Band("B03", 10, 559.8),
        Band("B04", 10, 664.6),
        Band("B08", 10, 832.8),
        Band("B05", 20, 704.1),
        Band("B06", 20, 740.5),
        Band("B07", 20, 782.8),
        Band("B8A", 20, 864.7),
        Band("B11", 20, 1613.7),
        Band("B12", 20, 2202.4),
        Band("B01", 60, 442.7),
        Band("B09", 60, 945.1),
    ),
)

SENTINEL1 = Modality(
    "sentinel1",
    "Sentinel-1",
    (Band("VV", 10, None), Band("VH", 10, None)),
)

LANDSAT = Modality(
    "landsat",
    "Landsat 8/9",
    (
        Band("B8", 15, 589.5),
        Band("B1", 30, 443.0),
        Band("B2", 30, 482.0),
        Band("B3", 30, 561.4),
        Band("B4", 30, 654.6),
        Band("B5", 30, 864.7),
        Band("B6", 30, 1608.9),
        Band("B7", 30, 2200.7),
        Band("B9", 30, 1373.4),
        Band("B10", 100, 10895.0),
        Band("B11", 100, 12005.0),
    ),
)

DERIVED: dict[str, dict[str, tuple[str, str]]] = {"sentinel2_l2a": {"NDVI": ("B08", "B04")}}
"""Channels computed from two bands a, b as ``(a - b) / (a + b)``, 0 where the sum is not
positive (Tucker 1979)."""

MODALITIES: dict[str, Modality] = {m.name: m for m in (SENTINEL2_L2A, SENTINEL1, LANDSAT)}


def modality(name: str) -> Modality:
    """Look a modality up by name; a `UserError` names the valid ones."""
    try:
        return MODALITIES[name]
    except KeyError:
        raise UserError(f'Unknown modality "{name}": {did_you_mean(name, MODALITIES)}.') from None
