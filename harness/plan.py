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
    canonical_parts,
    code_version,
    content_key,
    key_of_parts,
    package_versions,
)
from harness.data_code import data_code
from harness.entrants import Entrant, Row
from harness.model_input import ModelInput, normalisations, poolings, resolve
from harness.suite import Suite, Task
from harness.suite_file import (
    AttentionProbe,
    FinetuneProbe,
    KnnProbe,
    LinearProbe,
    Precision,
    SegmentationProbe,
)
from harness.weights import Weights, require_equal_terms, resolve_weights
from models.errors import UserError
from models.families import code_of, design_of, is_trainable
from models.registry import Variant
from models.study_cards import main_recipe
from models.tokens import patch_grid
from suites.datasets import catalogue
from suites.datasets.base import KIND_WORDS, MAP_KINDS, SPLITS, Dataset
from suites.datasets.cut import Cut
from suites.datasets.splits import HasDigests

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EmbeddingJob:
    """One pass of one encoder over one data set; shared by every cell that needs it.

    ``grid``: rows and columns of patches where each is kept apart, for maps; None: pooled.
    """

    key: str
    variant: Variant
    weights: Weights
    dataset: str
    given: ModelInput
    normalisation: str
    patch_size: int
    split_seed: int
    grid: tuple[int, int] | None = None
    precision: Precision = "float32"


@dataclass(frozen=True)
class Cell:
    """One variant on one task with one seed. Equal key, equal result.

    ``given`` is what the encoder sees of the data, ``normalisations`` and ``poolings`` are those
    worth telling apart. ``embeddings``: none where the encoder itself is trained.
    """

    key: str
    variant: Variant
    weights: Weights
    task: Task
    seed: int
    dataset: str
    given: ModelInput
    normalisations: tuple[str, ...]
    poolings: tuple[str, ...]
    embeddings: tuple[EmbeddingJob, ...]
    inputs: Mapping[str, Any]

    @property
    def row(self) -> Row:
        """The row of a table that it belongs to: its entrant's."""
        card = self.weights.card
        return Row(self.variant.name, self.weights.tier, card.recipe if card else None)


@dataclass(frozen=True)
class Missing:
    """A cell that cannot exist, and why."""

    entrant: Entrant
    task: Task
    seed: int
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """An optional task whose data are not there, and why they are not."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Plan:
    """All cells of a suite. ``key`` identifies the suite run: same cells, same run.

    ``suite`` has the tasks whose data are there; ``left_out`` are its other ones.
    """

    suite: Suite
    key: str
    cells: tuple[Cell, ...]
    missing: tuple[Missing, ...]
    datasets: Mapping[str, Dataset]
    left_out: tuple[LeftOut, ...] = ()

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
    suite, left_out = _with_data(suite, places)
    datasets = _datasets(suite, places, progress)
    ids = {task.name: dataset_id(task) for task in suite.tasks}
    known = {task.name: _DataIdentity.of(datasets[ids[task.name]], task) for task in suite.tasks}
    cells: list[Cell] = []
    missing: list[Missing] = []
    entrants: list[Entrant] = []
    for wanted in suite.entrants:
        if wanted.added and wanted.tier == "random" and not _has_trained(cells, wanted):
            continue  # the mark of a family whose weights could not be had
        found = resolve_weights(wanted, suite.seeds, places.weights, places.cache)
        entrant = found.entrant
        _refuse_second(entrant, entrants)
        entrants.append(entrant)
        settings: dict[str, _Setting | str] = {}
        for seed, weights in zip(suite.seeds, found.weights, strict=True):
            for task in suite.tasks:
                if isinstance(weights, str):
                    missing.append(Missing(entrant, task, seed, weights))
                    continue
                if task.name not in settings:
                    dataset = datasets[ids[task.name]]
                    settings[task.name] = _setting(entrant, task, dataset, known[task.name])
                setting = settings[task.name]
                if isinstance(setting, str):
                    missing.append(Missing(entrant, task, seed, setting))
                else:
                    cells.append(setting.cell(weights, seed))
    require_equal_terms(entrants)
    asked = {e.row for e in entrants if not e.added}
    if not any(cell.row in asked for cell in cells):
        reasons = [m.reason for m in missing if not m.entrant.added]
        reason = reasons[0] if reasons else "it names no variant."
        raise UserError(f'Suite "{suite.name}" has nothing to run: {reason}')
    key = content_key(
        {
            "suite": suite.name,
            "cells": [[c.key, *c.row.words] for c in cells],
            "missing": [[*m.entrant.row.words, m.task.name] for m in missing],
        }
    )
    kept = replace(suite, entrants=tuple(entrants))
    return Plan(kept, key, tuple(cells), tuple(missing), datasets, left_out)


def _with_data(suite: Suite, places: Places) -> tuple[Suite, tuple[LeftOut, ...]]:
    """The suite without optional tasks whose data are not there, and those."""
    left_out = []
    for task in suite.tasks:
        reason = catalogue.absence(task.dataset, places.data) if task.optional else None
        if reason is not None:
            left_out.append(LeftOut(task, reason))
    gone = {each.task.name for each in left_out}
    tasks = tuple(task for task in suite.tasks if task.name not in gone)
    if not tasks:
        raise UserError(
            f'Suite "{suite.name}" has nothing to run: the data of all its tasks are optional and '
            f"not there ({left_out[0].task.dataset}: {left_out[0].reason}); tokenrank data list "
            "says what is looked for, tokenrank data get fetches it."
        )
    return replace(suite, tasks=tasks), tuple(left_out)


def left_out_sentences(plan: Plan) -> tuple[str, ...]:
    """Which tasks were not run because their data are not there."""
    if not plan.left_out:
        return ()
    why: dict[str, list[str]] = {}
    for each in plan.left_out:
        why.setdefault(f"{each.task.dataset}: {each.reason}", []).append(each.task.name)
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in why.items())
    return (f"Not run, because their data are not there: {listed}. No rank rests on them.",)


def _refuse_second(entrant: Entrant, before: list[Entrant]) -> None:
    """Two entrants may turn out to be one row only when their weights are found."""
    if any(other.row == entrant.row for other in before):
        raise UserError(
            f'{entrant.variant.name} takes part twice with weights of recipe "{entrant.recipe}"; '
            "remove one, or give it weights of another recipe."
        )


def _has_trained(cells: list[Cell], entrant: Entrant) -> bool:
    """Whether an untrained entrant has somebody to be a mark for.

    Study weights are held against their own variant's initialisation, others against the
    smallest of their family.
    """
    variant = entrant.variant
    return any(
        c.variant.name == variant.name
        if c.weights.tier == "study"
        else c.variant.family == variant.family and c.weights.tier != "random"
        for c in cells
    )


def given_input(entrant: Entrant, task: Task, dataset: Dataset) -> ModelInput | str:
    """What the entrant sees of the task's data, or the sentence that says why it cannot."""
    variant = entrant.variant
    try:
        design = design_of(variant)
        kind = dataset.card.kind
        # Study weights know some modalities only, and statistics of their own.
        needs = entrant.card.needs(design.needs) if entrant.card else design.needs
        given = resolve(variant.name, design, dataset.card, task.policy, task.patch_size, needs)
        grid = patch_grid(given.shapes[0], task.patch_size)
        attends = isinstance(task.probe, AttentionProbe)
        is_on_grid = design.layout(given.shapes, task.patch_size).is_on_grid(*grid)
        if (kind in MAP_KINDS or attends) and not is_on_grid:
            return (
                f"{variant.name} has no token for each of the {grid[0]} x {grid[1]} patches, which "
                f"{'attention pooling' if attends else KIND_WORDS[kind]} needs."
            )
        if isinstance(task.probe, FinetuneProbe) and not is_trainable(variant):
            return f"{variant.name} has nothing that can be trained, which fine-tuning needs."
        return given
    except UserError as error:
        return str(error)


