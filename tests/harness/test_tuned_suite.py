"""Suites with attention pooling and fine-tuning, from the YAML to the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
import torch

from harness import estimates
from harness.costs import cost_of
from harness.estimates import Machine, ProbeSpeed
from harness.executors.work import finish
from harness.memory import halved
from harness.plan import Places, Plan, make_plan
from harness.probes.finetune_model import Images, TunedModel
from harness.provenance import load_or_create_manifest
from harness.results import collect, probe_name, protocol_sentence
from harness.store import Store
from harness.suite import load_suite
from harness.suite_file import FinetuneProbe
from models.errors import UserError
from reports.table import SuiteResults
from tests.miniatures import write_geotiff

TASKS = """\
tasks:
  - name: tuned
    dataset: simulated
    data: {size: 100, side: 16}
    probe: {kind: finetune, trials: 2, epochs: 3, frozen: 0.4, batch_size: 16}
  - name: attended
    dataset: simulated
    data: {size: 100, side: 16}
    probe: {kind: attention, epochs: 2}
  - name: near
    dataset: simulated
    data: {size: 100, side: 16}
    probe: {kind: knn}
baselines: [baseline-projection-512, baseline-statistics-mean_std]
"""
ALL_STEPS_OF_A_TRIAL = 8  # in which the encoder learns
PROBE = "kind: finetune, trials: 2, epochs: 3, frozen: 0.4, batch_size: 16"


@pytest.fixture
def suite(small_suite: Path) -> Path:
    head, _ = small_suite.read_text().split("tasks:")
    head = head.replace("seeds: [0, 1]", "seeds: [0]").replace(", olmoearth-three-pico", "")
    small_suite.write_text(head + TASKS)
    return small_suite


def plan_of(path: Path, store: Path) -> Plan:
    return make_plan(load_suite(path), Places(None, None, store / "cache"))


def computed(path: Path, folder: Path) -> tuple[Plan, Store, SuiteResults]:
    """Every cell, and the table; no report is drawn."""
    store, plan = Store(folder), plan_of(path, folder)
    store.prepare()
    for cell in {cell.key: cell for cell in plan.cells}.values():
        finish(plan, cell, store, lambda *_: None)
    return plan, store, collect(plan, store, load_or_create_manifest(store, plan, "tokenrank run"))


def test_a_suite_with_both_runs_from_file_to_table(suite: Path, tmp_path: Path) -> None:
    plan, store, results = computed(suite, tmp_path / "store")
    cells = {(c.variant.name, c.task.name): c for c in plan.cells}
    scores = {
        (v, t): chosen for v, t, chosen in results.scores.select("variant", "task", "chosen").rows()
    }
    assert set(scores) == set(cells)
    assert "epoch=" in scores["olmoearth-one-pico", "tuned"]
    # What cannot be tuned or has no patches is listed with the reason.
    reasons = {(m.variant, m.task): m.reason for m in results.run.missing}
    assert (
        "has nothing that can be trained, which fine-tuning needs"
        in (reasons["baseline-projection-512", "tuned"])
    )
    assert (
        "2 x 2 patches, which attention pooling needs"
        in (reasons["baseline-statistics-mean_std", "attended"])
    )
    trials = results.trials.filter(task="tuned")["params"].to_list()
    assert [json.loads(each)["state"] for each in trials] == ["complete"] * 2
    # No embedding is stored for tuning, and its sketch is of the encoder as it was.
    tuned, near = (cells["olmoearth-one-pico", name] for name in ("tuned", "near"))
    assert tuned.embeddings == ()
    found = [store.cell(cell.key) for cell in (tuned, near)]
    sketches = [np.array(each.sketch) for each in found if each is not None]
    np.testing.assert_allclose(*sketches, rtol=1e-4, atol=1e-5)


def test_a_batch_that_memory_does_not_hold_is_learned_in_parts(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training holds 5 of 16: found in the second trial, remembered; the batch is what it was."""
    plan, store, _ = computed(suite, tmp_path / "whole")
    [tuned] = [cell for cell in plan.cells if isinstance(cell.task.probe, FinetuneProbe)]
    whole = store.cell(tuned.key)
    embedded, asked = TunedModel.embedded, list[int]()

    def small(self: TunedModel, images: Images, timestamps: torch.Tensor) -> torch.Tensor:
        learns = self.learns and torch.is_grad_enabled()
        asked.extend([len(timestamps)] * learns)
        if len(timestamps) > 5 and learns and len(asked) > ALL_STEPS_OF_A_TRIAL:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return embedded(self, images, timestamps)

    monkeypatch.setattr(TunedModel, "embedded", small)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one trial after another
    _, store, _ = computed(suite, tmp_path / "parts")
    found = store.cell(tuned.key)
    assert whole is not None
    assert found is not None
    assert found.chosen == {**whole.chosen, "at_once": 4}
    assert [t["params"] for t in found.trials] == [t["params"] for t in whole.trials]
    np.testing.assert_allclose(found.sketch, whole.sketch, rtol=1e-4, atol=1e-5)
    shares = [each.predictions.select(r"^p\d+$").to_numpy() for each in (found, whole)]
    np.testing.assert_allclose(*shares, atol=0.02)
    assert halved(store, tuned.key) == 2
    assert set(asked[:ALL_STEPS_OF_A_TRIAL]) == {2, 16}  # the first was done
    asked.clear()
    shutil.rmtree(tmp_path / "parts" / "cells")
    computed(suite, tmp_path / "parts")
    assert max(asked) == 4


