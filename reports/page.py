"""What a report says, in order: a page model that the HTML and the Markdown template share.

Everything is a finished string here, so that the two pages cannot disagree. It must know
nothing of HTML, Markdown or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reports import words
from reports.answer import answer, caveats
from reports.pairs import Pair
from reports.ranking import RankingTable
from reports.table import SuiteResults
from reports.tables import (
    Table,
    cost_table,
    difference_table,
    ranking_table,
    task_table,
    weights_table,
)


@dataclass(frozen=True)
class Figure:
    """A figure in both widths (SVG text), its file stem, and what it shows in words.

    ``narrow`` is empty where only the wide one makes sense.
    """

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
        cost_table(pairs),
        difference_table(results, pairs),
        _not_compared(pairs),
        task_table(results),
        _methods(results, shown),
        tuple(caveats(run, shown)),
        tuple(dict.fromkeys([*run.notes, *_merged(notes)])),
        _facts(results),
        weights_table(results),
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
        ranking_table(results, ranking),
        tuple((i.variant, i.lacks) for i in ranking.incomplete),
    )


def _not_compared(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(
        f"{p.candidate} against {p.reference}: {words.listed(p.not_compared)}"
        for p in pairs
        if p.not_compared
    )


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
            f"The encoder is frozen. Probes are fitted on train, chosen on validation and scored "
            f"once on test; {seeds}.",
        ),
    )


def _facts(results: SuiteResults) -> tuple[tuple[str, str], ...]:
    run = results.run
    data = {(task.dataset, task.fingerprint) for task in run.tasks}
    return (
        ("Suite", f"{run.suite} (hash {run.suite_hash})"),
        ("Code", run.git_commit or "unknown commit"),
        *((f"Data: {name}", f"fingerprint {print_}") for name, print_ in sorted(data)),
        ("Packages", ", ".join(f"{k} {v}" for k, v in sorted(run.versions.items()))),
    )
