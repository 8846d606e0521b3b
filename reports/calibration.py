"""Calibration: is a probe right as often as its confidence says?

Expected calibration error over ten bins of equal width, with an interval, and beside it what
chance alone gives: the error of a perfectly calibrated probe with the same confidences is not
zero, because every bin holds few samples. Pure functions of predictions; it must know nothing
of figures or pages.

Sources: C. Guo et al., On calibration of modern neural networks, ICML (2017); A. Kumar et al.,
Verified uncertainty calibration, NeurIPS (2019), on the bias; the reference by simulation is
the consistency resampling of J. Broecker and L. Smith, Weather and Forecasting 22 (2007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reports.pairs import Pair
from reports.predictions import Predictions
from reports.ranking import RankingTable
from reports.resampling import Floats, Interval, interval

BINS, DRAWS = 10, 200
MOST_VARIANTS = 8
_MOST_CASES = 80


@dataclass(frozen=True)
class Bin:
    """Samples whose confidence lies in one bin: how many, how sure, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """One variant's calibration on one task, pooled over seeds.

    ``error`` is the mean gap between confidence and accuracy over the bins, weighted by
    their counts. ``chance`` is the 95% quantile of the error that a perfectly calibrated
    probe would show with these confidences, ``expected`` its mean. ``bins`` holds the bins
    that have samples.
    """

    task: str
    variant: str
    probe: str
    bins: tuple[Bin, ...]
    confidence: float
    accuracy: float
    error: float
    interval: Interval
    expected: float
    chance: float

    @property
    def is_off(self) -> bool:
        """Whether the error is beyond what chance explains."""
        return self.error > self.chance

    @property
    def direction(self) -> str:
        """Over- or underconfident; both, where most of the error cancels over the bins."""
        gap = self.confidence - self.accuracy
        if abs(gap) < self.error / 2:
            return "over- and underconfident"
        return "overconfident" if gap > 0 else "underconfident"


def calibration(
    task: Predictions, variant: str, draws: int = DRAWS, seed: int = 0
) -> Calibration | None:
    """Calibration of a variant; ``None`` unless all values are hits and have a confidence.

    Samples are resampled with all their seeds, for one sample under two seeds is no two. The
    bootstrap adds the bias once more, so its draws are shifted back onto the error itself.
    """
    mine = task.of((variant,))
    if mine is None or not mine.are_hits or np.isnan(mine.confidence[0][mine.present]).any():
        return None
    seeds, samples = np.nonzero(mine.present)
    sure = np.clip(mine.confidence[0][seeds, samples], 0, 1)
    hit = mine.value[0][seeds, samples]
    place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    n_samples = mine.present.shape[1]
    counts, luck = _draws(n_samples, draws, seed)

    gaps = np.zeros((n_samples, BINS))
    np.add.at(gaps, (samples, place), hit - sure)
    tested = mine.present.sum(axis=0)
    error = float(np.abs(gaps.sum(axis=0)).sum() / len(hit))
    errors = np.abs(counts @ gaps).sum(axis=1) / np.maximum(counts @ tested, 1)
    spread = interval(np.maximum(errors - errors.mean() + error, 0))

    # One uniform number per sample for all seeds: they err together, which is the safe side.
    member = place[:, None] == np.arange(BINS)
    lucky = (luck[:, samples] < sure).astype(np.float32) @ member.astype(np.float32)
    reference = np.abs(lucky - sure @ member).sum(axis=1) / len(hit)
    return Calibration(
        task.task.name,
        variant,
        task.task.probe,
        _bins(sure, hit, member),
        float(sure.mean()),
        float(hit.mean()),
        error,
        Interval(min(spread.low, error), max(spread.high, error)),
        float(reference.mean()),
        float(np.quantile(reference, 0.95)),
    )


@lru_cache(maxsize=4)
def _draws(n_samples: int, draws: int, seed: int) -> tuple[Floats, Floats]:
    """How often each sample comes up, and its luck: both ``[draws, n_samples]``.

    The same for every variant, as long as the test sets are of one size.
    """
    rng = np.random.default_rng(seed)
    picks = rng.integers(n_samples, size=(draws, n_samples))
    flat = np.bincount(
        (picks + n_samples * np.arange(draws)[:, None]).ravel(), minlength=draws * n_samples
    )
    counts = flat.reshape(draws, n_samples).astype(np.float64)
    return counts, rng.uniform(size=(draws, n_samples))


def _bins(sure: Floats, hit: Floats, member: Floats) -> tuple[Bin, ...]:
    return tuple(
        Bin(b / BINS, (b + 1) / BINS, int(m.sum()), float(sure[m].mean()), float(hit[m].mean()))
        for b, m in enumerate(np.asarray(member, dtype=bool).T)
        if m.any()
    )


def calibrations(
    ranking: RankingTable, samples: Mapping[str, Predictions], pairs: Sequence[Pair]
) -> tuple[Calibration, ...]:
    """Every task under the variants a reader compares: `MOST_VARIANTS`, fewer with many tasks.

    Those of the version pairs stand first, then the best ranked.
    """
    ranked = [r.variant for r in ranking.ranked]
    mine = [p for p in pairs if p.kind == "version" and p.tier in ranking.tiers]
    # Pairs with the best candidate first, so that the cut falls on the others.
    mine.sort(key=lambda p: ranked.index(p.candidate) if p.candidate in ranked else len(ranked))
    chosen = dict.fromkeys([v for p in mine for v in (p.reference, p.candidate)] + ranked)
    most = max(2, min(MOST_VARIANTS, _MOST_CASES // max(1, len(ranking.tasks))))
    names = [name for name in chosen if name in ranked][:most]
    found = [
        calibration(samples[task.name], name)
        for task in ranking.tasks
        if task.name in samples
        for name in names
    ]
    return tuple(c for c in found if c is not None)
