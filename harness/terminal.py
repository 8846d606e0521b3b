"""What a person sees in the terminal: progress, tables, the banner, the last lines.

Numbers come ready-made from `reports` and `harness`; nothing is computed here. It must
know nothing of how cells run or where results are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from harness.plan import Cell, Plan
from harness.run import Outcome
from harness.suite import BASELINE
from reports.ranking import RankingTable, Score, rank
from reports.resampling import Interval
from reports.table import SuiteResults, TaskInfo


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

    def __enter__(self) -> TerminalWatcher:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def planned(self, plan: Plan, to_do: list[Cell]) -> None:
        """Say what data and weights are used, before anything is computed."""
        self.console.print(banner(plan))
        total = len({cell.key for cell in plan.cells})
        if len(to_do) < total:
            self.console.print(f"{total - len(to_do)} of {total} cells are already in the store.")
        self._bars.update(self._cells, total=len(to_do), visible=bool(to_do))

    def started(self, cell: Cell) -> None:
        """Name the cell that begins."""
        label = f"{escape(cell.variant.name)} · {cell.task.name} · seed {cell.seed}"
        self._bars.update(self._cells, description=label)
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
            f"[green]✓[/] {escape(cell.variant.name)} · {cell.task.name} · seed {cell.seed}: "
            f"{cell.task.metric} {score:.3f}",
            highlight=False,
        )


def banner(plan: Plan) -> Panel:
    """Data and weights of a run, in words that nobody can miss."""
    lines = []
    simulated = False
    for dataset in plan.datasets.values():
        card = dataset.card
        simulated = simulated or card.origin == "simulated"
        lines.append(f"Data: [bold]{card.origin.upper()}[/] · {escape(card.title)} ({card.name})")
        lines += [f"  {escape(note)}" for note in card.notes]
    tiers = sorted({entrant.tier for entrant in plan.suite.entrants})
    untrained = "random" in tiers
    words = {
        "random": "RANDOM (untrained, seeded)",
        "official": "OFFICIAL",
        "study": "STUDY",
        BASELINE: "baselines (nothing trained)",
    }
    lines.append(f"Weights: [bold]{', '.join(words[tier] for tier in tiers)}[/]")
    sizes = sorted({str(task.patch_size) for task in plan.suite.tasks})
    seeds = ", ".join(str(seed) for seed in plan.suite.seeds)
    lines.append(f"Patch size {' and '.join(sizes)} pixels; seeds {seeds}")
    if simulated:
        lines.append(
            "[bold]These are not real images. Set TOKENRANK_DATA or --data-dir to a folder that "
            "holds EuroSAT-MS to use real ones.[/]"
        )
    colour = "yellow" if simulated or untrained else "green"
    return Panel("\n".join(lines), title=escape(plan.suite.title), border_style=colour)


def ranking_table(table: RankingTable, results: SuiteResults) -> Table:
    """One ranking as a rich table, 80 columns wide; origin and tier stand in its title."""
    rows = {row["variant"]: row for row in results.variants.iter_rows(named=True)}
    families = {row["family"] for row in rows.values()}
    # One family's name says nothing in every row, and 80 columns are few.
    shared = f"{families.pop()}-" if len(families) == 1 else ""
    title = f"{' + '.join(table.tiers).upper()} weights · {table.origin.upper()} data"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column(shared.removesuffix("-") or "variant", no_wrap=True)
    shown.add_column("average\nrank", justify="right", no_wrap=True)
    shown.add_column("ties", justify="right", no_wrap=True)
    for task in table.tasks:
        shown.add_column(_heading(task), justify="right", no_wrap=True)
    for name in ("tokens", "MACs"):
        shown.add_column(name, justify="right", no_wrap=True)
    for entry in table.ranked:
        ties = str(entry.significance_tier or "")
        rank_cell = _with_interval(f"{entry.average_rank:.2f}", entry.interval, 1)
        scores = [_score(entry.scores.get(task.name)) for task in table.tasks]
        name = entry.variant.removeprefix(shared)
        shown.add_row(name, rank_cell, ties, *scores, *_cost(rows[entry.variant]))
    for missing in table.incomplete:
        scores = [_score(missing.scores.get(task.name)) for task in table.tasks]
        name = missing.variant.removeprefix(shared)
        shown.add_row(name, "incom-\nplete", "", *scores, *_cost(rows[missing.variant]))
    return shown


def _heading(task: TaskInfo) -> str:
    first, dash, last = task.name.rpartition("-")
    return f"{first}{dash}\n{last}"


def _with_interval(value: str, interval: Interval | None, digits: int) -> str:
    if interval is None:
        return value
    return f"{value}\n[dim]{interval.low:.{digits}f}–{interval.high:.{digits}f}[/]"


def _score(score: Score | None) -> str:
    return "–" if score is None else _with_interval(f"{score.value:.3f}", score.interval, 2)


def _cost(row: dict[str, object]) -> list[str]:
    return [f"{row['tokens']:g}", si(float(str(row["macs"])))]


def si(value: float) -> str:
    """A large count with three significant digits and its SI prefix: 1.21 G."""
    for factor, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def show_outcome(console: Console, outcome: Outcome) -> None:
    """The ranking, and where the report is."""
    for table in rank(outcome.results):
        console.print(ranking_table(table, outcome.results))
        console.print(
            "ties: groups that these data cannot tell apart; 1 is the best and all that tie with "
            "it. Small print: 95% intervals, paired bootstrap. MACs: per sample, with attention.",
            style="dim",
        )
        for entry in table.incomplete:
            for reason in entry.lacks:
                said = f"  {entry.variant} is incomplete: {reason}"
                console.print(said, highlight=False, markup=False)
    place = f"Report: {outcome.report / 'report.html'}"
    console.print(place, soft_wrap=True, highlight=False, markup=False)


def show_time(console: Console, outcome: Outcome) -> None:
    """Where the time went; a run that computed nothing has nothing to tell."""
    seconds = outcome.seconds
    if not outcome.computed:
        console.print(f"Nothing to compute; done in {seconds.total:.1f} s.")
        return
    rest = seconds.total - seconds.encoder - seconds.probe
    console.print(
        f"{outcome.computed} cells in {seconds.total:.0f} s: encoders {seconds.encoder:.0f} s, "
        f"probes {seconds.probe:.0f} s, everything else {rest:.1f} s "
        f"({100 * rest / seconds.total:.0f}%)."
    )


def plain_table(headers: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 99) -> Table:
    """A table whose columns from ``numeric`` on are numbers: right-aligned and never cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        is_number = i >= numeric
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(header, justify=justify, no_wrap=is_number or i == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
