"""What a run will cost before it runs: cells, passes, MACs, bytes, time; and what it did cost.

Counts are exact, from the plan; seconds come from a short calibration and are as good as that. It
must not know how cells are computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.atlas.memory import activation_bytes
from harness.costs import cost_of
from harness.data_code import pixels_key
from harness.kept_tables import are_kept
from harness.model_input import ModelInput
from harness.plan import Cell, EmbeddingJob, Plan
from harness.store import Store, run_name
from harness.suite_file import (
    AttentionProbe,
    FinetuneProbe,
    KnnProbe,
    LinearProbe,
    SegmentationProbe,
)
from models.families import design_of
from models.registry import Variant
from suites.datasets.base import Dataset

EncoderSeconds = Callable[[Variant, ModelInput, int], float]
ESTIMATES = "estimates"


@dataclass(frozen=True)
class ProbeSpeed:
    """Seconds of the probes' inner work.

    ``vote``: kNN, per query, training sample and feature. ``step``: the linear probe, per trial,
    step of 32 samples, feature and output. ``logit``: the segmentation probe, per learning rate
    and logit, on embeddings of 128 features.
    """

    vote: float
    step: float
    logit: float


@dataclass(frozen=True)
class Machine:
    """What an estimate is for.

    ``encoder``: seconds to encode a sample; ``batch``: samples that are encoded together, by tokens
    and width; ``at_once``: batches at the same time. ``halved``: as ``encoder``, in bfloat16; None
    where that is not told apart.
    """

    encoder: EncoderSeconds
    probes: ProbeSpeed
    batch: Callable[[int, int], int]
    at_once: int
    halved: EncoderSeconds | None = None


@dataclass(frozen=True)
class TaskEstimate:
    """One task of a suite.

    ``cells`` in all, ``to_do`` without a result; ``passes``: encodings of the whole data set that
    are not in the store; ``samples`` that those encode, ``macs`` that they take; ``bytes``: what
    decoded images and embeddings will add to the store. ``memory``: bytes that the widest moment of
    a cell holds, beside weights and libraries (`cell_bytes`). Seconds are of what is to do.
    Fine-tuning makes no passes; its samples and MACs are the most that it may take, without a trial
    that ends early, and a training step counts as three forward passes.
    """

    task: str
    cells: int
    to_do: int
    passes: int
    samples: int
    macs: int
    bytes: int
    memory: int
    encoder_seconds: float
    probe_seconds: float


def estimate(plan: Plan, store: Store, machine: Machine) -> list[TaskEstimate]:
    """Estimates of every task, in the suite's order; shared passes count where they come first."""
    found = []
    seen: set[str] = set()
    rates = _Rates(machine, store)
    store.fetch_folder(run_name(plan.key), only=("results/*",))
    is_finished = are_kept(plan, store)
    if not is_finished:
        store.fetch_cells(cell.key for cell in plan.cells)
    for task in plan.suite.tasks:
        mine = [cell for cell in plan.cells if cell.task.name == task.name]
        distinct = {cell.key: cell for cell in mine}.values()
        to_do = [cell for cell in distinct if not is_finished and not store.has_cell(cell.key)]
        jobs = [
            job
            for job in {job.key: job for cell in to_do for job in cell.embeddings}.values()
            if job.key not in seen and not store.has_embedding(job.key)
        ]
        dataset = plan.dataset_of(task)
        count, card = len(dataset.ids), dataset.card
        images = store.pixels_folder(pixels_key(dataset))
        pixels = 0
        tuned = [cell for cell in to_do if isinstance(cell.task.probe, FinetuneProbe)]
        forward = {cell.key: forward_passes(cell, dataset) for cell in tuned}
        if (jobs or tuned) and str(images) not in seen and not (images / "complete.json").exists():
            bands = sum(len(names) for names in card.bands.values())
            pixels = 2 * count * card.height * card.width * card.steps * bands
            seen.add(str(images))
        seen |= {job.key for job in jobs}
        found.append(
            TaskEstimate(
                task=task.name,
                cells=len(mine),
                to_do=len(to_do),
                passes=len(jobs),
                samples=count * len(jobs) + sum(forward.values()),
                macs=sum(count * rates.macs(job) for job in jobs)
                + sum(forward[cell.key] * rates.macs(cell) for cell in tuned),
                bytes=pixels + sum(count * _embedding_bytes(job) for job in jobs),
                memory=max((cell_bytes(cell, count, machine) for cell in to_do), default=0),
                encoder_seconds=sum(count * rates.seconds(job) for job in jobs),
                probe_seconds=sum(probe_seconds(cell, plan, machine.probes) for cell in to_do)
                + sum(forward[cell.key] * rates.seconds(cell) for cell in tuned),
            )
        )
    return found


class _Rates:
    """Seconds a sample: measured once for each family, width and precision; from there by MACs."""

    def __init__(self, machine: Machine, store: Store) -> None:
        self._store = store
        halved = machine.halved or machine.encoder
        self._encoder = {"float32": machine.encoder, "bfloat16": halved}
        self._measured: dict[tuple[str, float, str], float] = {}

    def macs(self, of: EmbeddingJob | Cell) -> int:
        return cost_of(of.variant, of.given.shapes, _patch_size(of), self._store).macs

    def seconds(self, of: EmbeddingJob | Cell) -> float:
        # Wider layers are multiplied faster: a rate holds for one width only.
        precision = (of.task if isinstance(of, Cell) else of).precision
        key = (of.variant.family, float(of.variant.dim), precision)
        macs = max(1, self.macs(of))
        if key not in self._measured:
            taken = self._encoder[precision](of.variant, of.given, _patch_size(of))
            self._measured[key] = taken / macs
        return self._measured[key] * macs


