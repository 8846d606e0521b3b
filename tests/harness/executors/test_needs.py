"""What items are expected to take: held to what they took, to what is stored, to the encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from harness import embed
from harness.costs import cost_of
from harness.executors import gpu_needs, needs
from harness.executors.gpu_needs import gpu_need
from harness.executors.items import GpuNeed, Item, Need, items_of
from harness.executors.needs import Needs
from harness.executors.work import finish
from harness.plan import Cell, Places, Plan, make_plan
from harness.store import Store
from harness.suite import load_suite

REGISTRY = """\
family: olmoearth
sizes:
  pico: {dim: 32, depth: 1, heads: 4}
  mid: {dim: 64, depth: 2, heads: 4}
  wide: {dim: 192, depth: 3, heads: 4}
  huge: {dim: 1024, depth: 12, heads: 4}
versions:
  one: {scheme: single, sizes: [pico, mid, wide, huge]}
"""
SUITE = """\
name: sizes
title: Encoders of several sizes
registry: [pico.yaml]
protocol: {patch_size: 4, bootstrap: 100}
tier: random
seeds: [0]
variants: [olmoearth-one-pico, olmoearth-one-mid, olmoearth-one-wide, olmoearth-one-huge]
baselines: []
tasks:
  - {name: near, dataset: simulated, data: {size: 100}, probe: {kind: knn}}
  - {name: line, dataset: simulated, data: {size: 100}, probe: {kind: linear, trials: 2, epochs: 1}}
  - name: tune
    dataset: simulated
    data: {size: 100}
    probe: {kind: finetune, trials: 1, epochs: 1}
"""
SIZES = ("pico", "mid", "wide", "huge")


@pytest.fixture
def plan(small_suite: Path, store: Store) -> Plan:
    """Three sizes of an encoder; kNN and linear probe share embeddings, fine-tuning has none."""
    (small_suite.parent / "pico.yaml").write_text(REGISTRY)
    small_suite.write_text(SUITE)
    return make_plan(load_suite(small_suite), Places(None, None, store.cache_folder))


def cells_of(plan: Plan, size: str, *tasks: str) -> tuple[Cell, ...]:
    return tuple(c for c in plan.cells if c.variant.size == size and c.task.name in tasks)


def of_each(plan: Plan, store: Store, *tasks: str) -> list[Need]:
    """Needs of the same tasks by size."""
    expect = Needs(plan, store, plan.cells)
    return [expect.of(cells_of(plan, size, *tasks)) for size in SIZES]


def grows(numbers: list[float]) -> bool:
    return all(small < large for small, large in pairwise(numbers))


@pytest.mark.parametrize("task", ["near", "tune"])
def test_a_larger_encoder_needs_more_of_everything(plan: Plan, store: Store, task: str) -> None:
    found = of_each(plan, store, task)
    assert grows([need.seconds for need in found])
    on_gpus = [need.gpu.memory for need in found if need.gpu]
    assert len(on_gpus) == len(SIZES)
    # A core's batch has the fewer samples the wider the tokens: small encoders take the same.
    small, large = found[0].memory, found[-1].memory
    assert large > 1.2 * small
    # And a GPU's batch, of 256 samples at most, has the more tokens.
    assert grows(on_gpus) if task == "tune" else on_gpus == sorted(on_gpus)
    assert on_gpus[-1] > 2 * on_gpus[0]


def test_batches_can_be_halved_and_weights_can_not(plan: Plan, store: Store) -> None:
    (embedding,), (tuned,) = ([of_each(plan, store, name)[2].gpu] for name in ("near", "tune"))
    assert embedding is not None
    assert tuned is not None
    assert embedding.least < embedding.memory
    assert tuned.least < tuned.memory
    cell = cells_of(plan, SIZES[2], "tune")[0]
    params = cost_of(cell.variant, cell.given.shapes, 4, store).params
    assert tuned.least > 24 * params  # weights, gradient, two moments, the best ones, and halves


def test_more_threads_hold_more_batches(plan: Plan, store: Store) -> None:
    cells = cells_of(plan, "wide", "near")
    one, four = (Needs(plan, store, cells, threads=count).of(cells).memory for count in (1, 4))
    assert one < four < 4 * one  # libraries are loaded once


def test_a_shared_embedding_is_paid_for_once(plan: Plan, store: Store) -> None:
    expect = Needs(plan, store, plan.cells)
    near, line = (cells_of(plan, "wide", name) for name in ("near", "line"))
    macs = cost_of(near[0].variant, near[0].given.shapes, 4, store).macs
    passes = 100 * len(near[0].embeddings) * macs / needs.MACS_PER_SECOND
    apart = expect.of(near).seconds + expect.of(line).seconds
    assert expect.of(near + line).seconds == pytest.approx(apart - passes)


def stored_embeddings(cell: Cell, store: Store) -> None:
    for job in cell.embeddings:
        with store.embedding_writer(job.key, 4, 3, ("mean",)) as draft:
            draft.arrays["mean"][:] = 1.0


def test_what_is_stored_is_not_expected_again(plan: Plan, store: Store) -> None:
    """A run that is resumed: the largest encoder's embeddings are there, so its item is short."""

    def order() -> list[str]:
        to_do = [cell for cell in plan.cells if cell.task.name != "tune"]
        cells = {cell.key: cell for cell in to_do}
        found = items_of(to_do, Needs(plan, store, to_do).of)
        return [cells[item.cells[0]].variant.size for item in found]

    before = of_each(plan, store, "near", "line")[3]
    assert order() == ["huge", "wide", "mid", "pico"]
    stored_embeddings(cells_of(plan, "huge", "near")[0], store)
    assert order() == ["wide", "mid", "pico", "huge"]
    after = of_each(plan, store, "near", "line")[3]
    assert after.memory < before.memory
    assert after.gpu is not None
    assert before.gpu is not None
    assert after.gpu.memory < before.gpu.memory


