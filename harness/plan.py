"""Suite -> cells (variant x task x seed), each with a content key.

Planning reads no pixels and imports no tensor library: a finished suite is recognised
in a second. It must know nothing of how a cell is computed or where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.content import (
    EMBEDDING_CODE,
    PROBE_CODE,
    code_version,
    content_key,
    package_versions,
)
from harness.model_input import ModelInput, normalisations, poolings, resolve
from harness.suite import BASELINE, Entrant, LinearProbe, Suite, Task
from models.checkpoints import Places as CheckpointPlaces
from models.checkpoints import find_checkpoint
from models.errors import UserError
from models.families import code_of, design_of
from models.registry import Variant
from suites.datasets import catalogue
from suites.datasets.base import SPLITS, Dataset
from suites.datasets.splits import HasDigests

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Weights:
    """Which weights a cell uses: a seed (tier random), or a checkpoint file's hash and place."""

    tier: str
    seed: int | None = None
    sha256: str | None = None
    config: Path | None = None
    file: Path | None = None
    source: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What of it can change a result: the place the file came from cannot."""
        return {"tier": self.tier, "seed": self.seed, "sha256": self.sha256}

    @property
    def label(self) -> str:
        """Short text for tables: the file's hash, or the seed."""
        return self.sha256 or f"random, seed {self.seed}"


@dataclass(frozen=True)
class EmbeddingJob:
    """One pass of one encoder over one data set; shared by every cell that needs it."""

    key: str
    variant: Variant
    weights: Weights
    dataset: str
    given: ModelInput
    normalisation: str
    patch_size: int
    split_seed: int


@dataclass(frozen=True)
class Cell:
    """One variant on one task with one seed. Equal key, equal result.

    ``given`` is what the encoder sees of the data, ``poolings`` are those worth telling apart.
    """

    key: str
    variant: Variant
    weights: Weights
    task: Task
    seed: int
    dataset: str
    given: ModelInput
    poolings: tuple[str, ...]
    embeddings: tuple[EmbeddingJob, ...]
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Missing:
    """A cell that cannot exist, and why."""

    entrant: Entrant
    task: Task
    seed: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """All cells of a suite. ``key`` identifies the suite run: same cells, same run."""

    suite: Suite
    key: str
    cells: tuple[Cell, ...]
    missing: tuple[Missing, ...]
    datasets: Mapping[str, Dataset]

    def dataset_of(self, task: Task) -> Dataset:
        """The data set that a task runs on."""
        return self.datasets[dataset_id(task)]


@dataclass(frozen=True)
class Places:
    """Where a run looks for data and weights, and keeps its caches."""

    data: Path | None
    weights: Path | None
    cache: Path


def make_plan(suite: Suite, places: Places, progress: Progress | None = None) -> Plan:
    """Resolve data sets and weights, then key every cell.

    ``progress(what, done, total)`` is told how far the reading of data is that were never
    seen before; what was read once is recognised by size and time.

    Raises `UserError` for data or weights that cannot be found, before anything is computed.
    """
    datasets = _datasets(suite, places, progress)
    known = {task.name: _DataIdentity.of(datasets[dataset_id(task)], task) for task in suite.tasks}
    cells: list[Cell] = []
    missing: list[Missing] = []
    entrants: list[Entrant] = []
    for entrant in suite.entrants:
        if entrant.added and entrant.tier == "random" and not _has_trained(cells, entrant):
            continue  # the mark of a family whose weights could not be had
        entrants.append(entrant)
        for seed, weights in zip(suite.seeds, _all_weights(entrant, suite, places), strict=True):
            for task in suite.tasks:
                dataset = datasets[dataset_id(task)]
                given = weights if isinstance(weights, str) else given_input(entrant, task, dataset)
                if isinstance(given, str) or isinstance(weights, str):
                    missing.append(Missing(entrant, task, seed, str(given)))
                else:
                    cells.append(
                        _cell(entrant.variant, weights, task, seed, known[task.name], given)
                    )
    asked = {(e.variant.name, e.tier) for e in entrants if not e.added}
    if not any((cell.variant.name, cell.weights.tier) in asked for cell in cells):
        reasons = [m.reason for m in missing if not m.entrant.added]
        reason = reasons[0] if reasons else "it names no variant."
        raise UserError(f'Suite "{suite.name}" has nothing to run: {reason}')
    key = content_key(
        {
            "suite": suite.name,
            "cells": [[c.key, c.variant.name, c.weights.tier] for c in cells],
            "missing": [[m.entrant.variant.name, m.entrant.tier, m.task.name] for m in missing],
        }
    )
    kept = replace(suite, entrants=tuple(entrants))
    return Plan(kept, key, tuple(cells), tuple(missing), datasets)


def _has_trained(cells: list[Cell], entrant: Entrant) -> bool:
    """Whether a variant of the entrant's family runs with weights that somebody trained."""
    family = entrant.variant.family
    return any(c.variant.family == family and c.weights.tier != "random" for c in cells)


def _all_weights(entrant: Entrant, suite: Suite, places: Places) -> list[Weights | str]:
    """Weights per seed; a checkpoint is looked for once, since seeds do not change it."""
    if entrant.tier in ("random", BASELINE):
        return [_weights(entrant, seed, places) for seed in suite.seeds]
    return [_weights(entrant, 0, places)] * len(suite.seeds)


def given_input(entrant: Entrant, task: Task, dataset: Dataset) -> ModelInput | str:
    """What the entrant sees of the task's data, or the sentence that says why it cannot."""
    variant = entrant.variant
    try:
        design = design_of(variant)
        return resolve(variant.name, design, dataset.card, task.policy, task.patch_size)
    except UserError as error:
        return str(error)


