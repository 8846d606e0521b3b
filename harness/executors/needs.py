"""What an item will roughly take, without measuring: to order items, and to ask a cluster for.

Seconds are of one core of a common processor, from exact MACs and the probes' known work; a
cluster's answer is multiplied by its profile's factors. It must not know any engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.costs import Cost, cost_of
from harness.estimates import Machine, ProbeSpeed, cell_bytes, forward_passes, probe_seconds
from harness.executors.gpu_needs import gpu_need, wider
from harness.executors.items import GpuNeed, Need
from harness.model_input import ModelInput
from harness.plan import Cell, Plan
from harness.store import Store
from harness.suite_file import FinetuneProbe
from models.registry import Variant

MACS_PER_SECOND = 2e10  # of one core with AVX2, as small encoders reach it
PROBES = ProbeSpeed(vote=2e-11, step=5e-9, logit=3e-9)
LIBRARIES = 1_500_000_000  # bytes: an interpreter with torch, MLflow not among them
LOADED_WEIGHTS = 2  # the file's, and the encoder's
TUNED_WEIGHTS = 5  # with their gradient, AdamW's two moments, and the best epoch's copy
BATCH = 250_000  # tokens x width that a core encodes at once (`harness.embed`)


@dataclass
class Needs:
    """Needs of items of one plan; what tasks and variants have in common is looked up once.

    ``cells``: those that are to do; what is stored of their embeddings is asked for once, at the
    start. ``threads``: batches that a worker encodes at the same time on processor cores.
    """

    plan: Plan
    store: Store
    cells: Iterable[Cell]
    threads: int = 1

    def __post_init__(self) -> None:
        keys = {job.key for cell in self.cells for job in cell.embeddings}
        self._stored = frozenset(self.store.embeddings_of(keys))
        self._costs: dict[tuple[str, str], Cost] = {}
        self._probes: dict[tuple[str, str], float] = {}
        self._machine = Machine(_not_measured, PROBES, batch, at_once=self.threads)

    def of(self, cells: tuple[Cell, ...]) -> Need:
        """Of cells that one worker computes one after another, embeddings once."""
        seconds, memory = 0.0, 0
        gpu: GpuNeed | None = GpuNeed(0, 0)
        made = set(self._stored)
        for cell in cells:
            dataset, cost = self.plan.dataset_of(cell.task), self._cost_of(cell)
            count = len(dataset.ids)
            held = cell_bytes(cell, count, self._machine, made)
            memory = max(memory, held + self._weights(cell, cost, made))
            gpu = wider(gpu, gpu_need(cell, count, cost, made))
            passes = count * len({job.key for job in cell.embeddings} - made)
            if isinstance(cell.task.probe, FinetuneProbe):
                passes += forward_passes(cell, dataset)
            seconds += passes * cost.macs / MACS_PER_SECOND + self._probe_seconds(cell)
            made |= {job.key for job in cell.embeddings}
        return Need(seconds, LIBRARIES + memory, gpu)

    def _weights(self, cell: Cell, cost: Cost, made: set[str]) -> int:
        """Bytes of the encoder's weights, and of what training keeps of each."""
        probe = cell.task.probe
        if isinstance(probe, FinetuneProbe):
            return 4 * cost.params * TUNED_WEIGHTS * min(self.threads, probe.trials)
        is_loaded = any(job.key not in made for job in cell.embeddings)
        return 4 * cost.params * LOADED_WEIGHTS if is_loaded else 0

    def _cost_of(self, cell: Cell) -> Cost:
        key = (cell.variant.name, cell.task.name)
        if key not in self._costs:
            given = cell.given.shapes
            self._costs[key] = cost_of(cell.variant, given, cell.task.patch_size, self.store)
        return self._costs[key]

    def _probe_seconds(self, cell: Cell) -> float:
        key = (cell.variant.name, cell.task.name)
        if key not in self._probes:
            self._probes[key] = probe_seconds(cell, self.plan, PROBES)
        return self._probes[key]


def _not_measured(variant: Variant, given: ModelInput, patch_size: int) -> Any:
    raise NotImplementedError("a need is never measured")


def batch(tokens: int, width: int) -> int:
    """Samples that a core encodes at once."""
    return max(1, min(256, BATCH // max(1, tokens * width)))
