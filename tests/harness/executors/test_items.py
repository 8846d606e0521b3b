"""What is handed out together, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.executors.items import Need, items_of
from harness.plan import Cell, Places, Plan, make_plan
from harness.store import Store
from harness.suite import load_suite

# Tasks: two probes on the same images, another patch size, and no embeddings at all.
SUITE = """\
name: grouped
title: Cells that share, and cells that do not
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100}
tier: random
seeds: [0, 1]
variants: [olmoearth-one-pico, olmoearth-three-pico]
baselines: []
tasks:
  - {name: near, dataset: simulated, data: {size: 100}, probe: {kind: knn}}
  - {name: line, dataset: simulated, data: {size: 100}, probe: {kind: linear, trials: 2, epochs: 1}}
  - {name: fine, dataset: simulated, data: {size: 100}, probe: {kind: knn}, patch_size: 4}
  - {name: tune, dataset: simulated, data: {size: 100}, probe: {kind: finetune}}
"""


@pytest.fixture
def plan(tmp_path: Path, small_suite: Path) -> Plan:
    """Two variants, two seeds (of random weights: other encoders), four tasks."""
    small_suite.write_text(SUITE)
    return make_plan(load_suite(small_suite), Places(None, None, Store(tmp_path).cache_folder))


def by_name(cells: tuple[Cell, ...]) -> Need:
    return Need({"fine": 4.0, "line": 2.0, "near": 2.0, "tune": 8.0}[cells[0].task.name], 0)


def test_cells_that_share_an_embedding_are_one_item_and_no_others(plan: Plan) -> None:
    cells = {cell.key: cell for cell in plan.cells}
    items = items_of(plan.cells, by_name)
    assert sorted(key for item in items for key in item.cells) == sorted(cells)
    together = [
        {(cells[key].variant.name, cells[key].seed, cells[key].task.name) for key in item.cells}
        for item in items
    ]
    shared = [names for names in together if len(names) > 1]
    assert shared == [
        {(variant, seed, "near"), (variant, seed, "line")}
        for variant in ("olmoearth-one-pico", "olmoearth-three-pico")
        for seed in (0, 1)
    ]
    for item in items:
        used = {job.key for key in item.cells for job in cells[key].embeddings}
        others = cells.keys() - set(item.cells)
        assert not used & {job.key for key in others for job in cells[key].embeddings}


def test_cells_that_share_through_another_are_one_item(plan: Plan) -> None:
    """A with one embedding, B with another, and C, which comes last, with both."""
    from dataclasses import replace  # noqa: PLC0415

    near = [cell for cell in plan.cells if cell.task.name == "near"][:2]
    a, b = (replace(cell, embeddings=cell.embeddings[:1]) for cell in near)
    c = replace(near[0], key="c", embeddings=(a.embeddings[0], b.embeddings[0]))
    assert len(items_of([a, b], by_name)) == 2
    (item,) = items_of([a, b, c], by_name)
    assert item.cells == (a.key, b.key, "c")


def test_the_longest_are_first_and_equals_stay_as_in_the_suite(plan: Plan) -> None:
    cells = {cell.key: cell for cell in plan.cells}
    first = [cells[item.cells[0]] for item in items_of(plan.cells, by_name)]
    assert [cell.task.name for cell in first] == ["tune"] * 4 + ["fine"] * 4 + ["near"] * 4
    tuned = [(cell.variant.name, cell.seed) for cell in first[:4]]
    assert tuned == [
        (cell.variant.name, cell.seed) for cell in plan.cells if cell.task.name == "tune"
    ]


def test_an_item_is_known_by_its_cells_alone(plan: Plan) -> None:
    """Another driver of the same suite, or the same one later, means the same by its key."""
    forward = {item.key: set(item.cells) for item in items_of(plan.cells, by_name)}
    backward = items_of(reversed(plan.cells), lambda _: Need(1.0, 1))
    assert forward == {item.key: set(item.cells) for item in backward}
