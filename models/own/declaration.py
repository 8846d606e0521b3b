"""What a user's class says of itself: bands, statistics, patch sizes, where its weights are from.

Attributes of an instance (so that they may depend on options), each with a default but the
bands; all are checked, and a mistake is one sentence. docs/own-model.md is their reference.
It must not import a tensor library: a declaration is kept as plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from models.errors import UserError, did_you_mean
from models.sensors import DERIVED, modality

DEFAULT_MODALITY = "sentinel2_l2a"
# The cirrus band, which only Level-1C products hold and no family of the registry reads.
ALSO_STORED = {"sentinel2_l2a": ("B10",)}
LEVELS = ("L1C", "L2A", "any")
LARGEST_PATCH = 8


@dataclass(frozen=True)
class Declaration:
    """A class's attributes, checked. Statistics are mean and standard deviation per band."""

    name: str
    bands: dict[str, tuple[str, ...]]
    statistics: dict[str, tuple[tuple[float, float], ...]]
    optional: tuple[str, ...]
    groups: dict[str, tuple[tuple[str, ...], ...]]
    patch_sizes: tuple[int, ...]
    max_steps: int
    sides: tuple[int, ...]
    native_side: int | None
    level: str
    weights: str | None
    licence: str
    counts_itself: bool

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; `from_plain` reads it back."""
        return asdict(self)

    @staticmethod
    def from_plain(data: Mapping[str, Any]) -> Declaration:
        """What `plain` gave."""
        by_band = {name: _tuples(data[name]) for name in ("bands", "statistics", "groups")}
        lists = {name: tuple(data[name]) for name in ("optional", "patch_sizes", "sides")}
        return Declaration(**{**data, **by_band, **lists})


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, list | tuple) else value


def declared_by(model: object, shown: str) -> Declaration:
    """Read and check the attributes of a model called ``shown``. Raises `UserError`."""
    read = _Reader(model, shown)
    bands = read.bands()
    return Declaration(
        name=read.name(),
        bands=bands,
        statistics=read.statistics(bands),
        optional=read.optional(bands),
        groups=read.groups(bands),
        patch_sizes=read.integers("patch_sizes", tuple(range(1, LARGEST_PATCH + 1)), LARGEST_PATCH),
        max_steps=read.integers("max_steps", (12,), 10_000)[0],
        sides=read.integers("sides", (), 100_000),
        native_side=next(iter(read.integers("native_side", (), 100_000)), None),
        level=read.level(),
        weights=read.text("weights"),
        licence=read.text("licence") or "the user's own",
        counts_itself=callable(getattr(model, "macs", None)),
    )


class _Reader:
    def __init__(self, model: object, shown: str) -> None:
        self.model, self.shown = model, shown

    def get(self, attribute: str) -> Any:
        return getattr(self.model, attribute, None)

    def refuse(self, attribute: str, why: str) -> UserError:
        return UserError(f"{self.shown}: {attribute} {why}.")

    def text(self, attribute: str) -> str | None:
        value = self.get(attribute)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise self.refuse(attribute, f"must be text, not {value!r}")
        return " ".join(value.split()) if value is not None else None

    def name(self) -> str:
        name = self.text("name") or type(self.model).__name__
        if any(character.isspace() or character in ':@,="|' for character in name):
            raise self.refuse("name", f'is "{name}"; it holds no spaces and none of : @ , = " |')
        return name

    def bands(self) -> dict[str, tuple[str, ...]]:
        given = self.get("bands")
        if given is None:
            raise self.refuse(
                "bands", 'is missing; say which it reads, e.g. bands = {"sentinel2_l2a": ["B04"]}'
            )
        if not isinstance(given, Mapping):
            given = {DEFAULT_MODALITY: given}
        found = {str(name): self._band_list("bands", name, each) for name, each in given.items()}
        if not found:
            raise self.refuse("bands", "names none")
        return found

    def _band_list(self, attribute: str, name: str, given: Any) -> tuple[str, ...]:
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise self.refuse(attribute, f"must list the bands of {name}, not {given!r}")
        try:
            known = modality(name).band_names
        except UserError as error:
            raise self.refuse(attribute, f"cannot be read: {str(error).rstrip('.')}") from None
        allowed = (*known, *DERIVED.get(name, {}), *ALSO_STORED.get(name, ()))
        for band in given:
            if band not in allowed:
                hint = did_you_mean(str(band), allowed)
                raise self.refuse(attribute, f'names "{band}", which {name} has not: {hint}')
            if list(given).count(band) > 1:
                raise self.refuse(attribute, f'names "{band}" twice')
        return tuple(given)

    def statistics(
        self, bands: Mapping[str, tuple[str, ...]]
    ) -> dict[str, tuple[tuple[float, float], ...]]:
        given = self.get("statistics")
        if given is None:
            return {}
        every = [band for each in bands.values() for band in each]
        if not isinstance(given, Mapping):
            raise self.refuse("statistics", "must be a mapping of bands to (mean, deviation)")
        for band in given:
            if band not in every:
                raise self.refuse("statistics", f'names "{band}", which is not among its bands')
        for band in every:
            pair = given.get(band)
            if pair is None:
                raise self.refuse("statistics", f"lacks band {band}; give all, or none")
            if not (
                isinstance(pair, Sequence)
                and len(pair) == 2
                and all(isinstance(value, Real) for value in pair)
                and pair[1] > 0
            ):
                raise self.refuse(
                    "statistics", f"of {band} must be (mean, deviation above 0), not {pair!r}"
                )
        return {
            name: tuple((float(given[b][0]), float(given[b][1])) for b in each)
            for name, each in bands.items()
        }

    def optional(self, bands: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        given = self.get("optional") or ()
        names = (given,) if isinstance(given, str) else tuple(given)
        for name in names:
            if name not in bands:
                raise self.refuse("optional", f'names "{name}": {did_you_mean(str(name), bands)}')
        return names

    def groups(
        self, bands: Mapping[str, tuple[str, ...]]
    ) -> dict[str, tuple[tuple[str, ...], ...]]:
        given = self.get("groups")
        if given is None:
            return {name: (each,) for name, each in bands.items()}
        if not isinstance(given, Mapping):
            given = {next(iter(bands)): given}
        found: dict[str, tuple[tuple[str, ...], ...]] = {name: (b,) for name, b in bands.items()}
        for name, lists in given.items():
            if name not in bands:
                raise self.refuse("groups", f'names "{name}": {did_you_mean(str(name), bands)}')
            found[name] = tuple(self._band_list("groups", name, group) for group in lists)
            if sorted(band for group in found[name] for band in group) != sorted(bands[name]):
                raise self.refuse("groups", f"must hold each of the bands of {name} exactly once")
        return found

    def integers(self, attribute: str, default: tuple[int, ...], most: int) -> tuple[int, ...]:
        given = self.get(attribute)
        if given is None:
            return default
        values = (given,) if isinstance(given, int) else tuple(given)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise self.refuse(attribute, f"holds {value!r}; allowed: integers from 1 to {most}")
        if not values:
            raise self.refuse(attribute, "is empty")
        return values

    def level(self) -> str:
        level = self.text("level") or "any"
        if level not in LEVELS:
            raise self.refuse("level", f'is "{level}": {did_you_mean(level, LEVELS)}')
        return level
