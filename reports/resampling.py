"""Paired bootstrap over test samples and seeds: the one source of uncertainty in a report.

Every variant of a task sees the same resamples, so differences and ranks keep the
correlation between variants. It must know nothing of ranks, pairs or pages, and it
draws each task from its own seeded stream: adding a task leaves the others' numbers alone.

Published scores come without samples. Theirs are drawn from a normal distribution as wide
as the published interval, independently of everything else: a difference from such a score
is not paired, and its interval wider than it would have to be.

Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), ch. 13
(percentile intervals); the unit drawn is the test sample, shared by all seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.samples import parts_by
from reports.table import SuiteResults, TaskInfo

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
_NORMAL_95 = 1.959963984540054  # a normal distribution's central 95%, in deviations
_AT_ONCE = 64  # draws whose counts fit a processor's cache
DECIMALS = 10
"""Scores closer than 1e-10 are equal: a tie must not hang on the order of a sum."""


@dataclass(frozen=True)
class Interval:
    """A 95% percentile interval, ``low <= high``."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, eq=False)
class TaskScores:
    """One task's scores, averaged over seeds, for the variants that have all its cells.

    ``point`` is ``[V]``; ``draws`` is ``[B, V]``, a column of NaN for a variant with neither
    per-sample values nor an interval, ``None`` when all are such. ``sampled`` says which
    variants' draws come from per-sample values: only differences between two of those are
    paired. ``hits`` ``[V, S]`` says which samples a variant gets right, where the values are
    hits and misses of one seed; ``None`` otherwise.
    """

    task: TaskInfo
    variants: tuple[str, ...]
    point: Floats
    draws: Floats | None
    intervals: tuple[Interval | None, ...]
    sampled: tuple[bool, ...]
    hits: npt.NDArray[np.bool_] | None = None

    def columns(self, names: tuple[str, ...]) -> list[int]:
        """Positions of some variants on the last axis."""
        return [self.variants.index(name) for name in names]


def interval(draws: Floats) -> Interval:
    """Central 95% of a ``[B]`` sample of the bootstrap distribution."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(float(low), float(high))


def intervals_of(draws: Floats) -> list[Interval]:
    """The intervals of all columns of ``[B, V]`` draws at once."""
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def bootstrap(
    results: SuiteResults, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, TaskScores]:
    """Point scores and bootstrap draws of every task, by task name.

    A variant that lacks a seed of a task is left out of that task, never averaged over
    fewer seeds. Raises ``ValueError`` when the table contradicts itself: a cell given
    twice, variants measured on different test samples, or a score that is not the mean
    of its samples.
    """
    by_task = parts_by(results.samples, "task")
    seed_counts = _seed_counts(len(results.run.seeds), resamples, seed)
    return {
        task.name: _task_scores(results, task, by_task(task.name), seed_counts, seed)
        for task in results.run.tasks
    }


def _task_scores(
    results: SuiteResults,
    task: TaskInfo,
    samples: pl.DataFrame | None,
    seed_counts: npt.NDArray[np.int64],
    seed: int,
) -> TaskScores:
    seeds = results.run.seeds
    wanted = pl.col("seed").is_in(seeds) | pl.col("seed").is_null()
    cells = results.scores.filter((pl.col("task") == task.name) & wanted)
    if cells.select("variant", "seed").is_duplicated().any():
        raise ValueError(f'Task "{task.name}" has two scores for one variant and seed.')
    by_name = _complete(cells, seeds)
    names = tuple(name for name in results.variants["variant"].to_list() if name in by_name)
    by_seed = np.array([by_name[n] for n in names]).reshape(len(names), len(seeds))
    point = np.round(by_seed.mean(axis=1), DECIMALS)
    measured = set() if samples is None else set(samples["variant"].unique().to_list())
    sampled = tuple(name in measured for name in names)
    stored = _stored_intervals(cells, names, seeds)
    if all(not s and i is None for s, i in zip(sampled, stored, strict=True)):
        return TaskScores(task, names, point, None, stored, sampled)
    draws = np.full((len(seed_counts), len(names)), np.nan)
    hits = None
    own = [v for v, is_sampled in enumerate(sampled) if is_sampled]
    if samples is not None and own:
        own_names = tuple(names[v] for v in own)
        values, present = _value_cube(samples, task.name, own_names, seeds)
        _check_means(values, present, by_seed[own], own_names, task.name)
        rng = np.random.default_rng([seed, _stream(task.name)])
        draws[:, own] = _draw(values, present, seed_counts, rng)
        hits = _hits(values, own, len(names))
    for v, (name, spread) in enumerate(zip(names, stored, strict=True)):
        if not sampled[v] and spread is not None:
            rng = np.random.default_rng([seed, _stream(task.name), _stream(name)])
            draws[:, v] = _independent_draws(float(point[v]), spread, len(draws), rng)
    drawn = intervals_of(draws)
    intervals = tuple(d if s else i for d, s, i in zip(drawn, sampled, stored, strict=True))
    return TaskScores(task, names, point, draws, intervals, sampled, hits)


def _hits(values: Floats, own: list[int], n_variants: int) -> npt.NDArray[np.bool_] | None:
    """Which samples each variant gets right, if all values of the only seed are 0 or 1."""
    if values.shape[1] != 1 or not ((values == 0) | (values == 1)).all():
        return None
    hits = np.zeros((n_variants, values.shape[2]), dtype=np.bool_)
    hits[own] = values[:, 0] == 1
    return hits


def _complete(cells: pl.DataFrame, seeds: tuple[int, ...]) -> dict[str, list[float]]:
    """Scores by seed, of the variants that have them all; a published one stands for each."""
    found: dict[str, dict[int | None, float]] = {}
    for name, seed, score in cells.select("variant", "seed", "score").iter_rows():
        found.setdefault(name, {})[seed] = float(score)
    return {
        name: [scores.get(k, scores.get(None, np.nan)) for k in seeds]
        for name, scores in found.items()
        if None in scores or all(k in scores for k in seeds)
    }


def _independent_draws(
    point: float, spread: Interval, n_draws: int, rng: np.random.Generator
) -> Floats:
    """Draws ``[B]`` around a score of which only its 95% interval is known."""
    deviation = (spread.high - spread.low) / (2 * _NORMAL_95)
    return np.asarray(np.round(rng.normal(point, deviation, n_draws), DECIMALS), dtype=np.float64)


def _stored_intervals(
    cells: pl.DataFrame, names: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[Interval | None, ...]:
    """The cells' own intervals; those of several seeds cannot be combined without samples."""
    stored = {
        v: Interval(low, high)
        for v, seed, low, high in cells.select("variant", "seed", "ci_low", "ci_high").iter_rows()
        if low is not None and high is not None and (seed is None or len(seeds) == 1)
    }
    return tuple(stored.get(name) for name in names)