def shown_name(plan: Plan, of: Entrant | Cell) -> str:
    """A variant's name in every table; after an ``@``, whose weights it has, where not plain.

    That is the recipe of study weights that are not the variant's main arm, else the tier where
    the variant takes part in several.
    """
    name, tier, recipe = of.row
    if recipe is not None and recipe != main_recipe(of.variant):
        return f"{name}@{recipe}"
    tiers = {e.tier for e in plan.suite.entrants if e.variant.name == name}
    return f"{name}@{tier}" if len(tiers) > 1 else name


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
                what = f"reading {Path(task.dataset).stem}"
                dataset.digests(partial(progress, what))
    return found


def _dataset(task: Task, places: Places) -> Dataset:
    given = {"fallback", "side", "steps"}
    whole = catalogue.resolve(
        task.dataset,
        places.data,
        task.data.model_dump(exclude=given, exclude_none=True),
        fallback=task.data.fallback,
        cache_dir=places.cache,
    )
    if task.data.side is None and task.data.steps is None:
        return whole
    return Cut(whole, task.data.side, task.data.steps)


@dataclass(frozen=True)
class _DataIdentity:
    """What a task's data are, for keys: read once, however many cells there are."""

    images: Mapping[str, Any]
    split: str
    is_map: bool

    @classmethod
    def of(cls, dataset: Dataset, task: Task) -> _DataIdentity:
        images = {
            "fingerprint": dataset.fingerprint,
            "code": data_code(dataset),
            # Of the data set's facts what scales its pixels; all else is in its fingerprint.
            "units_per_dn": dataset.card.units_per_dn,
        }
        is_map = dataset.card.kind in MAP_KINDS
        return cls(images, split_identity(dataset, task.split_seed), is_map)


