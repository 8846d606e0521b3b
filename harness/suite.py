"""What a suite file may say: tasks, variants, protocol, seeds; validated with file and line.

`load_suite` is the only way in. A `Suite` is plain frozen data; `plan.py` expands it.
It must know nothing of how cells are computed, stored or tracked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from harness.entrants import Entrant, entrants_of
from harness.metrics import METRICS, metrics_of
from harness.model_input import InputPolicy, MissingBands, Resize
from models import config_file
from models.errors import UserError, did_you_mean
from models.registry import Option, load_registry
from models.study_cards import RECIPE, checked_recipe
from suites.datasets import catalogue
from suites.datasets.base import KIND_WORDS

SUITES_FOLDER = Path(__file__).parent.parent / "suites"

Tier = Literal["official", "study", "random"]
Normalisation = Literal["pretraining", "dataset"]
Pooling = Literal["mean", "max"]


def _known_dataset(name: str) -> str:
    if name not in catalogue.ENTRIES and not catalogue.is_own(name):
        raise ValueError(f'there is no data set "{name}": {did_you_mean(name, catalogue.ENTRIES)}')
    return name


DatasetName = Annotated[
    str,
    AfterValidator(_known_dataset),
    Field(description="a known data set, or a task of your own: a YAML file, relative to this"),
]


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f'there is no metric "{name}": {did_you_mean(name, METRICS)}')
    return name


MetricName = Annotated[
    str, AfterValidator(_known_metric), Field(json_schema_extra={"enum": list(METRICS)})
]
DEFAULT_BASELINES = [
    "baseline-statistics-mean_std",
    "baseline-projection-512",
    "baseline-convolutions-512",
    "random",
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
RecipeName = Annotated[str, Field(pattern=RECIPE), AfterValidator(checked_recipe)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KnnProbe(_Strict):
    """k nearest neighbours among the training embeddings; nothing is trained.

    The defaults are OlmoEarth's protocol; torchgeo-bench's is ``k: 5, metric: l2,
    weights: uniform``. Normalisation and pooling are selected on the validation split.
    """

    kind: Literal["knn"]
    k: int = Field(default=20, ge=1)
    metric: Literal["cosine", "l2"] = "cosine"
    weights: Literal["exp", "uniform"] = "exp"
    temperature: float = Field(default=0.07, gt=0)


class LinearProbe(_Strict):
    """BatchNorm and one linear layer, tuned by Optuna on the validation split."""

    kind: Literal["linear"]
    trials: int = Field(default=64, ge=1, le=4096)
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=32, ge=2)


class SegmentationProbe(_Strict):
    """A linear layer from each patch's embedding to a class for each of its pixels.

    ``head``: "linear" gives each pixel of a patch logits of its own, "bilinear" one set a patch,
    enlarged. Learning rates (the published eight), normalisation and pooling over time and band
    groups are selected on the validation split. ``batch_size`` counts images.
    """

    kind: Literal["segmentation"]
    head: Literal["linear", "bilinear"] = "linear"
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=16, ge=2)


AnyProbe = KnnProbe | LinearProbe | SegmentationProbe
Probe = Annotated[AnyProbe, Field(discriminator="kind")]


class Protocol(_Strict):
    """What all tasks of a suite share; each may be overridden per task."""

    patch_size: int = Field(default=4, ge=1, le=8)
    normalisations: list[Normalisation] = Field(default=["pretraining", "dataset"], min_length=1)
    poolings: list[Pooling] = Field(default=["mean", "max"], min_length=1)
    metric: MetricName | None = Field(
        default=None,
        description="of tasks that it can score; others have what the field reports: accuracy of "
        "classes, micro_f1 of labels, rmse of numbers, miou of maps",
    )
    split_seed: Seed = 0
    bootstrap: int = Field(default=1000, ge=100, le=100_000)
    missing_bands: MissingBands = Field(
        default="refuse",
        description="a band that a model needs and the data lack: refuse the cell, or copy the "
        "band nearest in wavelength (recorded)",
    )
    resize: Resize = Field(
        default="refuse",
        description="images that a patch size does not divide: refuse the cell, or enlarge them "
        '("fit"); "native" brings them to the side that each model was pretrained with',
    )


class DataOptions(_Strict):
    """Choices within a data set; one that the data set does not know is refused."""

    # m-eurosat's last five arrays are misnamed as published; "as-published" keeps that,
    # only to reproduce numbers that were measured so.
    band_order: Literal["corrected", "as-published"] | None = None
    partition: str | None = Field(default=None, description="GEO-Bench's share of labels")
    split: Literal["auto", "published", "seeded"] | None = None
    size: int | None = Field(default=None, ge=100, description="tiles of the simulated set")
    dates: Literal["last", "both"] | None = Field(
        default=None, description="of bark-beetle: 2020 alone, or 2019 as well"
    )
    fallback: Literal["simulated"] | None = None


class TaskEntry(_Strict):
    """One task: a data set, a probe, and what departs from the suite's protocol."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    dataset: DatasetName
    data: DataOptions = DataOptions()
    probe: Probe
    patch_size: int | None = Field(default=None, ge=1, le=8)
    normalisations: list[Normalisation] | None = Field(default=None, min_length=1)
    poolings: list[Pooling] | None = Field(default=None, min_length=1)
    metric: MetricName | None = None


