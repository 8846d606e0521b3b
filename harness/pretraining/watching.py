"""What a person and a tracking server see of a pretraining while it runs.

Watchers are told by the loop; each shows one thing, and none can change a weight. The probes'
scores go to ``probe.jsonl`` in the run's folder, so that a resumed run keeps its curve. They
must not know how training works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from harness.pretraining.folder import Speed, note_processes, read_speeds, write_speeds
from harness.pretraining.probe import ValidationProbe
from models.pretraining.checkpoint import Record
from models.pretraining.lines import read_lines, write_lines
from models.pretraining.loop import Job, Watcher

PROBES = "probe.jsonl"


@dataclass(frozen=True)
class ProbeScore:
    """kNN accuracy on a validation split after so many steps."""

    step: int
    samples: int
    dataset: str
    knn: float


class ProbeListener(Protocol):
    """Told of a probe's score."""

    def probed(self, score: ProbeScore) -> None:
        """A probe was taken."""


@dataclass
class All:
    """Several watchers as one."""

    watchers: Sequence[Watcher]

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """Pass it on."""
        for watcher in self.watchers:
            watcher.started(job, steps_done, history)

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """Pass it on."""
        for watcher in self.watchers:
            watcher.logged(record, samples_per_second, encoder)


@dataclass
class ProbeWatcher:
    """Takes the probe at the first record after every ``every`` samples, and at the end."""

    probe: ValidationProbe
    folder: Path
    every: int
    listeners: Sequence[ProbeListener]
    scores: list[ProbeScore] = field(default_factory=list)
    steps: int = 0

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """Take up the scores of the part of the run that is kept."""
        self.steps = job.steps
        self.scores = [s for s in read_probes(self.folder) if s.step <= steps_done]
        write_lines(self.folder / PROBES, self.scores)

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """Probe, if it is time."""
        last = self.scores[-1].samples if self.scores else 0
        if record.samples - last < self.every and record.step != self.steps:
            return
        value = self.probe.score(encoder)
        score = ProbeScore(record.step, record.samples, self.probe.name, value)
        self.scores.append(score)
        write_lines(self.folder / PROBES, self.scores)
        for listener in self.listeners:
            listener.probed(score)


def read_probes(folder: Path) -> list[ProbeScore]:
    """The probes that a run has taken."""
    return read_lines(folder / PROBES, ProbeScore)


@dataclass
class SpeedWatcher:
    """Keeps samples per second beside the history, which holds nothing that depends on a clock."""

    folder: Path
    speeds: list[Speed] = field(default_factory=list)

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """Take up the part of the run that is kept."""
        done = steps_done * job.setting.batch
        self.speeds = [speed for speed in read_speeds(self.folder) if speed.samples <= done]

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """Write it down."""
        self.speeds.append(Speed(record.samples, samples_per_second))
        write_speeds(self.folder, self.speeds)


@dataclass
class ProcessesWatcher:
    """Keeps how many processes train, for the card."""

    folder: Path
    count: int

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """From here on."""
        note_processes(self.folder, steps_done, self.count)

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """It is known already."""


class TerminalWatcher:
    """A bar over the samples, with the loss beside it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("samples", total=None, said="")

    def __enter__(self) -> TerminalWatcher:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        """Say where it begins."""
        batch = job.setting.batch
        name = f"{escape(job.recipe.name)} · {job.variant.size} · seed {job.seed}"
        self._bar.update(
            self._task, description=name, total=job.steps * batch, completed=steps_done * batch
        )
        if steps_done:
            self.console.print(f"Going on after {steps_done * batch:,} samples.", highlight=False)

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        """Move the bar."""
        said = f"loss {record.loss:.3f} · {samples_per_second:.0f} samples/s"
        self._bar.update(self._task, completed=record.samples, said=said)

    def probed(self, score: ProbeScore) -> None:
        """One line per probe; the bar stays below."""
        self.console.print(
            f"{score.samples:>9,} samples: kNN {score.knn:.3f} on {escape(score.dataset)}'s "
            "validation split",
            highlight=False,
        )
