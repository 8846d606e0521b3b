"""Pairs of variants side by side: cost, scores with their tests, wins and losses.

Losses stand first everywhere: in the overview, in a table of their own, within each pair.
It must know nothing of HTML or Markdown, nor how a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reports import words
from reports.document import Part
from reports.pairs import VERDICT_ORDER, Difference, Pair, gain, regressions_first
from reports.table import SuiteResults, TaskInfo
from reports.tables import Cell, Table, blind_macs, without_empty_columns

_OPEN = 3
"""More pairs than this of one kind are folded."""
_KINDS = {
    "version": "later version",
    "scheme": "other token scheme",
    "recipe": "same scheme, later version",
    "pretraining": "other pretraining recipe",
    "trained longer": "later version, trained longer",
}
_HEADINGS = {
    "version": "Version against version, size by size",
    "scheme": "Another token scheme on the same version",
    "recipe": "The recipe alone: same scheme, later version",
    "pretraining": "Another recipe of pretraining against the one it departs from",
    "trained longer": "A later version that saw more samples, against the first version",
}
_TONES = {"worse": "bad", "better": "good"}


def side_by_side(results: SuiteResults, pairs: Sequence[Pair], growth: Part) -> Part:
    """The whole section; empty without pairs. ``growth`` is how cost grows with the input."""
    if not pairs:
        return Part("Side by side")
    kinds = [kind for kind in _HEADINGS if any(p.kind == kind for p in pairs)]
    return Part(
        "Side by side",
        paragraphs=(
            "What a later version, another token scheme or another recipe of pretraining changes. "
            "Cost: how many times fewer tokens and MACs the candidate needs than what it stands "
            "against. Scores: on how many tasks they are worse, not separated, or better, most "
            "losses first.",
        ),
        tables=(overview_table(pairs),),
        parts=(
            _regressions(results, pairs),
            *(_kind_part(results, kind, pairs) for kind in kinds),
            growth,
            _not_compared(pairs),
        ),
    )


def overview_table(pairs: Sequence[Pair]) -> Table:
    """Every pair: how many times fewer tokens and MACs, and how its scores fare."""
    columns = ("Candidate", "against", "Comparison", "Tokens", "MACs", "MACs, attention-blind")
    last = ("GFLOPs as published", "Worse", "after Holm", "Not separated", "Better")
    ordered = sorted(regressions_first(pairs), key=lambda p: list(_KINDS).index(p.kind))
    rows = tuple(
        (
            Cell(p.candidate, p.candidate),
            Cell(p.reference, p.reference),
            Cell(_KINDS[p.kind], p.kind, note=words.tier_note(p.tier)),
            Cell(words.ratio(p.token_ratio), p.token_ratio),
            Cell(words.ratio(p.macs_ratio), p.macs_ratio),
            Cell(words.ratio(p.macs_ratio_blind), p.macs_ratio_blind),
            Cell(words.ratio(p.published_ratio), p.published_ratio),
            _counted(p.count("worse"), "bad"),
            _counted(sum(d.is_significant and d.verdict == "worse" for d in p.differences), "bad"),
            _counted(p.count("not separated")),
            _counted(p.count("better"), "good"),
        )
        for p in ordered
    )
    return without_empty_columns(Table((*columns, *last), (False,) * 3 + (True,) * 8, rows))


def _counted(n: int, tone: str = "") -> Cell:
    return Cell(str(n), n, tone if n else "")


def _regressions(results: SuiteResults, pairs: Sequence[Pair]) -> Part:
    """Every task on which a candidate is worse, in one table; a sentence where there is none."""
    heading = "Regressions"
    found = [(p, d) for p in pairs for d in p.differences]
    if not found or all(d.verdict == "no interval" for _, d in found):
        return Part(
            heading, paragraphs=("Without intervals no regression can be told from noise.",)
        )
    worse = [(p, d) for p, d in found if d.verdict == "worse"]
    n = words.number(len(found), "comparison")
    if not worse:
        return Part(
            heading,
            paragraphs=(
                f"In none of {n} is the candidate worse beyond its 95% interval. That shows no "
                "regression; it does not show that there is none.",
            ),
        )
    tasks = {task.name: task for task in results.run.tasks}
    worse.sort(key=lambda pd: gain(pd[1].value, pd[1], tasks[pd[1].task]))
    rows = tuple(
        (Cell(p.candidate, p.candidate), Cell(p.reference, p.reference), *_cells(d, tasks))
        for p, d in worse
    )
    return Part(
        heading,
        paragraphs=(f"The candidate is worse beyond its 95% interval in {len(worse)} of {n}.",),
        tables=(without_empty_columns(_difference_table(("Candidate", "against"), rows)),),
    )


def _kind_part(results: SuiteResults, kind: str, pairs: Sequence[Pair]) -> Part:
    mine = regressions_first([p for p in pairs if p.kind == kind])
    folded = len(mine) > _OPEN or kind != "version"
    return Part(_HEADINGS[kind], parts=tuple(_pair_part(results, p, folded) for p in mine))


def _pair_part(results: SuiteResults, pair: Pair, folded: bool) -> Part:
    tables = (_cost_table(results, pair), difference_table(results, pair))
    return Part(
        f"{pair.size}: {pair.reference} → {pair.candidate}",
        paragraphs=(_tally(pair),),
        tables=tuple(t for t in tables if t.rows),
        folded=folded,
        about=(pair.reference, pair.candidate),
    )


def _tally(pair: Pair) -> str:
    """Wins, ties and losses in a sentence, and what the intervals are."""
    if not pair.differences:
        return "The two share no task."
    n = words.number(len(pair.differences), "task")
    if pair.count("no interval") == len(pair.differences):
        return f"Over {n}: differences without intervals, for lack of per-sample predictions."
    kept = sum(d.is_significant for d in pair.differences)
    tests = sorted({d.test for d in pair.differences} - {"none"})
    how = {
        "McNemar": "McNemar's exact test on the stored predictions",
        "paired bootstrap": "the paired bootstrap over test samples and seeds",
        "unpaired draws": "unpaired draws from the published intervals",
    }
    return (
        f"Over {n}: worse on {pair.count('worse')}, not separated on "
        f"{pair.count('not separated')}, better on {pair.count('better')}; {kept} of these "
        f"differences {'stands' if kept == 1 else 'stand'} after Holm's correction. p-values come "
        f"from {words.listed([how[test] for test in tests])}."
    )


def _cost_table(results: SuiteResults, pair: Pair) -> Table:
    """What one sample costs under each, and how many times fewer."""
    by_name = {row["variant"]: row for row in results.variants.to_dicts()}
    both = by_name[pair.reference], by_name[pair.candidate]
    facts: list[tuple[str, Callable[[Mapping[str, Any]], float | None], float | None]] = [
        ("Tokens", lambda row: row["tokens"], pair.token_ratio),
        ("MACs, attention included", lambda row: row["macs"], pair.macs_ratio),
        ("MACs, attention-blind", blind_macs, pair.macs_ratio_blind),
        ("of these MACs, in attention", _share_of_attention, None),
        ("GFLOPs as published", lambda row: row["published_gflops"], pair.published_ratio),
    ]
    rows = []
    for name, value, ratio in facts:
        old, new = (value(row) for row in both)
        if old is None and new is None:
            continue
        write = words.percent if "in attention" in name else words.quantity
        write = {"Tokens": words.count, "GFLOPs as published": words.gflops}.get(name, write)
        rows.append(
            (Cell(name), Cell(write(old), old), Cell(write(new), new), Cell(words.ratio(ratio)))
        )
    columns = ("Cost per sample", "Reference", "Candidate", "Times fewer")
    return Table(columns, (False, True, True, True), tuple(rows))


def _share_of_attention(row: Mapping[str, Any]) -> float | None:
    if not row["macs"] or row["macs_attention"] is None:
        return None
    return float(row["macs_attention"] / row["macs"])


def difference_table(results: SuiteResults, pair: Pair) -> Table:
    """A pair on every shared task, regressions first, the largest first."""
    tasks = {task.name: task for task in results.run.tasks}
    found = sorted(
        pair.differences,
        key=lambda d: (VERDICT_ORDER.index(d.verdict), gain(d.value, d, tasks[d.task])),
    )
    rows = tuple(tuple(_cells(d, tasks)) for d in found)
    return without_empty_columns(_difference_table((), rows))


def _difference_table(first: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...]) -> Table:
    columns = ("Task", "Difference", "95% interval", "p", "p (Holm)", "Verdict")
    numeric = (*[False] * (len(first) + 1), True, True, True, True, False, True, True)
    return Table((*first, *columns, "Reference scores", "Candidate scores"), numeric, rows)


def _cells(d: Difference, tasks: Mapping[str, TaskInfo]) -> list[Cell]:
    task = tasks[d.task]
    lower = "" if task.higher_is_better else ", lower is better"
    test = {"unpaired draws": "unpaired", "none": ""}.get(d.test, d.test)
    return [
        Cell(d.task, d.task, note=f"{task.origin} data, {task.metric_and_unit}{lower}"),
        Cell(words.signed(d.value), d.value),
        Cell(words.spans(d.interval, "signed"), d.interval.low if d.interval else None),
        Cell(words.p_value(d.p_value), d.p_value, note=test),
        Cell(words.p_value(d.p_adjusted), d.p_adjusted),
        Cell(d.verdict, VERDICT_ORDER.index(d.verdict), _TONES.get(d.verdict, "")),
        Cell(words.score(d.reference), d.reference),
        Cell(words.score(d.candidate), d.candidate),
    ]


def _not_compared(pairs: Sequence[Pair]) -> Part:
    return Part(
        "Not compared, for lack of a result of either",
        bullets=tuple(
            f"{p.candidate} against {p.reference}: {words.listed(p.not_compared)}"
            for p in pairs
            if p.not_compared
        ),
    )
