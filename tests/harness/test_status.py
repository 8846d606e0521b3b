"""`tokenrank cancel` and `status`, and what `--out` may be, as their users see them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli_pretraining import pretrain, study
from harness.commands import status
from harness.executors.board import Board, DriverNote, WorkerNote
from harness.store import Store
from models.errors import UserError


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Of a run whose driver was killed."""
    monkeypatch.setattr(status, "LOOK_AGAIN_AFTER", 0.0)
    board = Board(Store(tmp_path), "run")
    board.write_driver(DriverNote("driver", "suite", "ray", "here", 1, 2))
    board.write_worker(WorkerNote("worker", "there", 1, "item", "cell", "a cell"))
    return board


def test_workers_that_outlive_their_driver_can_be_stopped(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = WorkerNote("worker", "there", 1, "item", "cell", "a cell", moves=1)
    monkeypatch.setattr(time, "sleep", lambda seconds: board.write_worker(moved))
    status.cancel_command("suite", str(tmp_path))
    assert board.is_stopped()


def test_where_nobody_moves_there_is_nothing_to_stop(board: Board, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to cancel"):
        status.cancel_command("suite", str(tmp_path))
    assert not board.is_stopped()


def test_each_worker_is_shown_with_its_cell_and_whether_it_moves(
    board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By two looks at the notes: a driver, one worker that computes, and one that hangs."""
    monkeypatch.setenv("COLUMNS", "120")
    driver = DriverNote("driver", "suite", "ray", "head", 1, 8, done=3, broken=1, retried=2)
    hangs = WorkerNote("b", "node-b", 22, "item", "cell", "a hanging cell", "embedding", 5, 40)
    moves = WorkerNote("a", "node-a", 11, "item", "cell", "a cell", "tuning", 1, 8)

    def later(seconds: float) -> None:
        board.write_driver(replace(driver, beats=1))
        board.write_worker(replace(moves, done=2, moves=1))

    board.forget_workers()
    for note in (moves, hangs):
        board.write_worker(note)
    board.write_driver(driver)
    monkeypatch.setattr(time, "sleep", later)
    status.status_command("suite", str(tmp_path))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "ray on head: running, 3 of 8 done, 2 started again, 1 broken" in lines
    assert "node-a 11 a cell tuning 2/8 moves" in lines
    assert "node-b 22 a hanging cell embedding 5/40 no news" in lines


def test_a_driver_without_news_is_said_to_be_gone(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so are workers whose notes do not change either: they were killed with it."""
    status.status_command("suite", str(tmp_path))
    said = capsys.readouterr().out
    assert "ray on here: no news (killed? start the same command again), 0 of 2 done" in said
    assert "a cell" not in said


def test_only_logs_that_are_there_are_named(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board.write_broken("cell", "a training", "it diverged")
    status.status_command(None, str(tmp_path))
    assert "Logs:" not in capsys.readouterr().out
    board.log_file("cell").touch()
    status.status_command(None, str(tmp_path))
    assert f"Logs: {board.logs}" in capsys.readouterr().out


def test_pretraining_writes_to_no_object_store() -> None:
    address = Path("s3://bucket/runs")
    with pytest.raises(UserError, match=r"--out s3:/bucket/runs is not a folder"):
        pretrain("v1", "simulated", out=address)
    with pytest.raises(UserError, match=r"--out s3:/bucket/runs is not a folder"):
        study("tokens", out=address)
