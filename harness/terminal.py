"""What a person sees in the terminal: progress, tables, the banner, the last lines.

Numbers come ready-made from `reports` and `harness`; nothing is computed here. It must
know nothing of how cells run or where results are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from reports.absences import absences
from reports.against_baselines import AgainstBaselines, against_baselines, is_mark_only
from reports.baseline_tables import baseline_sentences, untrained_sentences
from reports.ranking import IncompleteVariant, RankedVariant, RankingTable, Score, rank
from reports.resampling import Interval, bootstrap
from reports.table import SuiteResults, TaskInfo
from reports.words import NO_VALUE

_BASELINES = "BASELINES (nothing trained)"
_TASKS_BESIDE_THE_RANKS, _TASKS_PER_TABLE = 3, 5
_SMALL_PRINT = (
    "ties: groups that these data cannot tell apart; 1 is the best and all that tie with it. "
    "Small print: 95% intervals, paired bootstrap. MACs: per sample, with attention."
)


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
    tiers = sorted({cell.weights.tier for cell in plan.cells})
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


def ranking_tables(table: RankingTable, results: SuiteResults) -> list[Table]:
    """One ranking as rich tables, 80 columns wide; origin and tier stand in the first's title.

    Baselines have scores and costs, but no rank: they are there to be beaten. Variants of
    which nothing was run have no row. Of many tasks the scores follow in tables of their own.
    """
    rows = {row["variant"]: row for row in results.variants.iter_rows(named=True)}
    entries = [entry for entry in table.entries if entry.scores]
    if not entries:
        return []
    has_ranks = BASELINE not in table.tiers
    beside = table.tasks if len(table.tasks) <= _TASKS_BESIDE_THE_RANKS else ()
    names, first = _named_table(table, entries, rows)
    weights = f"{' + '.join(table.tiers).upper()} weights" if has_ranks else _BASELINES
    first.title = title = f"{weights} · {table.origin.upper()} data"
    first.min_width = len(title)
    headings = ["average\nrank", "ties"] if has_ranks else []
    for heading in (*headings, *map(_heading, beside), "tokens", "MACs"):
        first.add_column(heading, justify="right", no_wrap=True)
    for entry, name in zip(entries, names, strict=True):
        place = _place(entry) if has_ranks else []
        first.add_row(name, *place, *_scores(entry, beside), *_cost(rows[entry.variant]))
    further = []
    for i in range(len(beside), len(table.tasks), _TASKS_PER_TABLE):
        tasks = table.tasks[i : i + _TASKS_PER_TABLE]
        _, scores = _named_table(table, entries, rows)
        for task in tasks:
            scores.add_column(_heading(task), justify="right", no_wrap=True)
        for entry, name in zip(entries, names, strict=True):
            scores.add_row(name, *_scores(entry, tasks))
        further.append(scores)
    return [first, *further]


Entry = RankedVariant | IncompleteVariant


def _named_table(
    table: RankingTable, entries: Sequence[Entry], rows: Mapping[str, Mapping[str, object]]
) -> tuple[list[str], Table]:
    """Names in short, and a table whose first column they are to stand in."""
    families = {str(rows[entry.variant]["family"]) for entry in entries}
    # What all have in common says nothing in every row, and 80 columns are few.
    start = f"{families.pop()}-" if len(families) == 1 else ""
    end = f"@{table.tiers[0]}" if len(table.tiers) == 1 else ""
    names = [escape(e.variant.removeprefix(start).removesuffix(end)) for e in entries]
    shown = Table(title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    # A name too long for its column goes on in the next line: half a name is none.
    shown.add_column(start.removesuffix("-") or "variant", overflow="fold", min_width=14)
    return names, shown


def _scores(entry: Entry, tasks: Sequence[TaskInfo]) -> list[str]:
    return [_score(entry.scores.get(task.name)) for task in tasks]


def _place(entry: Entry) -> list[str]:
    if isinstance(entry, IncompleteVariant):
        return ["incom-\nplete", ""]
    average = _with_interval(f"{entry.average_rank:.2f}", entry.interval, 1)
    return [average, str(entry.significance_tier or "")]


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
    tokens, macs = row["tokens"], row["macs"]
    return [
        NO_VALUE if tokens is None else f"{tokens:g}",
        NO_VALUE if macs is None else si(float(str(macs))),
    ]


def si(value: float) -> str:
    """A large count with three significant digits and its SI prefix: 1.21 G."""
    for factor, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def show_outcome(console: Console, outcome: Outcome) -> None:
    """The ranking, who does not beat the baselines, what was not run, and where the report is."""
    results = outcome.results
    scores = bootstrap(results)
    rankings = rank(results, scores=scores)
    for table in rankings:
        for shown in ranking_tables(table, results):
            console.print(shown)
    if any(table.ranked for table in rankings):
        console.print(_SMALL_PRINT, style="dim")
    asked = [table for table in rankings if not is_mark_only(results, table)]
    show_standings(console, against_baselines(results, asked, scores))
    for table in rankings:
        for absence in absences(results, table):
            console.print(absence.sentence, style="yellow", highlight=False, markup=False)
    place = f"Report: {outcome.report / 'report.html'}"
    console.print(place, soft_wrap=True, highlight=False, markup=False)


def show_standings(console: Console, found: Sequence[AgainstBaselines]) -> None:
    """Whether the baselines are beaten; names of tiers and origins where several are judged."""
    for entry in found:
        ranking = entry.ranking
        where = f" ({' + '.join(ranking.tiers)} weights, {ranking.origin} data)"
        said = [*baseline_sentences(entry), *untrained_sentences(entry)]
        heading = f"Baselines{where if len(found) > 1 else ''}: "
        if said:
            console.print(heading + " ".join(said), highlight=False, markup=False)


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