def test_the_store_is_asked_once_for_all_embeddings(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an object store each question would be a request, of 10,000 cells 20,000 of them."""
    asked: list[set[str]] = []
    embeddings_of = store.embeddings_of

    def noted(keys: set[str]) -> set[str]:
        asked.append(set(keys))
        return embeddings_of(keys)

    monkeypatch.setattr(store, "embeddings_of", noted)
    items_of(plan.cells, Needs(plan, store, plan.cells).of)
    assert asked == [{job.key for cell in plan.cells for job in cell.embeddings}]


def test_the_order_is_that_of_measured_seconds(plan: Plan, store: Store) -> None:
    """No duration is held to anything: each item takes many times as long as the next."""
    finish(plan, cells_of(plan, "mid", "near")[0], store, lambda *_: None)  # images are decoded
    asked = [("wide", "tune"), ("wide", "near"), ("pico", "near")]
    cells = {cell.key: cell for each in asked for cell in cells_of(plan, *each)}
    items = items_of(cells.values(), Needs(plan, store, cells.values()).of)
    for item in items:
        finish(plan, cells[item.cells[0]], store, lambda *_: None)
    entries = map(json.loads, store.timings().splitlines())
    taken = {entry["cell"]: entry["seconds"] for entry in entries}
    seconds = [taken[item.cells[0]] for item in items]
    assert seconds == sorted(seconds, reverse=True)


def test_batches_are_those_of_the_embedding() -> None:
    assert needs.BATCH == embed.CPU_BATCH_ELEMENTS
    assert gpu_needs.BATCH == embed.GPU_BATCH_ELEMENTS
    for tokens, width in ((1, 1), (192, 128), (768, 768), (10_000, 1024), (1_000_000, 1024)):
        planned = embed.batch_size(tokens, width, torch.device("cpu"))
        assert needs.batch(tokens, width) == planned
        assert gpu_needs.batch(tokens, width) == embed.batch_size(
            tokens, width, torch.device("cuda")
        )


def test_who_has_weights_and_no_closed_form_is_not_guessed(plan: Plan, store: Store) -> None:
    (cell,) = cells_of(plan, "pico", "tune")
    cost = cost_of(cell.variant, cell.given.shapes, 4, store)
    own = replace(cell, variant=replace(cell.variant, depth=0))
    assert gpu_need(cell, 100, cost) is not None
    assert gpu_need(own, 100, cost) is None
    known = GpuNeed(2, 1)
    assert gpu_needs.wider(known, None) is None
    assert gpu_needs.wider(known, GpuNeed(1, 1)) == known
    assert Item("a", ("c",), Need(1.0, 1)).need.gpu is None