@dataclass
class _Setting:
    """An entrant on a task, whatever the seed: all that its cells have in common, found once.

    A cell's key is the hash of its ``inputs`` in canonical JSON. Of a hundred seeds nearly all of
    that text is the same; ``texts`` has it ready, value by value.
    """

    variant: Variant
    task: Task
    dataset: str
    given: ModelInput
    views: tuple[str, ...]
    pooled: tuple[str, ...]
    grid: tuple[int, int] | None
    inputs: Mapping[str, Any]
    passes: Mapping[str, Mapping[str, Any]]  # by normalisation: an embedding's inputs
    tuned: Mapping[str, Any] | None  # of the encoder, where it is trained

    def __post_init__(self) -> None:
        self._texts = canonical_parts(self.inputs)
        self._pass_texts = {name: canonical_parts(each) for name, each in self.passes.items()}
        self._jobs: dict[str, tuple[EmbeddingJob, ...]] = {}

    def cell(self, weights: Weights, seed: int) -> Cell:
        """The cell of one seed."""
        embeddings = self._embeddings(weights)
        own: dict[str, Any] = {"embeddings": [job.key for job in embeddings]}
        if not isinstance(self.task.probe, KnnProbe) or self.task.label_fraction is not None:
            # kNN draws nothing: with the same weights, every seed is the same cell.
            own["seed"] = seed
        if self.tuned is not None:
            own["encoder"] = {**self.tuned, "weights": weights.identity}
        return Cell(
            key=key_of_parts({**self._texts, **canonical_parts(own)}),
            variant=self.variant,
            weights=weights,
            task=self.task,
            seed=seed,
            dataset=self.dataset,
            given=self.given,
            normalisations=self.views,
            poolings=self.pooled,
            embeddings=embeddings,
            inputs={**self.inputs, **own},
        )

    def _embeddings(self, weights: Weights) -> tuple[EmbeddingJob, ...]:
        """One for each normalisation; seeds with the same weights share them."""
        same = canonical_parts({"weights": weights.identity})
        known = self._jobs.get(same["weights"])
        if known is None:
            known = self._jobs[same["weights"]] = tuple(
                EmbeddingJob(
                    key=key_of_parts({**texts, **same}),
                    variant=self.variant,
                    weights=weights,
                    dataset=self.dataset,
                    given=self.given,
                    normalisation=normalisation,
                    patch_size=self.task.patch_size,
                    split_seed=self.task.split_seed,
                    grid=self.grid,
                    precision=self.task.precision,
                )
                for normalisation, texts in self._pass_texts.items()
            )
        return known


def _setting(entrant: Entrant, task: Task, dataset: Dataset, data: _DataIdentity) -> _Setting | str:
    """What an entrant's cells on a task share, or why there are none."""
    given = given_input(entrant, task, dataset)
    if isinstance(given, str):
        return given
    variant = entrant.variant
    is_tuned = isinstance(task.probe, FinetuneProbe)
    views = normalisations(given, task.normalisations)
    layout = design_of(variant).layout(given.shapes, task.patch_size)
    grid = _grid(task, given)
    each_patch = patch_grid(given.shapes[0], task.patch_size) if is_tuned and data.is_map else grid
    patches = each_patch[0] * each_patch[1] if each_patch else 1
    pooled = poolings(layout.tokens // patches, task.poolings)
    identity = given.identity
    encoder = code_version((*EMBEDDING_CODE, *code_of(variant)))
    inputs: dict[str, Any] = {
        "normalisations": list(views),
        "poolings": list(pooled),
        "data": data.images,
        "given": identity,
        "split": data.split,
        "probe": task.probe.model_dump(),
        "metric": task.metric,
        "bootstrap": task.bootstrap,
        "code": code_version(PROBE_CODE),
        "packages": package_versions(["torch", "numpy"]),
    }
    if task.label_fraction is not None:
        inputs["label_fraction"] = task.label_fraction
    # Named only where it is not single: keys of before hold.
    products = {} if task.precision == "float32" else {"products": task.precision}
    inputs |= products
    if isinstance(task.probe, LinearProbe | FinetuneProbe):
        inputs["tuning"] = package_versions(["optuna"])
    tuned = None
    if is_tuned:
        tuned = {
            "architecture": variant.architecture,
            "patch_size": task.patch_size,
            "code": encoder,
        }
    passes = {
        normalisation: {
            **({"grid": list(grid)} if grid else {}),
            **products,
            "architecture": variant.architecture,
            "data": data.images,
            "given": identity,
            "normalisation": normalisation,
            # The data set's own statistics come from its training split.
            "split": data.split if normalisation == "dataset" else None,
            "patch_size": task.patch_size,
            "precision": "float16" if grid else "float32",
            "code": encoder,
            "packages": package_versions(["torch", "numpy"]),
        }
        for normalisation in views
        if not is_tuned
    }
    return _Setting(
        variant, task, dataset_id(task), given, views, pooled, grid, inputs, passes, tuned
    )


def _grid(task: Task, given: ModelInput) -> tuple[int, int] | None:
    """Rows and columns of patches, where the probe asks for each of them."""
    if not isinstance(task.probe, SegmentationProbe | AttentionProbe):
        return None
    return patch_grid(given.shapes[0], task.patch_size)


def split_identity(dataset: Dataset, split_seed: int) -> str:
    """Hash of the rows of every split: the split itself, whatever rule or seed made it."""
    rows = dataset.splits(split_seed)
    return content_key({name: [int(row) for row in rows[name]] for name in SPLITS})
