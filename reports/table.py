"""The table that every report is made from: plain frames and a few facts, nothing live.

Ranking, figures and pages are pure functions of `SuiteResults`. It must know nothing
of how cells are computed or stored: `harness` fills it, and it can be written to a
folder and read back on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

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
}

SCORE_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "task": pl.String(),
    "seed": pl.Int64(),
    "score": pl.Float64(),
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "val_score": pl.Float64(),
    "tokens": pl.Int64(),
    "macs": pl.Float64(),
    "chosen": pl.String(),  # what the probe's tuning settled on, e.g. "lr=0.004, pooling=mean"
    "cell": pl.String(),  # content key
}

SAMPLE_SCHEMA: dict[str, pl.DataType] = {
    "variant": pl.String(),
    "task": pl.String(),
    "seed": pl.Int64(),
    "sample": pl.String(),
    "label": pl.Int64(),
    "prediction": pl.Int64(),
    "value": pl.Float64(),  # per-sample score; its mean over a cell is the cell's score
}


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


@dataclass(frozen=True)
class MissingCell:
    """A cell that has no result, and why: shown as incomplete, never imputed."""

    variant: str
    task: str
    seed: int
    reason: str


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


@dataclass(frozen=True)
class SuiteResults:
    """Everything a report is computed from (see the three schemas above)."""

    run: RunInfo
    variants: pl.DataFrame
    scores: pl.DataFrame
    samples: pl.DataFrame
