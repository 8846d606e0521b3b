"""Miniature data sets in the true formats, and the real ones where a folder is given."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from suites.datasets import eurosat, simulated
from suites.datasets.geobench import SPECS


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("TOKENRANK_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set TOKENRANK_TEST_DATA to a folder with eurosat_ms")
    return Path(folder)


def write_tile(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, planarconfig="contig", photometric="minisblack")


@pytest.fixture
def eurosat_folder(tmp_path: Path) -> Path:
    """Class folders with six simulated tiles each."""
    folder = tmp_path / "data" / "eurosat_ms"
    for index in range(60):
        name = simulated.CLASSES[index % 10]
        write_tile(folder / name / f"{name}_{index // 10 + 1}.tif", simulated.tile(index, 0))
    return folder


class _Foreign:
    """Stands for the classes whose instances GEO-Bench pickled."""


def _foreign_class(module: str, name: str) -> type:
    return type(name, (_Foreign,), {"__module__": module, "__qualname__": name})


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class pickled as ``geobench.dataset.Sentinel2``, importable only while pickling."""
    kind = _foreign_class("geobench.dataset", "Sentinel2")
    module = types.ModuleType("geobench.dataset")
    module.Sentinel2 = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "geobench", types.ModuleType("geobench"))
    monkeypatch.setitem(sys.modules, "geobench.dataset", module)
    return kind


def write_sample(path: Path, image: np.ndarray, record: bytes) -> None:
    with h5py.File(path, "w") as file:
        for i, name in enumerate(SPECS["m-eurosat"].arrays):
            file.create_dataset(name, data=image[:, :, i].astype(np.int16))
        file.attrs["pickle"] = repr(record)


@pytest.fixture
def geobench_folder(tmp_path: Path, foreign: type) -> Path:
    """A miniature m-eurosat as published: EuroSAT's stored order under the wrong names."""
    folder = tmp_path / "data" / "geobench_v1" / "classification_v1.0" / "m-eurosat"
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
    return folder


@pytest.fixture
def sample_writer() -> Callable[[Path, np.ndarray, bytes], None]:
    return write_sample


@pytest.fixture
def tile_writer() -> Callable[[Path, np.ndarray], None]:
    return write_tile


@pytest.fixture
def band_names() -> tuple[str, ...]:
    return eurosat.BANDS
