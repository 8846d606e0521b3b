"""A pool of processes on this machine: one for each GPU, or for each group of cores.

Workers share nothing but the store; one that is killed is replaced, and its item told as lost. It
must not know what an item is made of.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.executors.engine import Ended
from harness.executors.items import Item
from harness.executors.spec import Spec
from harness.processors import cores
from models.errors import UserError

Work = Callable[[Connection, Spec, "Place"], None]
KILLS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
STOPPED_WITHIN = 5.0  # seconds; then it is killed


@dataclass(frozen=True)
class Place:
    """Where a worker runs: its threads, and the GPU that it sees (None: whatever there is)."""

    threads: int
    gpu: str | None = None


def places(workers: int | None, gpus: list[str]) -> list[Place]:
    """As many workers as asked for, else one for each GPU, else one that has all cores.

    Cores are divided among them, so that no two workers fight over one. Raises `UserError` for more
    workers than cores.
    """
    count = workers or len(gpus) or 1
    if count > cores():
        raise UserError(
            f"{count} workers on {cores()} processor cores would get in each other's way; ask for "
            f"at most {cores()} (--workers)."
        )
    threads = cores() // count
    return [Place(threads, gpus[i % len(gpus)] if gpus else None) for i in range(count)]


def gpus() -> list[str]:
    """The GPUs that this process may use, by number or name; asking torch would cost its import."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    folder = "/proc/driver/nvidia/gpus"
    with contextlib.suppress(OSError):
        return [str(i) for i in range(len(os.listdir(folder)))]  # noqa: PTH208
    return []


def memory_kills() -> int:
    """How many processes the kernel killed for want of memory, here and in this container."""
    found = 0
    for place in KILLS:
        with contextlib.suppress(OSError):
            words = place.read_text(encoding="ascii").split()
            found += sum(int(words[i + 1]) for i, word in enumerate(words) if word == "oom_kill")
    return found


@dataclass
class _Hand:
    """One worker's process, and the item that it has in work."""

    process: BaseProcess
    pipe: Connection
    place: Place
    item: str | None = None


class LocalPool:
    """Implements `harness.executors.engine.Engine`."""

    name = "local"

    def __init__(self, spec: Spec, where: list[Place], work: Work | None = None) -> None:
        """``work`` is what a worker's process does, for measurements; else it computes items."""
        self._spec, self._work = spec, work or compute_items
        self._context = multiprocessing.get_context("spawn")
        self._hands = [self._start(place) for place in where]
        self._queue: deque[Item] = deque()
        self._kills = memory_kills()
        self._lost: list[Ended] = []

    @property
    def slots(self) -> int:
        """One item for each worker."""
        return len(self._hands)

    def submit(self, item: Item) -> None:
        """Give it to a free worker."""
        self._queue.append(item)
        self._hand_out()

    def wait(self, seconds: float) -> list[Ended]:
        """Items that ended, and those of workers that died."""
        ended, self._lost = self._lost, []
        signs = [each for hand in self._hands for each in (hand.pipe, hand.process.sentinel)]
        ready = wait(signs, 0 if ended else seconds)
        for hand in list(self._hands):
            if hand.pipe in ready or hand.process.sentinel in ready:
                ended += self._hear(hand)
        self._hand_out()
        return ended

    def avoid(self, node: str) -> None:
        """There is no other."""

    def cancel(self, item: str) -> None:
        """Kill the worker that has it, and start another."""
        for hand in self._hands:
            if hand.item == item:
                hand.process.kill()
                self._replace(hand)

    def close(self) -> None:
        """Ask all to end, then make them."""
        for hand in self._hands:
            with contextlib.suppress(OSError):
                hand.pipe.send(None)
        for hand in self._hands:
            if hand.item is not None:
                hand.process.terminate()
            hand.process.join(STOPPED_WITHIN)
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.pipe.close()
        self._hands = []

    def _hand_out(self) -> None:
        for hand in self._hands:
            if not self._queue:
                return
            if hand.item is None:
                item = self._queue.popleft()
                hand.item = item.key
                with contextlib.suppress(OSError):  # it died: `wait` tells
                    hand.pipe.send(item)

    def _hear(self, hand: _Hand) -> list[Ended]:
        try:
            if hand.pipe.poll():
                account = hand.pipe.recv()
                hand.item = None
                return [Ended(account.item, "done", account)]
        except (EOFError, OSError):
            pass
        if hand.process.is_alive():
            return []
        hand.process.join()
        item, code = hand.item, hand.process.exitcode or 0
        self._replace(hand)
        if item is None:
            return []
        if code == -signal.SIGKILL and self._is_short_of_memory():
            return [Ended(item, "memory", reason="this machine had not enough memory")]
        said = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return [Ended(item, "lost", reason=f"its worker ended with {said}")]

    def _is_short_of_memory(self) -> bool:
        """Whether the kernel killed something for want of memory since this was last asked."""
        before, self._kills = self._kills, memory_kills()
        return self._kills > before

    def _replace(self, hand: _Hand) -> None:
        hand.process.join()
        hand.pipe.close()
        self._hands[self._hands.index(hand)] = self._start(hand.place)

    def _start(self, place: Place) -> _Hand:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=self._work,
            args=(theirs, self._spec, place),
            daemon=True,
            name="tokenrank-worker",
        )
        with _environment(place):
            process.start()
        theirs.close()
        return _Hand(process, ours, place)


@contextlib.contextmanager
def _environment(place: Place) -> Iterator[None]:
    """A child takes these from its parent when it starts: before its libraries count cores."""
    given = {name: str(place.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    given["POLARS_MAX_THREADS"] = str(place.threads)
    if place.gpu is not None:
        given["CUDA_VISIBLE_DEVICES"] = place.gpu
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def compute_items(pipe: Connection, spec: Spec, place: Place) -> None:
    """A worker's process, from its start to the end of the pipe."""
    from harness.executors.worker import Worker  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    parent = multiprocessing.parent_process()
    # Without its driver a worker ends soon: the next run must not wait for it.
    worker = Worker(spec, should_end=lambda: parent is not None and not parent.is_alive())
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        if item is None:
            return
        account = worker.do(item)
        try:
            pipe.send(account)
        except OSError:
            return  # the driver is gone