def dataset_id(task: Task) -> str:
    """Tasks with the same data set and options share one."""
    options = task.data.model_dump()
    return content_key({"dataset": task.dataset, **options})[:12]


def _datasets(suite: Suite, places: Places, progress: Progress | None) -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for task in suite.tasks:
        if dataset_id(task) not in found:
            dataset = found[dataset_id(task)] = _dataset(task, places)
            if progress and isinstance(dataset, HasDigests):
                what = f"reading {dataset.card.name}"
                dataset.digests(partial(progress, what))
    return found


def _dataset(task: Task, places: Places) -> Dataset:
    options = task.data.model_dump(exclude={"fallback"}, exclude_none=True)
    return catalogue.resolve(
        task.dataset,
        places.data,
        options,
        fallback=task.data.fallback,
        cache_dir=places.cache,
    )


def _weights(entrant: Entrant, seed: int, places: Places) -> Weights | str:
    """The weights of an entrant, or the sentence that says why it has none."""
    variant = entrant.variant
    if entrant.tier == "random":
        return Weights("random", seed=seed, source=f"random initialisation, seed {seed}")
    if entrant.tier == BASELINE:
        drawn = seed if variant.options.get("seeded", True) else 0
        return Weights(BASELINE, seed=drawn, source="no training of any kind")
    if entrant.tier == "study":
        raise UserError(
            f'No study weights are shipped for "{variant.name}" in this version; '
            "allowed tiers: official, random."
        )
    if variant.brought is not None and entrant.weights is None:
        from harness.encoders import brought_weights  # noqa: PLC0415  (torch loads with it)

        return Weights("official", sha256=brought_weights(variant), source=variant.brought)
    if variant.official is None and entrant.weights is None:
        return (
            f"no official weights exist for {variant.name}: nobody published any for token "
            f'scheme "{variant.scheme.name}" on {variant.family} {variant.version} {variant.size}; '
            "choose other variants or another tier."
        )
    homes = CheckpointPlaces(places.weights, places.cache)
    try:
        found = find_checkpoint(variant.name, variant.official, entrant.weights, homes)
    except UserError as error:
        # A place that the user gave and that is wrong is a mistake, optional or not.
        given = entrant.weights or places.weights
        if entrant.optional and (given is None or (given.is_dir() and entrant.weights is None)):
            return f"{str(error).rstrip('.')}; it is optional in this suite."
        raise
    return Weights(
        "official",
        sha256=found.sha256,
        config=found.config,
        file=found.weights,
        source=found.source,
    )


@dataclass(frozen=True)
class _DataIdentity:
    """What a task's data are, for keys: read once, however many cells there are."""

    images: Mapping[str, Any]
    split: str

    @classmethod
    def of(cls, dataset: Dataset, task: Task) -> _DataIdentity:
        code = code_version((type(dataset).__module__,))
        images = {"fingerprint": dataset.fingerprint, "code": code}
        return cls(images, split_identity(dataset, task.split_seed))


def _cell(
    variant: Variant,
    weights: Weights,
    task: Task,
    seed: int,
    data: _DataIdentity,
    given: ModelInput,
) -> Cell:
    embeddings = tuple(
        _embedding(variant, weights, task, data, given, normalisation)
        for normalisation in normalisations(given, task.normalisations)
    )
    tokens = design_of(variant).layout(given.shapes, task.patch_size).tokens
    pooled = poolings(tokens, task.poolings)
    inputs: dict[str, Any] = {
        "embeddings": [job.key for job in embeddings],
        "normalisations": [job.normalisation for job in embeddings],
        "poolings": list(pooled),
        "data": data.images,
        "given": given.identity,
        "split": data.split,
        "probe": task.probe.model_dump(),
        "metric": task.metric,
        "bootstrap": task.bootstrap,
        "code": code_version(PROBE_CODE),
        "packages": package_versions(["torch", "numpy"]),
    }
    if isinstance(task.probe, LinearProbe):
        # kNN draws nothing: with the same weights, every seed is the same cell.
        inputs |= {"seed": seed, "tuning": package_versions(["optuna"])}
    return Cell(
        key=content_key(inputs),
        variant=variant,
        weights=weights,
        task=task,
        seed=seed,
        dataset=dataset_id(task),
        given=given,
        poolings=pooled,
        embeddings=embeddings,
        inputs=inputs,
    )


def _embedding(
    variant: Variant,
    weights: Weights,
    task: Task,
    data: _DataIdentity,
    given: ModelInput,
    normalisation: str,
) -> EmbeddingJob:
    inputs = {
        "architecture": variant.architecture,
        "weights": weights.identity,
        "data": data.images,
        "given": given.identity,
        "normalisation": normalisation,
        # The data set's own statistics come from its training split.
        "split": data.split if normalisation == "dataset" else None,
        "patch_size": task.patch_size,
        "precision": "float32",
        "code": code_version((*EMBEDDING_CODE, *code_of(variant))),
        "packages": package_versions(["torch", "numpy"]),
    }
    return EmbeddingJob(
        key=content_key(inputs),
        variant=variant,
        weights=weights,
        dataset=dataset_id(task),
        given=given,
        normalisation=normalisation,
        patch_size=task.patch_size,
        split_seed=task.split_seed,
    )


def split_identity(dataset: Dataset, split_seed: int) -> str:
    """Hash of the rows of every split: the split itself, whatever rule or seed made it."""
    rows = dataset.splits(split_seed)
    return content_key({name: [int(row) for row in rows[name]] for name in SPLITS})
