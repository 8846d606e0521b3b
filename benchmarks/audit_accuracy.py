"""How often the band-order audit is right: the table of `docs/data-audit.md`.

    python benchmarks/audit_accuracy.py EUROSAT_MS_FOLDER L2A_TILES_FOLDER

Signatures are fitted on one half of the tiles; every figure is measured on tiles of the
other half, or on the simulated set, under claims that are true or wrong in known ways.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from fit_signatures import L2A_BANDS, l1c_features, l2a_features

from suites.datasets.band_order import recognise_features
from suites.datasets.eurosat import BANDS
from suites.datasets.signatures import Signature, fit, tile_features
from suites.datasets.simulated import Simulated

REPEATS = 40
SIZES = (1, 5, 20, 100)


def claims(bands: tuple[str, ...], rng: np.random.Generator) -> dict[str, tuple[str, ...]]:
    """Claimed names by kind of mistake; ``bands`` is the truth."""

    def swapped(a: str, b: str) -> tuple[str, ...]:
        names = list(bands)
        i, j = names.index(a), names.index(b)
        names[i], names[j] = b, a
        return tuple(names)

    by_wavelength = tuple(sorted(bands, key=lambda b: (float(b[1:].replace("8A", "8.5")), b)))
    shifted = (*bands[:-5], *bands[-4:], bands[-5])
    made = {
        "correct": bands,
        "last five shifted": shifted,
        "reversed": bands[::-1],
        "B02 and B04 swapped": swapped("B02", "B04"),
        "B11 and B12 swapped": swapped("B11", "B12"),
        "B08 and B8A swapped": swapped("B08", "B8A"),
        "B07 and B8A swapped": swapped("B07", "B8A"),
        "random order": tuple(str(b) for b in rng.permutation(bands)),
    }
    if by_wavelength != bands:
        made["m-eurosat (wavelength order claimed)"] = by_wavelength
    return made


def measure(
    title: str, features: np.ndarray, bands: tuple[str, ...], reference: Signature
) -> list[str]:
    """Markdown rows: share right / undecided / wrong for each mistake and number of tiles."""
    rows = []
    for kind in claims(bands, np.random.default_rng(0)):
        cells = []
        for size in SIZES:
            rng = np.random.default_rng([size, len(kind)])
            outcome: Counter[str] = Counter()
            for _ in range(REPEATS):
                chosen = features[rng.choice(len(features), size, replace=False)]
                claim = claims(bands, rng)[kind]
                found = recognise_features(
                    chosen, (64, 64), claim, references={reference.level: reference}
                )
                outcome[_outcome(found.verdict, claim == bands)] += 1
            cells.append(
                " / ".join(f"{outcome[k] / REPEATS:.0%}" for k in ("right", "open", "bad"))
            )
        rows.append(f"| {title} | {kind} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def _outcome(verdict: str, claim_is_true: bool) -> str:
    if verdict == "mismatch":
        return "bad" if claim_is_true else "right"
    if verdict == "confirmed":
        return "right" if claim_is_true else "bad"
    return "open"


def main() -> None:
    """Print the table's rows."""
    rng = np.random.default_rng(0)
    l1c, l2a = l1c_features(Path(sys.argv[1])), l2a_features(Path(sys.argv[2]))
    l1c, l2a = rng.permutation(l1c), rng.permutation(l2a)
    half1, half2 = len(l1c) // 2, len(l2a) // 2
    first = fit(l1c[:half1], BANDS, "L1C", "half")
    second = fit(l2a[:half2], L2A_BANDS, "L2A", "half")
    images = Simulated(470).read(range(470)).images["sentinel2_l2a"][:, :, :, 0]
    measure("EuroSAT (L1C)", l1c[half1:], BANDS, first)
    measure("L2A tiles", l2a[half2:], L2A_BANDS, second)
    measure("simulated", tile_features(images), BANDS, first)


if __name__ == "__main__":
    main()
