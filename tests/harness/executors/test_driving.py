"""The driver's loop with an engine of the test's own: order, second chances, hangs, stopping."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.executors.board import Board, StoppedError, WorkerNote, Working
from harness.executors.driving import Driven, Policy, drive
from harness.executors.engine import Ended
from harness.executors.items import Item, Need
from harness.executors.worker import Account, Fault
from harness.store import Store
from models.errors import UserError


def item(name: str, *cells: str, seconds: float = 1.0) -> Item:
    return Item(name, cells or (f"{name}-cell",), Need(seconds, 0))


PATIENT = Policy()


@dataclass
class Scripted:
    """An engine that answers from a function of the item and how often it was tried."""

    answer: Callable[[Item, int], Ended | None]
    slots: int = 2
    name: str = "scripted"
    order: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    avoided: list[str] = field(default_factory=list)
    most: int = 0
    _flying: list[Ended] = field(default_factory=list)
    _waiting: int = 0

    def submit(self, item: Item) -> None:
        self.order.append(item.key)
        ended = self.answer(item, self.order.count(item.key))
        self._waiting += ended is None
        if ended is not None:
            self._flying.append(ended)
        self.most = max(self.most, len(self._flying) + self._waiting)

    def wait(self, seconds: float) -> list[Ended]:
        if not self._flying:
            threading.Event().wait(0.02)
            return []
        return [self._flying.pop(0)]

    def avoid(self, node: str) -> None:
        self.avoided.append(node)

    def cancel(self, item: str) -> None:
        self.cancelled.append(item)
        self._waiting -= 1

    def close(self) -> None: ...


@dataclass
class Told:
    """What the driver told."""

    scores: dict[str, float] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)

    def finished(self, cell: str, score: float) -> None:
        assert cell not in self.scores
        self.scores[cell] = score

    def broken(self, cell: str, reason: str) -> None:
        self.given_up[cell] = reason

    def retried(self, item: Item, reason: str) -> None:
        self.again.append(item.key)

    def workers(self, notes: list[WorkerNote]) -> None: ...


def well(item: Item, _: int = 1) -> Ended:
    return Ended(item.key, "done", Account(item.key, scores=dict.fromkeys(item.cells, 0.5)))


def run(
    items: list[Item], engine: Scripted, tmp_path: Path, policy: Policy = PATIENT, **more: object
) -> tuple[Driven, Told, Board]:
    told, board = Told(), Board(Store(tmp_path), "run")
    return drive(items, engine, board, policy, told, **more), told, board  # type: ignore[arg-type]


def test_all_cells_are_told_once_in_the_order_given_and_never_too_many(tmp_path: Path) -> None:
    items = [item(str(i), f"{i}a", f"{i}b") for i in range(50)]
    engine = Scripted(well)
    driven, told, board = run(items, engine, tmp_path)
    assert engine.order == [each.key for each in items]
    assert engine.most <= 2
    assert set(told.scores) == {cell for each in items for cell in each.cells}
    assert driven.broken == {}
    note = board.drivers()[0]
    assert (note.state, note.done, note.cells) == ("finished", 100, 100)


def test_a_lost_worker_costs_one_more_try(tmp_path: Path) -> None:
    def answer(item: Item, tries: int) -> Ended:
        if item.key == "b" and tries == 1:
            return Ended("b", "lost", reason="its worker ended with SIGKILL")
        return well(item)

    driven, told, _ = run([item("a"), item("b"), item("c")], Scripted(answer), tmp_path)
    assert told.again == ["b"]
    assert set(told.scores) == {"a-cell", "b-cell", "c-cell"}
    assert (driven.retried, driven.broken) == (1, {})


def test_a_broken_cell_is_tried_a_bounded_number_of_times_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    def answer(item: Item, tries: int) -> Ended:
        account = Account(item.key)
        for cell in item.cells:
            if cell == "bad":
                account.faults[cell] = Fault(f"RuntimeError: try {tries}", is_final=False)
            else:
                account.scores[cell] = 1.0
        return Ended(item.key, "done", account)

    engine = Scripted(answer)
    driven, told, _ = run([item("x", "good", "bad", "fine"), item("y")], engine, tmp_path)
    assert engine.order.count("x") == 1 + Policy().retries
    assert set(told.scores) == {"good", "fine", "y-cell"}  # told once, though x came thrice
    assert driven.broken == told.given_up == {"bad": "RuntimeError: try 3"}


def test_what_would_go_the_same_way_again_is_not_tried_again(tmp_path: Path) -> None:
    def answer(item: Item, _: int) -> Ended:
        fault = Fault("a.tif: cannot be read; fetch it again.", is_final=True)
        return Ended(item.key, "done", Account(item.key, faults={item.cells[0]: fault}))

    engine = Scripted(answer)
    driven, _, _ = run([item("x")], engine, tmp_path)
    assert engine.order == ["x"]
    assert driven.broken == {"x-cell": "a.tif: cannot be read; fetch it again."}


def test_a_node_that_keeps_dying_is_given_up_with_its_reason(tmp_path: Path) -> None:
    engine = Scripted(lambda item, _: Ended(item.key, "lost", reason="its node is gone"))
    driven, _, _ = run([item("x", "1", "2")], engine, tmp_path, Policy(retries=1))
    assert len(engine.order) == 3  # both together, then each by itself
    assert driven.broken == {"1": "its node is gone", "2": "its node is gone"}


def test_a_cell_that_kills_its_worker_breaks_nothing_but_itself(tmp_path: Path) -> None:
    def answer(item: Item, _: int) -> Ended:
        if "bad" in item.cells:
            return Ended(item.key, "lost", reason="its worker ended with SIGSEGV")
        return well(item)

    engine = Scripted(answer)
    driven, told, _ = run([item("x", "good", "bad", "fine"), item("bad", "bad")], engine, tmp_path)
    assert driven.broken == {"bad": "its worker ended with SIGSEGV"}
    assert set(told.scores) == {"good", "fine"}
    assert engine.order.count("x") == Policy().retries


def test_what_a_lost_worker_had_stored_is_told_and_not_handed_out_again(tmp_path: Path) -> None:
    handed: list[tuple[str, ...]] = []

    def answer(item: Item, tries: int) -> Ended:
        handed.append(item.cells)
        return Ended(item.key, "lost") if tries == 1 else well(item)

    known = {"first": 0.25}
    _, told, board = run(
        [item("x", "first", "second")], Scripted(answer), tmp_path,
        stored=lambda cells: {cell: known[cell] for cell in cells if cell in known},
    )  # fmt: skip
    assert handed == [("first", "second"), ("second",)]
    assert told.scores == {"first": 0.25, "second": 0.5}
    assert board.drivers()[0].done == 2


def test_cells_that_others_have_are_each_waited_for(tmp_path: Path) -> None:
    """Another driver takes first one cell of an item, then, after a fault, the other too."""

    def answer(each: Item, _: int) -> Ended | None:
        account = Account(each.key)
        if each.patient:
            return well(each)
        if each.cells == ("a", "b"):
            account.elsewhere, account.faults = ["a"], {"b": Fault("a passing fault", False)}
        else:
            account.elsewhere = ["b"]
        return Ended(each.key, "done", account)

    _, told, board = run([item("x", "a", "b")], Scripted(answer), tmp_path)
    assert set(told.scores) == {"a", "b"}
    assert board.drivers()[0].done == 2


def test_a_node_whose_disk_is_full_gets_nothing_more(tmp_path: Path) -> None:
    """It would be free at once, and take the next item too, and fail it."""

    def answer(item: Item, tried: int) -> Ended:
        if tried > 1:
            return well(item)
        full = {item.cells[0]: Fault("the disk is full on a", is_final=False, of_node=True)}
        return Ended(item.key, "done", Account(item.key, node="a", faults=full))

    engine = Scripted(answer)
    driven, told, _ = run([item("x")], engine, tmp_path)
    assert engine.avoided == ["a"]
    assert driven.broken == {}
    assert told.scores == {"x-cell": 0.5}


def test_want_of_memory_is_met_with_smaller_batches(tmp_path: Path) -> None:
    """Of what was in work, not of what had to share its job."""
    halved: list[str] = []
    board = Board(Store(tmp_path), "run")

    def answer(item: Item, tries: int) -> Ended:
        if tries > 2:
            return well(item)
        board.write_worker(WorkerNote("w", "here", 1, item="x", moves=tries))
        return Ended(item.key, "memory", reason="its node had not enough memory")

    _, told, _ = run(
        [item("x"), item("beside")], Scripted(answer), tmp_path,
        less_memory=lambda item: halved.append(item.key),
    )  # fmt: skip
    assert halved == ["x", "x"]
    assert set(told.scores) == {"x-cell", "beside-cell"}


def test_a_worker_without_progress_is_ended_and_one_that_moves_is_not(tmp_path: Path) -> None:
    """Both are slow; only one's note keeps changing."""
    board = Board(Store(tmp_path), "run")
    done = threading.Event()

    def moving() -> None:
        moves = 0
        while not done.wait(0.2):
            moves += 1
            board.write_worker(WorkerNote("w1", "here", 1, item="slow", moves=moves))
            board.write_worker(WorkerNote("w2", "here", 2, item="hangs", moves=1))
            # It was killed while it had the item that the first has now.
            board.write_worker(WorkerNote("w9", "gone", 9, item="slow", moves=1))
            if moves == 25:
                engine._flying.append(well(item("slow")))

    def answer(each: Item, tries: int) -> Ended | None:
        return well(each) if each.key == "hangs" and tries == 2 else None

    engine = Scripted(answer)
    thread = threading.Thread(target=moving)
    thread.start()
    try:
        _, told, _ = run([item("slow"), item("hangs")], engine, tmp_path, Policy(timeout=2.0))
    finally:
        done.set()
        thread.join()
    assert engine.cancelled == ["hangs"]
    assert set(told.scores) == {"slow-cell", "hangs-cell"}


