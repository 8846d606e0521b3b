"""What a check compares: the scores, costs, predictions and sketches of one suite run.

A baseline file holds one `Snapshot`, and the run under test becomes another, so the two
sides of a check are read by the same code. It must know nothing of files or verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from harness.content import canonical_json
from harness.metrics import METRICS, sample_values
from harness.regression.noninferiority import Floats
from harness.regression.packing import Classes
from models.errors import UserError
from reports.table import SuiteResults, TaskInfo


class CellId(NamedTuple):
    """One variant on one task with one seed; the seed of a published number is None."""

    variant: str
    task: str
    seed: int | None


def order(cell: CellId) -> tuple[str, str, int]:
    """Sort key: by variant, task and seed, whatever order the suite lists them in."""
    return cell.variant, cell.task, -1 if cell.seed is None else cell.seed


@dataclass(frozen=True)
class TaskFacts:
    """What must be the same for two scores to be comparable, and the labels they rest on.

    ``protocol`` and ``data`` are compared value by value; ``labels`` ``[S]`` follow the sorted
    sample ids and are None where the run has no predictions.
    """

    name: str
    origin: str
    higher_is_better: bool
    protocol: Mapping[str, object]
    data: Mapping[str, object]
    classes: int
    labels: Classes | None

    @property
    def metric(self) -> str:
        """Name of the score."""
        return str(self.protocol["metric"])


@dataclass(frozen=True)
class VariantFacts:
    """A variant's tier and weights: a hash, or for random weights the word (the seed varies)."""

    name: str
    tier: str
    scheme: str
    weights: str


@dataclass(frozen=True, eq=False)
class CellFacts:
    """One cell: its score, its costs, and its predictions ``[S]`` in the order of the labels.

    ``interval`` (95%) is kept where there are no predictions. Costs are per sample; a
    published number may lack them.
    """

    score: float
    tokens: int | None
    macs: int | None
    params: int | None
    interval: tuple[float, float] | None
    predictions: Classes | None
    sketch: tuple[float, ...]


@dataclass(frozen=True)
class Snapshot:
    """A suite run as far as a check compares it."""

    suite: str
    tasks: Mapping[str, TaskFacts]
    variants: Mapping[str, VariantFacts]
    cells: Mapping[CellId, CellFacts]
    reasons: Mapping[CellId, str]  # why a cell that was asked for has no result

    def values(self, cell: CellId) -> Floats | None:
        """Per-sample values ``[S]`` whose mean is the cell's score, if it has predictions."""
        task, predictions = self.tasks[cell.task], self.cells[cell].predictions
        if task.labels is None or predictions is None:
            return None
        return sample_values(task.metric, task.labels, predictions)


def snapshot(results: SuiteResults) -> Snapshot:
    """The comparable part of a run's results.

    Raises `UserError` where a task's cells were scored on different test samples.
    """
    samples = _by_cell(results.samples.lazy().collect())
    tasks = {task.name: _task(task, samples) for task in results.run.tasks}
    rows = {row["variant"]: row for row in results.variants.iter_rows(named=True)}
    variants = {
        name: VariantFacts(
            name,
            row["tier"],
            row["scheme"],
            "random" if row["tier"] == "random" else str(row["weights_hash"]),
        )
        for name, row in rows.items()
    }
    cells = {}
    for row in results.scores.iter_rows(named=True):
        cell = CellId(row["variant"], row["task"], row["seed"])
        params = rows[row["variant"]]["params"]
        cells[cell] = _cell(row, params, samples.get(cell), tasks[row["task"]])
    reasons = {CellId(m.variant, m.task, m.seed): m.reason for m in results.run.missing}
    return Snapshot(results.run.suite, tasks, variants, cells, reasons)


def _by_cell(samples: pl.DataFrame) -> dict[CellId, pl.DataFrame]:
    parts = samples.sort("sample").partition_by("variant", "task", "seed", as_dict=True)
    return {
        CellId(str(v), str(t), None if s is None else int(s)): f for (v, t, s), f in parts.items()
    }


def _task(task: TaskInfo, samples: Mapping[CellId, pl.DataFrame]) -> TaskFacts:
    own = [frame for cell, frame in samples.items() if cell.task == task.name]
    # Of labels, numbers and maps no label is kept: their intervals are compared.
    scorable = own and task.metric in METRICS and not own[0]["label"].null_count()
    labels = own[0]["label"].to_numpy() if scorable else None
    for frame in own:
        if not frame.select("sample", "label").equals(own[0].select("sample", "label")):
            raise UserError(
                f'The cells of task "{task.name}" were scored on different test samples, so they '
                "cannot be held to one another; run the suite again with one split."
            )
    ids = canonical_json(own[0]["sample"].to_list()) if own else ""
    return TaskFacts(
        name=task.name,
        origin=task.origin,
        higher_is_better=task.higher_is_better,
        protocol={
            "metric": task.metric,
            "probe": task.probe,
            "protocol": task.protocol,
            "bands": ", ".join(task.bands),
            "partition": task.partition,
            "patch_size": task.patch_size,
            "height": task.height,
            "width": task.width,
            "steps": task.steps,
        },
        data={
            "dataset": task.dataset,
            "fingerprint": task.fingerprint,
            "n_train": task.n_train,
            "n_val": task.n_val,
            "n_test": task.n_test,
            "test_samples": hashlib.sha256(ids.encode()).hexdigest() if own else "",
        },
        classes=_classes(task, own),
        labels=labels,
    )


def _classes(task: TaskInfo, frames: list[pl.DataFrame]) -> int:
    seen = [frame[column].max() for frame in frames for column in ("label", "prediction")]
    return max([len(task.classes), *(int(str(index)) + 1 for index in seen if index is not None)])


def _cell(
    row: Mapping[str, object], params: object, samples: pl.DataFrame | None, task: TaskFacts
) -> CellFacts:
    usable = samples is not None and task.labels is not None
    low, high = row["ci_low"], row["ci_high"]
    has_interval = low is not None and high is not None
    sketch = row["sketch"] or ()
    return CellFacts(
        score=float(str(row["score"])),
        tokens=_whole(row["tokens"]),
        macs=_whole(row["macs"]),
        params=_whole(params),
        interval=None if usable or not has_interval else (float(str(low)), float(str(high))),
        predictions=_predictions(samples) if usable and samples is not None else None,
        # As a baseline keeps it: both sides of a check are rounded alike.
        sketch=tuple(np.asarray(sketch, dtype=np.float32).astype(np.float64).tolist()),
    )


def _predictions(samples: pl.DataFrame) -> Classes:
    return np.asarray(samples["prediction"].to_numpy(), dtype=np.int64)


def _whole(value: object) -> int | None:
    return None if value is None else round(float(str(value)))
