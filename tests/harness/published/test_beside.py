"""Published results beside own ones: a suite run on a miniature m-eurosat, never mismatched."""

from __future__ import annotations

import json
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from harness.published.columns import COLUMNS
from reports.io import load_results
from suites.datasets import simulated
from suites.datasets.geobench import SPECS

Tokenrank = Callable[..., Any]
Write = Callable[..., Path]
BANDS = (
    "blue,green,red,nir,red_edge_1,red_edge_2,red_edge_3,red_edge_4,swir_1,swir_2,"
    "coastal_aerosol,water_vapour"
)
SUITE = """\
name: mini
title: Miniature
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100}
tier: random
seeds: [0]
variants: [olmoearth-one-pico, olmoearth-three-pico]
baselines: []
tasks:
  - {name: like, dataset: m-eurosat, data: {band_order: ORDER},
     probe: {kind: knn, k: 5, metric: l2, weights: uniform}}
  - {name: unlike, dataset: m-eurosat, data: {band_order: ORDER}, probe: {kind: knn, k: 5}}
"""


@pytest.fixture
def own_run(tmp_path: Path, small_suite: Path, tokenrank: Tokenrank) -> Callable[[str], Path]:
    """Run the miniature suite under a band order; the store."""
    folder = tmp_path / "data" / "geobench_v1" / "classification_v1.0" / "m-eurosat"
    folder.mkdir(parents=True)
    ids = [f"id_{i}" for i in range(30)]
    for i, name in enumerate(ids):
        tile = simulated.tile(i, 1)
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            for k, array in enumerate(SPECS["m-eurosat"].arrays):
                file.create_dataset(array, data=tile[:, :, k].astype(np.int16))
            file.attrs["pickle"] = repr(pickle.dumps({"label": i % 10}, protocol=4))
    split = {"train": ids[:10], "valid": ids[10:20], "test": ids[20:]}
    (folder / "default_partition.json").write_text(json.dumps(split))

    def run(order: str) -> Path:
        suite = small_suite.with_name(f"{order}.yaml")
        suite.write_text(SUITE.replace("ORDER", order))
        ended = tokenrank(
            "run", suite, "--data-dir", tmp_path / "data", "--store", tmp_path / "store"
        )
        assert ended.code == 0, ended.err
        return tmp_path / "store"

    return run


@pytest.fixture
def published(torchgeo: Write) -> Path:
    few = {"n_train": "10", "n_val": "10", "n_test": "10", "bands": BANDS}
    cost = {**few, "method": "profile", "metric_name": "gflops", "metric_value": "1.5"}
    return torchgeo(few, {**few, "name": "olmoearth_v1_1_nano"}, cost, {**few, "method": "linear"})


def test_own_and_published_meet_where_all_is_equal(
    own_run: Callable[[str], Path], published: Path, tokenrank: Tokenrank
) -> None:
    store = own_run("as-published")
    ended = tokenrank("published", "beside", "mini", "--from", published, "--store", store)
    assert ended.code == 0, ended.err
    assert (
        "like (m-eurosat, knn-5-l2-uniform); left out, without a published one: unlike" in ended.out
    )
    for option, rankings in ((), 2), (("--mix-tiers",), 1):
        out = store.parent / f"out-{rankings}"
        ended = tokenrank("published", "beside", "mini", "--from", published, "--store", store,
                          "--out", out, *option)  # fmt: skip
        assert ended.code == 0, ended.err
        found = json.loads((out / "results.json").read_text())["rows"]
        assert {row["task"] for row in found} == {"like"}
        assert len({row["ranking"] for row in found}) == rankings
        assert {row["variant"]: row["tier"] for row in found} == {
            "olmoearth-one-pico": "random", "olmoearth-three-pico": "random",
            "olmoearth-v1-nano": "published", "olmoearth-v1.1-nano": "published",
        }  # fmt: skip
    run = max((store / "runs").glob("*/results"), key=lambda p: p.stat().st_mtime_ns)
    costs = dict(load_results(run).variants.select("variant", "published_gflops").iter_rows())
    assert costs["olmoearth-v1-nano"] == 1.5
    assert costs["olmoearth-one-pico"] is None


def test_corrected_bands_are_another_input(
    own_run: Callable[[str], Path], published: Path, tokenrank: Tokenrank
) -> None:
    store = own_run("corrected")
    runs = list((store / "runs").iterdir())
    ended = tokenrank("published", "beside", "mini", "--from", published, "--store", store)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert 'the nearest is own task "like"' in ended.err
    assert "differ in band order (corrected here, the mislabelled one there" in ended.err
    assert list((store / "runs").iterdir()) == runs


def test_the_nearest_miss_is_named_with_what_differs(
    own_run: Callable[[str], Path], torchgeo: Write, tokenrank: Tokenrank
) -> None:
    store = own_run("as-published")
    base = {"n_train": "10", "n_val": "10", "n_test": "10", "bands": BANDS}
    for other, words in (
        ({"image_size": "224"}, "differ in image size (native here, 224 there)."),
        ({"bands": "rgb"}, "differ in bands (12 here, B02, B03, B04 there)."),
        ({"n_test": "1000"}, "differ in number of test samples (10 here, 1000 there)."),
        ({"method": "linear"}, "differ in probe (knn-5-l2-uniform here, logistic-"),
    ):
        table = torchgeo({**base, **other})
        ended = tokenrank("published", "beside", "mini", "--from", table, "--store", store)
        assert ended.code == 2
        assert words in ended.err


DOCS = Path(__file__).parents[3] / "docs" / "published.md"


def test_every_command_of_the_page_runs(
    own_run: Callable[[str], Path],
    torchgeo: Write,
    tokenrank: Tokenrank,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With stand-ins for the table, the suite and the folder of results it speaks of."""
    store = own_run("as-published")
    (own,) = (store / "runs").iterdir()
    few = {"n_train": "10", "n_val": "10", "n_test": "10", "bands": BANDS}
    names = ("olmoearth_v1_nano", "olmoearth_v1_1_nano", "tgeo_croma_base")
    table = torchgeo(*({**few, "name": n} for n in names), name="torchgeo_bench_2026-07.csv")
    monkeypatch.chdir(table.parent)
    monkeypatch.setenv("TOKENRANK_STORE", str(store))
    text = DOCS.read_text(encoding="utf-8")
    commands = re.findall(r"^tokenrank .*$|(?<=`)tokenrank published [^`]+(?=`)", text, re.M)
    assert len(commands) > 6
    stand_ins = {"FILE": str(table), "SUITE": "mini", "m-eurosat": "mini",
                 "RESULTS": str(own / "results")}  # fmt: skip
    for command in commands:
        words = [stand_ins.get(word, word) for word in shlex.split(command)[1:]]
        ended = tokenrank(*words)
        assert ended.code == 0, f"{command}: {ended.err}"


def test_the_page_lists_the_columns_as_they_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes)? ?\| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.M)
    assert rows == [(c.name, "yes" * c.required, c.meaning) for c in COLUMNS]
