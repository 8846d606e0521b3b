"""What a report says, in order: a page model that the HTML and the Markdown template share.

Everything is a finished string here, so that the two pages cannot disagree. It must know
nothing of HTML, Markdown or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports import words
from reports.answer import answer, caveats
from reports.pairs import VERDICT_ORDER, Pair
from reports.ranking import RankingTable, Score
from reports.table import SuiteResults


@dataclass(frozen=True)
class Cell:
    """One table cell; ``key`` is what its column sorts by, ``tone`` how it is coloured."""

    text: str
    key: float | str | None = None
    tone: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; ``numeric`` columns align right."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A figure in both widths (SVG text), its file stem, and what it shows in words."""

    stem: str
    caption: str
    alt: str
    wide: str
    narrow: str


@dataclass(frozen=True)
class Banner:
    """What kind of data and weights the numbers below stand on."""

    text: str
    warn: bool


@dataclass(frozen=True)
class Section:
    """One ranking: its own banner, answer, figures and table."""

    heading: str
    banner: Banner
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    table: Table
    incomplete: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Page:
    """The whole report. Sections stand in the order of `reports.ranking.rank`."""

    title: str
    description: str
    sections: tuple[Section, ...]
    costs: Table | None
    differences: Table | None
    not_compared: tuple[str, ...]
    tasks: Table
    methods: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    weights: Table
    command: str
    data_files: tuple[str, ...] = field(default=("results.parquet", "results.json"))


def page(
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    pairs: Sequence[Pair],
    figures: Mapping[str, Sequence[Figure]],
) -> Page:
    """Put the page together; ``figures`` are by the name of their ranking."""
    run = results.run
    shown = [r for r in rankings if r.ranked or r.incomplete]
    sections = tuple(_section(results, r, pairs, figures.get(r.name, ())) for r in shown)
    notes = [f"{task.name}: {note}" for task in run.tasks for note in task.notes]
    return Page(
        run.title or run.suite,
        run.description,
        sections,
        _costs(pairs),
        _differences(results, pairs),
        _not_compared(pairs),
        _tasks(results),
        _methods(results, shown),
        tuple(caveats(run, shown)),
        tuple(dict.fromkeys([*run.notes, *_merged(notes)])),
        _facts(results),
        _weights(results),
        run.command,
    )


def _merged(notes: Sequence[str]) -> list[str]:
    """Notes that several tasks share, once, with all their names."""
    tasks: dict[str, list[str]] = {}
    for line in notes:
        name, _, note = line.partition(": ")
        tasks.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in tasks.items()]


def _section(
    results: SuiteResults, ranking: RankingTable, pairs: Sequence[Pair], figures: Sequence[Figure]
) -> Section:
    state = words.status(ranking.tiers, ranking.origin)
    return Section(
        f"{ranking.origin.capitalize()} data, {' and '.join(ranking.tiers)} weights",
        Banner(state, not words.is_trustworthy(ranking.tiers, ranking.origin)),
        tuple(answer(ranking, pairs)),
        tuple(figures),
        _ranking_table(results, ranking),
        tuple((i.variant, i.lacks) for i in ranking.incomplete),
    )


def _ranking_table(results: SuiteResults, ranking: RankingTable) -> Table:
    rows = {row["variant"]: row for row in results.variants.to_dicts()}
    mixed = len(ranking.tiers) > 1
    lines = []
    for r in ranking.ranked:
        first = "–" if r.first is None else f"{r.first:.0%}"
        tier = "–" if r.significance_tier is None else str(r.significance_tier)
        head = [
            Cell(r.variant, r.variant),
            Cell(words.rank_text(r.average_rank), r.average_rank),
            Cell(words.spans(r.interval, "rank"), r.interval.low if r.interval else None),
            Cell(tier, r.significance_tier),
            Cell(first, r.first),
        ]
        tail = _cost_cells(rows[r.variant], mixed)
        lines.append((*head, *_score_cells(ranking, r.scores), *tail))
    for i in ranking.incomplete:
        head = [Cell(i.variant, i.variant), Cell("incomplete", None, "muted")]
        head += [Cell("–")] * 3
        lines.append(
            (*head, *_score_cells(ranking, i.scores), *_cost_cells(rows[i.variant], mixed))
        )
    tasks = [f"{words.clip(t.name, 40)} ({t.metric})" for t in ranking.tasks]
    columns = ["Variant", "Average rank", "95% interval", "Significance tier", "First in"]
    columns += [*tasks, "Scheme", *["Weights"] * mixed, "Tokens", "MACs", "Attention-blind MACs"]
    numeric = [False, *[True] * (4 + len(tasks)), False, *[False] * mixed, *[True] * 4]
    return Table((*columns, "Parameters"), tuple(numeric), tuple(lines))


