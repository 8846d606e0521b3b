"""All trainings of a study in one display: a bar each, read from what they log, and one over all.

It must not know how trainings are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.pretraining.folder import read_speeds
from harness.pretraining.watching import read_probes
from harness.studies.trainings import State, Training
from models.pretraining.checkpoint import HISTORY, read_history


class StudyProgress:
    """Bars of samples; a line that stays for every training that ends."""

    def __init__(self, console: Console, states: Mapping[Training, State]) -> None:
        self.console = console
        self._states = states
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[samples]}", justify="right"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
        )
        total = sum(state.total or 0 for state in states.values())
        self._seen = {training: state.samples for training, state in states.items()}
        self._all = self._bars.add_task("all trainings", total=total, samples="", said="")
        self._tasks: dict[Training, TaskID] = {}
        self._read: dict[Path, int] = {}
        self._move_all()

    def __enter__(self) -> StudyProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, training: Training) -> None:
        """A bar of its own; where there is no terminal, a line."""
        state = self._states[training]
        self._tasks[training] = self._bars.add_task(
            escape(training.title),
            total=state.total,
            completed=state.samples,
            samples=f"{state.samples:,}",
            said="",
        )
        if not self.console.is_terminal:
            begun = f" after {state.samples:,} samples" if state.samples else ""
            self.console.print(f"{escape(training.title)} begins{begun}.", highlight=False)

    def running(self, training: Training) -> None:
        """Move its bar to what it has logged."""
        path = training.folder / HISTORY
        size = path.stat().st_size if path.exists() else 0
        if size == self._read.get(path):
            return
        self._read[path] = size
        history = read_history(training.folder)
        if not history:
            return
        last = history[-1]
        self._bars.update(
            self._tasks[training],
            completed=last.samples,
            samples=f"{last.samples:,}",
            said=f"loss {last.loss:.3f}{_speed(training)}{_knn(training)}",
        )
        self._seen[training] = last.samples
        self._move_all()

    def ended(self, training: Training, failure: str | None) -> None:
        """A line that stays."""
        self.running(training)
        self._bars.remove_task(self._tasks.pop(training))
        if failure is not None:
            self.console.print(
                f"[red]✗[/] {escape(training.title)}: {escape(failure)}",
                highlight=False,
                soft_wrap=True,
            )
            return
        self._seen[training] = self._states[training].total or self._seen[training]
        self._move_all()
        self.console.print(
            f"[green]✓[/] {escape(training.title)}: {self._seen[training]:,} samples"
            f"{_knn(training)}",
            highlight=False,
        )

    def _move_all(self) -> None:
        done = sum(self._seen.values())
        self._bars.update(self._all, completed=done, samples=f"{done:,}")


def _knn(training: Training) -> str:
    probes = read_probes(training.folder)
    return f" · kNN {probes[-1].knn:.3f}" if probes else ""


def _speed(training: Training) -> str:
    speeds = read_speeds(training.folder)
    return f" · {speeds[-1].samples_per_second:.0f} samples/s" if speeds else ""
