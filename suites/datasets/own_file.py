"""A task of the user's own, as its YAML says: chips, labels, splits. Validated with file and line.

It must know nothing of pixels or of how labels are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models import config_file
from suites.datasets.base import MAP_KINDS, TargetKind


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class ByColumn(_Strict):
    """A column of the labels says ``train``, ``val`` or ``test``."""

    by: Literal["column"]
    column: str = "split"


class ByLocation(_Strict):
    """Blocks of ``cell`` degrees are dealt out whole, so that most neighbours stay together."""

    by: Literal["location"]
    cell: float = Field(default=0.1, gt=0, le=90)
    lon: str = "lon"
    lat: str = "lat"


class BySeed(_Strict):
    """At random, seeded; what has the same value in ``together`` stays together."""

    by: Literal["seed"]
    together: str | None = None


Split = Annotated[ByColumn | ByLocation | BySeed, Field(discriminator="by")]


class OwnTask(_Strict):
    """The YAML of a task of one's own. Paths are relative to the file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str | None = None
    chips: Path = Field(description="folder of images; chips.yaml in it says what they cannot")
    labels: Path = Field(description="CSV, Parquet or GeoJSON: a row for each chip")
    id: str = Field(default="id", description="column that names the chip's file")
    kind: TargetKind = "classes"
    label: str | list[str] = Field(
        default="label",
        description="column of the class or number; of labels, a column of 0 and 1 for each",
    )
    masks: Path | None = Field(
        default=None, description="of maps and value_maps: folder with a mask for each chip"
    )
    classes: list[str] | None = Field(default=None, min_length=2)
    ignore: int | float | None = Field(
        default=None, description="value of masks that is not asked about; of numbers NaN never is"
    )
    side: int | None = Field(default=None, ge=8, description="pixels to which chips are brought")
    unit: str = ""
    level: Literal["L1C", "L2A"] = "L2A"
    split: Split = BySeed(by="seed")
    fractions: tuple[float, float, float] = (0.5, 0.2, 0.3)


def read_own(path: Path) -> tuple[OwnTask, config_file.Document]:
    """The task that a file describes. Raises `UserError` with file and line."""
    document = config_file.read(path)
    task = config_file.validate(OwnTask, document)
    many = isinstance(task.label, list)
    if many != (task.kind == "labels"):
        wanted = "a list of columns, one for each label" if task.kind == "labels" else "one column"
        raise document.error(("label",), f'"label" of kind {task.kind} must be {wanted}.')
    if task.kind == "maps" and (task.masks is None or task.classes is None):
        raise document.error(
            (), 'Maps need "masks" (a folder) and "classes" (their names, from 0).'
        )
    if task.kind == "maps" and isinstance(task.ignore, float):
        raise document.error(("ignore",), '"ignore" of kind maps must be a whole number.')
    if task.kind == "value_maps" and task.masks is None:
        raise document.error((), 'Maps of numbers need "masks" (a folder).')
    if task.kind not in MAP_KINDS and (task.masks is not None or task.ignore is not None):
        raise document.error(
            (), f'"masks" and "ignore" are for kind: {" or ".join(MAP_KINDS)}, not {task.kind}.'
        )
    if task.kind in ("values", "value_maps") and task.classes is not None:
        raise document.error(("classes",), 'Numbers have no "classes"; remove them.')
    if abs(sum(task.fractions) - 1) > 1e-6 or min(task.fractions) <= 0:
        raise document.error(
            ("fractions",), '"fractions" are shares of train, val and test, above 0, 1 in all.'
        )
    return task, document
