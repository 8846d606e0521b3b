"""Band names as people write them, and which of them a modality needs.

Files and users say B2, B02 or "08A - Red Edge"; here that becomes the name in
`models.sensors`, or nothing. It must know nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.sensors import MODALITIES
from suites.chips.stored import UnusableError
from suites.datasets.loose import band_name

IGNORED = "-"
"""Stands in a list of bands for a channel that holds none of them."""

NATURAL_L2A = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12",
)  # fmt: skip
"""The order of twelve nameless GeoTIFF bands: by number, as processors and archives write them."""

_PASSED_OVER = {"sentinel2_l2a": ("B10",)}


def passed_over(modality: str) -> tuple[str, ...]:
    """Bands of the instrument that are no part of the modality: known, and not used."""
    return _PASSED_OVER.get(modality, ())


def canonical_name(modality: str, text: str) -> str | None:
    """The band's name in `models.sensors` (or one that is passed over); ``None`` for no band."""
    all_names = (*MODALITIES[modality].band_names, *passed_over(modality))
    known = {name.upper(): name for name in all_names}
    exact = known.get(text.strip().upper())
    if exact is not None or modality != "sentinel2_l2a":
        return exact
    name = band_name(text)
    return name if name in all_names else None


def file_names(modality: str, texts: Sequence[str]) -> tuple[str, ...] | None:
    """A file's own band names made canonical, `IGNORED` where a channel is none of them.

    ``None`` when no channel is named after a band; raises `UnusableError` when two channels
    claim the same one.
    """
    names = [canonical_name(modality, text) or IGNORED for text in texts]
    found = [name for name in names if name != IGNORED]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise UnusableError(f"names {', '.join(twice)} twice among its bands")
    return tuple(names) if found else None
