"""`tokenrank compare`: what changes in cost, what in quality, and is it significant?

It shows what `harness.comparison` found, 80 columns wide, and ends with one plain sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.commands.measure import saved, writing
from harness.commands.views import latest_results
from harness.comparison import Compared, Comparison, CostChange, change_of, compare
from harness.regression.escaping import log_line
from harness.store_place import open_store
from reports.against_baselines import against_baselines
from reports.io import as_json, write_whole
from reports.pairs import Difference
from reports.ranking import rank
from reports.resampling import RESAMPLES, bootstrap
from reports.significance import ALPHA
from reports.table import SuiteResults, TaskInfo
from reports.words import listed, number, quantity, score, signed, status

_COST_NAMES = {
    "tokens": "tokens",
    "macs": "MACs",
    "macs_attention": "  of them attention",
    "macs_blind": "  without attention",
    "params": "parameters",
}
_COLOURS = {"better": "green", "worse": "red", "not separated": "dim", "no interval": "yellow"}
_TESTS = {
    "McNemar": "exact McNemar test on the same samples",
    "paired bootstrap": "paired bootstrap over samples and seeds",
    "unpaired draws": "unpaired, from published intervals alone",
}


def compare_command(
    reference: str,
    candidate: str,
    *,
    suite: str | None,
    store: str,
    results: Path | None,
    json_file: Path | None,
) -> None:
    """Compare two variants or versions of a finished run, or of saved results, and show it."""
    table = latest_results(open_store(store), suite) if results is None else saved(results)
    comparison = compare(table, reference, candidate)
    show(Console(), comparison, baselines_words(table, comparison))
    if json_file is not None:
        with writing(json_file):
            write_whole(json_file, as_json(asdict(comparison)))


def show(console: Console, comparison: Comparison, beaten: str = "") -> None:
    """Everything, in the order of the questions: on what, at what cost, how good, so what.

    ``beaten`` says who beats the baselines, where any took part.
    """
    tasks = {task.name: task for task in comparison.tasks}
    for i, pair in enumerate(comparison.pairs):
        if i:
            console.rule(style="dim")
        _say(console, f"{pair.reference} -> {pair.candidate}", "bold")
        for line in _measured_on(pair, tasks, comparison.trained_on):
            _say(console, line, "yellow")
        console.print(_cost_table(pair))
        if pair.differences:
            console.print(_quality_table(pair, tasks))
        if pair.not_compared:
            _say(console, f"Not compared, a result is missing: {listed(pair.not_compared)}.")
    if comparison.unpaired:
        _say(console, f"Without a partner of the same size: {listed(comparison.unpaired)}.")
    for line in _small_print(comparison):
        _say(console, line, "dim")
    if beaten:
        _say(console, beaten)
    _say(console, conclusion(comparison), "bold")


def baselines_words(results: SuiteResults, comparison: Comparison) -> str:
    """Which of the compared variants beat the best baseline; empty where there was none."""
    compared = {name for pair in comparison.pairs for name in (pair.reference, pair.candidate)}
    scores = bootstrap(results)
    found = against_baselines(results, rank(results, scores=scores), scores)
    standings = [s for entry in found for s in entry.baselines if s.variant in compared]
    said = [
        f"{standing.variant} beats the best baseline on {len(standing.on('beats'))} of "
        f"{number(len(standing.margins), 'task')}"
        for standing in standings
    ]
    return f"{'; '.join(said)}." if said else ""


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(log_line(text), style=style, highlight=False, markup=False)


def _measured_on(pair: Compared, tasks: Mapping[str, TaskInfo], images: str) -> list[str]:
    tiers = tuple(dict.fromkeys(pair.tiers))
    origins = {tasks[d.task].origin: None for d in pair.differences}
    lines = [f"{status(tiers, origin, images)}." for origin in origins]
    if len(tiers) > 1:
        lines.append(
            f"{pair.reference} has {tiers[0]} weights and {pair.candidate} {tiers[1]} ones: their "
            "scores differ by more than their design."
        )
    return lines


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False)


def _cost_table(pair: Compared) -> Table:
    shown = _table()
    shown.add_column("cost per sample")
    for name in (pair.reference, pair.candidate):
        heading = escape(log_line(name)).replace(":", "\n:")
        shown.add_column(heading, justify="right", overflow="fold")
    shown.add_column("change", justify="right", no_wrap=True)
    for cost in pair.costs:
        shown.add_row(
            _COST_NAMES[cost.name],
            quantity(cost.reference),
            quantity(cost.candidate),
            _change(cost),
        )
    return shown


def _change(cost: CostChange) -> str:
    ratio = cost.ratio
    if ratio is None:
        return "unknown"
    if abs(ratio - 1) < 0.0005:
        return "the same"
    factor, word = (ratio, "fewer") if ratio > 1 else (1 / ratio, "more")
    return f"{factor:.2f}x {word}"


def _quality_table(pair: Compared, tasks: Mapping[str, TaskInfo]) -> Table:
    shown = _table()
    shown.add_column("task", overflow="fold")
    for name in ("before", "after", "difference\n95% interval", "p\nHolm"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for found in pair.differences:
        task = tasks[found.task]
        change = change_of(found, task.higher_is_better)
        shown.add_row(
            f"{escape(log_line(found.task))}\n[dim]{escape(log_line(task.metric_and_unit))}[/]",
            score(found.reference),
            score(found.candidate),
            _with_interval(found),
            f"{_p(found.p_value)}\n{_p(found.p_adjusted)}",
            f"[{_COLOURS[change]}]{change}[/]",
        )
    return shown


def _with_interval(found: Difference) -> str:
    if found.interval is None:
        return signed(found.value)
    low, high = signed(found.interval.low), signed(found.interval.high)
    return f"{signed(found.value)}\n[dim]{low} to {high}[/]"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _small_print(comparison: Comparison) -> list[str]:
    tests: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        for found in pair.differences:
            if found.test != "none":
                tests.setdefault(found.test, []).append(found.task)
    lines = [
        f"p: {_TESTS[test]} ({listed(list(dict.fromkeys(names)))})."
        for test, names in tests.items()
    ]
    if comparison.tests:
        lines.append(
            f"Holm: corrected for the {number(comparison.tests, 'test')} of this comparison; the "
            f"verdict holds at {ALPHA:.0%}. The intervals are not corrected."
        )
    if "paired bootstrap" in tests and 2 * comparison.tests / (RESAMPLES + 1) >= ALPHA:
        lines.append(
            f"Over so many tests no p-value from {RESAMPLES:,} draws can withstand the correction: "
            "compare fewer sizes at once, or read the intervals."
        )
    if any(d.p_value is None for pair in comparison.pairs for d in pair.differences):
        lines.append("no interval: neither predictions nor an interval are known for that score.")
    return lines


def conclusion(comparison: Comparison) -> str:
    """The last sentence: cost, then quality, then what it was measured on if that matters."""
    tasks = {task.name: task for task in comparison.tasks}
    single = comparison.pairs[0] if len(comparison.pairs) == 1 else None
    reference, candidate = (
        (single.reference, single.candidate) if single is not None else comparison.asked
    )
    parts = [_cost_words(comparison.pairs), _quality_words(comparison.pairs, tasks)]
    said = f"{candidate} against {reference}: {parts[0]}; {parts[1]}"
    origins = {tasks[d.task].origin for pair in comparison.pairs for d in pair.differences}
    tiers = {tier for pair in comparison.pairs for tier in pair.tiers}
    doubts = ["simulated data"] if "simulated" in origins else []
    doubts += ["untrained weights"] if "random" in tiers else []
    return f"{said} ({' and '.join(doubts)})." if doubts else f"{said}."


def _cost_words(pairs: Sequence[Compared]) -> str:
    ratios = [r for pair in pairs if (r := pair.cost("macs").ratio) is not None]
    if not ratios:
        return "its cost is unknown"
    low, high = min(ratios), max(ratios)
    if low > 0.9995 and high < 1.0005:
        return "the same MACs"
    if low >= 0.9995:
        return f"{_range(low, high)} fewer MACs"
    if high <= 1.0005:
        return f"{_range(1 / high, 1 / low)} more MACs"
    return f"between {1 / low:.2f}x more and {high:.2f}x fewer MACs, by size"


def _range(low: float, high: float) -> str:
    ends = f"{low:.2f}x", f"{high:.2f}x"
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _quality_words(pairs: Sequence[Compared], tasks: Mapping[str, TaskInfo]) -> str:
    counted: dict[str, list[str]] = {}
    for pair in pairs:
        for found in pair.differences:
            name = found.task if len(pairs) == 1 else f"{pair.candidate} on {found.task}"
            change = change_of(found, tasks[found.task].higher_is_better)
            counted.setdefault(change, []).append(name)
    total = sum(map(len, counted.values()))
    if not total:
        return "no task has results of both"
    what = "tasks" if len(pairs) == 1 else "pairs of variant and task"
    said = [
        f"{word} on {len(names)} ({listed(names, 3)})"
        for word in ("worse", "better")
        if (names := counted.get(word))
    ]
    if not said:
        said = ["neither better nor worse beyond chance on any"]
    elif counted.get("not separated"):
        said.append(f"not separated on {len(counted['not separated'])}")
    unknown = counted.get("no interval")
    if unknown:
        said.append(f"not testable on {len(unknown)}")
    return f"{', '.join(said)} of {total} {what}"