def _score_cells(ranking: RankingTable, scores: Mapping[str, Score]) -> list[Cell]:
    cells = []
    for task in ranking.tasks:
        found = scores.get(task.name)
        if found is None:
            cells.append(Cell("missing", None, "muted"))
        else:
            spread = words.spans(found.interval) if found.interval else ""
            cells.append(Cell(words.score(found.value), found.value, note=spread))
    return cells


def _cost_cells(row: Mapping[str, Any], mixed: bool) -> list[Cell]:
    blind = None
    if row["macs"] is not None and row["macs_attention"] is not None:
        blind = row["macs"] - row["macs_attention"]
    groups = words.number(row["groups"], "group") if row["groups"] is not None else ""
    return [
        Cell(row["scheme"] or "–", row["scheme"], note=groups),
        *([Cell(row["tier"], row["tier"])] if mixed else []),
        Cell(words.count(row["tokens"]), row["tokens"]),
        Cell(words.quantity(row["macs"]), row["macs"]),
        Cell(words.quantity(blind), blind),
        Cell(words.quantity(row["params"]), row["params"]),
    ]


def _costs(pairs: Sequence[Pair]) -> Table | None:
    if not pairs:
        return None
    columns = ("Candidate", "against", "Comparison", "Weights", "Tokens", "MACs")
    last = ("MACs, attention-blind", "Worse", "Not separated", "Better")
    ordered = sorted(pairs, key=lambda p: ("version", "scheme", "recipe").index(p.kind))
    rows = tuple(
        (
            Cell(p.candidate, p.candidate),
            Cell(p.reference, p.reference),
            Cell(_KINDS[p.kind], p.kind),
            Cell(p.tier, p.tier),
            Cell(words.ratio(p.token_ratio), p.token_ratio),
            Cell(words.ratio(p.macs_ratio), p.macs_ratio),
            Cell(words.ratio(p.macs_ratio_blind), p.macs_ratio_blind),
            Cell(str(p.count("worse")), p.count("worse"), "bad" if p.count("worse") else ""),
            Cell(str(p.count("not separated")), p.count("not separated")),
            Cell(str(p.count("better")), p.count("better"), "good" if p.count("better") else ""),
        )
        for p in ordered
    )
    return Table((*columns, *last), (False,) * 4 + (True,) * 6, rows)


_KINDS = {
    "version": "later version",
    "scheme": "other token scheme",
    "recipe": "same scheme, later recipe",
}
_TONES = {"worse": "bad", "better": "good"}


def _differences(results: SuiteResults, pairs: Sequence[Pair]) -> Table | None:
    """Every pair on every shared task, regressions first, the largest first."""
    origins = {task.name: task.origin for task in results.run.tasks}
    up = {task.name: task.higher_is_better for task in results.run.tasks}
    found = [(pair, d) for pair in pairs for d in pair.differences]
    if not found:
        return None
    found.sort(
        key=lambda pd: (
            VERDICT_ORDER.index(pd[1].verdict),
            pd[1].value if up[pd[1].task] else -pd[1].value,
        )
    )
    rows = tuple(
        (
            Cell(pair.candidate, pair.candidate),
            Cell(pair.reference, pair.reference),
            Cell(d.task, d.task, note=f"{origins[d.task]} data, {pair.tier} weights"),
            Cell(words.signed(d.value), d.value),
            Cell(words.spans(d.interval, "signed"), d.interval.low if d.interval else None),
            Cell(d.verdict, VERDICT_ORDER.index(d.verdict), _TONES.get(d.verdict, "")),
            Cell(words.score(d.reference), d.reference),
            Cell(words.score(d.candidate), d.candidate),
        )
        for pair, d in found
    )
    columns = ("Candidate", "against", "Task", "Difference", "95% interval", "Verdict")
    numeric = (False, False, False, True, True, False, True, True)
    return Table((*columns, "Reference scores", "Candidate scores"), numeric, rows)


