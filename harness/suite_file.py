"""What the YAML of a suite may say: tasks, probes, protocol, variants, as pydantic models.

`harness.suite` reads and resolves it. It must know nothing of how cells are computed, stored or
tracked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from harness.metrics import METRICS
from harness.model_input import MissingBands, Resize
from models.errors import did_you_mean
from models.registry import Option
from models.study_cards import RECIPE, checked_recipe
from suites.datasets import catalogue
from suites.datasets.base import TargetKind
from suites.datasets.entries import ENTRIES

Tier = Literal["official", "study", "random"]
Normalisation = Literal["pretraining", "dataset"]
Pooling = Literal["mean", "max"]
Precision = Literal["float32", "bfloat16"]


def _known_dataset(name: str) -> str:
    if name not in ENTRIES and not catalogue.is_own(name):
        raise ValueError(f'there is no data set "{name}": {did_you_mean(name, ENTRIES)}')
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
    """A linear layer from each patch's embedding to a class, or a number, for each of its pixels.

    ``kind``: "segmentation" of classes, "pixel_regression" of numbers; all else is the same.
    ``head``: "linear" gives each pixel of a patch logits of its own, "bilinear" one set a patch,
    enlarged. Learning rates (the published eight), normalisation and pooling over time and band
    groups are selected on the validation split. ``batch_size`` counts images.
    """

    kind: Literal["segmentation", "pixel_regression"]
    head: Literal["linear", "bilinear"] = "linear"
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=16, ge=2)


class AttentionProbe(_Strict):
    """A learned query attends over a sample's patch embeddings; then BatchNorm, one linear layer.

    Learning rates (the published eight), normalisation and pooling over time and band groups are
    selected on the validation split.
    """

    kind: Literal["attention"]
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=32, ge=2)


class FinetuneProbe(_Strict):
    """The encoder itself is trained, below one linear layer.

    Its weights are left alone for the first ``frozen`` share of the epochs. Learning rate,
    normalisation and pooling are tuned by Optuna on the validation split; a trial ends after
    ``patience`` epochs without a better score there, or when it falls behind the others.
    """

    kind: Literal["finetune"]
    trials: int = Field(default=8, ge=1, le=256)
    epochs: int = Field(default=50, ge=1)
    frozen: float = Field(default=0.2, ge=0, lt=1)
    patience: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=2)

    @property
    def frozen_epochs(self) -> int:
        """In whole epochs, of which at least one is left for the encoder."""
        return min(round(self.frozen * self.epochs), self.epochs - 1)


AnyProbe = KnnProbe | LinearProbe | SegmentationProbe | AttentionProbe | FinetuneProbe
_OF_SAMPLES = ("knn", "linear", "attention", "finetune")
PROBES_OF: Mapping[TargetKind, tuple[str, ...]] = {
    "classes": _OF_SAMPLES,
    "labels": _OF_SAMPLES,
    "values": _OF_SAMPLES,
    "maps": ("segmentation", "finetune"),
    "value_maps": ("pixel_regression", "finetune"),
}
"""Which probes can answer what a data set asks for."""

Probe = Annotated[AnyProbe, Field(discriminator="kind")]


class Protocol(_Strict):
    """What all tasks of a suite share; what `TaskEntry` has as well may be overridden there."""

    patch_size: int = Field(default=4, ge=1, le=8)
    normalisations: list[Normalisation] = Field(default=["pretraining", "dataset"], min_length=1)
    poolings: list[Pooling] = Field(default=["mean", "max"], min_length=1)
    precision: Precision = Field(
        default="float32",
        description="in which encoders take their products: bfloat16 is faster where the hardware "
        "is made for it; embeddings are kept as ever",
    )
    metric: MetricName | None = Field(
        default=None,
        description="of tasks that it can score; others have what the field reports: accuracy of "
        "classes, micro_f1 of labels, rmse of numbers, miou of maps, pixel_rmse of maps of numbers",
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
    split: Literal["auto", "published", "spatial", "seeded"] | None = Field(
        default=None, description="of eurosat: published lists, those by longitude, or drawn here"
    )
    size: int | None = Field(default=None, ge=100, description="tiles of the simulated set")
    dates: Literal["last", "both"] | None = Field(
        default=None, description="of bark-beetle: 2020 alone, or 2019 as well"
    )
    sensors: Literal["s1", "s2", "both"] | None = Field(
        default=None, description="of sen1floods11: Sentinel-1 (as published), Sentinel-2, or both"
    )
    test: Literal["published", "bolivia"] | None = Field(
        default=None, description="of sen1floods11: the published test chips, or one whole flood"
    )
    level: Literal["L1C", "L2A"] | None = Field(
        default=None, description="of breizhcrops: top of atmosphere, or surface reflectance"
    )
    task: Literal["togo", "kenya", "brazil", "crop"] | None = Field(
        default=None, description="of cropharvest: what is asked, and where"
    )
    side: int | None = Field(
        default=None, ge=1, description="pixels a side that are kept of each image, from its middle"
    )
    steps: int | None = Field(
        default=None, ge=1, description="time steps that are kept, evenly spread"
    )
    fallback: Literal["simulated"] | None = None


LabelFraction = Annotated[float, Field(gt=0, le=1)]


class Sweep(_Strict):
    """Axes along which a task is repeated: one task for every combination of values.

    The name of each gets a suffix for each axis (``-patch4``, ``-side32``, ``-steps6``,
    ``-labels0.1``): they multiply the tokens, or the labels.
    """

    patch_size: list[Annotated[int, Field(ge=1, le=8)]] | None = Field(default=None, min_length=1)
    side: list[Annotated[int, Field(ge=1)]] | None = Field(default=None, min_length=1)
    steps: list[Annotated[int, Field(ge=1)]] | None = Field(default=None, min_length=1)
    label_fraction: list[LabelFraction] | None = Field(default=None, min_length=1)


class TaskEntry(_Strict):
    """One task: a data set, a probe, and what departs from the suite's protocol."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    dataset: DatasetName
    data: DataOptions = DataOptions()
    probe: Probe
    patch_size: int | None = Field(default=None, ge=1, le=8)
    normalisations: list[Normalisation] | None = Field(default=None, min_length=1)
    poolings: list[Pooling] | None = Field(default=None, min_length=1)
    precision: Precision | None = None
    metric: MetricName | None = None
    label_fraction: LabelFraction | None = Field(
        default=None,
        description="share of the training labels that the probe gets, drawn anew for each seed",
    )
    sweep: Sweep | None = None
    optional: bool = Field(
        default=False,
        description="where the data directory does not hold its data, it is listed as not run and "
        "the rest goes on",
    )


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


