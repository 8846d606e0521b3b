"""What a person sees in the terminal while something runs: the banner and progress; plain tables.

It must know nothing of how cells run, where results are kept, or how they are ranked: what a
run comes to is told by `harness.outcome_view`, and statistics take a second to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from harness.entrants import BASELINE
from harness.executors.board import WorkerNote
from harness.plan import Cell, Plan, left_out_sentences, shown_name

_WORKER_BARS = 16  # a screen holds no more


class TerminalWatcher:
    """Shows a run as it goes: one bar over the cells, one for the stage in work."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._cells = self._bars.add_task("cells", total=None, visible=False)
        self._stage = self._bars.add_task("", total=None, visible=False)
        self._workers: dict[str, TaskID] = {}
        self._plan: Plan | None = None

    def __enter__(self) -> TerminalWatcher:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def planned(self, plan: Plan, to_do: list[Cell]) -> None:
        """Say what data and weights are used, before anything is computed."""
        self._plan = plan
        self.console.print(banner(plan))
        total = len({cell.key for cell in plan.cells})
        if len(to_do) < total:
            self.console.print(f"{total - len(to_do)} of {total} cells are already in the store.")
        self._bars.update(self._cells, total=len(to_do), visible=bool(to_do))

    def started(self, cell: Cell) -> None:
        """Name the cell that begins."""
        self._bars.update(self._cells, description=self._label(cell))
        self._bars.update(self._stage, visible=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the bar of the stage in work."""
        self._bars.update(
            self._stage, description=f"  {what}", completed=done, total=total, visible=True
        )

    def finished(self, cell: Cell, score: float) -> None:
        """One line per finished cell; the bars stay below."""
        self._bars.advance(self._cells)
        self.console.print(
            f"[green]✓[/] {self._label(cell)}: {cell.task.metric} {score:.3f}", highlight=False
        )

    def broken(self, cell: Cell, reason: str) -> None:
        """One line for a cell that is given up."""
        self._bars.advance(self._cells)
        self.console.print(
            f"[red]✗[/] {self._label(cell)}: {escape(reason)}", highlight=False, soft_wrap=True
        )

    def retried(self, cells: list[Cell], reason: str) -> None:
        """One line where cells start again."""
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        self.console.print(
            f"[yellow]↻[/] {self._label(cells[0])}{more}: again, because {escape(reason)}",
            highlight=False,
            soft_wrap=True,
        )

    def workers(self, notes: list[WorkerNote]) -> None:
        """A bar for each worker, and none for those that have gone."""
        shown = notes[:_WORKER_BARS]
        for gone in self._workers.keys() - {note.worker for note in shown}:
            self._bars.remove_task(self._workers.pop(gone))
        for note in shown:
            if note.worker not in self._workers:
                self._workers[note.worker] = self._bars.add_task("")
            self._bars.update(
                self._workers[note.worker],
                description=f"  {escape(note.what)}: {note.stage or 'begins'}",
                completed=note.done,
                total=note.total or None,
            )

    def _label(self, cell: Cell) -> str:
        name = shown_name(self._plan, cell) if self._plan else cell.variant.name
        return f"{escape(name)} · {cell.task.name} · seed {cell.seed}"


def banner(plan: Plan) -> Panel:
    """Data and weights of a run, in words that nobody can miss."""
    lines = []
    simulated = False
    for dataset in plan.datasets.values():
        card = dataset.card
        simulated = simulated or card.origin == "simulated"
        lines.append(f"Data: [bold]{card.origin.upper()}[/] · {escape(card.title)} ({card.name})")
        lines += [f"  {escape(note)}" for note in card.notes]
    lines += [escape(sentence) for sentence in left_out_sentences(plan)]
    tiers = sorted({cell.weights.tier for cell in plan.cells})
    words = {
        "random": "RANDOM (untrained, seeded)",
        "official": "OFFICIAL",
        "study": f"STUDY (trained by this project at small scale{_trained_on(plan)})",
        BASELINE: "baselines (nothing trained)",
    }
    lines.append(f"Weights: [bold]{', '.join(words[tier] for tier in tiers)}[/]")
    sizes = sorted({str(task.patch_size) for task in plan.suite.tasks})
    seeds = ", ".join(str(seed) for seed in plan.suite.seeds)
    lines.append(f"Patch size {' and '.join(sizes)} pixels; seeds {seeds}")
    if simulated:
        lines.append(
            "[bold]These are not real images. Set TOKENRANK_DATA or --data-dir to a folder that "
            "holds real data (tokenrank data list) to use real ones.[/]"
        )
    colour = "yellow" if simulated or {"random", "study"} & set(tiers) else "green"
    return Panel("\n".join(lines), title=escape(plan.suite.title), border_style=colour)


def _trained_on(plan: Plan) -> str:
    """On which images the plan's study weights were trained."""
    cards = [cell.weights.card for cell in plan.cells if cell.weights.card is not None]
    data = dict.fromkeys(
        f"{card.data.count:,} {card.data.origin} images: {escape(card.data.title)}"
        for card in cards
    )
    return f" on {' and '.join(data)}" if data else ""


@dataclass(frozen=True)
class Name:
    """A name in a table, as it is: too long for its column, it goes on below from a joint."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From its longest part to its longest line."""
        parts = (cell_len(part) for line in self.text.splitlines() for part in _parts(line))
        lines = map(cell_len, self.text.splitlines())
        most = options.max_width
        return Measurement(min(max(parts, default=0), most), min(max(lines, default=0), most))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many lines as it needs."""
        lines: list[str] = []
        for given in self.text.splitlines():
            lines.append("")
            for part in _parts(given):
                if lines[-1] and cell_len(lines[-1] + part) > options.max_width:
                    lines.append("")
                lines[-1] += part
        yield Text("\n".join(lines), overflow="fold")


def _parts(name: str) -> list[str]:
    """What stays in one piece, the joint at its end: ``olmoearth-``, ``v1-``, ``nano:``."""
    return re.findall(r"[^-_:,@/]*[-_:,@/]+|[^-_:,@/]+", name)


def plain_table(
    headers: Sequence[str], rows: Iterable[Sequence[str | Name]], numeric: int = 99
) -> Table:
    """A table whose columns from ``numeric`` on are numbers: right-aligned and never cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        is_number = i >= numeric
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(header, justify=justify, no_wrap=is_number or i == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
