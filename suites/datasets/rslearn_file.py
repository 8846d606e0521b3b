"""A task on an rslearn data set, as its YAML says: layers, label, splits; with file and line.

It must know nothing of windows or pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models import config_file
from models.errors import did_you_mean
from models.sensors import MODALITIES
from suites.datasets.base import MAP_KINDS, TargetKind


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class RslearnLabel(_Strict):
    """A property of a vector layer, a band of a raster layer, or an option of windows."""

    layer: str | None = None
    property: str | list[str] | None = None
    band: str | None = None
    option: str | list[str] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> RslearnLabel:
        said = (self.layer is not None, self.property is not None, self.band is not None)
        in_layer = said in ((True, True, False), (True, False, True))
        if in_layer == (self.option is not None) or (self.option is not None and any(said)):
            raise ValueError(
                "say {layer: NAME, property: NAME} of a vector layer, {layer: NAME, band: NAME} "
                "of a raster layer, or {option: NAME} of windows"
            )
        return self


class ByOption(_Strict):
    """A window's option says ``train``, ``val`` or ``test``."""

    by: Literal["option"]
    key: str = "split"


class ByGroup(_Strict):
    """The group of a window is its split."""

    by: Literal["group"]


class ByPlace(_Strict):
    """Blocks of ``cell`` metres (units of the windows' projection) are dealt out whole."""

    by: Literal["location"]
    cell: float = Field(default=10_000, gt=0)


class AtRandom(_Strict):
    """At random, seeded."""

    by: Literal["seed"]


Split = Annotated[ByOption | ByGroup | ByPlace | AtRandom, Field(discriminator="by")]


class RslearnTask(_Strict):
    """The YAML of a task on an rslearn data set. Its path is relative to the file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str | None = None
    rslearn: Path = Field(description="folder with config.json and windows/")
    groups: list[str] | None = Field(
        default=None, min_length=1, description="only windows of these groups"
    )
    layers: dict[str, str] = Field(min_length=1, description="modality: raster layer")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="the first so many item groups; windows with fewer are left out",
    )
    kind: TargetKind = "classes"
    label: RslearnLabel
    classes: list[str] | None = Field(default=None, min_length=2)
    ignore: int | float | None = None
    side: int | None = Field(default=None, ge=1, description="pixels to which windows are brought")
    unit: str = ""
    level: Literal["L1C", "L2A"] = "L2A"
    licence: str = "see the source"
    split: Split = ByOption(by="option")
    fractions: tuple[float, float, float] = (0.5, 0.2, 0.3)


def is_rslearn(path: Path) -> bool:
    """Whether a task's file speaks of an rslearn data set."""
    return "rslearn" in config_file.read(path).data


def read_rslearn(path: Path) -> tuple[RslearnTask, config_file.Document]:
    """The task that a file describes. Raises `UserError` with file and line."""
    document = config_file.read(path)
    task = config_file.validate(RslearnTask, document)
    for modality in task.layers:
        if modality not in MODALITIES:
            hint = did_you_mean(modality, MODALITIES)
            raise document.error(("layers",), f'There is no modality "{modality}": {hint}.')
    if (task.kind in MAP_KINDS) != (task.label.band is not None):
        wanted = "a band of a raster layer" if task.kind in MAP_KINDS else "a property or an option"
        raise document.error(("label",), f"The label of kind {task.kind} must be {wanted}.")
    several = isinstance(task.label.property or task.label.option, list)
    if several != (task.kind == "labels"):
        wanted = "a list of names of 0 and 1" if task.kind == "labels" else "one name"
        raise document.error(("label",), f"The label of kind {task.kind} must be {wanted}.")
    if task.kind == "maps" and task.classes is None:
        raise document.error((), 'Maps need "classes" (their names, from 0).')
    if task.kind in ("values", "value_maps") and task.classes is not None:
        raise document.error(("classes",), 'Numbers have no "classes"; remove them.')
    if task.ignore is not None and task.kind not in MAP_KINDS:
        raise document.error(("ignore",), f'"ignore" is for kind: {" or ".join(MAP_KINDS)}.')
    if abs(sum(task.fractions) - 1) > 1e-6 or min(task.fractions) <= 0:
        raise document.error(
            ("fractions",), '"fractions" are shares of train, val and test, above 0, 1 in all.'
        )
    return task, document