class Selection(_Strict):
    """Variants by what they are, e.g. ``family == "olmoearth" and size in [nano, tiny]``.

    ``schemes``: each of them with these token schemes instead of its version's own.
    """

    select: str
    schemes: list[str] | None = Field(default=None, min_length=1)
    tier: Tier | None = None
    optional: bool = False


def _kind_of_entry(value: Any) -> str:
    """Which of the three an item of ``variants`` is, so that its mistakes are told as its own."""
    if isinstance(value, str):
        return "name"
    is_selection = isinstance(value, Selection) or (isinstance(value, dict) and "select" in value)
    return "selection" if is_selection else "entry"


class SuiteFile(_Strict):
    """The YAML of a suite, as written.

    ``include``: suites whose tasks come first, as they are written there but with this file's
    protocol; without variants of its own a suite has theirs (`harness.inclusion`).
    """

    include: list[str] = Field(
        default=[], description="suites by name, or YAML files relative to this"
    )
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
    variants: list[
        Annotated[
            Annotated[str, Tag("name")]
            | Annotated[VariantEntry, Tag("entry")]
            | Annotated[Selection, Tag("selection")],
            Discriminator(_kind_of_entry),
        ]
    ] = []
    baselines: list[str] = Field(
        default=DEFAULT_BASELINES,
        description="what every variant has to beat; random: the smallest untrained encoder of "
        "each family that takes part with trained weights",
    )
    tasks: list[TaskEntry] = []


def json_schema() -> dict[str, Any]:
    """JSON Schema of suite files, for editors."""
    return SuiteFile.model_json_schema()