def _value_cube(
    samples: pl.DataFrame, task: str, names: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Per-sample values ``[V, K, S]`` and which samples a seed's test split holds ``[K, S]``."""
    kept = samples.filter(pl.col("variant").is_in(names) & pl.col("seed").is_in(seeds))
    ids = kept["sample"].unique().sort()
    # The places of a column's values in a list, found without three joins over all samples.
    v, s = (
        kept[column].cast(pl.Enum(keys)).to_physical().to_numpy()
        for column, keys in (("variant", list(names)), ("sample", ids))
    )
    k = kept["seed"].replace_strict(list(seeds), list(range(len(seeds)))).to_numpy()
    values = np.full((len(names), len(seeds), len(ids)), np.nan)
    values[v, k, s] = kept["value"].to_numpy()
    filled = ~np.isnan(values)
    if int(filled.sum()) != kept.height:
        raise ValueError(f'Task "{task}" has a test sample twice, or one without a value.')
    present = filled[0]
    if not (filled == present).all() or not present.any(axis=1).all():
        raise ValueError(f'Variants of task "{task}" were not measured on the same test samples.')
    return np.where(filled, values, 0.0), present


def _check_means(
    values: Floats,
    present: npt.NDArray[np.bool_],
    by_seed: Floats,
    names: tuple[str, ...],
    task: str,
) -> None:
    means = values.sum(axis=2) / present.sum(axis=1)
    wrong = np.argwhere(~np.isclose(means, by_seed, rtol=0, atol=1e-5))
    if len(wrong):
        raise ValueError(
            f'The score of "{names[wrong[0][0]]}" on task "{task}" is not the mean of its samples.'
        )


def _draw(
    values: Floats,
    present: npt.NDArray[np.bool_],
    seed_counts: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Floats:
    """Resampled scores ``[B, V]``: sample counts times values, then seed counts."""
    n_variants, n_seeds, n_samples = values.shape
    n_draws = len(seed_counts)
    counts = _counts(rng, n_draws, n_samples)
    drawn = counts @ present.T.astype(np.float64)  # [B, K]: how many of a seed's samples came up
    summed = (counts @ values.reshape(-1, n_samples).T).reshape(n_draws, n_variants, n_seeds)
    full = values.sum(axis=2) / present.sum(axis=1)
    # A tiny test split may not come up at all; its full score then stands in.
    scores = np.where(drawn[:, None] > 0, summed / np.maximum(drawn, 1)[:, None], full[None])
    averaged = (scores * seed_counts[:, None]).sum(axis=2) / n_seeds
    return np.asarray(np.round(averaged, DECIMALS), dtype=np.float64)


def _counts(rng: np.random.Generator, n_draws: int, n_items: int) -> Floats:
    """How often each item comes up in draws with replacement: ``[B, n_items]``."""
    counts = np.empty((n_draws, n_items))
    for first in range(0, n_draws, _AT_ONCE):
        rows = counts[first : first + _AT_ONCE]
        picks = rng.integers(n_items, size=rows.shape) + n_items * np.arange(len(rows))[:, None]
        rows[:] = np.bincount(picks.ravel(), minlength=rows.size).reshape(rows.shape)
    return counts


def _seed_counts(n_seeds: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Draws of the seeds ``[B, K]``, shared by all tasks: a seed repeats the whole suite."""
    rng = np.random.default_rng([seed, _stream("seeds")])
    return _counts(rng, resamples, n_seeds).astype(np.int64)


def _stream(name: str) -> int:
    return zlib.crc32(name.encode())


def shared_tasks(scores: Mapping[str, TaskScores], *variants: str) -> tuple[str, ...]:
    """Names of the tasks on which all these variants have every cell, in the suite's order."""
    return tuple(name for name, task in scores.items() if set(variants) <= set(task.variants))