def test_the_key_holds_all_that_can_change_a_tuned_result(suite: Path, tmp_path: Path) -> None:
    def key(old: str = "", new: str = "") -> str:
        path = suite.with_name("changed.yaml")
        path.write_text(suite.read_text().replace(old, new) if old else suite.read_text())
        plan = plan_of(path, tmp_path)
        return next(c.key for c in plan.cells if c.task.name == "tuned")

    same = key()
    assert key("A small suite", "Another title") == same
    changes = [
        (PROBE, PROBE.replace("0.4", "0.1")),
        (PROBE, PROBE + ", patience: 3"),
        ("patch_size: 8", "patch_size: 4"),
        ("patch_size: 8", "normalisations: [dataset], patch_size: 8"),
        ("seeds: [0]", "seeds: [1]"),  # of the weights too
        ("size: 100, side: 16", "size: 110, side: 16"),
        ("variants: [olmoearth-one-pico]", "variants: [olmoearth-three-pico]"),
    ]
    keys = {key(*change) for change in changes}
    assert len(keys) == len(changes)
    assert same not in keys


def test_a_plan_counts_a_training_step_as_three_forward_passes(suite: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    plan = plan_of(suite, store.root)
    speed = ProbeSpeed(vote=1e-9, step=1e-8, logit=1e-8)
    machine = Machine(lambda *_: 0.002, speed, batch=lambda *_: 4, at_once=1)
    tuned, attended, near = estimates.estimate(plan, store, machine)
    assert (tuned.cells, tuned.passes) == (1, 0)
    cell = next(c for c in plan.cells if c.task.name == "tuned")
    splits = plan.dataset_of(cell.task).splits(0)
    train, val, test = (len(splits[name]) for name in ("train", "val", "test"))
    # The first of three epochs is frozen; two views at most have to be scaled first.
    forward = 2 * train + 2 * (train * (1 + 3 * 2) + val * 3) + test
    assert tuned.samples == forward
    assert tuned.macs == forward * cost_of(cell.variant, cell.given.shapes, 8, store).macs
    assert tuned.probe_seconds == pytest.approx(forward * 0.002)
    assert tuned.bytes == 100 * 16 * 16 * 13 * 2  # images alone
    assert attended.passes == 3  # two normalisations, and the projection's one
    assert attended.probe_seconds > 0
    assert near.bytes > 0


def test_the_report_says_what_was_done(suite: Path) -> None:
    tuned, attended, _ = load_suite(suite).tasks
    assert probe_name(tuned.probe) == "finetune-3-epochs"
    assert "the encoder frozen for the first 40%" in protocol_sentence(tuned)
    assert "a learned query over the patches" in protocol_sentence(attended)


def test_maps_and_numbers_are_fine_tuned_too(suite: Path, tmp_path: Path) -> None:
    """On a task of one's own: 16 chips of 16 pixels, whose bright half is a class."""
    rng = np.random.default_rng(0)
    names = [
        f"B{n}" for n in ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "11", "12")
    ]
    (tmp_path / "masks").mkdir()
    for number in range(16):
        image = rng.integers(1, 2000, (16, 16, 12)).astype(np.uint16)
        image[:, : number % 12] += 4000
        write_geotiff(tmp_path / "images" / f"f{number:02d}.tif", image, names)
        mask = (image[:, :, 3] > 3000).astype(np.uint8)
        tifffile.imwrite(tmp_path / "masks" / f"f{number:02d}.tif", mask)
    rows = {"id": [f"f{n:02d}" for n in range(16)], "width": [float(n % 12) for n in range(16)]}
    pl.DataFrame(rows).write_csv(tmp_path / "labels.csv")
    said = "chips: images\nlabels: labels.csv\nid: id\n"
    (tmp_path / "maps.yaml").write_text(
        f"name: halves\n{said}kind: maps\nmasks: masks\nclasses: [dark, bright]\n"
    )
    (tmp_path / "widths.yaml").write_text(f"name: widths\n{said}kind: values\nlabel: width\n")
    head, _ = suite.read_text().split("tasks:")
    probe = "{kind: finetune, trials: 1, epochs: 2, batch_size: 4}"
    suite.write_text(
        f"{head}tasks:\n"
        f"  - {{name: halves, dataset: maps.yaml, probe: {probe}}}\n"
        f"  - {{name: widths, dataset: widths.yaml, probe: {probe}}}\n"
        "  - {name: looked, dataset: widths.yaml, probe: {kind: attention, epochs: 2}}\n"
        "baselines: []\n"
    )
    plan, _, results = computed(suite, tmp_path / "store")
    metrics = {task.name: task.metric for task in plan.suite.tasks}
    assert metrics == {"halves": "miou", "widths": "rmse", "looked": "rmse"}
    assert results.scores.height == 3
    with pytest.raises(
        UserError, match=r'"attention" cannot answer.*allowed: segmentation, finetune'
    ):
        _refused(suite)


def _refused(suite: Path) -> None:
    text = suite.read_text().replace("kind: finetune, trials: 1", "kind: attention", 1)
    suite.write_text(text.replace("epochs: 2, batch_size: 4", "epochs: 2", 1))
    load_suite(suite)
