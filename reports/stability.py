"""How stable is an order of variants: without a task, on resampled samples, on half the test set.

Numbers only, as pure functions of a ranking (and, for halves, of the per-sample values). It
must know nothing of figures or pages; `reports.sensitivity` puts it into words.

Sources: bootstrap as in `reports.resampling`; split halves are how test theory measures
reliability (W. Brown, C. Spearman, British Journal of Psychology 3, 1910); M. Kendall, A new
measure of rank correlation, Biometrika 30 (1938).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.predictions import Flags, Predictions
from reports.ranking import RankingTable, average_ranks
from reports.resampling import Floats

SPLITS = 200
_EQUAL = 1e-9  # average ranks closer than this are tied


@dataclass(frozen=True)
class Omission:
    """The ranking without one task; ``average_ranks`` stand in the full ranking's order.

    ``tau`` is Kendall's tau-b with the full average ranks, ``None`` where all are tied.
    """

    task: str
    average_ranks: tuple[float, ...]
    first: tuple[str, ...]
    tau: float | None


@dataclass(frozen=True)
class Resampled:
    """How the order fares over bootstrap draws of the test samples.

    ``first_lost``: share of the draws in which another variant has a lower average rank than
    the first. ``order_changed``: in which any two variants are reversed, ``None`` where all are
    tied. ``reversed_pairs``: for each variant and the next, the share in which they are.
    """

    draws: int
    first_lost: float
    order_changed: float | None
    reversed_pairs: tuple[float, ...]


@dataclass(frozen=True)
class Halves:
    """How the order fares on random halves of every task's test samples.

    ``still_first``: share of the halves in which the first keeps the lowest average rank
    (shared when several have it). ``tau``: mean Kendall's tau-b between two halves of one
    split, ``None`` where no split has one.
    """

    splits: int
    still_first: float
    tau: float | None


def without_each_task(ranking: RankingTable) -> tuple[Omission, ...]:
    """The ranking without each of its tasks; empty for one task or one variant."""
    if len(ranking.tasks) < 2 or len(ranking.ranked) < 2:
        return ()
    by_task = np.array([[r.ranks[t.name] for r in ranking.ranked] for t in ranking.tasks])
    full = by_task.mean(axis=0)
    found = []
    for i, task in enumerate(ranking.tasks):
        rest = np.delete(by_task, i, axis=0).mean(axis=0)
        lowest = rest.min()
        first = [
            r.variant for r, x in zip(ranking.ranked, rest, strict=True) if x <= lowest + _EQUAL
        ]
        found.append(Omission(task.name, tuple(map(float, rest)), tuple(first), _tau(full, rest)))
    return tuple(found)


def resampled(ranking: RankingTable) -> Resampled | None:
    """What the ranking's own bootstrap draws say; ``None`` without draws or rivals."""
    draws = ranking.draws
    if draws is None or draws.shape[1] < 2:
        return None
    averages = np.array([r.average_rank for r in ranking.ranked])
    a, b = np.triu_indices(len(averages), 1)
    apart = averages[b] > averages[a] + _EQUAL  # tied variants have no order to reverse
    changed = (draws[:, a[apart]] > draws[:, b[apart]] + _EQUAL).any(axis=1)
    swaps = draws[:, :-1] > draws[:, 1:] + _EQUAL
    lost = draws[:, 0] > draws.min(axis=1) + _EQUAL
    return Resampled(
        len(draws),
        float(lost.mean()),
        float(changed.mean()) if apart.any() else None,
        tuple(float(x) for x in swaps.mean(axis=0)),
    )


def random_halves(
    samples: Mapping[str, Predictions], ranking: RankingTable, splits: int = SPLITS, seed: int = 0
) -> Halves | None:
    """Rank on random halves; ``None`` unless every ranked variant has per-sample values."""
    names = tuple(r.variant for r in ranking.ranked)
    found = [samples[task.name].of(names) for task in ranking.tasks if task.name in samples]
    whole = [task for task in found if task is not None]
    if len(names) < 2 or not whole or len(whole) < len(ranking.tasks):
        return None
    up = [task.higher_is_better for task in ranking.tasks]
    rng = np.random.default_rng(seed)
    sides = [_half_scores(task, splits, rng) for task in whole]
    one, two = (average_ranks([side[i] for side in sides], up) for i in (0, 1))
    both = np.concatenate([one, two])
    lowest = np.isclose(both, both.min(axis=1, keepdims=True))
    taus = [tau for a, b in zip(one, two, strict=True) if (tau := _tau(a, b)) is not None]
    return Halves(
        splits,
        float((lowest[:, 0] / lowest.sum(axis=1)).mean()),
        float(np.mean(taus)) if taus else None,
    )


def _half_scores(task: Predictions, splits: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Scores ``[splits, V]`` on either half of the samples; a sample is on one side for all."""
    n_samples = task.value.shape[2]
    order = rng.permuted(np.tile(np.arange(n_samples), (splits, 1)), axis=1)
    first = (order < n_samples // 2).astype(np.float64)
    values = np.where(task.present, task.value, 0.0)
    return _scores(first, values, task.present), _scores(1 - first, values, task.present)


def _scores(chosen: Floats, values: Floats, present: Flags) -> Floats:
    """Means over the chosen samples ``[R, S]``, then over seeds: ``[R, V]``."""
    held = np.asarray(present, dtype=np.float64)
    n_variants, n_seeds, n_samples = values.shape
    counts = chosen @ held.T  # [R, K]
    sums = (chosen @ values.reshape(-1, n_samples).T).reshape(-1, n_variants, n_seeds)
    full = values.sum(axis=2) / held.sum(axis=1)
    # The half of a tiny split may hold no sample of a seed; its full score then stands in.
    by_seed = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], full[None])
    return np.asarray(by_seed.mean(axis=2), dtype=np.float64)


def _tau(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float | None:
    from scipy import stats  # noqa: PLC0415  (slow; needed by reports only)

    tau = float(stats.kendalltau(np.round(a, 9), np.round(b, 9)).statistic)
    return None if np.isnan(tau) else tau