class VariantEntry(_Strict):
    """A variant in another tier than the suite's, or with weights from a folder or file.

    ``recipe``: whose study weights; without it, those of the variant's main recipe, or whatever
    ``weights`` hold. ``{seed}`` in the place of study weights is the suite's seed.
    ``optional``: when its weights cannot be had it is listed as not run, and the rest goes on.
    """

    variant: str = Field(description="a registry's variant, module:Class or path/file.py:Class")
    options: dict[str, Option] = Field(
        default={}, description="arguments of the constructor of a class of your own"
    )
    tier: Tier | None = None
    recipe: RecipeName | None = Field(
        default=None, description="the recipe that study weights were pretrained by"
    )
    weights: Path | None = Field(
        default=None,
        description="folder or file; of study weights, {seed} in it stands for the suite's seed",
    )
    optional: bool = False


class SuiteFile(_Strict):
    """The YAML of a suite, as written."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    description: str = ""
    registry: list[Path] = Field(default=[], description="further registry files, relative to this")
    protocol: Protocol = Protocol()
    tier: Tier = "random"
    study: str | None = Field(
        default=None,
        description="the study whose weights its study variants have, as `tokenrank study` leaves "
        "them: ./pretrained/<recipe>-<size>/seed-<seed>",
    )
    mix_tiers: bool = False
    seeds: list[Seed] = Field(default=[0], min_length=1)
    variants: list[str | VariantEntry] = Field(min_length=1)
    baselines: list[str] = Field(
        default=DEFAULT_BASELINES,
        description="what every variant has to beat; random: the smallest untrained encoder of "
        "each family that takes part with trained weights",
    )
    tasks: list[TaskEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Task:
    """A task with every setting resolved."""

    name: str
    dataset: str
    data: DataOptions
    probe: AnyProbe
    patch_size: int
    normalisations: tuple[str, ...]
    poolings: tuple[str, ...]
    metric: str
    split_seed: int
    bootstrap: int
    policy: InputPolicy


@dataclass(frozen=True)
class Suite:
    """A validated suite, ready to be planned."""

    name: str
    title: str
    description: str
    path: Path
    tasks: tuple[Task, ...]
    entrants: tuple[Entrant, ...]
    seeds: tuple[int, ...]
    mix_tiers: bool


@dataclass(frozen=True)
class Overrides:
    """What the command line may change of a suite file; ``None`` leaves it as written."""

    variants: tuple[str, ...] | None = None
    tier: str | None = None
    seeds: tuple[int, ...] | None = None
    patch_size: int | None = None
    registry: tuple[Path, ...] = ()
    weights: tuple[tuple[str, Path], ...] = ()


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in SUITES_FOLDER.glob("*.yaml"))


def suite_path(name_or_path: str) -> Path:
    """A shipped suite's name, or the path of a YAML file. `UserError` for neither."""
    if name_or_path.endswith((".yaml", ".yml")) or os.sep in name_or_path:
        return Path(name_or_path)
    if name_or_path not in suite_names():
        hint = did_you_mean(name_or_path, suite_names())
        raise UserError(
            f'There is no suite "{name_or_path}": {hint}; or give the path of a YAML file.'
        )
    return SUITES_FOLDER / f"{name_or_path}.yaml"


