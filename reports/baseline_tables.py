"""Who beats the baselines and who does not, in sentences and tables.

The names of those that fail stand in the sentences. It must know nothing of how a margin is
computed (`reports.against_baselines`), nor of pages, HTML or Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports import words
from reports.against_baselines import (
    VERDICTS,
    AgainstBaselines,
    Margin,
    Mark,
    Standing,
    Verdict,
)
from reports.ranking import RankingTable
from reports.table import SuiteResults, TaskInfo
from reports.tables import (
    COST_COLUMNS,
    TASKS_BESIDE_THE_RANKS,
    Cell,
    Table,
    cost_cells,
    score_cells,
    score_tables,
    task_columns,
    without_empty_columns,
)

BEST, UNTRAINED = "the best baseline", "an untrained encoder of the same family"
BEGINNING = "the same encoder untrained"
_TASKS_TOLD = 3  # more than these are told all together
_TASKS_PER_TABLE = 4
_TONES: Mapping[Verdict, str] = {"beats": "good", "loses": "bad"}


def baseline_sentences(found: AgainstBaselines) -> list[str]:
    """Who beats the best baseline, and the names of those that do not."""
    return _sentences(found.baselines, BEST)


def untrained_sentences(found: AgainstBaselines) -> list[str]:
    """Which trained variants beat what they, or their family, are before training."""
    return _sentences(found.untrained, BEGINNING if found.own_beginning else UNTRAINED)


def _sentences(standings: Sequence[Standing], what: str) -> list[str]:
    judged = [s for s in standings if s.is_complete]
    if not judged:
        return []
    if all(s.on("no interval") == s.margins for s in judged):
        return [f"Without intervals nobody can say whether {what} is beaten."]
    failing = [s for s in judged if not s.beats_all]
    said = [_headline(judged, what)]
    if not failing:
        return [*said, _closest(judged)]
    tasks = _tasks(judged)
    if len(tasks) > _TASKS_TOLD:
        return [*said, _over_all(judged, failing, what)]
    return [*said, *(text for task in tasks if (text := _on_task(task, judged, what)))]


def _headline(judged: Sequence[Standing], what: str) -> str:
    n, tasks = len(judged), _tasks(judged)
    clear = sum(s.beats_all for s in judged)
    each, any_ = _each(tasks)
    if n == 1:
        won, of = len(judged[0].on("beats")), words.number(len(tasks), "task")
        name = judged[0].variant
        if not won:
            return f"{name} does not beat {what} {any_}."
        return f"{name} beats {what} {each if clear else f'on {won} of {of}'}."
    if clear == n:
        return f"{'Both' if n == 2 else f'All {n}'} variants beat {what} {each}."
    if not any(s.on("beats") for s in judged):
        who = "Neither of the two" if n == 2 else f"None of the {n}"
        return f"{who} variants beats {what} {any_}."
    return f"{clear or 'None'} of {n} variants beat{'s' * (clear < 2)} {what} {each}."


def _each(tasks: Sequence[TaskInfo]) -> tuple[str, str]:
    """``on both tasks`` and ``on either task``, for as many tasks as there are."""
    if len(tasks) == 1:
        name = words.clip(tasks[0].name, 60)
        return f"on {name}", f"on {name}"
    if len(tasks) == 2:
        return "on both tasks", "on either task"
    return f"on each of {len(tasks)} tasks", f"on any of {len(tasks)} tasks"


def _tasks(judged: Sequence[Standing]) -> list[TaskInfo]:
    found = {m.task.name: m.task for standing in judged for m in standing.margins}
    return list(found.values())


def _closest(judged: Sequence[Standing]) -> str:
    """The smallest margin, in units of its own interval: metrics differ between tasks."""
    every = [(s, m) for s in judged for m in s.margins]
    standing, margin = min(every, key=lambda sm: _distance(sm[1]))
    who = f"{standing.variant} on" if len(judged) > 1 else "on"
    return (
        f"Closest: {who} {words.clip(margin.task.name, 60)}, better than {margin.mark} by "
        f"{words.score(margin.gain)} (95% interval {words.spans(margin.gain_interval)})."
    )


def _distance(margin: Margin) -> float:
    spread = margin.gain_interval
    if spread is None or margin.gain == spread.low:
        return float("inf")
    return margin.gain / (margin.gain - spread.low)


def _on_task(task: TaskInfo, judged: Sequence[Standing], what: str) -> str:
    """Who fails on one task, and against what; empty where nobody does."""
    failing: dict[Verdict, list[str]] = {}
    marks = set()
    for standing in judged:
        for margin in standing.margins:
            if margin.task.name == task.name and margin.verdict != "beats":
                failing.setdefault(margin.verdict, []).append(standing.variant)
                marks.add(f"{margin.mark} ({words.score(margin.difference.reference)})")
    parts = _failures(failing, judged, marks.pop() if len(marks) == 1 else what)
    return f"On {words.clip(task.name, 60)}, {'; '.join(parts)}." if parts else ""


def _failures(
    failing: Mapping[Verdict, Sequence[str]], judged: Sequence[Standing], mark: str
) -> list[str]:
    """Phrases that name who loses to a mark and who cannot be told apart from it."""
    parts = []
    if names := failing.get("loses"):
        parts.append(f"{_who(names, judged)} lose{'s' * (len(names) == 1)} to {mark}")
    if names := failing.get("cannot be told apart"):
        from_ = "it" if parts else mark
        parts.append(f"{_who(names, judged)} cannot be told apart from {from_}")
    if names := failing.get("no interval"):
        parts.append(f"for {words.listed(names)} no interval is known")
    return parts


def _who(names: Sequence[str], judged: Sequence[Standing]) -> str:
    """Some of the judged; a single one has just been named."""
    if len(judged) == 1:
        return "it"
    return f"all {len(names)}" if len(names) == len(judged) > 2 else words.listed(names)


def _over_all(judged: Sequence[Standing], failing: Sequence[Standing], what: str) -> str:
    """Of many tasks: who fails over all of them, and who loses most."""
    over: dict[Verdict, list[str]] = {}
    for standing in judged:
        over.setdefault(standing.verdict, []).append(standing.variant)
    first = f"{len(over.get('beats', ()))} of {len(judged)} beat {what}"
    said = "; ".join([first, *_failures(over, judged, "it")])
    worst = max(failing, key=lambda s: len(s.on("loses")))
    lost = len(worst.on("loses"))
    most = f" Most losses: {worst.variant}, on {words.number(lost, 'task')}." if lost else ""
    return f"Over all tasks together {said}.{most}"


def standing_tables(standings: Sequence[Standing], best: Mapping[str, Mark] | None) -> list[Table]:
    """Margins of every variant, a few tasks per table; ``best`` heads the columns if shared.

    Without it every variant has marks of its own, and each cell names its mark.
    """
    tasks = _tasks(standings)
    size = TASKS_BESIDE_THE_RANKS if len(tasks) <= TASKS_BESIDE_THE_RANKS else _TASKS_PER_TABLE
    blocks = [tasks[i : i + size] for i in range(0, len(tasks), size)]
    return [
        _standing_table(standings, block, best, has_total=n == 0) for n, block in enumerate(blocks)
    ]


def _standing_table(
    standings: Sequence[Standing],
    tasks: Sequence[TaskInfo],
    best: Mapping[str, Mark] | None,
    has_total: bool,
) -> Table:
    heads = [
        f"{name}: better than {best[task.name].variant} ({words.score(best[task.name].score)}) by"
        if best
        else f"{name}: better by"
        for task in tasks
        for name in [words.clip(task.name, 40)]
    ]
    rows = []
    for standing in standings:
        by_task = {m.task.name: m for m in standing.margins}
        cells = [_margin_cell(by_task.get(task.name), names_mark=best is None) for task in tasks]
        total = [_total_cell(standing)] if has_total else []
        rows.append((Cell(standing.variant, standing.variant), *total, *cells))
    columns = ("Variant", *(["Over all tasks"] if has_total else []), *heads)
    numeric = (False, *([False] if has_total else []), *[True] * len(tasks))
    return Table(columns, numeric, tuple(rows))


def _short(verdict: Verdict) -> str:
    return "not told apart" if verdict == "cannot be told apart" else verdict


def _total_cell(standing: Standing) -> Cell:
    counts = {v: n for v in VERDICTS if (n := len(standing.on(v)))}
    told = ", ".join(f"{_short(verdict)} on {n}" for verdict, n in counts.items())
    if list(counts) == [standing.verdict]:
        told = f"on all {words.number(len(standing.margins), 'task')}"
    return Cell(
        _short(standing.verdict),
        VERDICTS.index(standing.verdict),
        _TONES.get(standing.verdict, ""),
        told if standing.is_complete else f"incomplete; {told}",
    )


def _margin_cell(margin: Margin | None, names_mark: bool) -> Cell:
    if margin is None:
        return Cell("missing", None, "muted")
    spread = margin.gain_interval
    note = _short(margin.verdict)
    note += f", {words.spans(spread, 'signed')}" if spread else ""
    note += f"; {margin.mark}" if names_mark else ""
    return Cell(words.signed(margin.gain), margin.gain, _TONES.get(margin.verdict, ""), note)


def mark_tables(results: SuiteResults, ranking: RankingTable) -> list[Table]:
    """What there is to beat: scores and costs, without ranks, which nobody asks of a mark."""
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    beside = len(ranking.tasks) <= TASKS_BESIDE_THE_RANKS
    tasks = ranking.tasks if beside else ()
    lines = []
    for entry in ranking.entries:
        if entry.scores:
            scores = score_cells(tasks, entry.scores)
            name = Cell(entry.variant, entry.variant)
            lines.append((name, *scores, *cost_cells(rows[entry.variant])))
    if not lines:
        return []
    columns = ("Variant", *task_columns(tasks), *COST_COLUMNS)
    numeric = (False, *[True] * (len(columns) - 2), False)
    table = without_empty_columns(Table(columns, numeric, tuple(lines)))
    return [table, *score_tables(ranking)]
