"""Recognising which Sentinel-2 band each channel of an image holds, from its pixels alone.

The order that makes the pixels most likely under the reference signatures is searched
for and compared with the order that is claimed. A verdict is only given when the
evidence carries it; otherwise it says that it is unsure. It must know nothing of files
or data sets: an array and the claimed names go in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from suites.datasets.signatures import (
    FEATURES,
    MIN_SIDE,
    SPECTRAL,
    Likelihood,
    Signature,
    shipped,
    tile_features,
)

F64 = npt.NDArray[np.float64]
Verdict = Literal["confirmed", "consistent", "mismatch", "unsure", "recognised"]
Order = tuple[int, ...]

# Nats by which one order must beat another to be believed: `_GAIN`, and more for few tiles,
# because one odd tile can mislead. docs/data-audit.md has the errors at these thresholds.
_GAIN = 5.0
_GAIN_FEW = 15.0
_DOUBT = 2.0
_MISFIT = 6.0

_PATTERNS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "the GEO-Bench m-eurosat mislabelling (B8A is stored last, but the names of the last five "
        "bands follow the wavelength)",
        {"B8A": "B09", "B09": "B10", "B10": "B11", "B11": "B12", "B12": "B8A"},
    ),
    (
        "a file in wavelength order that is read as EuroSAT order (B8A last)",
        {"B09": "B8A", "B10": "B09", "B11": "B10", "B12": "B11", "B8A": "B12"},
    ),
    ("red and blue swapped (RGB read as BGR)", {"B02": "B04", "B04": "B02"}),
)


@dataclass(frozen=True)
class BandOrder:
    """What the pixels say of the band order.

    ``recognised[c]`` is the band that channel c most likely holds; ``claimed`` what its
    name says (``None``: nothing was claimed). Verdicts: ``confirmed`` (as claimed, and no
    other order comes near), ``consistent`` (as claimed, but too little evidence to
    exclude similar orders), ``mismatch`` (another order is clearly better), ``unsure``
    (another order is better, but not clearly; or nothing can be said), ``recognised``
    (nothing was claimed). ``gain`` is the evidence for the best order against ``claimed``
    and ``margin`` that against the next best, both in nats; ``evidence`` says which
    features carried it.
    """

    verdict: Verdict
    claimed: tuple[str, ...] | None
    recognised: tuple[str, ...]
    level: str
    samples: int
    gain: float
    margin: float
    evidence: str
    sentence: str


@dataclass(frozen=True)
class _Found:
    order: Order
    score: float
    margin: float


def recognise(
    images: npt.NDArray[np.floating],
    claimed: Sequence[str] | None,
    *,
    references: Mapping[str, Signature] | None = None,
) -> BandOrder:
    """Judge the channels of ``images`` ``[N, H, W, D]`` (Sentinel-2 digital numbers).

    ``claimed`` names the D channels; with ``None``, 13 channels are taken for L1C and 12
    for L2A. ``references`` are the signatures to try (default: the shipped ones).
    """
    if min(images.shape[1:3]) < MIN_SIDE:  # sharpness is undefined there
        features = np.zeros((len(images), images.shape[3], len(FEATURES)))
    else:
        features = tile_features(images)
    return recognise_features(features, images.shape[1:3], claimed, references=references)


def recognise_features(
    features: F64,
    size: tuple[int, int] | tuple[int, ...],
    claimed: Sequence[str] | None,
    *,
    references: Mapping[str, Signature] | None = None,
) -> BandOrder:
    """The same from features ``[N, D, 4]`` (`signatures.tile_features`) of tiles of a size."""
    depth = features.shape[1]
    names = None if claimed is None else tuple(claimed)
    known = shipped() if references is None else references
    candidates = [
        (level, signature.bands if names is None else names)
        for level, signature in known.items()
        if _covers(signature, depth, names)
    ]
    if not candidates or min(size) < MIN_SIDE:
        reason = (
            f"the images are smaller than {MIN_SIDE} x {MIN_SIDE} pixels"
            if min(size) < MIN_SIDE
            else "the channels are not a set of distinct Sentinel-2 bands with a known signature"
        )
        return _unsure(names, depth, len(features), reason)
    best: tuple[float, str, str, tuple[str, ...], Likelihood, F64] | None = None
    for level, bands in candidates:
        for kind, chosen in (("spectrum and sharpness", (0, 1, 2, 3)), ("spectrum", SPECTRAL)):
            likelihood = known[level].restricted(bands, chosen)
            values = features[:, :, list(chosen)]
            found = _search(likelihood, values)
            misfit = likelihood.misfit(values, found.order)
            # Sharpness is dropped only where it fits nothing: another resampling was used.
            if misfit <= _MISFIT or kind == "spectrum":
                if best is None or misfit < best[0]:
                    best = (misfit, level, kind, bands, likelihood, values)
                break
    if best is None or best[0] > _MISFIT:
        return _unsure(names, depth, len(features), "they resemble no Sentinel-2 scene known here")
    _, level, kind, bands, likelihood, values = best
    return _judge(likelihood, values, bands, names, level, kind)


def _covers(signature: Signature, depth: int, names: tuple[str, ...] | None) -> bool:
    bands = signature.bands
    if names is None:
        return len(bands) == depth
    return len(names) == depth and len(set(names)) == depth and set(names) <= set(bands)


def _judge(
    likelihood: Likelihood,
    features: F64,
    bands: tuple[str, ...],
    claimed: tuple[str, ...] | None,
    level: str,
    evidence: str,
) -> BandOrder:
    found = _search(likelihood, features)
    held = [""] * len(bands)
    for band, channel in zip(bands, found.order, strict=True):
        held[channel] = band
    recognised = tuple(held)
    as_claimed = tuple(range(len(bands)))  # `bands` is `claimed`: band b stands in channel b
    gain = 0.0 if claimed is None else found.score - likelihood.joint(features, as_claimed)
    verdict = _verdict(claimed, recognised, gain, found.margin, len(features))
    if verdict in ("unsure", "consistent") and claimed is not None:
        recognised = claimed
    sentence = _sentence(verdict, claimed, recognised, len(features))
    return BandOrder(
        verdict, claimed, recognised, level, len(features), gain, found.margin, evidence, sentence
    )


def _verdict(
    claimed: tuple[str, ...] | None,
    recognised: tuple[str, ...],
    gain: float,
    margin: float,
    samples: int,
) -> Verdict:
    needed = _GAIN + _GAIN_FEW / samples
    if claimed is None:
        return "recognised" if margin >= needed else "unsure"
    if recognised == claimed:
        return "confirmed" if margin >= needed else "consistent"
    if gain >= needed:
        return "mismatch"
    return "unsure" if gain >= _DOUBT else "consistent"


def _sentence(
    verdict: Verdict,
    claimed: tuple[str, ...] | None,
    recognised: tuple[str, ...],
    samples: int,
) -> str:
    tiles = f"{samples} tile{'s' * (samples != 1)}"
    if claimed is None:
        seen = f"The pixels of {tiles} look like the order {' '.join(recognised)}"
        return seen + ("." if verdict == "recognised" else ", but that is not certain.")
    if verdict == "confirmed":
        return f"The pixels of {tiles} confirm the band order."
    if verdict == "consistent":
        return (
            f"The pixels of {tiles} agree with the band order, but are too few or too plain to "
            "exclude similar orders (20 varied tiles are enough)."
        )
    if verdict == "unsure":
        return (
            f"The pixels of {tiles} fit another band order slightly better than the claimed one, "
            "but not clearly enough to call it wrong; look at more tiles (20 are enough)."
        )
    wrong = {c: r for c, r in zip(claimed, recognised, strict=True) if c != r}
    listed = ", ".join(f"{c} holds {r}" for c, r in wrong.items())
    named = next((f"; this is {title}" for title, rule in _PATTERNS if rule == wrong), "")
    if not named and recognised == claimed[::-1]:
        named = "; the order is reversed"
    return f"The band names are wrong, judging by the pixels of {tiles}: {listed}{named}."


def _unsure(names: tuple[str, ...] | None, depth: int, samples: int, reason: str) -> BandOrder:
    return BandOrder(
        "unsure",
        names,
        names or ("?",) * depth,
        "",
        samples,
        0.0,
        0.0,
        "none",
        f"The band order cannot be judged: {reason}.",
    )


def _search(likelihood: Likelihood, features: F64) -> _Found:
    """The most likely order: best single assignment, then swaps and moves until none helps.

    The claimed order is a second start, so that it is never missed by accident.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (slow; few commands judge)

    _, assigned = linear_sum_assignment(-likelihood.single(features))
    starts = [tuple(int(c) for c in assigned), tuple(range(likelihood.bands))]
    return max((_climb(likelihood, features, s) for s in starts), key=lambda found: found.score)


def _climb(likelihood: Likelihood, features: F64, start: Order) -> _Found:
    order, score = start, likelihood.joint(features, start)
    while True:
        ranked = [(likelihood.joint(features, near), near) for near in _neighbours(order)]
        best = max(ranked)
        if best[0] <= score + 1e-9:
            return _Found(order, score, score - best[0])
        score, order = best


def _neighbours(order: Order) -> Iterator[Order]:
    """All orders one swap, or one channel moved elsewhere, away."""
    count = len(order)
    for i in range(count):
        for j in range(count):
            if i < j:
                swapped = list(order)
                swapped[i], swapped[j] = swapped[j], swapped[i]
                yield tuple(swapped)
            if abs(i - j) > 1:
                moved = list(order)
                moved.insert(j, moved.pop(i))
                yield tuple(moved)
