"""Trainings as processes of their own, so many at a time; each logs to a file in its folder.

A training that fails ends with a sentence and the others go on; an interruption stops all of them
and leaves no process behind. It must not know studies' files, or how progress is shown.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from harness.processors import cores
from harness.studies.trainings import Training

LOG = "training.log"
# -P: a folder of the user's that is called `models` must not be taken for ours.
PROGRAM = (sys.executable, "-P", "-m", "harness.cli")
POLL_SECONDS = 0.25
INTERRUPTED_WITHIN = 1.0  # a terminal tells the whole group; only who does not hear it is told
STOPPED_WITHIN = 30.0  # seconds for the step in work
_ENDS_WITH = 4000  # bytes of a log that its last sentence is looked for in


class Watcher(Protocol):
    """Told how the trainings go."""

    def started(self, training: Training) -> None:
        """Its process runs."""

    def running(self, training: Training) -> None:
        """It still does; called a few times a second."""

    def ended(self, training: Training, failure: str | None) -> None:
        """It is over; ``failure`` is the sentence that it ended with, where it failed."""


@dataclass
class _Child:
    training: Training
    process: subprocess.Popen[bytes]
    log: BinaryIO
    log_start: int


def environment(workers: int) -> dict[str, str]:
    """A child's: its share of the cores, and this very code whatever its folder holds."""
    own = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(max(1, cores() // workers)),
        "PYTHONPATH": os.pathsep.join([own, path] if path else [own]),
    }


def run_children(
    trainings: Sequence[Training],
    arguments: Callable[[Training], Sequence[str]],
    workers: int,
    watch: Watcher,
) -> dict[Training, str]:
    """Run ``tokenrank <arguments>`` for each, ``workers`` at a time, in the order given.

    Returns the sentence of each that failed. On any exception, an interruption or a SIGTERM among
    them, all that run are stopped first.
    """
    with _told_to_end():
        return _run(trainings, arguments, workers, watch)


def _run(
    trainings: Sequence[Training],
    arguments: Callable[[Training], Sequence[str]],
    workers: int,
    watch: Watcher,
) -> dict[Training, str]:
    waiting, running = list(trainings), list[_Child]()
    failures: dict[Training, str] = {}
    env = environment(min(workers, max(1, len(waiting))))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                training = waiting.pop(0)
                running.append(_start(training, arguments(training), env))
                watch.started(training)
            time.sleep(POLL_SECONDS)
            for child in list(running):
                code = child.process.poll()
                if code is None:
                    watch.running(child.training)
                    continue
                running.remove(child)
                failure = _failure(child, code)
                child.log.close()
                if failure is not None:
                    failures[child.training] = failure
                watch.ended(child.training, failure)
    finally:
        _stop(running)
    return failures


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM as an exception, which stops the children on its way out; else they would go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(training: Training, arguments: Sequence[str], env: Mapping[str, str]) -> _Child:
    training.folder.mkdir(parents=True, exist_ok=True)
    log = (training.folder / LOG).open("ab")
    start = log.tell()
    command = [*PROGRAM, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(env)
    )
    return _Child(training, process, log, start)


def _failure(child: _Child, code: int) -> str | None:
    if code == 0:
        return None
    said = (child.training.folder / LOG).read_bytes()[child.log_start :][-_ENDS_WITH:]
    lines = said.decode(errors="replace").splitlines()
    for line in reversed(lines):
        if line.startswith("tokenrank: "):
            return line.removeprefix("tokenrank: ")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"It {how} ({last}); its log is {child.training.folder / LOG}."


def _stop(running: Sequence[_Child]) -> None:
    """Ask each to end, wait for the step in its hands, and end those that do not."""
    deadline = time.monotonic() + INTERRUPTED_WITHIN
    for child in running:
        if not _ended(child, deadline):
            child.process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
    deadline = time.monotonic() + STOPPED_WITHIN
    for child in running:
        if not _ended(child, deadline):
            child.process.kill()
            child.process.wait()
        child.log.close()


def _ended(child: _Child, deadline: float) -> bool:
    try:
        child.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
