"""Batches that memory does not hold: halved until they fit, and remembered by what was computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.executors.executing import in_smaller_batches
from harness.executors.items import Item, Need
from harness.memory import fitting, halved
from harness.plan import Places, make_plan
from harness.store import Store
from harness.suite import load_suite
from models.errors import UserError

KEY = "ab" * 32
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    found.prepare()
    return found


def holding(most: int, error: Exception, seen: list[int]) -> Callable[[int], int]:
    def work(size: int) -> int:
        seen.append(size)
        if size > most:
            raise error
        return size

    return work


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()], ids=["GPU", "torch", "Python"])
def test_what_did_not_fit_is_not_tried_again(store: Store, error: Exception) -> None:
    seen = list[int]()
    assert fitting(store, KEY, 24, holding(7, error, seen)) == 6
    assert seen == [24, 12, 6]
    assert fitting(Store(store.root), KEY, 24, holding(7, error, seen)) == 6
    assert seen[3:] == [6]
    assert fitting(store, "cd" * 32, 24, holding(30, error, seen)) == 24  # another's batch


def test_not_one_sample(store: Store) -> None:
    with pytest.raises(UserError, match=r"^Not even one sample .*Tried to allocate.* use a"):
        fitting(store, KEY, 4, holding(0, CUDA, []))


def test_other_errors_are_no_want_of_memory(store: Store) -> None:
    seen = list[int]()
    with pytest.raises(RuntimeError, match="shapes"):
        fitting(store, KEY, 4, holding(0, RuntimeError("shapes differ"), seen))
    assert (seen, halved(store, KEY)) == ([4], 0)


def test_a_worker_that_was_ended_for_it_leaves_what_is_stored_as_it_is(
    small_suite: Path, store: Store
) -> None:
    """Embeddings and trainings of its item, but for those that are there."""
    text = small_suite.read_text().replace("seeds: [0, 1]", "seeds: [0]")
    tuned = "  - {name: tuned, dataset: simulated, data: {size: 100}, probe: {kind: finetune}}\n"
    head, _ = text.split("tasks:")
    near = "  - {name: near, dataset: simulated, data: {size: 100}, probe: {kind: knn}}\n"
    small_suite.write_text(f"{head}tasks:\n{tuned}{near}")
    plan = make_plan(load_suite(small_suite), Places(None, None, store.cache_folder))
    cells = {cell.key: cell for cell in plan.cells}
    one, other = (c for c in plan.cells if c.task.name == "near" and len(c.embeddings) == 2)
    trained = next(c for c in plan.cells if c.task.name == "tuned")
    there = one.embeddings[0].key
    with store.embedding_writer(there, 4, 3, ("mean",)) as draft:
        draft.arrays["mean"][:] = np.ones(3)
    item = Item("item", (one.key, trained.key), Need(1.0, 0))
    in_smaller_batches(item, cells, store)
    keys = [there, one.embeddings[1].key, trained.key, other.embeddings[0].key]
    assert [halved(store, key) for key in keys] == [0, 1, 1, 0]
