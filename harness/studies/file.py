"""What a study file may say: arms and their seeds, a setting for all, the suites that rank them.

`load_study` is the only way in. It must know nothing of data, of what is trained already, or of
how a training is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from harness.suite import SUITES_FOLDER, suite_path
from harness.suite_file import DatasetName, Seed
from models import config_file
from models.errors import UserError, did_you_mean
from models.pretraining.recipe import Recipe, Setting, load_recipe, load_setting, variant_of
from models.registry import Registry, Variant, load_registry

STUDIES_FOLDER = SUITES_FOLDER / "studies"
Found = TypeVar("Found")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmEntry(_Strict):
    """A recipe (its name, or a YAML file beside the study's) and the seeds to train it with."""

    recipe: str
    seeds: list[Seed] = Field(min_length=1)


class ProbeEntry(_Strict):
    """kNN on a data set's validation split, every so many samples: the learning curves."""

    dataset: DatasetName
    every: int = Field(default=20_000, ge=1)
    patch_size: int = Field(default=8, ge=1, le=8)
    fallback: Literal["simulated"] | None = None


class StudyFile(_Strict):
    """The YAML of a study, as written."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    setting: str
    size: str
    arms: list[ArmEntry] = Field(min_length=1)
    probe: ProbeEntry | None = None
    suites: list[str] = Field(min_length=1)
    registry: list[Path] = Field(default=[], description="further registry files, relative to this")


@dataclass(frozen=True)
class Arm:
    """One recipe of a study; ``given`` is its name, or its file, as a command takes it."""

    given: str
    recipe: Recipe
    variant: Variant
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """A validated study. ``setting_given``, ``suites``, ``registry``: as a command takes them."""

    name: str
    title: str
    setting_given: str
    setting: Setting
    size: str
    arms: tuple[Arm, ...]
    probe: ProbeEntry | None
    suites: tuple[str, ...]
    registry: tuple[Path, ...]


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in STUDIES_FOLDER.glob("*.yaml"))


def study_path(name_or_path: str) -> Path:
    """A shipped study's name, or the path of a YAML file. `UserError` for neither."""
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    if name_or_path not in study_names():
        hint = did_you_mean(name_or_path, study_names())
        raise UserError(
            f'There is no study "{name_or_path}": {hint}; or give the path of a YAML file.'
        )
    return STUDIES_FOLDER / f"{name_or_path}.yaml"


def load_study(path: Path, registry: Sequence[Path] = ()) -> Study:
    """Read, validate and resolve a study file. Raises `UserError` with file and line.

    ``registry``: registry files beside those that the study names.
    """
    document = config_file.read(path)
    file = config_file.validate(StudyFile, document)
    files = (*(path.parent / name for name in file.registry), *registry)
    variants = load_registry(files)
    here = _Here(document)
    setting_given = here.place(file.setting)
    arms: list[Arm] = []
    for i, entry in enumerate(file.arms):
        arm = here.at(("arms", i), partial(_arm, entry, here, file.size, variants))
        if any(arm.recipe.name == other.recipe.name for other in arms):
            raise document.error(
                ("arms", i),
                f'recipe "{arm.recipe.name}" stands twice; name it once, with all its seeds.',
            )
        arms.append(arm)
    for i, suite in enumerate(file.suites):
        here.at(("suites", i), partial(suite_path, here.place(suite)))
    return Study(
        name=file.name,
        title=file.title,
        setting_given=setting_given,
        setting=here.at(("setting",), partial(load_setting, setting_given)),
        size=file.size,
        arms=tuple(arms),
        probe=file.probe,
        suites=tuple(here.place(suite) for suite in file.suites),
        registry=files,
    )


@dataclass(frozen=True)
class _Here:
    """A study's file: names stand for themselves, paths are relative to it."""

    document: config_file.Document

    def place(self, given: str) -> str:
        if given.endswith((".yaml", ".yml")):
            return str(self.document.path.parent / given)
        return given

    def at(self, location: config_file.Location, find: Callable[[], Found]) -> Found:
        """What ``find`` finds; a mistake is told with the line that asked for it."""
        try:
            return find()
        except UserError as error:
            raise self.document.error(location, str(error)) from None


def _arm(entry: ArmEntry, here: _Here, size: str, registry: Registry) -> Arm:
    given = here.place(entry.recipe)
    recipe = load_recipe(given)
    _refuse_repeats(entry.seeds)
    return Arm(given, recipe, variant_of(recipe, size, registry), tuple(entry.seeds))


def _refuse_repeats(seeds: Sequence[int]) -> None:
    for i, seed in enumerate(seeds):
        if seed in seeds[:i]:
            raise UserError(f'"{seed}" stands twice among the seeds; remove one.')
