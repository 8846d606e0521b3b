"""What Galileo reads: its sources, which axes each has, and the groups that become tokens.

Every channel belongs to one group; one token stands for one group at one patch (where the
source varies in space) and one step (where it varies in time). Tables and pure functions;
they must not know tensors, weights or positions.

Source: Tseng et al. 2025 (Galileo, arXiv 2502.09356), section 3 and its table of channel
groups; the names of the groups are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.errors import UserError
from models.sensors import DERIVED
from models.tokens import TokenScheme

Kind = Literal["space_time", "space", "time", "static"]
MAX_STEPS = 24
"""Most time steps of one sample: the length of the published table of step encodings."""


@dataclass(frozen=True)
class Group:
    """Channels that share a token; ``name`` is the published checkpoints'."""

    name: str
    title: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One input of the encoder. Its channels are those of its groups, one after another."""

    name: str
    kind: Kind
    groups: tuple[Group, ...]

    @property
    def channels(self) -> tuple[str, ...]:
        """The last axis of its tensor."""
        return tuple(channel for group in self.groups for channel in group.channels)

    @property
    def in_space(self) -> bool:
        """It has rows and columns, and is cut into patches."""
        return self.kind in ("space_time", "space")

    @property
    def in_time(self) -> bool:
        """It has time steps, each with its month."""
        return self.kind in ("space_time", "time")

    @property
    def ndim(self) -> int:
        """How many axes its tensor has."""
        return 2 + 2 * self.in_space + self.in_time

    @property
    def axes(self) -> str:
        """Its tensor's axes, for error messages."""
        space, time = ("H, W, " if self.in_space else ""), ("T, " if self.in_time else "")
        return f"[B, {space}{time}{len(self.channels)}]"


_RADAR = Group("S1", "radar", ("VV", "VH"))
_OPTICAL = (
    Group("S2_RGB", "RGB", ("B02", "B03", "B04")),
    Group("S2_Red_Edge", "red edge", ("B05", "B06", "B07")),
    Group("S2_NIR_10m", "near infrared, 10 m", ("B08",)),
    Group("S2_NIR_20m", "near infrared, 20 m", ("B8A",)),
    Group("S2_SWIR", "short wave infrared", ("B11", "B12")),
)
_NDVI = Group("NDVI", "vegetation index", ("NDVI",))
_COVER = (
    "water",
    "trees",
    "grass",
    "flooded vegetation",
    "crops",
    "shrub",
    "built",
    "bare",
    "snow",
)
_CROPS = ("temporary crops", "maize", "winter cereals", "spring cereals", "irrigation")

SPACE_TIME = (
    Source("sentinel1", "space_time", (_RADAR,)),
    Source("sentinel2_l2a", "space_time", (*_OPTICAL, _NDVI)),
)
"""The sources that the harness feeds, all of their groups shown."""

OTHERS = (
    Source("srtm", "space", (Group("SRTM", "terrain", ("elevation", "slope")),)),
    Source("dynamic_world", "space", (Group("DW", "land cover", _COVER),)),
    Source("worldcereal", "space", (Group("WC", "crops", _CROPS),)),
    Source("era5", "time", (Group("ERA5", "weather", ("temperature", "precipitation")),)),
    Source(
        "terraclimate",
        "time",
        (Group("TC", "climate", ("deficit", "soil moisture", "actual evapotranspiration")),),
    ),
    Source("viirs", "time", (Group("VIIRS", "night lights", ("mean radiance",)),)),
    Source("landscan", "static", (Group("LS", "population", ("population",)),)),
    Source("location", "static", (Group("location", "location", ("x", "y", "z")),)),
    Source("dynamic_world_mean", "static", (Group("DW_static", "mean land cover", _COVER),)),
    Source("worldcereal_mean", "static", (Group("WC_static", "mean crops", _CROPS),)),
)
"""What pretraining also saw; every token scheme leaves them as they are."""


def space_time_sources(scheme: TokenScheme) -> tuple[Source, ...]:
    """The scheme's sources, modality after modality, with the groups that it shows.

    Raises:
        UserError: the scheme has bands that Galileo was never given, for which it has no
            normalisation either.
    """
    return tuple(
        Source(name, "space_time", tuple(_group(name, bands, scheme.name) for bands in groups))
        for name, groups in scheme.groups.items()
    )


def weighted_groups(shown: Sequence[Source]) -> tuple[tuple[Kind, Group], ...]:
    """Every group that the encoder holds weights for, in the published order.

    Where all groups shown are Galileo's own, it holds all seven space-time groups, the
    hidden ones included: the published weights then have a place for each of their tensors.
    """
    own = [group for source in SPACE_TIME for group in source.groups]
    groups = [group for source in shown for group in source.groups]
    if all(group in own for group in groups):
        groups = own
    return tuple(("space_time", group) for group in groups) + tuple(
        (source.kind, group) for source in OTHERS for group in source.groups
    )


def _group(modality_name: str, bands: tuple[str, ...], scheme: str) -> Group:
    known = {source.name: source for source in SPACE_TIME}
    if modality_name not in known:
        raise UserError(
            f'Galileo was never given {modality_name}, which token scheme "{scheme}" covers; '
            f"it reads {' and '.join(known)}."
        )
    channels = known[modality_name].channels
    for band in bands:
        if band not in channels:
            raise UserError(
                f'Galileo was never given {band} of {modality_name}, which token scheme "{scheme}" '
                f'groups: put it under "ignored"; it reads {", ".join(channels)}.'
            )
    for group in known[modality_name].groups:
        if group.channels == bands:
            return group
    return Group("_".join(bands), "", bands)


def token_title(group: Group) -> str:
    """What one token of a group stands for, e.g. ``"RGB (B02 B03 B04)"``."""
    derived = {name: pair for table in DERIVED.values() for name, pair in table.items()}
    names = [f"{c} of {' and '.join(derived[c])}" if c in derived else c for c in group.channels]
    return f"{group.title} ({' '.join(names)})" if group.title else " ".join(names)
