"""A task in an `rslearn` data set, as its YAML says: layers, labels, splits. Checked line by line.

It must know nothing of how such a data set lies on disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models import config_file
from models.errors import did_you_mean
from models.sensors import MODALITIES
from suites.datasets.base import MAP_KINDS, TargetKind


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Parts(_Strict):
    """Which values stand for train, val and test; one or several each."""

    train: str | list[str]
    val: str | list[str]
    test: str | list[str]


class ByOption(_Strict):
    """An option of each window (in its metadata.json) says its part."""

    by: Literal["option"]
    key: str = "split"
    names: Parts | None = None


class ByGroup(_Strict):
    """The group of each window says its part."""

    by: Literal["group"]
    names: Parts | None = None


class ByLocation(_Strict):
    """Blocks of ``cell`` metres (units of the windows' projection) are dealt out whole."""

    by: Literal["location"]
    cell: float = Field(default=10_000, gt=0)


class BySeed(_Strict):
    """At random, seeded; windows with the same value of the option ``together`` stay together."""

    by: Literal["seed"]
    together: str | None = None


class Label(_Strict):
    """Where the label is: a vector layer's property, a raster layer's band, a window's option.

    Of ``labels`` a list of properties or options that are 0 or 1, or one whose values are labels.
    """

    layer: str | None = None
    property: str | list[str] | None = None
    band: str | None = None
    option: str | list[str] | None = None


Split = Annotated[ByOption | ByGroup | ByLocation | BySeed, Field(discriminator="by")]


class RslearnTask(_Strict):
    """The YAML of a task in an `rslearn` data set. The folder is relative to the file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str | None = None
    rslearn: Path = Field(description="folder with config.json and windows/")
    groups: list[str] | None = Field(default=None, description="of windows; default: all")
    layers: dict[str, str | list[str]] = Field(
        min_length=1,
        description="modality: a layer (all its item groups are time steps), or a list of item "
        "groups (sentinel2, sentinel2.1)",
    )
    bands: dict[str, list[str]] = Field(
        default={}, description="modality: the bands to read, as the layer names them"
    )
    steps: int | None = Field(
        default=None, ge=1, description="time steps of each sample; windows with fewer are left out"
    )
    order: Literal["stored", "time"] = Field(
        default="stored", description="time: sort the steps by date"
    )
    radar: Literal["decibels", "power"] = "decibels"
    units_per_dn: float = Field(default=1.0, gt=0)
    label: Label
    kind: TargetKind = "classes"
    classes: list[str] | None = Field(default=None, min_length=2)
    ignore: int | float | None = None
    side: int | None = Field(default=None, ge=1, description="pixels to which windows are brought")
    unit: str = ""
    level: Literal["L1C", "L2A"] = "L2A"
    licence: str = "see the source"
    split: Split = ByOption(by="option")
    fractions: tuple[float, float, float] = (0.5, 0.2, 0.3)


def names_of(label: Label) -> tuple[str, ...]:
    """The properties or options that a label is read from."""
    said = label.property or label.option or ()
    return (said,) if isinstance(said, str) else tuple(said)


def is_list(label: Label) -> bool:
    """Whether each of its names is a label of its own."""
    return isinstance(label.property or label.option, list)


def is_rslearn(path: Path) -> bool:
    """Whether a task's file speaks of an rslearn data set."""
    return "rslearn" in config_file.read(path).data


def read_rslearn(path: Path) -> tuple[RslearnTask, config_file.Document]:
    """The task that a file describes. Raises `UserError` with file and line."""
    document = config_file.read(path)
    task = config_file.validate(RslearnTask, document)
    for section, names in (("layers", task.layers), ("bands", task.bands)):
        for name in names:
            if name not in MODALITIES:
                hint = did_you_mean(name, MODALITIES)
                raise document.error((section, name), f'Unknown modality "{name}": {hint}.')
    strange = [name for name in task.bands if name not in task.layers]
    if strange:
        raise document.error(
            ("bands", strange[0]), f'"bands" names {strange[0]}, which "layers" does not.'
        )
    _check_label(task, document)
    if abs(sum(task.fractions) - 1) > 1e-6 or min(task.fractions) <= 0:
        raise document.error(
            ("fractions",), '"fractions" are shares of train, val and test, above 0, 1 in all.'
        )
    return task, document


def _check_label(task: RslearnTask, document: config_file.Document) -> None:
    label = task.label
    where = ("label",)
    if (label.layer is None) == (not label.option):
        raise document.error(where, '"label" needs a "layer" or an "option" of the windows.')
    of_maps = task.kind in MAP_KINDS
    if of_maps and (label.layer is None or label.property is not None):
        raise document.error(
            where, f'Of kind {task.kind}, "label" is a raster layer and, of several, its band.'
        )
    if not of_maps and (label.band is not None or (label.layer and not label.property)):
        raise document.error(
            where, f'Of kind {task.kind}, "label" is a vector layer and its property.'
        )
    if is_list(label) and task.kind != "labels":
        raise document.error(
            where,
            f'Of kind {task.kind}, "label" names one {"property" if label.layer else "option"}.',
        )
    if not of_maps and task.ignore is not None:
        raise document.error(("ignore",), f'"ignore" is for kind: {" or ".join(MAP_KINDS)}.')
    if task.kind == "maps" and isinstance(task.ignore, float):
        raise document.error(("ignore",), '"ignore" of kind maps must be a whole number.')
    if task.kind in ("values", "value_maps") and task.classes is not None:
        raise document.error(("classes",), 'Numbers have no "classes"; remove them.')
