"""Miniature data sets in the true formats, and the real ones where a folder is given."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from suites.datasets import eurosat, simulated
from tests.miniatures import foreign_class, write_m_eurosat, write_sample, write_tile


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("TOKENRANK_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set TOKENRANK_TEST_DATA to a folder with eurosat_ms")
    return Path(folder)


@pytest.fixture
def eurosat_folder(tmp_path: Path) -> Path:
    """Class folders with six simulated tiles each."""
    folder = tmp_path / "data" / "eurosat_ms"
    for index in range(60):
        name = simulated.CLASSES[index % 10]
        write_tile(folder / name / f"{name}_{index // 10 + 1}.tif", simulated.tile(index, 0))
    return folder


@pytest.fixture
def foreign() -> Iterator[type]:
    """A class pickled as ``geobench.dataset.Sentinel2``, importable only while pickling."""
    with foreign_class() as kind:
        yield kind


@pytest.fixture
def geobench_folder(tmp_path: Path, foreign: type) -> Path:
    """A miniature m-eurosat as published."""
    folder = tmp_path / "data" / "geobench_v1" / "classification_v1.0" / "m-eurosat"
    write_m_eurosat(folder, foreign)
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
