"""`chips.yaml`: what a folder of chips cannot say for itself, in its owner's words.

Band names in stored order, the order of axes, units, dates, origin. It is validated here and
becomes a `Layout`, which is all that the rest of the package sees of it. It must know nothing
of formats or pixels.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from models import config_file
from models.errors import did_you_mean
from models.sensors import MODALITIES
from suites.chips.names import IGNORED, canonical_name, passed_over
from suites.datasets.base import Origin
from suites.datasets.geobench import SPECS

SIDECAR = "chips.yaml"
GEOBENCH = tuple(
    name
    for name, spec in SPECS.items()
    if set(MODALITIES["sentinel2_l2a"].band_names) <= set(spec.corrected)
)
"""GEO-Bench's data sets that hold all bands of Sentinel-2."""

Date = tuple[int, int, int]
"""Day, month (0-based), year: the field's own timestamps."""


@dataclass(frozen=True)
class StoredModality:
    """How one modality is stored. ``None``: chips.yaml does not say.

    ``bands`` are canonical names in stored order, `IGNORED` for a channel that is passed over.
    ``dn = stored * units_per_dn + offset``; ``has_units`` tells a unit of 1 that somebody
    stated from one that nobody did.
    """

    bands: tuple[str, ...] | None = None
    axes: str | None = None
    units_per_dn: float = 1.0
    offset: float = 0.0
    has_units: bool = False


@dataclass(frozen=True)
class Layout:
    """All that is known of a folder before a file is opened.

    ``modalities`` are those the chips must have; with ``names_modalities`` false it is only
    what a single nameless array is taken for. ``steps`` maps a folder to the date of the time
    step that its files are; empty: every file is a chip of its own.
    """

    modalities: Mapping[str, StoredModality]
    names_modalities: bool = False
    dates: tuple[Date, ...] | None = None
    steps: Mapping[str, Date] = field(default_factory=dict)
    origin: Origin = "real"
    licence: str = "not stated"
    title: str | None = None
    ignore: tuple[str, ...] = ()
    geobench: str | None = None
    text: str = ""

    def stored(self, modality: str) -> StoredModality:
        """How a modality is stored, as far as chips.yaml says."""
        return self.modalities.get(modality, StoredModality())


def _date(value: Any) -> Any:
    """An ISO date (YAML reads it as one) as day, month (0-based), year."""
    if isinstance(value, datetime.date):
        return (value.day, value.month - 1, value.year)
    return value


def check_date(day: int, month: int, year: int) -> Date:
    """The date, if there is such a day; `ValueError` says what is expected otherwise."""
    try:
        datetime.date(year, month + 1, day)
    except (ValueError, OverflowError):
        raise ValueError(
            f"[{day}, {month}, {year}] is no date: give [day, month (0-based: July is 6), year]"
        ) from None
    return day, month, year


_Date = Annotated[Date, BeforeValidator(_date)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class _Stored(_Model):
    bands: list[str] | None = Field(default=None, min_length=1)
    axes: str | None = None
    units_per_dn: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)

    @field_validator("axes")
    @classmethod
    def _is_an_order(cls, axes: str | None) -> str | None:
        if axes is None:
            return None
        axes = axes.upper()
        inner = axes.removeprefix("N")
        if sorted(inner.replace("T", "", 1)) != sorted("DHW"):
            raise ValueError(
                "name each axis once: H (rows), W (columns), D (bands), T (time steps, if there "
                "is such an axis), with N (chips) first where a file holds many; e.g. HWD, DHW, "
                "HWTD, NHWTD"
            )
        return axes


class _Sidecar(_Stored):
    modality: str | None = None
    modalities: dict[str, _Stored] | None = Field(default=None, min_length=1)
    dates: list[_Date] | None = Field(default=None, min_length=1)
    steps: dict[str, _Date] | None = Field(default=None, min_length=1)
    origin: Literal["real", "simulated"] = "real"
    licence: str = "not stated"
    title: str | None = None
    ignore: list[str] = Field(default_factory=list)
    geobench: str | None = None


