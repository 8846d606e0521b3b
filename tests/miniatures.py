"""Miniature data sets and checkpoints in their true formats, written by tests.

The pixels are simulated; only the formats are the published ones.
"""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from suites.datasets import simulated
from suites.datasets.geobench_specs import SPECS, Spec


def write_tile(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, planarconfig="contig", photometric="minisblack")


class _Foreign:
    """Stands for the classes whose instances GEO-Bench pickled."""


def _foreign_class(module: str, name: str) -> type:
    return type(name, (_Foreign,), {"__module__": module, "__qualname__": name})


@contextmanager
def foreign_class() -> Iterator[type]:
    """A class pickled as ``geobench.dataset.Sentinel2``, importable only while pickling."""
    kind = _foreign_class("geobench.dataset", "Sentinel2")
    module = types.ModuleType("geobench.dataset")
    module.Sentinel2 = kind  # type: ignore[attr-defined]
    stand_ins = {"geobench": types.ModuleType("geobench"), "geobench.dataset": module}
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield kind
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def write_sample(path: Path, image: np.ndarray, record: bytes) -> None:
    with h5py.File(path, "w") as file:
        for i, name in enumerate(SPECS["m-eurosat"].arrays):
            file.create_dataset(name, data=image[:, :, i].astype(np.int16))
        file.attrs["pickle"] = repr(record)


def write_m_eurosat(folder: Path, foreign: type) -> None:
    """A miniature m-eurosat as published: EuroSAT's stored order under the wrong names."""
    folder.mkdir(parents=True)
    for index in range(30):
        band = foreign()
        band.__dict__.update(name="01 - Coastal aerosol", alt_names=("1", "01"), wavelength=0.443)
        record: dict[str, Any] = {"label": index % 10, "01 - Coastal aerosol": {"band_info": band}}
        record["bands_order"] = list(SPECS["m-eurosat"].arrays)
        write_sample(
            folder / f"id_{index}.hdf5", simulated.tile(index, 1), pickle.dumps(record, protocol=4)
        )
    ids = [f"id_{i}" for i in range(30)]
    split = {"train": ids[:10], "valid": ids[10:20], "test": ids[20:]}
    (folder / "default_partition.json").write_text(json.dumps(split))
    small = {"train": ids[:2], "valid": ids[10:20], "test": ids[20:]}
    (folder / "0.01x_train_partition.json").write_text(json.dumps(small))


def write_geobench(folder: Path, spec: Spec, labels: Sequence[Any], seed: int = 0) -> None:
    """Samples as GEO-Bench writes them: a map is an array, other labels stand in the record."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ids = [f"sample_{i}" for i in range(len(labels))]
    for name, label in zip(ids, labels, strict=True):
        record: dict[str, Any] = {"bands_order": list(spec.arrays)}
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            for array in spec.arrays:
                values = rng.integers(1, 4000, (spec.side, spec.side)).astype(np.float32)
                values /= np.float32(spec.units_per_dn)
                file.create_dataset(array, data=values)
            if spec.kind == "maps":
                file.create_dataset("label", data=label)
            else:
                record["label"] = label
            file.attrs["pickle"] = repr(pickle.dumps(record))
    third = len(ids) // 3
    split = {"train": ids[:third], "valid": ids[third : 2 * third], "test": ids[2 * third :]}
    (folder / "default_partition.json").write_text(json.dumps(split))


def write_geotiff(
    path: Path, image: np.ndarray, names: Sequence[str] = (), *, planar: bool = True
) -> None:
    """An image [H, W, D] as GDAL writes it, with its band descriptions if there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>'
        for i, name in enumerate(names)
    )
    metadata = f"<GDALMetadata>{items}</GDALMetadata>"
    tifffile.imwrite(
        path,
        image.transpose(2, 0, 1) if planar else image,
        planarconfig="separate" if planar else "contig",
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        extratags=[(42112, "s", 0, metadata, True)] if names else [],
    )
