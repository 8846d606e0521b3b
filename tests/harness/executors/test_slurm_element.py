"""An element whose node Slurm takes: it ends, whatever became of submitit's `SystemExit`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("submitit", reason="submitit is a development dependency")

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from harness.executors import slurm_element
from harness.executors.items import Item, Need
from harness.executors.slurm_element import BACK_IN_THE_QUEUE, Element
from harness.executors.spec import Spec, shake_hands
from harness.plan import Places, make_plan
from harness.store import Store
from harness.suite import Overrides, load_suite
from harness.suite_file import LinearProbe

ONE = Overrides(variants=("olmoearth-one-pico",), seeds=(0,))


@pytest.fixture
def element(small_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Element:
    """A tuned cell, then another one."""
    monkeypatch.chdir(tmp_path)
    here = SimpleNamespace(job_id="7")
    monkeypatch.setattr(slurm_element.submitit, "JobEnvironment", lambda: here)
    monkeypatch.setattr(slurm_element, "_leaves", slurm_element.Event())
    store = Store(tmp_path / "store")
    store.prepare()
    places = Places(None, None, store.cache_folder)
    plan = make_plan(load_suite(small_suite, ONE), places)
    spec = Spec.of(plan, ONE, places, store, shake_hands(store, "token"))
    tuned, other = sorted(plan.cells, key=lambda c: not isinstance(c.task.probe, LinearProbe))
    items = [Item(name, (cell.key,), Need(1.0, 0)) for name, cell in (("a", tuned), ("b", other))]
    return Element(spec.to_json(), tuple(items))


def test_undisturbed_it_tells_of_all_its_items(element: Element) -> None:
    assert [(each.item, len(each.scores)) for each in element()] == [("a", 1), ("b", 1)]


def test_it_is_told_while_a_lock_is_given_back(
    element: Element, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna then removes a file that is gone already, and `FileNotFoundError` is what comes out.

    The cell is not broken, the other one is not begun, and no result says so.
    """
    release = JournalFileSymlinkLock.release

    def told(lock: JournalFileSymlinkLock) -> None:
        release(lock)
        element.checkpoint()  # as submitit's handler does, between two lines of Optuna's
        try:
            raise SystemExit(-1)
        except BaseException:
            Path(tmp_path / "renamed").unlink()
            raise

    monkeypatch.setattr(JournalFileSymlinkLock, "release", told)
    assert JournalFileBackend(str(tmp_path / "any"))._lock.__class__ is JournalFileSymlinkLock
    with pytest.raises(SystemExit) as ended:
        element()
    assert ended.value.code == BACK_IN_THE_QUEUE
    store = Store(tmp_path / "store")
    assert not any(store.has_cell(key) for item in element.items for key in item.cells)