def test_a_refusal_ends_the_run_with_the_workers_sentence(tmp_path: Path) -> None:
    sentence = "node7 would compute something else than was planned (package torch ...)."
    engine = Scripted(lambda each, _: Ended(each.key, "done", Account(each.key, refused=sentence)))
    with pytest.raises(UserError, match="node7"):
        run([item("x")], engine, tmp_path)
    assert Board(Store(tmp_path), "run").drivers()[0].state == "failed"


def test_a_node_that_comes_back_as_another_ends_no_run(tmp_path: Path) -> None:
    """Later than at the start, the other nodes go on, though it had several items in work."""
    sentence = "The store /shared on b is not the one that the run was started on."

    def answer(each: Item, tries: int) -> Ended:
        refuses = each.key != "first" and tries == 1
        account = Account(each.key, node="b", refused=sentence) if refuses else None
        return Ended(each.key, "done", account) if account else well(each)

    engine = Scripted(answer, slots=4)
    items = [item(name) for name in ("first", "second", "third")]
    _, told, _ = run(items, engine, tmp_path)
    assert engine.avoided == ["b", "b"]
    assert set(told.scores) == {"first-cell", "second-cell", "third-cell"}
    assert told.again == ["second", "third"]


def test_a_node_that_refuses_and_is_the_only_one_left_ends_the_run(tmp_path: Path) -> None:
    def answer(each: Item, _: int) -> Ended:
        if each.key == "first":
            return well(each)
        return Ended(each.key, "done", Account(each.key, node="b", refused="b has other code."))

    engine = Scripted(answer, slots=1)
    with pytest.raises(UserError, match="b has other code"):
        run([item("first"), item("second")], engine, tmp_path)
    assert engine.order == ["first", "second", "second"]


def test_a_request_to_stop_ends_the_run(tmp_path: Path) -> None:
    board = Board(Store(tmp_path), "run")
    board.stop()
    with pytest.raises(StoppedError):
        run([item("x")], Scripted(lambda *_: None), tmp_path)
    assert board.drivers()[0].state == "stopped"


class Away(Board):
    """Notes in a store that does not answer."""

    def is_stopped(self) -> bool:
        raise OSError("the store is away")


def test_a_store_that_is_away_ends_no_work(tmp_path: Path) -> None:
    board = Away(Store(tmp_path), "run")
    board.every = 0.0  # it is looked at each time
    slow = Scripted(lambda item, tries: Ended(item.key, "done", Account(item.key, scores={"c": 1})))
    told = Told()
    assert drive([item("a", "c")], slow, board, Policy(timeout=0.0), told).broken == {}
    assert told.scores == {"c": 1}


def test_a_worker_goes_on_while_the_store_is_away(tmp_path: Path) -> None:
    working = Working(Away(Store(tmp_path), "run"), "worker")
    working.progress("embedding", 1, 2)
    assert working.note.moves == 1
