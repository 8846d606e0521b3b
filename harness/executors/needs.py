"""What an item will roughly take, without measuring: to order items, and to ask a cluster for.

Seconds are of one core of a common processor, from exact MACs and the probes' known work; a
cluster's answer is multiplied by its profile's factors. It must not know any engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.costs import cost_of
from harness.estimates import Machine, ProbeSpeed, cell_bytes, forward_passes, probe_seconds
from harness.executors.items import Need
from harness.model_input import ModelInput
from harness.plan import Cell, Plan
from harness.store import Store
from harness.suite_file import FinetuneProbe
from models.registry import Variant

MACS_PER_SECOND = 2e10  # of one core with AVX2, as small encoders reach it
PROBES = ProbeSpeed(vote=2e-11, step=5e-9, logit=3e-9)
LIBRARIES = 1_500_000_000  # bytes: an interpreter with torch, MLflow not among them
BATCH = 250_000  # tokens x width that are encoded at once (`harness.embed`)


@dataclass
class Needs:
    """Needs of items of one plan; what tasks and variants have in common is looked up once."""

    plan: Plan
    store: Store
    threads: int = 1

    def __post_init__(self) -> None:
        self._macs: dict[tuple[str, str], int] = {}
        self._probes: dict[tuple[str, str], float] = {}

    def of(self, cells: tuple[Cell, ...]) -> Need:
        """Of cells that one worker computes one after another, embeddings once."""
        seconds, memory = 0.0, 0
        passes: set[str] = set()
        for cell in cells:
            count = len(self.plan.dataset_of(cell.task).ids)
            macs = self._macs_of(cell)
            fresh = {job.key for job in cell.embeddings} - passes
            passes |= fresh
            seconds += len(fresh) * count * macs / MACS_PER_SECOND + self._probe_seconds(cell)
            if isinstance(cell.task.probe, FinetuneProbe):
                dataset = self.plan.dataset_of(cell.task)
                seconds += forward_passes(cell, dataset) * macs / MACS_PER_SECOND
            memory = max(memory, cell_bytes(cell, count, _MACHINE) * self.threads)
        return Need(seconds, LIBRARIES + memory)

    def _macs_of(self, cell: Cell) -> int:
        key = (cell.variant.name, cell.task.name)
        if key not in self._macs:
            cost = cost_of(cell.variant, cell.given.shapes, cell.task.patch_size, self.store)
            self._macs[key] = cost.macs
        return self._macs[key]

    def _probe_seconds(self, cell: Cell) -> float:
        key = (cell.variant.name, cell.task.name)
        if key not in self._probes:
            self._probes[key] = probe_seconds(cell, self.plan, PROBES)
        return self._probes[key]


def _not_measured(variant: Variant, given: ModelInput, patch_size: int) -> Any:
    raise NotImplementedError("a need is never measured")


_MACHINE = Machine(
    encoder=_not_measured,
    probes=PROBES,
    batch=lambda tokens, width: max(1, min(256, BATCH // max(1, tokens * width))),
    at_once=1,
)