def _patch_size(of: EmbeddingJob | Cell) -> int:
    return of.task.patch_size if isinstance(of, Cell) else of.patch_size


def forward_passes(cell: Cell, dataset: Dataset) -> int:
    """Samples that fine-tuning encodes at most; the gradient costs twice the forward pass."""
    probe = cell.task.probe
    assert isinstance(probe, FinetuneProbe)
    splits = dataset.splits(cell.task.split_seed)
    train, val, test = (len(splits[name]) for name in ("train", "val", "test"))
    train = round(train * (cell.task.label_fraction or 1))
    per_image = probe.frozen_epochs + 3 * (probe.epochs - probe.frozen_epochs)
    views = min(probe.trials, len(cell.normalisations) * len(cell.poolings))  # each is scaled first
    return views * train + probe.trials * (train * per_image + val * probe.epochs) + test


def _embedding_bytes(job: EmbeddingJob) -> int:
    width = design_of(job.variant).width(job.given.shapes)
    if job.grid is not None:
        return 2 * 2 * width * job.grid[0] * job.grid[1]  # mean and max, half precision
    return 2 * 4 * width


def cell_bytes(
    cell: Cell, count: int, machine: Machine, stored: Collection[str] = frozenset()
) -> int:
    """Bytes of memory that a cell holds at its widest, weights and images' batches left out.

    Embeddings of ``count`` samples are all in memory for kNN and linear probes; fine-tuning keeps
    activations of every block of a batch for its gradient, in as many trials as are trained side by
    side. Embeddings that are ``stored`` (keys) are not made.
    """
    probe = cell.task.probe
    if isinstance(probe, FinetuneProbe):
        design = design_of(cell.variant)
        shapes, patch_size = cell.given.shapes, cell.task.patch_size
        each = activation_bytes(cell.variant, design, shapes, patch_size) or 0
        trials = min(machine.at_once, probe.trials)  # side by side (`harness.probes.side_by_side`)
        return trials * each * probe.batch_size * max(1, cell.variant.depth)
    made = [job for job in cell.embeddings if job.key not in stored]
    passes = max((_activation_bytes(job, machine) for job in made), default=0)
    return passes + held_bytes(cell, count)


def held_bytes(cell: Cell, count: int) -> int:
    """Bytes of the embeddings that a probe holds as a whole."""
    return sum(count * _embedding_bytes(job) for job in cell.embeddings if job.grid is None)


def _activation_bytes(job: EmbeddingJob, machine: Machine) -> int:
    design = design_of(job.variant)
    each = activation_bytes(job.variant, design, job.given.shapes, job.patch_size) or 0
    tokens = design.layout(job.given.shapes, job.patch_size).tokens
    return machine.at_once * each * machine.batch(tokens, design.width(job.given.shapes))


def probe_seconds(cell: Cell, plan: Plan, speed: ProbeSpeed) -> float:
    """Seconds of a cell's probe; 0 for fine-tuning, all of whose work is the encoder's."""
    dataset = plan.dataset_of(cell.task)
    splits = dataset.splits(cell.task.split_seed)
    train, val, test = (len(splits[name]) for name in ("train", "val", "test"))
    width = design_of(cell.variant).width(cell.given.shapes)
    views = len(cell.embeddings) * len(cell.poolings)
    outputs = max(1, len(dataset.card.classes))
    probe = cell.task.probe
    if isinstance(probe, KnnProbe):
        return speed.vote * train * width * (views * val + test)
    if isinstance(probe, LinearProbe):
        steps = probe.epochs * max(1, train // probe.batch_size)
        return speed.step * (probe.trials + 1) * steps * width * outputs
    if isinstance(probe, FinetuneProbe):
        return 0.0  # all of it is the encoder's
    if isinstance(probe, AttentionProbe):
        # A query's scores and the sum that they weigh cost as much as an output each.
        grid = cell.embeddings[0].grid or (1, 1)
        each = 2 * grid[0] * grid[1] + outputs
        return speed.step / 32 * views * 8 * probe.epochs * train * width * each
    assert isinstance(probe, SegmentationProbe)
    logits = train * dataset.card.height * dataset.card.width * outputs
    # The product with the embedding is a part of it; softmax and gradient do not know the width.
    return speed.logit * (256 + width) / 384 * views * 8 * probe.epochs * logits


@dataclass(frozen=True)
class Expected:
    """What was estimated for a plan: the cells that were to do then, and their seconds."""

    cells: int
    seconds: float


def remember(store: Store, plan: Plan, found: Iterable[TaskEstimate]) -> None:
    """Keep what was estimated for a plan, to be held against what happens.

    Where nothing is to do any more there is nothing to expect, and what was stays.
    """
    tasks = list(found)
    expected = Expected(
        sum(each.to_do for each in tasks),
        sum(each.encoder_seconds + each.probe_seconds for each in tasks),
    )
    if expected.cells:
        store.cache(ESTIMATES, plan.key[:32], asdict(expected))


def remembered(store: Store, plan: Plan) -> Expected | None:
    """What was estimated for this plan, if it was."""
    kept = store.cached(ESTIMATES, plan.key[:32])
    return Expected(**kept) if kept else None


def taken(store: Store, plan: Plan) -> Mapping[str, float]:
    """Seconds that the cells of each task took when they were computed, as the store noted them."""
    keys = {cell.key: cell.task.name for cell in plan.cells}
    found: dict[str, float] = {}
    last: dict[str, Mapping[str, Any]] = {}
    for line in store.timings().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that a kill has torn
        if isinstance(entry, dict) and entry.get("cell") in keys:
            last[str(entry["cell"])] = entry
    for key, entry in last.items():
        found[keys[key]] = found.get(keys[key], 0.0) + float(entry.get("seconds", 0.0))
    return found
