"""What a terminal shows of a run that many workers compute."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.executors.board import WorkerNote
from harness.plan import Places, Plan, make_plan
from harness.store import Store
from harness.suite import load_suite
from harness.terminal import TerminalWatcher


@pytest.fixture
def plan(small_suite: Path, tmp_path: Path) -> Plan:
    return make_plan(load_suite(small_suite), Places(None, None, Store(tmp_path).cache_folder))


@pytest.fixture
def watcher(plan: Plan) -> TerminalWatcher:
    """On a screen of 120 columns; all cells are to do."""
    console = Console(file=io.StringIO(), width=120, height=60, force_terminal=True, no_color=True)
    found = TerminalWatcher(console)
    found.planned(plan, list(plan.cells))
    return found


def bars(watcher: TerminalWatcher) -> list[str]:
    """The lines that stay below, as they are now."""
    with watcher.console.capture() as captured:
        watcher.console.print(watcher._bars)
    return [" ".join(line.split()) for line in captured.get().splitlines() if line.strip()]


def printed(watcher: TerminalWatcher) -> str:
    assert isinstance(watcher.console.file, io.StringIO)
    return watcher.console.file.getvalue()


def note(worker: int, what: str, stage: str = "", done: int = 0, total: int = 0) -> WorkerNote:
    return WorkerNote(f"w{worker:02}", "here", worker, "i", "c", what, stage, done, total)


def test_each_worker_has_a_bar_as_long_as_it_is_there(watcher: TerminalWatcher) -> None:
    watcher.workers([note(1, "first cell"), note(2, "second [cell]", "embedding", 3, 12)])
    assert [line.split(":")[0] for line in bars(watcher)[1:]] == ["first cell", "second [cell]"]
    assert "first cell: begins" in bars(watcher)[1]
    assert "second [cell]: embedding" in bars(watcher)[2]
    assert "3/12" in bars(watcher)[2]
    watcher.workers([note(2, "third cell", "tuning", 4, 8)])
    (line,) = bars(watcher)[1:]
    assert line.startswith("third cell: tuning")
    assert "4/8" in line
    watcher.workers([])
    assert bars(watcher)[1:] == []


def test_a_thousand_workers_fit_on_a_screen(watcher: TerminalWatcher) -> None:
    watcher.workers([note(i, f"cell {i}") for i in range(1000)])
    assert len(bars(watcher)) == 1 + 16


def test_what_starts_again_and_what_is_given_up_is_said_with_its_reason(
    watcher: TerminalWatcher, plan: Plan
) -> None:
    cells = list(plan.cells)
    watcher.retried(cells[:3], "its worker ended with SIGKILL")
    watcher.retried(cells[:1], "no progress for 30 seconds")
    watcher.broken(cells[1], "a.tif: cannot be read [bands]; fetch it again")
    watcher.finished(cells[0], 0.5)
    names = [f"{c.variant.name} · {c.task.name} · seed {c.seed}" for c in cells]
    said = printed(watcher)
    assert f"↻ {names[0]} and 2 more: again, because its worker ended with SIGKILL" in said
    assert f"↻ {names[0]}: again, because no progress for 30 seconds" in said
    assert f"✗ {names[1]}: a.tif: cannot be read [bands]; fetch it again" in said
    assert f"✓ {names[0]}: {cells[0].task.metric} 0.500" in said
    # A cell that is given up is done with, one that starts again is not.
    assert f"2/{len(cells)}" in bars(watcher)[0]
