"""What each Sentinel-2 band looks like, as figures: the reference for recognising bands.

Four numbers describe a channel of a tile: how bright it is, how varied, and how sharp at
two scales (a 60 m band brought to 10 m pixels is far smoother than a true 10 m band). A
signature is the mean and covariance of those numbers over many tiles, all bands jointly,
so that it also knows that B8A stays a little above B08. It holds figures only, and must
know nothing of data sets; `signatures.json` was fitted as docs/data-audit.md tells.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

FEATURES = ("brightness", "variation", "sharpness_10m", "sharpness_20m")
SPECTRAL = (0, 1)
"""Features that survive any resampling: sharpness depends on the interpolation used."""
MIN_SIDE = 8
"""Smallest image side (pixels) from which sharpness can be told."""

# Added in quadrature to the fitted spread: other places, seasons and processors differ by this.
_TOLERANCE = (0.10, 0.20, 0.05, 0.10)
# A common factor on all bands (illumination, a unit's scale) is no evidence about order.
_SCALE_FREEDOM = 1.0
# Tails of the Student distribution: one odd tile must not outvote the others.
_TAILS = 8.0


def tile_features(images: npt.NDArray[np.floating]) -> F64:
    """Features ``[N, D, 4]`` of images ``[N, H, W, D]`` in Sentinel-2 digital numbers.

    Sharpness is the log ratio of mean squared differences at lag 1 to lag 2, and lag 2 to
    lag 4: about log(1/4) where an image is smooth at that scale, 0 where it is noise.
    """
    found = [_features(images[i : i + 32].astype(np.float64)) for i in range(0, len(images), 32)]
    return np.concatenate(found)


def _features(images: F64) -> F64:
    mean, deviation = images.mean(axis=(1, 2)), images.std(axis=(1, 2))
    level = np.maximum(mean, 1.0)
    lag1, lag2, lag4 = (_difference(images, lag) + 0.05 for lag in (1, 2, 4))
    parts = [np.log(level), np.log((deviation + 0.5) / level)]
    return np.stack([*parts, np.log(lag1 / lag2), np.log(lag2 / lag4)], axis=-1)


def _difference(images: F64, lag: int) -> F64:
    down = np.square(images[:, lag:] - images[:, :-lag]).mean(axis=(1, 2))
    right = np.square(images[:, :, lag:] - images[:, :, :-lag]).mean(axis=(1, 2))
    total: F64 = down + right
    return total


@dataclass(frozen=True)
class Signature:
    """Joint distribution of the features of all bands at one processing level.

    ``mean`` is ``[B, 4]``, ``covariance`` ``[B * 4, B * 4]`` in the order of ``bands``,
    ``tiles`` the number of tiles it was fitted on, ``source`` says which.
    """

    level: str
    bands: tuple[str, ...]
    mean: F64
    covariance: F64
    tiles: int
    source: str

    def restricted(
        self, bands: Sequence[str], features: Sequence[int] = (0, 1, 2, 3)
    ) -> Likelihood:
        """The likelihood of some bands and features, the others integrated out."""
        count = len(FEATURES)
        rows = [self.bands.index(band) * count + f for band in bands for f in features]
        spread = self.covariance[np.ix_(rows, rows)].copy()
        spread += np.diag(np.square(np.tile(np.array(_TOLERANCE)[list(features)], len(bands))))
        common = np.tile([float(f == 0) for f in features], len(bands)) * _SCALE_FREEDOM
        spread += np.outer(common, common)
        return Likelihood(self.mean.reshape(-1)[rows], spread, len(bands), tuple(features))


class Likelihood:
    """Scores how well channels fit bands; higher is better, in nats.

    Built by `Signature.restricted` for B bands and F features.
    """

    def __init__(self, mean: F64, spread: F64, bands: int, features: tuple[int, ...]) -> None:
        self.bands = bands
        self.features = features
        self._mean = mean
        self._precision = np.linalg.inv(spread)
        width = len(features)
        blocks = spread.reshape(bands, width, bands, width)
        self._own = [blocks[b, :, b, :] for b in range(bands)]

    def joint(self, features: F64, order: Sequence[int]) -> float:
        """Log-likelihood of features ``[N, D, F]`` when band b is channel ``order[b]``."""
        distance = self._distance(features, order)
        size = len(self._mean)
        return float((-(_TAILS + size) / 2 * np.log1p(distance / _TAILS)).sum())

    def misfit(self, features: F64, order: Sequence[int]) -> float:
        """Median squared distance per dimension: some 0.5 for familiar data, far above 5 if not."""
        return float(np.median(self._distance(features, order)) / len(self._mean))

    def _distance(self, features: F64, order: Sequence[int]) -> F64:
        away = features[:, list(order)].reshape(len(features), -1) - self._mean
        squared: F64 = ((away @ self._precision) * away).sum(axis=1)
        return squared

    def single(self, features: F64) -> F64:
        """``[B, D]``: log-likelihood of each channel as each band, taken by itself."""
        width = len(self.features)
        scores = np.empty((self.bands, features.shape[1]))
        for band, spread in enumerate(self._own):
            away = features - self._mean[band * width : (band + 1) * width]
            squared = np.einsum("ncf,fg,ncg->nc", away, np.linalg.inv(spread), away)
            log_size = float(np.linalg.slogdet(spread)[1])
            tails = -(_TAILS + width) / 2 * np.log1p(squared / _TAILS)
            scores[band] = (tails - log_size / 2).sum(axis=0)
        return scores


def fit(features: F64, bands: Sequence[str], level: str, source: str) -> Signature:
    """A signature from features ``[N, B, 4]`` of tiles whose bands are known.

    Medians, and a covariance of values clipped to their central 96%, so that a few
    clouded or empty tiles do not shape it.
    """
    flat = features.reshape(len(features), -1)
    low, high = np.percentile(flat, [2, 98], axis=0)
    covariance = np.cov(np.clip(flat, low, high).T)
    mean = np.median(flat, axis=0).reshape(len(bands), len(FEATURES))
    return Signature(level, tuple(bands), mean, covariance, len(features), source)


def to_json(signatures: Sequence[Signature]) -> str:
    """The figures as they are shipped: four decimals, the covariance's lower triangle."""
    return json.dumps(
        [
            {
                "level": s.level,
                "bands": s.bands,
                "tiles": s.tiles,
                "source": s.source,
                "mean": np.round(s.mean, 4).tolist(),
                "covariance": [
                    np.round(row[: i + 1], 5).tolist() for i, row in enumerate(s.covariance)
                ],
            }
            for s in signatures
        ],
        separators=(",", ":"),
    )


@cache
def shipped() -> dict[str, Signature]:
    """The reference signatures by processing level: ``L1C`` (13 bands), ``L2A`` (12 bands)."""
    text = resources.files("suites.datasets").joinpath("signatures.json").read_text()
    loaded = {}
    for entry in json.loads(text):
        size = len(entry["covariance"])
        lower = np.zeros((size, size))
        for i, row in enumerate(entry["covariance"]):
            lower[i, : i + 1] = row
        covariance = lower + np.tril(lower, -1).T
        loaded[entry["level"]] = Signature(
            entry["level"],
            tuple(entry["bands"]),
            np.array(entry["mean"]),
            covariance,
            entry["tiles"],
            entry["source"],
        )
    return loaded
