"""How much worse could it be? One-sided 95% bounds on a difference of scores, new minus old.

A change passes when the lower bound lies above minus the margin: the burden of proof is on
the change, so too few samples fail it rather than pass it. Pure functions of numbers; it
must know nothing of variants, baselines or files.

Sources. Hits and misses: T. Tango, Equivalence test and confidence interval for the
difference in proportions for the paired-sample design, Statistics in Medicine 17 (1998)
891-908, the inversion of J.-M. Nam's test, Biometrics 53 (1997) 1422-1430. Its variance is
that of the *hypothesised* difference, so it keeps a width where no pair is discordant (where
the Wald interval and the bootstrap have none). Other values: the same idea, E. B. Wilson,
J. Am. Stat. Assoc. 22 (1927) 209-212, for a mean of bounded differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Z_ONE_SIDED = 1.6448536269514722  # 95% of a standard normal distribution lie below
Z_TWO_SIDED = 1.959963984540054  # 95% lie within


@dataclass(frozen=True)
class Bound:
    """A difference (new minus old, positive is better) and its one-sided 95% lower bound."""

    difference: float
    low: float
    method: str

    def shows_not_worse(self, margin: float) -> bool:
        """Whether a loss of ``margin`` or more is ruled out."""
        return self.low > -margin

    @property
    def shows_better(self) -> bool:
        """Whether there is a gain beyond chance."""
        return self.low > 0


def paired_bound(old: Floats, new: Floats) -> Bound:
    """Bound on the mean of ``new - old``, per-sample values ``[S, K]`` of S samples, K seeds.

    Where all values are 0 or 1 it is Tango's, on the numbers of samples lost and gained, each
    averaged over the seeds. The seeds share the samples, so they are no further evidence: the
    number of samples stays S. That is never too narrow, because the variance of a mean over
    seeds is at most the mean of their variances.
    """
    difference = new - old
    mean = float(difference.mean())
    if ((old == 0) | (old == 1)).all() and ((new == 0) | (new == 1)).all():
        gained, lost = (difference > 0).mean(axis=1).sum(), (difference < 0).mean(axis=1).sum()
        low = tango_lower(float(gained), float(lost), len(difference))
        return Bound(mean, low, "paired, Tango's score interval")
    by_sample = difference.mean(axis=1)
    return Bound(mean, bounded_mean_lower(by_sample), "paired, Wilson's construction")


def interval_bound(
    old: float, old_interval: tuple[float, float], new: float, new_interval: tuple[float, float]
) -> Bound:
    """Bound from two scores and their 95% intervals alone: unpaired, hence wide.

    Each interval stands for a normal distribution; the variances add.
    """
    deviations = [(high - low) / (2 * Z_TWO_SIDED) for low, high in (old_interval, new_interval)]
    difference = new - old
    low = difference - Z_ONE_SIDED * math.hypot(*deviations)
    return Bound(difference, low, "unpaired, from the two intervals")


def tango_lower(gained: float, lost: float, samples: float, z: float = Z_ONE_SIDED) -> float:
    """Lower bound on P(gained) - P(lost): where Tango's score statistic reaches ``z``.

    ``gained`` of ``samples`` pairs are right only now, ``lost`` were right only before. With
    neither, the bound is ``-z^2 / (samples + z^2)``: about -2.7 / samples.
    """
    low, high = -1.0, (gained - lost) / samples
    for _ in range(60):  # bisection: the statistic falls as the difference grows
        middle = (low + high) / 2
        if _tango_statistic(gained, lost, samples, middle) > z:
            low = middle
        else:
            high = middle
    return low


def _tango_statistic(gained: float, lost: float, n: float, difference: float) -> float:
    """``(b - c - n d) / sqrt(n (2 q + d (1 - d)))``, q the likeliest P(lost) under d."""
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    excess = gained - lost - n * difference
    if variance <= 0:
        return math.inf if excess > 0 else 0.0
    return excess / math.sqrt(variance)


def bounded_mean_lower(differences: Floats, z: float = Z_ONE_SIDED) -> float:
    """Lower bound on the mean of differences ``[S]`` whose sizes are bounded.

    If the true loss exceeds the observed one by t (summed over samples), the excess sits in
    samples that lose at most M each, so it adds up to ``M t`` to the variance V of the sum.
    The bound solves ``t^2 = z^2 (V + M t)``. M is the largest size seen, and at least 1.
    """
    samples = len(differences)
    mean = float(differences.mean())
    variance = float(((differences - mean) ** 2).sum())
    largest = max(1.0, float(np.abs(differences).max()))
    half = z * largest / 2
    return mean - (z * half + z * math.sqrt(variance + half * half)) / samples


def room_for_losses(samples: int, margin: float) -> int:
    """How many samples may be lost, with none gained, before ``margin`` is no longer ruled out.

    -1 when even an unchanged prediction for every sample does not rule it out.
    """
    lost = -1
    while lost < samples and tango_lower(0, lost + 1, samples) > -margin:
        lost += 1
    return lost
