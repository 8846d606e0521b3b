"""A worker: it makes the plan once, then computes the items that it is given, one by one.

What goes wrong with a cell is told, never raised: the item's other cells go on. It must not know
which engine hands out the items.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.executors.board import Board, StoppedError, Working
from harness.executors.items import Item
from harness.executors.spec import Spec, plan_of
from harness.plan import Cell, Plan, Progress, shown_name
from harness.store import Store
from harness.store_place import open_store
from models.errors import DISK_FULL, UserError


@dataclass(frozen=True)
class Fault:
    """Why a cell could not be computed.

    ``is_final``: it would go the same way again (a broken file, an impossible setting).
    ``of_node``: any other cell would fail there as well.
    """

    reason: str
    is_final: bool
    of_node: bool = False


@dataclass
class Account:
    """What a worker has to say of an item: scores of finished cells, and faults of others.

    ``elsewhere``: cells that another process has in work. ``node``: where it was, as its engine
    names it.
    """

    item: str
    worker: str = ""
    node: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    encoder: float = 0.0
    probe: float = 0.0
    refused: str = ""
    stopped: bool = False


class Worker:
    """Computes items of one run in this process."""

    def __init__(
        self,
        spec: Spec,
        name: str | None = None,
        *,
        own_logs: bool = True,
        should_end: Callable[[], bool] = lambda: False,
    ) -> None:
        """``own_logs``: what is printed while a cell is computed goes to the cell's log.

        ``should_end`` is asked about once a second, beside the run's own request to stop.
        """
        self._spec, self._own_logs, self._should_end = spec, own_logs, should_end
        self._name = name or f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._found: tuple[Plan, Store, dict[str, Cell]] | None = None

    def do(self, item: Item) -> Account:
        """Compute an item's cells that are not in the store."""
        account = Account(item.key, self._name)
        try:
            board = Board(open_store(self._spec.store), self._spec.plan_key)
            working = Working(board, self._name, self._should_end)
            try:
                self._all(item, working, account)
            finally:
                working.idle()
        except UserError as error:
            account.refused = str(error)
        except StoppedError:
            account.stopped = True
        except OSError as error:  # the plan could not be made here
            left = [cell for cell in item.cells if cell not in account.scores]
            account.faults |= dict.fromkeys(left, _fault_of_the_system(error))
        return account

    def _all(self, item: Item, working: Working, account: Account) -> None:
        working.begins(item.key, "", "making the plan")
        plan, store, cells = self._ready(working.progress)
        for key in item.cells:
            self._one(cells[key], plan, store, working, account, item.patient)

    def _ready(self, progress: Progress) -> tuple[Plan, Store, dict[str, Cell]]:
        if self._found is None:
            plan, store = plan_of(self._spec, progress)
            self._found = (plan, store, {cell.key: cell for cell in plan.cells})
        return self._found

    def _one(
        self,
        cell: Cell,
        plan: Plan,
        store: Store,
        working: Working,
        account: Account,
        patient: bool,
    ) -> None:
        from harness.executors.work import try_cell, wait_cell  # noqa: PLC0415  (torch loads)

        what = f"{shown_name(plan, cell)} · {cell.task.name} · seed {cell.seed}"
        working.begins(account.item, cell.key, what)
        with self._logged(working.board, cell.key):
            try:
                done = (wait_cell if patient else try_cell)(plan, cell, store, working.progress)
                if done is None:
                    account.elsewhere.append(cell.key)
                    return
                account.scores[cell.key] = done.score
                account.encoder += done.seconds.encoder
                account.probe += done.seconds.probe
            except StoppedError:
                raise
            except UserError as error:
                account.faults[cell.key] = Fault(str(error), is_final=True)
            except OSError as error:
                traceback.print_exc()
                account.faults[cell.key] = _fault_of_the_system(error)
            except Exception as error:
                traceback.print_exc()
                account.faults[cell.key] = Fault(f"{type(error).__name__}: {error}", False)

    @contextmanager
    def _logged(self, board: Board, cell: str) -> Iterator[None]:
        if not self._own_logs:
            yield
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a full disk, say: the cell itself tells
                stack.enter_context(printed_to(board.log_file(cell)))
            yield
        with contextlib.suppress(OSError):  # a cell is not lost for its log
            board.keep_log(cell)


def _fault_of_the_system(error: OSError) -> Fault:
    return Fault(_of_the_system(error), is_final=False, of_node=error.errno in DISK_FULL)


def _of_the_system(error: OSError) -> str:
    """What the system refused, and on which machine: another may not."""
    here = os.uname().nodename
    if error.errno in DISK_FULL:
        return f"the disk is full on {here}"
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{place} on {here}"


@contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """Standard output and error, of libraries too, go to the end of a file.

    A file that nothing was written to does not stay.
    """
    kept = [os.dup(1), os.dup(2)]
    try:
        with path.open("ab") as file:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # what a full disk does not take is lost
                    sys.stdout.flush(), sys.stderr.flush()
                os.dup2(kept[0], 1), os.dup2(kept[1], 2)
    finally:
        for descriptor in kept:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            if not path.stat().st_size:
                path.unlink()
