"""A worker by itself: it refuses what is not the driver's run, and tells what goes wrong."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.executors.board import Board
from harness.executors.items import Item, Need
from harness.executors.spec import Spec, shake_hands
from harness.executors.worker import Worker
from harness.plan import Places, Plan, make_plan
from harness.store import CellResult, Store
from harness.suite import Overrides, load_suite

KNN = Overrides(variants=("olmoearth-one-pico",), seeds=(0,))


@pytest.fixture
def planned(
    small_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Plan, Spec, Item]:
    """A plan of two cells, its spec, and both cells as one item."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    places = Places(None, None, store.cache_folder)
    plan = make_plan(load_suite(small_suite, KNN), places)
    spec = Spec.of(plan, KNN, places, store, shake_hands(store, "token"))
    item = Item("item", tuple(cell.key for cell in plan.cells), Need(1.0, 0))
    return plan, Spec.from_json(spec.to_json()), item


def test_a_stale_copy_of_the_store_is_refused(
    planned: tuple[Plan, Spec, Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that comes back with the store as it was: it lacks what the driver just wrote."""
    _, spec, item = planned
    monkeypatch.setattr("harness.executors.spec.SHAKEN_WITHIN", 1)
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    (tmp_path / "copy" / "handshakes" / "token").unlink()
    account = Worker(replace(spec, store=str(tmp_path / "copy"))).do(item)
    assert "is not the one that the run was started on" in account.refused
    assert not account.scores
    assert not (tmp_path / "copy" / "cells").exists()


def test_other_settings_are_refused_with_what_differs(
    planned: tuple[Plan, Spec, Item], small_suite: Path
) -> None:
    _, spec, item = planned
    small_suite.write_text(small_suite.read_text().replace("size: 100", "size: 120"))
    account = Worker(spec).do(item)
    assert "would compute something else than was planned (data " in account.refused
    assert not account.scores


def test_a_full_disk_of_one_node_is_no_final_fault(
    planned: tuple[Plan, Spec, Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may have room: the item's other cells go on, and this one is tried again."""
    plan, spec, item = planned
    full = plan.cells[0].key
    put = Store.put_cell

    def put_cell(store: Store, result: CellResult) -> None:
        if result.key == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(store, result)

    monkeypatch.setattr(Store, "put_cell", put_cell)
    account = Worker(spec, own_logs=False).do(item)
    assert list(account.scores) == [plan.cells[1].key]
    assert "the disk is full on" in account.faults[full].reason
    assert not account.faults[full].is_final
    assert account.faults[full].of_node
    assert list((Path(spec.store) / "claims").iterdir()) == []


@pytest.mark.parametrize("where", ["log", "plan"])
def test_a_disk_without_room_for_notes_is_a_fault_of_the_node(
    where: str, planned: tuple[Plan, Spec, Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker ends for it: one that did would be replaced, and lose the next item too."""
    plan, spec, item = planned

    def full(*_: object, **__: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "log":
        monkeypatch.setattr(Board, "log_file", full)
        assert set(Worker(spec).do(item).scores) == {cell.key for cell in plan.cells}
        return
    monkeypatch.setattr("harness.executors.spec.make_plan", full)
    account = Worker(spec).do(item)
    assert {fault.of_node for fault in account.faults.values()} == {True}
    assert set(account.faults) == set(item.cells)
    assert not account.refused


def test_what_a_cell_prints_is_in_its_log(
    planned: tuple[Plan, Spec, Item],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    plan, spec, item = planned

    def compute(*_: object) -> None:
        os.write(1, b"from below Python\n")
        print("and from above")
        raise RuntimeError("nothing works today")

    monkeypatch.setattr("harness.executors.work.compute", compute)
    with capfd.disabled():
        account = Worker(spec).do(item)
    reasons = {fault.reason for fault in account.faults.values()}
    assert reasons == {"RuntimeError: nothing works today"}
    board = Board(Store(Path(spec.store)), plan.key)
    log = board.log_file(plan.cells[0].key).read_text()
    assert "from below Python\nand from above\n" in log
    assert "RuntimeError: nothing works today" in log


def test_memory_that_does_not_hold_a_batch_holds_half_of_it(
    planned: tuple[Plan, Spec, Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is remembered, and the embedding says so."""
    import json  # noqa: PLC0415

    import harness.cell  # noqa: PLC0415

    _, spec, item = planned
    embed, sizes = harness.cell.embed_into, []

    def embed_into(*given: object) -> object:
        sizes.append(given[5])
        if given[5] > 40:  # type: ignore[operator]
            raise MemoryError
        return embed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(harness.cell, "embed_into", embed_into)
    account = Worker(spec, own_logs=False).do(item)
    assert len(account.scores) == 2
    assert sizes[0] > 40 >= sizes[-1]
    facts = [json.loads(p.read_text()) for p in Path(spec.store).glob("embeddings/*/*.json")]
    assert {each["batch"] for each in facts} == {sizes[-1]}
