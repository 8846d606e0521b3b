"""A variant's files for the artifact browser: predictions, confusion matrices, scores, tuning.

Few files, because each is one upload: all tasks and seeds of a variant share them. CSV and
HTML are what MLflow's browser shows in place; predictions are Parquet, to compute with.
A table that the results lack (an imported one has no predictions) makes no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import polars as pl

from reports.io import as_parquet
from reports.samples import parts_by
from reports.table import SuiteResults, TaskInfo

MOST_CLASSES = 60
"""More would be no matrix that a person reads; ``confusion.csv`` has them all."""

_TEMPLATE = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string((Path(__file__).parent / "confusion.html.j2").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Confusion:
    """One task's matrix over all seeds: ``counts[label][prediction]``, and shares of the label."""

    task: TaskInfo
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """Each row divided by its sum."""
        return tuple(tuple(n / max(sum(row), 1) for n in row) for row in self.counts)


@dataclass(frozen=True)
class Tables:
    """The results, split by variant once: filtering millions of rows per variant is slow."""

    results: SuiteResults
    scores: Mapping[str, pl.DataFrame]
    samples: Callable[[str], pl.DataFrame | None]
    trials: Mapping[str, pl.DataFrame]

    @classmethod
    def of(cls, results: SuiteResults) -> Tables:
        """Split by variant."""
        scores, trials = _by_variant(results.scores), _by_variant(results.trials)
        return cls(results, scores, parts_by(results.samples, "variant"), trials)


def _by_variant(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = frame.partition_by("variant", as_dict=True)
    return {str(key[0]): part for key, part in parts.items()}


def write_variant_files(tables: Tables, variant: str, folder: Path) -> None:
    """Write what there is of a variant into an empty folder."""
    scores, trials = tables.scores.get(variant), tables.trials.get(variant)
    if scores is not None:
        shown = scores.drop("variant", "sketch").sort("task", "seed")
        shown.write_csv(folder / "scores.csv")
    if trials is not None:
        trials.drop("variant").sort("task", "seed", "number").write_csv(folder / "tuning.csv")
    samples = tables.samples(variant)
    if samples is None:
        return
    tidy = samples.drop("variant").sort("task", "seed", "sample")
    (folder / "predictions.parquet").write_bytes(as_parquet(tidy))
    counted = confusion_counts(samples)
    if len(counted):
        counted.write_csv(folder / "confusion.csv")
        matrices = list(_matrices(counted, tables.results.run.tasks))
        page = _TEMPLATE.render(variant=variant, matrices=matrices)
        (folder / "confusion.html").write_text(page, encoding="utf-8")


def confusion_counts(samples: pl.DataFrame) -> pl.DataFrame:
    """``task, label, prediction, count`` over all seeds; a sample needs one label."""
    return (
        samples.drop_nulls(["label", "prediction"])
        .group_by("task", "label", "prediction")
        .agg(pl.len().alias("count"))
        .sort("task", "label", "prediction")
    )


def _matrices(counted: pl.DataFrame, tasks: Sequence[TaskInfo]) -> Iterator[Confusion]:
    for task in tasks:
        rows = counted.filter(pl.col("task") == task.name).drop("task").rows()
        if not rows:
            continue
        size = max(len(task.classes), 1 + max(max(label, found) for label, found, _ in rows))
        if size > MOST_CLASSES:
            continue
        counts = [[0] * size for _ in range(size)]
        for label, prediction, count in rows:
            counts[label][prediction] = count
        names = (*task.classes, *(f"class {i}" for i in range(len(task.classes), size)))
        yield Confusion(task, names, tuple(map(tuple, counts)))
