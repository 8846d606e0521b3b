"""A tuned cell whose study cannot be kept here and now: it is tried again, here or elsewhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from harness.executors.items import Item, Need
from harness.executors.spec import Spec, shake_hands
from harness.executors.worker import Fault, Worker
from harness.plan import Places, make_plan
from harness.store import Store
from harness.suite import Overrides, load_suite
from harness.suite_file import LinearProbe

ONE = Overrides(variants=("olmoearth-one-pico",), seeds=(0,))


@pytest.fixture
def spec(small_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    places = Places(None, None, store.cache_folder)
    plan = make_plan(load_suite(small_suite, ONE), places)
    return Spec.of(plan, ONE, places, store, shake_hands(store, "token"))


def fault_of(spec: Spec, folder: Path) -> Fault:
    """Why a worker could not compute the tuned cell."""
    plan = make_plan(load_suite(Path(spec.suite), ONE), Places(None, None, folder))
    [cell] = [cell for cell in plan.cells if isinstance(cell.task.probe, LinearProbe)]
    account = Worker(spec, own_logs=False).do(Item("item", (cell.key,), Need(1.0, 0)))
    assert not account.scores
    return account.faults[cell.key]


def test_the_disk_is_full_at_the_journal(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    fault = fault_of(spec, tmp_path)
    assert "the disk is full on" in fault.reason
    assert (fault.is_final, fault.of_node) == (False, True)


def test_the_database_is_away(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.probes.study_database.sleep", lambda _: None)
    monkeypatch.setenv("TOKENRANK_TUNING", "postgresql+psycopg2://u@127.0.0.1:9/studies")
    fault = fault_of(spec, tmp_path)
    assert "database of tuning studies (TOKENRANK_TUNING) does not answer" in fault.reason
    assert (fault.is_final, fault.of_node) == (False, False)