def load_suite(path: Path, overrides: Overrides = Overrides()) -> Suite:
    """Read, validate and resolve a suite file. Raises `UserError` with file and line."""
    document = config_file.read(path)
    file = config_file.validate(SuiteFile, document)
    _refuse_repeats(document, "tasks", [task.name for task in file.tasks])
    _refuse_repeats(document, "seeds", file.seeds)
    registry = load_registry([*(path.parent / p for p in file.registry), *overrides.registry])
    entrants = entrants_of(file, _listed(file, overrides), document, registry, overrides)
    return Suite(
        name=file.name,
        title=file.title,
        description=" ".join(file.description.split()),
        path=path,
        tasks=tuple(
            _task(
                _placed(entry, path.parent),
                file.protocol,
                overrides.patch_size,
                partial(document.error, ("tasks", i)),
            )
            for i, entry in enumerate(file.tasks)
        ),
        entrants=entrants,
        seeds=overrides.seeds if overrides.seeds is not None else tuple(file.seeds),
        mix_tiers=file.mix_tiers,
    )


def _refuse_repeats(
    document: config_file.Document, key: str, names: Sequence[str] | Sequence[int]
) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise document.error((key, i), f'"{name}" stands twice among the {key}; remove one.')


def _task(
    entry: TaskEntry,
    protocol: Protocol,
    patch_size: int | None,
    error: Callable[[str], UserError],
) -> Task:
    _refuse_probe(entry, error)
    return Task(
        name=entry.name,
        dataset=entry.dataset,
        data=entry.data,
        probe=entry.probe,
        patch_size=patch_size or entry.patch_size or protocol.patch_size,
        normalisations=tuple(entry.normalisations or protocol.normalisations),
        poolings=tuple(entry.poolings or protocol.poolings),
        metric=_metric(entry, protocol, error),
        split_seed=protocol.split_seed,
        bootstrap=protocol.bootstrap,
        policy=InputPolicy(protocol.missing_bands, protocol.resize),
    )


def _placed(entry: TaskEntry, folder: Path) -> TaskEntry:
    """A task of one's own lies beside its suite."""
    if not catalogue.is_own(entry.dataset):
        return entry
    return entry.model_copy(update={"dataset": str(folder / entry.dataset)})


def _refuse_probe(entry: TaskEntry, error: Callable[[str], UserError]) -> None:
    kind = catalogue.kind_of(entry.dataset)
    if isinstance(entry.probe, SegmentationProbe) != (kind == "maps"):
        allowed = "segmentation" if kind == "maps" else "knn, linear"
        raise error(
            f'Probe "{entry.probe.kind}" cannot answer what {entry.dataset} asks for '
            f"({KIND_WORDS[kind]}); allowed: {allowed}."
        )


def _metric(entry: TaskEntry, protocol: Protocol, error: Callable[[str], UserError]) -> str:
    """The task's own; else the protocol's, where it can score such targets; else the field's."""
    kind = catalogue.kind_of(entry.dataset)
    allowed = metrics_of(kind)
    if entry.metric is not None and entry.metric not in allowed:
        raise error(
            f'"{entry.metric}" cannot score what {entry.dataset} asks for ({KIND_WORDS[kind]}); '
            f"allowed: {', '.join(allowed)}."
        )
    return entry.metric or (protocol.metric if protocol.metric in allowed else None) or allowed[0]


def _listed(file: SuiteFile, overrides: Overrides) -> list[tuple[VariantEntry, bool]]:
    """Entries to run, and whether each is written in the file.

    A variant named on the command line runs as the file has it (tier, weights, options) if the
    file has it, and is no longer optional; else as the suite's default. ``name@recipe`` is the
    variant with that recipe's study weights; the plain name stands for all that the file has.
    """
    written = [VariantEntry(variant=v) if isinstance(v, str) else v for v in file.variants]
    if not overrides.variants:
        return [(entry, True) for entry in written]
    found: list[tuple[VariantEntry, bool]] = []
    for name in overrides.variants:
        mine = [e for e in written if name in (e.variant, f"{e.variant}@{e.recipe}")]
        found += [(entry.model_copy(update={"optional": False}), True) for entry in mine]
        found += [] if mine else [(_named(name), False)]
    return found


def _named(name: str) -> VariantEntry:
    """A variant of the command line that the file does not have."""
    variant, at, recipe = name.partition("@")
    if not at:
        return VariantEntry(variant=name)
    try:
        return VariantEntry(variant=variant, tier="study", recipe=recipe)
    except ValidationError:
        raise UserError(
            f'--variant "{name}" names no recipe after its "@"; write the name of a variant '
            "alone, or with a recipe of study weights."
        ) from None


def json_schema() -> dict[str, Any]:
    """JSON Schema of suite files, for editors."""
    return SuiteFile.model_json_schema()
