"""Mean average precision of several labels a sample, from their probabilities.

Average precision is the sum over thresholds of precision times the gain in recall, as scikit-learn
has it (no interpolation; equal probabilities are one threshold). Samples that count more or less
move precision and recall smoothly, so it has intervals and per-sample values as other metrics do,
without forming a table of thresholds times samples. It must not know probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from harness.metrics.metric import Floats, Metric, Samples, Targets

_PAIRS_AT_ONCE = 4_000_000  # bounds memory, changes no result


@dataclass(frozen=True)
class AveragePrecision(Metric):
    """Labels uint8 ``[n, C]`` against probabilities ``[n, C]``.

    ``is_micro``: of all pairs of sample and label in one list; else the mean over labels. A label
    that no sample has, has no recall and is left out, of a resample as of the whole.
    """

    is_micro: bool

    from_probabilities: ClassVar[bool] = True

    def of(self, targets: Targets, predictions: Targets) -> Samples:
        """Ranked lists: one, or one for each label that some sample has."""
        labels = targets > 0
        rows = np.arange(len(labels))
        if self.is_micro:
            every = np.repeat(rows, labels.shape[1])
            lists = [_Ranked.of(labels.ravel(), predictions.ravel(), every)]
        else:
            lists = [
                _Ranked.of(mine, shares, rows)
                for mine, shares in zip(labels.T, predictions.T, strict=True)
            ]
        return _Lists([each for each in lists if len(each.hits)], len(rows))


@dataclass(frozen=True)
class _Ranked:
    """Pairs from the most probable down; a threshold wherever a positive one comes in.

    ``samples`` ``[m]``: the sample of each pair, as far as the last threshold; ``starts`` ``[G]``:
    where the pairs of each threshold begin; ``hits`` ``[P]``: the samples of the positive pairs,
    ``hit_starts`` ``[G]``: where those of each threshold begin. Thresholds without a positive pair
    gain no recall: their pairs stand with the next.
    """

    samples: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    hit_starts: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        positive: npt.NDArray[np.bool_],
        probabilities: npt.NDArray[np.floating],
        samples: npt.NDArray[np.int64],
    ) -> _Ranked:
        """All arrays are ``[m]``: of each pair whether it is one, how probable, whose."""
        order = np.argsort(-probabilities, kind="stable")
        positive, ranked = positive[order], probabilities[order]
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of equal ones
        found = np.cumsum(positive)[ends]
        gains = np.diff(found, prepend=0) > 0
        ends, found = ends[gains], found[gains]
        last = int(ends[-1]) + 1 if len(ends) else 0
        return cls(
            samples[order][:last],
            np.append(0, ends[:-1] + 1)[: len(ends)],
            samples[order][positive],
            np.append(0, found[:-1])[: len(ends)],
        )

    def precisions(self, counts: Floats) -> tuple[Floats, Floats, Floats]:
        """At each threshold, of samples that count ``[R, n]``: what it gains; hits; all, so far.

        Each ``[R, G]``.
        """
        gained = np.add.reduceat(counts[:, self.hits], self.hit_starts, axis=1)
        listed = np.add.reduceat(counts[:, self.samples], self.starts, axis=1)
        return gained, gained.cumsum(axis=1), listed.cumsum(axis=1)

    def scores(self, counts: Floats) -> Floats:
        """Average precision ``[R]``; NaN of a resample without a positive pair."""
        gained, hits, listed = self.precisions(counts)
        precision = np.divide(hits, listed, out=np.zeros_like(hits), where=listed > 0)
        total = hits[:, -1]
        nothing = np.full_like(total, np.nan)
        scores: Floats = (gained * precision).sum(axis=1)
        return np.divide(scores, total, out=nothing, where=total > 0)

    def slope(self, count: int) -> Floats:
        """Derivative of the score ``[n]`` by how much each sample counts, where each counts once.

        A pair moves the precision at its own threshold and at all that follow; a positive one
        gains at its own as well, and all gain less by it.
        """
        gained, hits, listed = (x[0] for x in self.precisions(np.ones((1, count))))
        total = hits[-1]
        precision = hits / listed
        score = float((gained * precision).sum() / total)
        as_hit = np.cumsum((gained / listed)[::-1])[::-1]
        as_listed = np.cumsum((gained * precision / listed)[::-1])[::-1]
        of_hit = np.repeat(
            precision + as_hit - score, np.diff(self.hit_starts, append=len(self.hits))
        )
        of_listed = np.repeat(as_listed, np.diff(self.starts, append=len(self.samples)))
        moved = np.bincount(self.hits, of_hit, count) - np.bincount(self.samples, of_listed, count)
        slope: Floats = moved / total
        return slope


@dataclass(frozen=True)
class _Lists:
    """The mean over ranked lists of ``count`` samples; without any list it is 0."""

    lists: Sequence[_Ranked]
    count: int

    def __len__(self) -> int:
        return self.count

    def score(self) -> float:
        return float(self.scores(np.ones((1, self.count)))[0])

    def scores(self, counts: Floats) -> Floats:
        longest = max((len(each.samples) for each in self.lists), default=1)
        rows = max(1, _PAIRS_AT_ONCE // longest)
        blocks = [counts[start : start + rows] for start in range(0, len(counts), rows)]
        return np.concatenate([self._mean(block) for block in blocks])

    def _mean(self, counts: Floats) -> Floats:
        total, present = np.zeros((2, len(counts)))
        for each in self.lists:
            found = each.scores(counts)
            known = ~np.isnan(found)
            total[known] += found[known]
            present += known
        mean: Floats = total / np.maximum(present, 1)
        return mean

    def values(self) -> Floats:
        influence = sum((each.slope(self.count) for each in self.lists), np.zeros(self.count))
        # Twice as much of every sample is the same score: the influences sum to zero.
        values: Floats = self.score() + influence * (self.count / max(1, len(self.lists)))
        return values
