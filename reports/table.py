"""The table that every report is made from: plain frames and a few facts, nothing live.

Ranking, figures and pages are pure functions of `SuiteResults`. It must know nothing
of how cells are computed or stored: `harness` fills it, and it can be written to a
folder and read back on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from reports.atlas import Atlas
from reports.samples import Samples

VARIANT_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "family": pl.String(),
    "version": pl.String(),
    "size": pl.String(),
    "scheme": pl.String(),
    "tier": pl.String(),
    "licence": pl.String(),
    "groups": pl.Int64(),
    "params": pl.Int64(),
    "tokens": pl.Float64(),  # mean over the suite's tasks
    "macs": pl.Float64(),  # per sample, mean over the suite's tasks; attention included
    "macs_patch_embedding": pl.Float64(),
    "macs_linear": pl.Float64(),
    "macs_attention": pl.Float64(),
    "weights_hash": pl.String(),
    # Forward pass in GFLOPs as an imported table states it, mean over its tasks; null for own
    # runs. Its counter is the source's, so it is never mixed with the MACs above.
    "published_gflops": pl.Float64(),
    # By which study weights were pretrained; null for others. More is in `RunInfo.study`.
    "recipe": pl.String(),
}

SCORE_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "task": pl.String(),
    "seed": pl.Int64(),  # null: one published number, which stands for every seed
    "score": pl.Float64(),
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "val_score": pl.Float64(),
    "tokens": pl.Int64(),
    "macs": pl.Float64(),
    "chosen": pl.String(),  # what the probe's tuning settled on, e.g. "lr=0.004, pooling=mean"
    "cell": pl.String(),  # content key
    # A small random projection of some test embeddings: the same weights must give the same.
    "sketch": pl.List(pl.Float64()),
}

SAMPLE_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "task": pl.String(),
    "seed": pl.Int64(),
    "sample": pl.String(),
    "label": pl.Int64(),
    "prediction": pl.Int64(),
    "value": pl.Float64(),  # per-sample score; its mean over a cell is the cell's score
    "confidence": pl.Float64(),  # probability that the probe gave its prediction
}

TRIAL_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "task": pl.String(),
    "seed": pl.Int64(),
    "number": pl.Int64(),  # order of asking
    "params": pl.String(),  # JSON object
    "score": pl.Float64(),  # on the validation split
}

CURVE_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "axis": pl.String(),  # "side" (pixels, one time step) or "steps" (of the suite's image size)
    "value": pl.Int64(),
    "patch_size": pl.Int64(),
    "tokens": pl.Int64(),
    "macs": pl.Float64(),  # closed form, attention included
    "macs_attention": pl.Float64(),
}


HALVED = "-bfloat16"
"""How a probe's short name ends where encoders took their products in bfloat16."""


@dataclass(frozen=True)
class TaskInfo:
    """One task as a reader must know it: data, origin, metric, protocol, caveats."""

    name: str
    dataset: str
    title: str
    origin: str  # "real" or "simulated"
    metric: str
    higher_is_better: bool
    protocol: str  # one sentence: probe and settings
    probe: str  # short name of probe and settings: equal names, comparable scores
    bands: tuple[str, ...]  # that the encoder is given, sorted
    partition: str  # which share of the training labels, "default" if there is no choice
    height: int
    width: int
    steps: int
    patch_size: int
    n_train: int
    n_val: int
    n_test: int
    classes: tuple[str, ...]
    fingerprint: str
    licence: str
    notes: tuple[str, ...]
    unit: str = ""  # of the metric, where it has one: errors are in the data's

    @property
    def metric_and_unit(self) -> str:
        """What its scores are, e.g. "rmse in t/ha"."""
        return f"{self.metric} in {self.unit}" if self.unit else self.metric

    @property
    def precision(self) -> str:
        """In which encoders took their products."""
        return "bfloat16" if self.probe.endswith(HALVED) else "float32"


@dataclass(frozen=True)
class MissingCell:
    """A cell that has no result, and why: shown as incomplete, never imputed."""

    variant: str
    task: str
    seed: int
    reason: str


@dataclass(frozen=True)
class StudyWeights:
    """What is known of one variant's study weights, which this project trained at small scale.

    ``variant`` is the name of its row. ``training_seeds`` follow the seeds of the suite;
    ``samples_seen`` counts a sample each time it was seen, in one training; ``pretraining_macs``
    are all MACs of one training, forward and backward; ``weights_sha256`` follow the seeds.
    """

    variant: str
    recipe: str
    recipe_hash: str
    training_seeds: tuple[int, ...]
    steps: int
    samples_seen: int
    pretraining_macs: int | None
    data_title: str
    data_count: int
    data_origin: str
    data_licence: str
    data_fingerprint: str
    limits: tuple[str, ...]
    command: str  # that made the first of them
    weights_sha256: tuple[str, ...] = ()
    setting: str = ""
    code: tuple[str, ...] = ()  # versions of the training code; more than one is a fact to know


@dataclass(frozen=True)
class RunInfo:
    """Facts about the suite run that the tables do not hold."""

    suite: str
    title: str
    description: str
    suite_hash: str
    seeds: tuple[int, ...]
    tasks: tuple[TaskInfo, ...]
    missing: tuple[MissingCell, ...]
    versions: Mapping[str, str]  # packages that can change a result
    git_commit: str
    command: str  # the one command that regenerates all this
    mix_tiers: bool = False
    notes: tuple[str, ...] = field(default=())
    study: tuple[StudyWeights, ...] = ()  # one per variant with study weights


@dataclass(frozen=True)
class SuiteResults:
    """Everything a report is computed from (see the schemas above).

    ``samples``, ``trials`` and ``curves`` may be empty: an imported table has none, nor an
    ``atlas`` of its variants' token designs. ``samples`` may still be in their file.
    """

    run: RunInfo
    variants: pl.DataFrame
    scores: pl.DataFrame
    samples: Samples
    trials: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TRIAL_SCHEMA))
    curves: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CURVE_SCHEMA))
    atlas: Atlas | None = None
