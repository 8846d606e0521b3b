"""Small tables of published results, in both formats, and the real one where it is at hand."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

PLAIN = {
    "model": "a", "dataset": "m-eurosat", "metric": "accuracy", "score": "0.9", "probe": "knn",
    "bands": "all", "image_size": "", "ci_low": "", "ci_high": "", "n_test": "1000",
}  # fmt: skip
TORCHGEO = {
    "dataset": "m-eurosat", "method": "knn5", "metric_name": "accuracy", "metric_value": "0.9",
    "ci_lower": "0.88", "ci_upper": "0.92", "feature_dim": "128", "best_c": "",
    "n_train": "2000", "n_val": "1000", "n_test": "1000", "seed": "0",
    "name": "olmoearth_v1_nano", "normalization": "bandspec_zscore", "image_size": "",
    "interpolation": "bilinear", "partition": "default", "bands": "all",
}  # fmt: skip

Write = Callable[..., Path]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Write:
    """Write a plain table: each row says only what departs from `PLAIN`."""

    def write(*rows: Mapping[str, Any], name: str = "mine.csv", without: str = "") -> Path:
        full = [{k: v for k, v in {**PLAIN, **row}.items() if k != without} for row in rows]
        return write_csv(tmp_path / name, full)

    return write


@pytest.fixture
def torchgeo(tmp_path: Path) -> Write:
    """Write a table as torchgeo-bench does: each row says only what departs from `TORCHGEO`."""

    def write(*rows: Mapping[str, Any], name: str = "torchgeo.csv", without: str = "") -> Path:
        full = [{k: v for k, v in {**TORCHGEO, **row}.items() if k != without} for row in rows]
        return write_csv(tmp_path / name, full)

    return write


@pytest.fixture
def real_table() -> Path:
    """torchgeo-bench's results of 2026-07."""
    root = os.environ.get("TOKENRANK_TEST_DATA")
    path = Path(root or ".") / "published" / "torchgeo_bench_2026-07.csv"
    if root is None or not path.is_file():
        pytest.skip("needs published/torchgeo_bench_2026-07.csv under TOKENRANK_TEST_DATA")
    return path
