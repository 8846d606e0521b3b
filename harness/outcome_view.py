"""What a finished run says in the terminal: rankings, baselines, what was not run, the time.

Numbers come ready-made from `reports` and `harness`; nothing is computed here. It must
know nothing of how cells run or where results are kept.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.run import Outcome
from harness.terminal import Name
from reports.absences import absences
from reports.against_baselines import AgainstBaselines, against_baselines, is_mark_only
from reports.baseline_tables import baseline_sentences, untrained_sentences
from reports.ranking import BASELINE, IncompleteVariant, RankedVariant, RankingTable, Score, rank
from reports.resampling import Interval, bootstrap
from reports.table import SuiteResults, TaskInfo
from reports.words import NO_VALUE, count, number, quantity

_BASELINES = "BASELINES (nothing trained)"
_NAME_WIDTH = 22  # what five scores leave of 80 columns
_TASKS_BESIDE_THE_RANKS, _TASKS_PER_TABLE = 3, 5
_HEADING_WIDTH, _LONGEST_WORD = 10, 12
_SMALL_PRINT = (
    "ties: groups that these data cannot tell apart; 1 is the best and all that tie with it. "
    "Small print: 95% intervals, paired bootstrap. MACs: per sample, with attention."
)


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
    if table.trained_on:
        first.caption = f"Trained by this project at small scale on {escape(table.trained_on)}."
        first.caption_justify = "left"
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
) -> tuple[list[Name], Table]:
    """Names in short, and a table whose first column they are to stand in."""
    families = {str(rows[entry.variant]["family"]) for entry in entries}
    # What all have in common says nothing in every row, and 80 columns are few.
    start = f"{families.pop()}-" if len(families) == 1 else ""
    end = f"@{table.tiers[0]}" if len(table.tiers) == 1 else ""
    # A recipe stands in a line of its own, beside the intervals: what is left fits the column.
    names = [
        Name(e.variant.removeprefix(start).removesuffix(end).replace("@", "\n@", 1))
        for e in entries
    ]
    width = max(
        (len(line) for name in names if "\n" in name.text for line in name.text.splitlines()),
        default=0,
    )
    shown = Table(title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    # A name too long for its column goes on in the next line: half a name is none.
    heading = start.removesuffix("-") or "variant"
    shown.add_column(heading, overflow="fold", min_width=min(max(14, width), _NAME_WIDTH))
    return names, shown


def _scores(entry: Entry, tasks: Sequence[TaskInfo]) -> list[str]:
    return [_score(entry.scores.get(task.name)) for task in tasks]


def _place(entry: Entry) -> list[str]:
    if isinstance(entry, IncompleteVariant):
        return ["incom-\nplete", ""]
    average = _with_interval(f"{entry.average_rank:.2f}", entry.interval, 1)
    return [average, str(entry.significance_tier or "")]


def _heading(task: TaskInfo) -> str:
    """A task's name in lines as short as its scores: the part that is cut may tell two apart."""
    lines = [""]
    for word in re.findall(r"[^-]+-?|-", task.name):
        for part in textwrap.wrap(word, _LONGEST_WORD, break_on_hyphens=False) or [word]:
            if lines[-1] and len(lines[-1]) + len(part) > _HEADING_WIDTH:
                lines.append("")
            lines[-1] += part
    return escape("\n".join(lines))


def _with_interval(value: str, interval: Interval | None, digits: int) -> str:
    if interval is None:
        return value
    return f"{value}\n[dim]{interval.low:.{digits}f}–{interval.high:.{digits}f}[/]"


def _score(score: Score | None) -> str:
    return "–" if score is None else _with_interval(f"{score.value:.3f}", score.interval, 2)


def _cost(row: dict[str, object]) -> list[str]:
    tokens, macs = row["tokens"], row["macs"]
    return [
        NO_VALUE if tokens is None else count(float(str(tokens))),
        NO_VALUE if macs is None else quantity(float(str(macs))),
    ]


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


def show_remade(console: Console, outcome: Outcome) -> None:
    """Damage is repaired, and still somebody's to look into."""
    if not outcome.remade:
        return
    count = len(outcome.remade)
    what = "1 stored embedding was" if count == 1 else f"{count} stored embeddings were"
    console.print(
        f"[yellow]{what} damaged (the file is not what its hash says) and made again: "
        f"{', '.join(key[:16] for key in outcome.remade)}. If that happens more often, look at the "
        "store's disk.[/]",
        soft_wrap=True,
        highlight=False,
    )


def show_time(console: Console, outcome: Outcome) -> None:
    """Where the time went; a run that computed nothing has nothing to tell."""
    seconds = outcome.seconds
    if not outcome.computed:
        console.print(f"Nothing to compute; done in {seconds.total:.1f} s.")
        return
    cells = number(outcome.computed, "cell")
    if seconds.workers:  # theirs went by at the same time
        console.print(
            f"{cells} in {seconds.total:.0f} s; workers spent "
            f"{seconds.encoder:.0f} s on encoders and {seconds.probe:.0f} s on probes."
        )
        return
    rest = seconds.total - seconds.encoder - seconds.probe
    console.print(
        f"{cells} in {seconds.total:.0f} s: encoders {seconds.encoder:.0f} s, "
        f"probes {seconds.probe:.0f} s, everything else {rest:.1f} s "
        f"({100 * rest / seconds.total:.0f}%)."
    )
    expected = outcome.expected
    if expected is not None and expected.cells == outcome.computed:
        work = seconds.encoder + seconds.probe
        console.print(
            f"tokenrank plan had expected {expected.seconds:.0f} s of encoders and probes; it was "
            f"{work:.0f} s."
        )
