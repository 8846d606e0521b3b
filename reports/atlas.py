"""What the token-design atlas is drawn from: designs as plain data, and how it is kept on disk.

`harness.atlas` fills it from `models`; figures, tables and pages are functions of it. It must
know nothing of how a design is computed, nor of how it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

Axis = Literal["side", "steps", "patch_size"]
"""What varies: image side in pixels, time steps, patch size in pixels; the rest stays as given."""

Region = Literal[
    "atmosphere",
    "visible",
    "red edge",
    "near infrared",
    "short wave",
    "thermal",
    "radar",
    "derived",
    "other",
]
"""Part of the spectrum that a channel is in; "other" for one that no sensor here knows."""


@dataclass(frozen=True)
class Channel:
    """One channel of a modality.

    Args:
        name: e.g. ``"B8A"``.
        region: part of the spectrum.
        resolution: native ground resolution in metres; None for a derived channel.
        read: whether the model is given it; else it is left out on purpose.
        made_from: bands that a derived channel is computed from.
    """

    name: str
    region: Region
    resolution: float | None
    read: bool = True
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strip:
    """One modality of the input, its channels in the order of their wavelengths."""

    modality: str
    title: str
    height: int
    width: int
    steps: int
    channels: tuple[Channel, ...]


@dataclass(frozen=True)
class Kind:
    """Tokens of one kind, as `models.design.TokenKind` says."""

    name: str
    modality: str | None
    bands: tuple[str, ...]
    rows: int
    columns: int
    steps: int
    sequence: str

    @property
    def count(self) -> int:
        """How many tokens."""
        return self.rows * self.columns * self.steps


@dataclass(frozen=True)
class Macs:
    """MACs of one sample, by where they are spent."""

    patch_embedding: int
    linear: int
    attention: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.patch_embedding + self.linear + self.attention

    @property
    def attention_share(self) -> float:
        """Share of the two products whose cost grows with the square of the tokens."""
        return self.attention / self.total if self.total else 0.0


@dataclass(frozen=True)
class CurvePoint:
    """Closed forms at one value of an axis; bytes of activations None where no form is known."""

    axis: Axis
    value: int
    tokens: int
    macs: Macs
    activation_bytes: int | None


@dataclass(frozen=True)
class Measurement:
    """What a machine took at one value of an axis.

    Args:
        axis, value: as in `CurvePoint`.
        samples_per_second: throughput in batches.
        batch: samples per batch.
        peak_bytes: most bytes held at once for one sample, weights and images not counted.
    """

    axis: Axis
    value: int
    samples_per_second: float
    batch: int
    peak_bytes: int


@dataclass(frozen=True)
class Entry:
    """One variant's design at one input.

    ``params`` is None where nobody counted them; ``seen_by`` holds further variants' names
    once alike ones are merged (see `layouts`).
    """

    variant: str
    family: str
    version: str
    size: str
    scheme: str
    scheme_title: str
    dim: int
    depth: int
    heads: int
    patch_size: int
    strips: tuple[Strip, ...]
    kinds: tuple[Kind, ...]
    macs: Macs
    activation_bytes: int | None
    params: int | None
    curves: tuple[CurvePoint, ...]
    measured: tuple[Measurement, ...] = ()

    @property
    def tokens(self) -> int:
        """N, over all sequences."""
        return sum(kind.count for kind in self.kinds)

    @property
    def weights_bytes(self) -> int | None:
        """Parameters in float32."""
        return None if self.params is None else 4 * self.params

    @property
    def sequences(self) -> dict[str, tuple[Kind, ...]]:
        """Kinds by the sequence that they are in, in order."""
        found: dict[str, tuple[Kind, ...]] = {}
        for kind in self.kinds:
            found[kind.sequence] = (*found.get(kind.sequence, ()), kind)
        return found

    def curve(self, axis: Axis) -> tuple[CurvePoint, ...]:
        """Points of one axis."""
        return tuple(point for point in self.curves if point.axis == axis)


@dataclass(frozen=True)
class Refusal:
    """A variant that cannot be shown at the input asked for, and why."""

    variant: str
    reason: str


@dataclass(frozen=True)
class Atlas:
    """Designs at one input.

    Args:
        entries: in the order to be shown.
        refused: what cannot be shown.
        height, width, steps, patch_size: the input asked for.
        machine: where throughput and memory were measured, e.g. processor and cores; empty
            when nothing was.
    """

    entries: tuple[Entry, ...]
    refused: tuple[Refusal, ...] = ()
    height: int = 0
    width: int = 0
    steps: int = 0
    patch_size: int = 0
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def families(self) -> dict[str, tuple[Entry, ...]]:
        """Entries by family, in order."""
        found: dict[str, tuple[Entry, ...]] = {}
        for entry in self.entries:
            found[entry.family] = (*found.get(entry.family, ()), entry)
        return found

    @property
    def is_measured(self) -> bool:
        """Whether any entry has measurements."""
        return any(entry.measured for entry in self.entries)


@dataclass(frozen=True)
class Design:
    """A layout that several entries share: one drawing for all of them."""

    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        """The entry that is drawn."""
        return self.entries[0]

    @property
    def name(self) -> str:
        """Family, versions and scheme, e.g. ``"olmoearth v1.1, v1.2 · single"``."""
        versions = ", ".join(dict.fromkeys(e.version for e in self.entries))
        schemes = ", ".join(dict.fromkeys(e.scheme for e in self.entries))
        return f"{self.first.family} {versions} · {schemes}"

    @property
    def title(self) -> str:
        """What the scheme's author says of it."""
        return self.first.scheme_title


def layouts(entries: tuple[Entry, ...]) -> tuple[Design, ...]:
    """Entries of one family that cut a sample alike, together; sizes do not matter."""

    def cut(entry: Entry) -> tuple[object, ...]:
        return entry.family, entry.scheme, entry.strips, entry.kinds

    order = list(dict.fromkeys(map(cut, entries)))
    ranked = sorted(entries, key=lambda e: order.index(cut(e)))
    return tuple(
        Design(tuple(alike)) for _, alike in groupby(ranked, key=lambda e: order.index(cut(e)))
    )
