"""Fit the reference signatures of `suites/datasets/signatures.json` from real tiles.

Run by hand when the features change; the result is figures, never pixels:

    python benchmarks/fit_signatures.py EUROSAT_MS_FOLDER L2A_TILES_FOLDER

The first holds EuroSAT-MS class folders (L1C, 13 bands, B8A last), the second 12-band L2A
GeoTIFFs in the order B01...B08 B8A B09 B11 B12.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile

from suites.datasets import eurosat
from suites.datasets.digests import write_atomically
from suites.datasets.signatures import fit, tile_features, to_json

L2A_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def l1c_features(folder: Path) -> np.ndarray:
    """Features ``[N, 13, 4]`` of all EuroSAT tiles in a folder."""
    data = eurosat.EuroSat(folder)
    rows = range(len(data.ids))
    parts = [
        tile_features(data.read(rows[i : i + 64]).images["sentinel2_l2a"][:, :, :, 0])
        for i in range(0, len(rows), 64)
    ]
    return np.concatenate(parts)


def l2a_features(folder: Path) -> np.ndarray:
    """Features ``[N, 12, 4]`` of all L2A tiles in a folder."""
    parts = []
    for path in sorted(folder.glob("*.tif")):
        with tifffile.TiffFile(path) as tiff:
            image = tiff.pages[0].asarray()
        image = image if image.shape[-1] == len(L2A_BANDS) else image.transpose(1, 2, 0)
        parts.append(tile_features(image[None].astype(np.float32)))
    return np.concatenate(parts)


def main() -> None:
    """Write the figures into the package."""
    first, second = Path(sys.argv[1]), Path(sys.argv[2])
    fitted = [
        fit(l1c_features(first), eurosat.BANDS, "L1C", "EuroSAT-MS tiles of all ten classes"),
        fit(l2a_features(second), L2A_BANDS, "L2A", "European L2A tiles of the same kinds"),
    ]
    target = Path(__file__).parents[1] / "suites" / "datasets" / "signatures.json"
    write_atomically(target, (to_json(fitted) + "\n").encode())
    print(f"{target}: {', '.join(f'{s.level} from {s.tiles} tiles' for s in fitted)}")


if __name__ == "__main__":
    main()
