"""A pretraining's curves mirrored into MLflow while it runs, without ever holding it up.

The run's folder is the truth; what was not mirrored is mirrored by the next push, or by the
same command given again, which asks the server what it has. Pushes happen on a thread of their
own. It must not know how training works.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from harness.pretraining.curves import Point, Training
from harness.pretraining.folder import read_speeds
from harness.pretraining.tracked import Status, note
from harness.pretraining.watching import read_probes
from harness.store import Store
from harness.tracking import TrackingAwayError, end_training, make_database, push_training
from models.pretraining.checkpoint import Record, read_history
from models.pretraining.loop import Job

PUSH_SECONDS = 5.0
CURVES = (
    "loss",
    "discrimination",
    "contrast",
    "gradient_norm",
    "learning_rate",
    "spread",
    "effective_rank",
)


@dataclass
class MlflowWatcher:
    """Mirrors records and probes. ``reason`` says why the last push failed, if it did."""

    store: Store
    folder: Path
    training: Training
    reason: str = ""
    _records: list[Record] = field(default_factory=list)
    _speeds: dict[int, float] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="mirror")
    )
    _pending: Future[None] | None = None
    _pushed_at: float = 0.0
    _sent: int = 0
    _knows: bool = False

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """What an earlier part of the run logged may still have to be mirrored."""
        self._take_up(history)

    def _take_up(self, history: Sequence[Record]) -> None:
        self._records = list(history)
        up_to = history[-1].samples if history else 0
        speeds = [each for each in read_speeds(self.folder) if each.samples <= up_to]
        self._speeds = {each.samples: each.samples_per_second for each in speeds}

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """Push, unless a push is under way or was just made."""
        self._records.append(record)
        self._speeds[record.samples] = samples_per_second
        now = time.monotonic()
        idle = self._pending is None or self._pending.done()
        if idle and now - self._pushed_at >= PUSH_SECONDS:
            self._pushed_at = now
            self._pending = self._pool.submit(self._push)

    def catch_up(self, status: Status, tags: dict[str, str]) -> None:
        """Nobody trains any more: push what the folder holds and close the run there."""
        self._take_up(read_history(self.folder))
        self.finish(status, tags)

    def finish(self, status: Status, tags: dict[str, str]) -> None:
        """Push what is left and close the run there."""
        error = self._pool.submit(self._push).exception()
        if error is not None:  # not of the server: closed all the same, it would never be mended
            self.reason = f"{type(error).__name__}: {error}"
        self._pool.submit(self._end, status, tags).result()
        self._pool.shutdown()

    def _push(self) -> None:
        if not self._records:
            return
        # A probe is written before its record is told: no further than the records are.
        up_to = self._records[-1].samples
        records = [r for r in self._records if self._sent < r.samples <= up_to]
        points = [Point(name, r.samples, getattr(r, name)) for r in records for name in CURVES]
        points += [
            Point("samples_per_second", r.samples, self._speeds[r.samples])
            for r in records
            if r.samples in self._speeds
        ]
        points += [
            Point(f"knn_{probe.dataset}", probe.samples, probe.knn)
            for probe in read_probes(self.folder)
            if self._sent < probe.samples <= up_to
        ]
        if not points:
            return
        if not self._knows:
            with contextlib.suppress(OSError):  # a new database forgets what one before it knew
                make_database(self.store)
            self._note("RUNNING")  # before it is: a process may be killed at any moment
        try:
            push_training(self.store, self.training, points, ask=not self._knows)
        except TrackingAwayError as error:
            self.reason = str(error)
            self._knows = False  # part of it may have arrived
            return
        self.reason, self._knows, self._sent = "", True, up_to

    def _end(self, status: Status, tags: dict[str, str]) -> None:
        if self.reason:
            return
        try:
            end_training(self.store, self.training, status, tags)
        except TrackingAwayError as error:
            self.reason = str(error)
        else:
            self._note(status)

    def _note(self, status: Status) -> None:
        with contextlib.suppress(OSError):  # a training is not lost for it
            note(self.store, self.training, self.folder, status)
