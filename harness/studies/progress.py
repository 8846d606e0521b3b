"""Launched trainings in one display: a bar each, read from what they log, and one over all.

It must not know how trainings are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.launching.launch import Launch
from harness.pretraining.folder import read_speeds
from harness.pretraining.watching import read_probes
from harness.studies.trainings import State
from models.pretraining.checkpoint import HISTORY, read_history


class LaunchProgress:
    """Bars of samples; a line that stays for every training that ends. ``states``: by key."""

    def __init__(self, console: Console, states: Mapping[str, State]) -> None:
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
        self._seen = {key: state.samples for key, state in states.items()}
        self._all = self._bars.add_task("all trainings", total=total, samples="", said="")
        self._tasks: dict[str, TaskID] = {}
        self._read: dict[Path, int] = {}
        self._move_all()

    def __enter__(self) -> LaunchProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, launch: Launch) -> None:
        """A bar of its own; where there is no terminal, a line."""
        state = self._states[launch.key]
        self._tasks[launch.key] = self._bars.add_task(
            escape(launch.title),
            total=state.total,
            completed=state.samples,
            samples=f"{state.samples:,}",
            said="",
        )
        if not self.console.is_terminal:
            begun = f" after {state.samples:,} samples" if state.samples else ""
            self.console.print(f"{escape(launch.title)} begins{begun}.", highlight=False)

    def running(self, launch: Launch) -> None:
        """Move its bar to what it has logged."""
        path = launch.folder / HISTORY
        size = path.stat().st_size if path.exists() else 0
        if size == self._read.get(path):
            return
        self._read[path] = size
        history = read_history(launch.folder)
        if not history:
            return
        last = history[-1]
        self._bars.update(
            self._tasks[launch.key],
            completed=last.samples,
            samples=f"{last.samples:,}",
            said=f"loss {last.loss:.3f}{_speed(launch)}{_knn(launch)}",
        )
        self._seen[launch.key] = last.samples
        self._move_all()

    def ended(self, launch: Launch, failure: str | None) -> None:
        """A line that stays."""
        self.running(launch)
        self._bars.remove_task(self._tasks.pop(launch.key))
        if failure is not None:
            self.console.print(
                f"[red]✗[/] {escape(launch.title)}: {escape(failure)}",
                highlight=False,
                soft_wrap=True,
            )
            return
        self._seen[launch.key] = self._states[launch.key].total or self._seen[launch.key]
        self._move_all()
        self.console.print(
            f"[green]✓[/] {escape(launch.title)}: {self._seen[launch.key]:,} samples{_knn(launch)}",
            highlight=False,
        )

    def retried(self, launch: Launch, reason: str) -> None:
        """A line that stays, too."""
        self.console.print(
            f"[yellow]↻[/] {escape(launch.title)}: again, because {escape(reason)}",
            highlight=False,
            soft_wrap=True,
        )

    def _move_all(self) -> None:
        done = sum(self._seen.values())
        self._bars.update(self._all, completed=done, samples=f"{done:,}")


def _knn(launch: Launch) -> str:
    probes = read_probes(launch.folder)
    return f" · kNN {probes[-1].knn:.3f}" if probes else ""


def _speed(launch: Launch) -> str:
    speeds = read_speeds(launch.folder)
    return f" · {speeds[-1].samples_per_second:.0f} samples/s" if speeds else ""