def read_layout(folder: Path) -> Layout:
    """What ``folder/chips.yaml`` says; the defaults where there is none.

    Raises `UserError` with file and line for a mistake in it.
    """
    path = folder / SIDECAR
    if not path.exists():
        return Layout({"sentinel2_l2a": StoredModality()})
    document = config_file.read(path)
    said = config_file.validate(_Sidecar, document)
    _refuse_contradictions(said, document)
    for location, date in _dates(said):
        try:
            check_date(*date)
        except ValueError as error:
            raise document.error(location, f"{error}.") from None
    if said.geobench is not None and said.geobench not in GEOBENCH:
        known = did_you_mean(said.geobench, GEOBENCH)
        raise document.error(("geobench",), f'"geobench" is "{said.geobench}": {known}.')
    return Layout(
        modalities=_modalities(said, document),
        names_modalities=said.modalities is not None,
        dates=None if said.dates is None else tuple(said.dates),
        steps={name.strip("/"): date for name, date in (said.steps or {}).items()},
        origin=said.origin,
        licence=said.licence,
        title=said.title,
        ignore=tuple(said.ignore),
        geobench=said.geobench,
        text=path.read_text(encoding="utf-8"),
    )


def _refuse_contradictions(said: _Sidecar, document: config_file.Document) -> None:
    for key in sorted(said.model_fields_set & {*_Stored.model_fields, "modality"}):
        if said.modalities is not None:
            raise document.error(
                (key,), f'"{key}" belongs below one of "modalities" when they are listed.'
            )
    if said.steps is not None and said.dates is not None:
        raise document.error(("dates",), '"steps" has the dates already: remove "dates".')


def _dates(said: _Sidecar) -> list[tuple[config_file.Location, Date]]:
    listed = [(("dates", i), date) for i, date in enumerate(said.dates or ())]
    return [*listed, *((("steps", name), date) for name, date in (said.steps or {}).items())]


def _modalities(said: _Sidecar, document: config_file.Document) -> dict[str, StoredModality]:
    if said.modalities is None:
        name = said.modality or "sentinel2_l2a"
        return {name: _modality(name, said, document, (), ("modality",))}
    return {
        name: _modality(name, stored, document, ("modalities", name), ("modalities", name))
        for name, stored in said.modalities.items()
    }


def _modality(
    name: str,
    stored: _Stored,
    document: config_file.Document,
    place: config_file.Location,
    named: config_file.Location,
) -> StoredModality:
    if name not in MODALITIES:
        known = did_you_mean(name, MODALITIES)
        raise document.error(named, f'unknown modality "{name}": {known}.')
    bands = None
    if stored.bands is not None:
        bands = _bands(name, stored.bands, document, (*place, "bands"))
    return StoredModality(
        bands,
        stored.axes,
        stored.units_per_dn,
        stored.offset,
        bool(stored.model_fields_set & {"units_per_dn", "offset"}),
    )


def _bands(
    modality: str, given: list[str], document: config_file.Document, place: config_file.Location
) -> tuple[str, ...]:
    names: list[str] = []
    needed = MODALITIES[modality].band_names
    for i, text in enumerate(given):
        name = IGNORED if text == IGNORED else canonical_name(modality, text)
        if name is None:
            allowed = [*needed, *passed_over(modality), IGNORED]
            raise document.error(
                (*place, i),
                f'{modality} has no band "{text}": {did_you_mean(text, allowed)} '
                f'("{IGNORED}" is a channel to pass over).',
            )
        if name != IGNORED and name in names:
            raise document.error((*place, i), f'"bands" lists {name} twice.')
        names.append(name)
    missing = [name for name in needed if name not in names]
    if missing:
        raise document.error(place, f'"bands" lacks {", ".join(missing)}, which {modality} needs.')
    return tuple(names)


def how_to_name(modality: str) -> str:
    """How to state the band order: the end of a sentence that asks for it."""
    first, second = sorted(MODALITIES[modality].band_names)[:2]
    return f"list them in stored order in {SIDECAR} in the folder (bands: [{first}, {second}, ...])"
