"""A miniature rslearn data set as that package writes it: LZW GeoTIFFs, items.json, GeoJSON.

The strips are packed by Pillow's libtiff, which is also GDAL's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

BAND_SETS: dict[str, int] = {"B02 B03 B04 B08": 0, "B05 B06 B07 B8A B11 B12": -1, "B01 B09": -2}
CLASSES = ("forest", "water")
COUNT = 12
SIDE = 16
LEFT, TOP = 35855, -383001  # no multiples of 2: coarser pixels begin outside of the window
STEPS = 3


def packed(pixels: np.ndarray) -> bytes:
    """LZW of rows of pixels ``[H, W, ...]``, as libtiff packs them."""
    rows = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8).reshape(len(pixels), -1)
    file = io.BytesIO()
    Image.fromarray(rows).save(file, "TIFF", compression="tiff_lzw", tiffinfo={278: len(rows)})
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages.first
        (offset,), (count,) = page.dataoffsets, page.databytecounts
        tiff.filehandle.seek(offset)
        return bytes(tiff.filehandle.read(count))


def write_raster(
    path: Path,
    image: np.ndarray,
    corner: tuple[int, int],
    pixel: float,
    *,
    tile: int | None = None,
    predictor: int | None = None,
) -> None:
    """``[H, W, D]`` as GDAL writes it, with the place of its first pixel (in pixels).

    ``predictor``: what the file says was done to the pixels; they are packed as given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if tile is None:
        parts = [packed(image[row : row + 5]) for row in range(0, len(image), 5)]
    else:
        full = np.zeros(
            (*(-(-n // tile) * tile for n in image.shape[:2]), image.shape[2]), image.dtype
        )
        full[: image.shape[0], : image.shape[1]] = image
        starts = [(y, x) for y in range(0, len(full), tile) for x in range(0, full.shape[1], tile)]
        parts = [packed(full[y : y + tile, x : x + tile]) for y, x in starts]
    tie = (0.0, 0.0, 0.0, corner[0] * pixel, -corner[1] * pixel, 0.0)
    tifffile.imwrite(
        path,
        iter(parts),
        shape=image.shape if image.shape[2] > 1 else image.shape[:2],
        dtype=image.dtype,
        planarconfig="contig" if image.shape[2] > 1 else None,
        photometric="minisblack",
        compression="zlib",
        predictor=2 if predictor else None,
        metadata=None,
        extratags=[(33550, "d", 3, (pixel, pixel, 0.0), True), (33922, "d", 6, tie, True)],
        **({"rowsperstrip": 5} if tile is None else {"tile": (tile, tile)}),
    )
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[259].overwrite(5)
        if predictor:
            tiff.pages.first.tags[317].overwrite(predictor)


def pixels(number: int, step: int, bands: str, side: int = SIDE) -> np.ndarray:
    """What window ``number`` holds of a band set, ``[h, w, D]`` in stored pixels."""
    names = bands.split()
    small = side // 2 ** -BAND_SETS.get(bands, 0)
    rng = np.random.default_rng([number, step, len(names)])
    if names == ["vv", "vh"]:
        return rng.normal(-14, 3, (side, side, 2)).astype(np.float32)
    return rng.integers(1, 6000, (small, small, len(names))).astype(np.uint16)


def cover(number: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng([number, 99]).integers(0, 2, (side, side, 1)).astype(np.uint8)


def config() -> dict[str, Any]:
    """config.json, with the formats that are the defaults left out."""
    sets = [
        {"bands": bands.split(), "dtype": "uint16", "zoom_offset": zoom}
        for bands, zoom in BAND_SETS.items()
    ]
    covers = [{"bands": ["cover"], "dtype": "uint8", "class_names": [list(CLASSES)]}]
    return {
        "layers": {
            "sentinel2": {"type": "raster", "band_sets": sets},
            "sentinel1": {
                "type": "raster",
                "band_sets": [{"bands": ["vv", "vh"], "dtype": "float32"}],
            },
            "label": {"type": "vector"},
            "cover": {"type": "raster", "band_sets": covers},
        }
    }


def days(step: int) -> list[str]:
    """The time range of the items of one time step: its middle is the 15th."""
    return [f"2020-{5 + step:02d}-14T00:00:00+00:00", f"2020-{5 + step:02d}-16T00:00:00+00:00"]


def item_group(folder: Path, layer: str, number: int) -> Path:
    return folder / "layers" / (f"{layer}.{number}" if number else layer)


def write_images(folder: Path, number: int, side: int = SIDE, steps: int = STEPS) -> None:
    for step in range(steps):
        for bands, zoom in (*BAND_SETS.items(), ("vv vh", 0)):
            group = item_group(folder, "sentinel1" if bands == "vv vh" else "sentinel2", step)
            coarser = 2**-zoom
            write_raster(
                group / bands.replace(" ", "_") / "geotiff.tif",
                pixels(number, step, bands, side),
                (LEFT // coarser, TOP // coarser),
                10 * coarser,
            )
            (group / "completed").touch()


def write_features(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    layer = folder / "layers" / "label"
    layer.mkdir(parents=True, exist_ok=True)
    features = [
        {
            "type": "Feature",
            "properties": each,
            "geometry": {"type": "Point", "coordinates": [0, 0]},
        }
        for each in records
    ]
    projection = {"crs": "EPSG:32612", "x_resolution": 10, "y_resolution": -10}
    said = {"type": "FeatureCollection", "properties": projection, "features": features}
    (layer / "data.geojson").write_text(json.dumps(said))
    (layer / "completed").touch()


def write_window(folder: Path, number: int, side: int = SIDE, steps: int = STEPS) -> None:
    write_images(folder, number, side, steps)
    write_features(
        folder,
        [{"class": CLASSES[number % 2], "tons": number / 2, "seen": ["a", "b"][: number % 3]}],
    )
    write_raster(
        folder / "layers" / "cover" / "cover" / "geotiff.tif", cover(number, side), (LEFT, TOP), 10
    )
    (folder / "layers" / "cover" / "completed").touch()
    metadata = {
        "projection": {"crs": "EPSG:32612", "x_resolution": 10, "y_resolution": -10},
        "bounds": [LEFT, TOP, LEFT + side, TOP + side],
        "time_range": ["2020-05-01T00:00:00+00:00", "2020-08-01T00:00:00+00:00"],
        "options": {"split": ["train", "val", "test"][number // 2 % 3], "farm": number % 4},
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    point = {"crs": "EPSG:4326", "x_resolution": 1, "y_resolution": 1}
    groups = [
        [{"name": f"S2_{s}", "geometry": {"projection": point, "shp": "", "time_range": days(s)}}]
        for s in range(steps)
    ]
    items = [
        {
            "layer_name": layer,
            "serialized_item_groups": groups,
            "group_time_ranges": None,
            "materialized": True,
        }
        for layer in ("sentinel2", "sentinel1")
    ]
    (folder / "items.json").write_text(json.dumps(items))


def write_dataset(root: Path) -> None:
    for number in range(COUNT):
        write_window(window_folder(root, number), number)
    (root / "config.json").write_text(json.dumps(config()))


def window_folder(root: Path, number: int) -> Path:
    return root / "windows" / ("north" if number < COUNT // 2 else "south") / f"w{number:02d}"
