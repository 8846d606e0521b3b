"""Per-sample predictions of a task as arrays: what analyses below the score are made from.

It must know nothing of ranks, figures or pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.resampling import Floats
from reports.samples import parts_by
from reports.table import SuiteResults, TaskInfo

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Predictions:
    """One task's test samples under the variants that have them for every seed.

    ``present`` ``[K, S]`` says which samples a seed's test split holds, ``label`` ``[K, S]``
    their classes; ``prediction``, ``value`` and ``confidence`` are ``[V, K, S]``. What is
    absent or null is -1 among the integers and NaN among the numbers.
    """

    task: TaskInfo
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    present: Flags
    label: Ints
    prediction: Ints
    value: Floats
    confidence: Floats

    @property
    def are_hits(self) -> bool:
        """Whether every value is right or wrong: the metric is a share of hits."""
        values = self.value[:, self.present]
        return bool(((values == 0) | (values == 1)).all())

    @property
    def have_classes(self) -> bool:
        """Whether every sample has one label and one prediction."""
        labels, predicted = self.label[self.present], self.prediction[:, self.present]
        return bool((labels >= 0).all() and (predicted >= 0).all())

    def of(self, variants: Sequence[str]) -> Predictions | None:
        """Those of some variants, in that order; ``None`` when one of them has none."""
        if not set(variants) <= set(self.variants):
            return None
        at = [self.variants.index(name) for name in variants]
        values = (self.prediction[at], self.value[at], self.confidence[at])
        return Predictions(
            self.task, tuple(variants), self.seeds, self.present, self.label, *values
        )


def predictions(results: SuiteResults) -> dict[str, Predictions]:
    """Predictions by task, of the variants that have samples for every seed.

    Tasks without any are left out: an imported table has none. Costs a pass over all samples,
    so what analyses the same results takes the same predictions.
    """
    tasks = {task.name: task for task in results.run.tasks}
    variants = results.variants["variant"].to_list()
    wanted = pl.col("variant").is_in(variants) & pl.col("seed").is_in(results.run.seeds)
    by_task = parts_by(results.samples.filter(wanted), "task")
    found = {}
    for name, task in tasks.items():
        frame = by_task(name)
        if frame is not None:
            arrays = _arrays(frame, task, variants, results.run.seeds)
            if arrays is not None:
                found[name] = arrays
    return found


def _arrays(
    frame: pl.DataFrame, task: TaskInfo, variants: Sequence[str], seeds: tuple[int, ...]
) -> Predictions | None:
    counted = frame.group_by("variant").agg(pl.col("seed").n_unique())
    complete = set(counted.filter(pl.col("seed") == len(seeds))["variant"].to_list())
    names = tuple(name for name in variants if name in complete)
    if not names:
        return None
    kept = frame.filter(pl.col("variant").is_in(names))
    ids = kept["sample"].unique().sort()
    for column, keys in (("variant", names), ("seed", seeds), ("sample", ids)):
        places = pl.DataFrame({column: keys, f"at_{column}": range(len(keys))})
        kept = kept.join(places, on=column, how="left")
    at = tuple(kept[f"at_{name}"].to_numpy() for name in ("variant", "seed", "sample"))
    shape = (len(names), len(seeds), len(ids))
    prediction, label = np.full(shape, -1), np.full(shape[1:], -1)
    value, confidence = np.full(shape, np.nan), np.full(shape, np.nan)
    prediction[at] = kept["prediction"].fill_null(-1).to_numpy()
    value[at] = kept["value"].to_numpy()
    confidence[at] = kept["confidence"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    label[at[1:]] = kept["label"].fill_null(-1).to_numpy()
    present = ~np.isnan(value[0])
    return Predictions(task, names, seeds, present, label, prediction, value, confidence)