def _not_compared(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(
        f"{p.candidate} against {p.reference}: {words.listed(p.not_compared)}"
        for p in pairs
        if p.not_compared
    )


def _tasks(results: SuiteResults) -> Table:
    columns = ("Task", "Data set", "Origin", "Metric", "Probe and settings", "Input", "Patch size")
    rows = tuple(
        (
            Cell(t.name, t.name),
            Cell(t.title, t.title, note=t.licence),
            Cell(t.origin, t.origin, "" if t.origin == "real" else "bad"),
            Cell(t.metric, t.metric, note="" if t.higher_is_better else "lower is better"),
            Cell(t.protocol, t.protocol),
            Cell(f"{t.height} x {t.width}, T = {t.steps}", t.height * t.width * t.steps),
            Cell(str(t.patch_size), t.patch_size),
            Cell(f"{t.n_train:,} / {t.n_val:,} / {t.n_test:,}", t.n_train),
        )
        for t in results.run.tasks
    )
    return Table((*columns, "Train / val / test"), (False,) * 5 + (True,) * 3, rows)


def _methods(
    results: SuiteResults, rankings: Sequence[RankingTable]
) -> tuple[tuple[str, str], ...]:
    run = results.run
    draws = max((r.resamples for r in rankings), default=0)
    seeds = f"{words.number(len(run.seeds), 'seed')} ({words.listed([str(s) for s in run.seeds])})"
    separate = (
        "Tiers of weights are ranked together because the suite says so"
        if run.mix_tiers
        else "Variants of different weight tiers are never ranked together"
    )
    resampling = (
        f"Test samples of each task and the seeds are drawn with replacement, {draws:,} times; "
        "every variant sees the same draws, so differences are paired. Intervals are the central "
        "95% of the draws. A difference counts as better or worse when its interval excludes "
        "zero; not separated does not mean equal."
        if draws
        else "The results hold no per-sample values, so ranks and differences have no interval."
    )
    return (
        (
            "Average rank",
            "Within each task, variants are ranked by their score averaged over seeds; 1 is best "
            "and ties share the mean rank. The average over tasks is the average rank. Only "
            "variants with a result for every task and seed take part; incomplete ones are shown "
            f"without a rank, and nothing is imputed. {separate}; tasks on real and on simulated "
            "data never are.",
        ),
        ("Intervals", resampling),
        (
            "Significance tier",
            "Tier 1 holds the first variant and all that tie with it: those whose paired "
            "difference in average rank from it has a 95% interval that reaches zero. Tier 2 is "
            "formed likewise from the rest, and so on. First in: share of the draws in which "
            "a variant has the lowest average rank.",
        ),
        (
            "MACs",
            "Multiply-accumulates of the encoder per sample, mean over the suite's tasks: patch "
            "embedding, linear layers and attention's two products. The attention-blind count "
            "leaves those two products out, as the counters behind most published figures did; "
            "the share they miss grows with the number of tokens. Ratios are reference / "
            "candidate: 2.9x reads 2.9 times fewer.",
        ),
        (
            "Probes and splits",
            f"Embeddings are frozen. Probes are fitted on train, chosen on validation and scored "
            f"once on test; {seeds}.",
        ),
    )


def _facts(results: SuiteResults) -> tuple[tuple[str, str], ...]:
    run = results.run
    data = {task.dataset: task.fingerprint for task in run.tasks}
    return (
        ("Suite", f"{run.suite} (hash {run.suite_hash})"),
        ("Code", run.git_commit or "unknown commit"),
        *((f"Data: {name}", f"fingerprint {print_}") for name, print_ in sorted(data.items())),
        ("Packages", ", ".join(f"{k} {v}" for k, v in sorted(run.versions.items()))),
    )


def _weights(results: SuiteResults) -> Table:
    rows = tuple(
        (
            Cell(row["variant"], row["variant"]),
            Cell(row["tier"] or "–", row["tier"]),
            Cell(row["licence"] or "–", row["licence"]),
            Cell(row["weights_hash"] or "–", row["weights_hash"], "code"),
        )
        for row in results.variants.to_dicts()
    )
    return Table(("Variant", "Weights", "Licence", "Hash of the weights"), (False,) * 4, rows)
