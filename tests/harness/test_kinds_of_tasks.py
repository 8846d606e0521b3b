"""Tasks of one's own from files to the check: numbers for pixels, and labels that are ranked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from sklearn.metrics import average_precision_score

from harness.commands.measure import RunOptions, measure
from harness.store import Store
from reports.io import save_results
from reports.tables import task_table
from tests.harness.conftest import REGISTRY
from tests.miniatures import write_geotiff

Tokenrank = Callable[..., Any]
COUNT, SIDE = 40, 16
BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
SUITE = """\
name: pixels
title: Numbers for pixels, and several labels
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100, normalisations: [dataset]}
variants: [olmoearth-one-pico]
baselines: [baseline-statistics-mean_std]
tasks:
  - {name: height, dataset: height.yaml, probe: {kind: pixel_regression, epochs: 4}}
  - {name: marks, dataset: marks.yaml, metric: macro_map, probe: {kind: knn, k: 5}}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Tiles whose height is told by their brightness, and a suite of two tasks on them."""
    g = np.random.default_rng(0)
    bright = g.uniform(500, 4000, (COUNT, SIDE // 8, SIDE // 8)).repeat(8, 1).repeat(8, 2)
    (tmp_path / "masks").mkdir()
    for number, each in enumerate(bright):
        pixels = each[..., None] + g.normal(0, 50, (SIDE, SIDE, 12))
        name = f"tile_{number:02d}"
        write_geotiff(tmp_path / "images" / f"{name}.tif", pixels.astype(np.uint16), BANDS)
        height = (each / 100).astype(np.float32)
        height[0] = np.nan
        np.save(tmp_path / "masks" / f"{name}.npy", height)
    means = bright.mean(axis=(1, 2))
    rows = {"id": [f"tile_{n:02d}" for n in range(COUNT)]}
    rows |= {"bright": (means > 2200).astype(int), "dark": (means < 2300).astype(int)}
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    shared = {"chips": "images", "labels": "rows.csv"}
    height_task = {"name": "height", "kind": "value_maps", "masks": "masks", "unit": "m", **shared}
    marks_task = {"name": "marks", "kind": "labels", "label": ["bright", "dark"], **shared}
    for task in (height_task, marks_task):
        (tmp_path / f"{task['name']}.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "pico.yaml").write_text(REGISTRY)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path / "suite.yaml"


def test_numbers_for_pixels_and_ranked_labels_are_measured_told_and_checked(
    suite: Path, tokenrank: Tokenrank
) -> None:
    folder, store = suite.parent, Store(suite.parent / "store")
    options = RunOptions(data_dir=None, store=store.root, weights_dir=None)
    results = measure(Console(quiet=True), suite, str(suite), options).results
    height, marks = results.run.tasks
    assert (height.unit, height.higher_is_better, marks.unit) == ("m", False, "")
    assert "Errors are in m." in height.notes
    assert "pixel_rmse in m" in [cell.text for cell in task_table(results).rows[0]]
    (missing,) = results.run.missing  # one token a sample
    assert (missing.variant, missing.task) == ("baseline-statistics-mean_std", "height")
    assert "which a number for each pixel needs" in missing.reason
    scores = {row["task"]: row for row in results.scores.iter_rows(named=True) if row["cell"]}
    assert scores["height"]["score"] < 8  # of heights from 5 to 40, whose deviation is 10
    found = store.cell(scores["marks"]["cell"])
    assert found is not None
    labels, shares = found.predictions["label"].to_numpy(), found.predictions.select("p0", "p1")
    expected = average_precision_score(labels, shares.to_numpy(), average="macro")
    assert scores["marks"]["score"] == pytest.approx(expected, abs=1e-10)

    save_results(results, folder / "results")
    baseline = folder / "baseline.json"
    asked = ("--results", folder / "results", "--margin", 0.1, "--out", baseline)
    assert tokenrank("baseline", *asked).code == 0

    def checked(factor: float) -> Any:
        of_height = pl.when(pl.col("task") == "height")
        ends = [pl.col(name) * factor for name in ("score", "ci_low", "ci_high")]
        moved = results.scores.with_columns(
            of_height.then(end).otherwise(end / factor).alias(name)
            for end, name in zip(ends, ("score", "ci_low", "ci_high"), strict=True)
        )
        values = of_height.then(pl.col("value") * factor).otherwise("value")
        samples = results.samples.with_columns(values.alias("value"))
        save_results(replace(results, scores=moved, samples=samples), folder / "changed")
        return tokenrank("check", "--baseline", baseline, "--results", folder / "changed")

    assert checked(1.0).code == 0
    worse = checked(2.0)
    assert worse.code == 1
    assert f"less than {0.1 * round(scores['height']['score'], 6):g} is allowed" in worse.out
