"""How a report was computed and where its numbers come from, in words: methods, notes, provenance.

It must know nothing of HTML, Markdown or files.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports import words
from reports.against_baselines import AgainstBaselines
from reports.answer import caveats
from reports.document import Part
from reports.pairs import Pair
from reports.ranking import RankingTable
from reports.samples import is_empty
from reports.significance import ALPHA
from reports.study_part import study_part
from reports.table import SuiteResults
from reports.tables import task_table, weights_table

DATA_FILES = ("results.parquet", "results.json")


def how_it_was_computed(
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    pairs: Sequence[Pair],
    against: Sequence[AgainstBaselines] = (),
) -> Part:
    """Caveats first, then methods, tasks and notes on the data."""
    run = results.run
    notes = [f"{task.name}: {note}" for task in run.tasks for note in task.notes]
    return Part(
        "How it was computed",
        parts=(
            Part("Caveats", bullets=tuple(caveats(run, rankings))),
            Part("Methods", terms=methods(results, rankings, pairs, against)),
            study_part(results),
            Part("Tasks", tables=(task_table(results),)),
            Part(
                "Notes on the data",
                bullets=tuple(dict.fromkeys([*run.notes, *_merged(notes)])),
            ),
        ),
    )


def provenance(results: SuiteResults) -> Part:
    """Exactly what the numbers stand on, and the one command that makes them again."""
    return Part(
        "Provenance",
        paragraphs=("Regenerate with:",),
        command=results.run.command,
        parts=(
            Part("Suite, code, data and packages", terms=facts(results)),
            Part("Weights", tables=(weights_table(results),)),
            Part(
                "The same numbers for machines",
                paragraphs=(f"{' and '.join(DATA_FILES)}, beside this page.",),
            ),
        ),
    )


def _merged(notes: Sequence[str]) -> list[str]:
    """Notes that several tasks share, once, with all their names."""
    tasks: dict[str, list[str]] = {}
    for line in notes:
        name, _, note = line.partition(": ")
        tasks.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in tasks.items()]


def methods(
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    pairs: Sequence[Pair],
    against: Sequence[AgainstBaselines] = (),
) -> tuple[tuple[str, str], ...]:
    """Term and explanation, for what this report makes use of."""
    run = results.run
    separate = (
        "Tiers of weights are ranked together because the suite says so"
        if run.mix_tiers
        else "Variants of different weight tiers are never ranked together"
    )
    found = [
        (
            "Average rank",
            "Within each task, variants are ranked by their score averaged over seeds; 1 is best "
            "and ties share the mean rank. The average over tasks is the average rank. Only "
            "variants with a result for every task and seed take part; incomplete ones are shown "
            f"without a rank, and nothing is imputed. {separate}; tasks on real and on simulated "
            "data never are.",
        ),
        ("Intervals", _intervals(results, rankings)),
    ]
    if any(d.p_value is not None for p in pairs for d in p.differences):
        found.append(("p-values", _p_values(rankings, pairs)))
    if any(r.draws is not None for r in rankings):
        found.append(
            (
                "Significance tier",
                "Tier 1 holds the first variant and all that tie with it: those whose paired "
                "difference in average rank from it has a 95% interval that reaches zero. Tier 2 "
                "is formed likewise from the rest, and so on. First in: share of the draws in "
                "which a variant has the lowest average rank.",
            )
        )
    if against:
        found.append(("Baselines", _BASELINES))
    return (*found, *_costs(results), *_probes(results))


_BASELINES = (
    "Variants in which nothing is trained, given the same data, probes and tuning as all others; "
    "they are never ranked with them. Of each task the best baseline is the mark, and a variant "
    "beats it, or loses to it, when the 95% interval of their paired difference excludes zero. The "
    "best of several is picked by the same scores, which raises the mark a little: what is said to "
    "beat it does. A trained variant is held to its own untrained self likewise, where that takes "
    "part, else to the best untrained encoder of its family. "
    "Over all tasks a variant beats its marks when it wins more tasks than it loses in at least "
    "97.5% of the draws."
)


def _intervals(results: SuiteResults, rankings: Sequence[RankingTable]) -> str:
    draws = max((r.resamples for r in rankings), default=0)
    if not draws:
        return (
            "Some scores have neither per-sample values nor an interval, so ranks have none; a "
            "difference has one where both of its scores have."
        )
    if is_empty(results.samples):
        return (
            "The results are published scores without per-sample values. Scores are drawn "
            f"{draws:,} times from a normal distribution as wide as the published 95% interval, "
            "each on its own: differences are not paired, and their intervals are wider than "
            "paired ones would be. A difference counts as better or worse when its interval "
            "excludes zero; not separated does not mean equal."
        )
    return (
        f"Test samples of each task and the seeds are drawn with replacement, {draws:,} times; "
        "every variant sees the same draws, so differences are paired. Intervals are the central "
        "95% of the draws. A difference counts as better or worse when its interval excludes "
        "zero; not separated does not mean equal. Drawing blurs differences between variants, so "
        "drawn ranks crowd towards the middle; the interval of a rank is widened to hold the rank "
        "itself where it would not."
    )


def _p_values(rankings: Sequence[RankingTable], pairs: Sequence[Pair]) -> str:
    tests = {d.test for p in pairs for d in p.differences}
    how = {
        "McNemar": "McNemar's exact test, where each sample is a hit or a miss of one seed",
        "paired bootstrap": "twice the smaller share of the paired bootstrap draws beyond zero, "
        "where there are several seeds or graded values",
        "unpaired draws": "a normal test of the difference over its standard deviation, where a "
        "score was published without samples",
    }
    told = "; ".join(text for test, text in how.items() if test in tests)
    most = max(len(p.differences) for p in pairs)
    draws = max((r.resamples for r in rankings), default=0)
    floor = 2 * most / (draws + 1) if draws else 0.0
    bound = (
        f" Over {most} tasks a corrected p-value from draws cannot fall below {floor:.2g}, so no "
        "such difference can withstand the correction."
        if floor >= ALPHA and "paired bootstrap" in tests
        else ""
    )
    return (
        f"Two-sided: {told}. p (Holm) is corrected for the number of tasks of the pair by Holm's "
        "step-down method (S. Holm, 1979); verdicts go by the interval, before the correction. "
        "Sources: Q. McNemar, Psychometrika 12 (1947); B. Efron and R. Tibshirani, An "
        f"Introduction to the Bootstrap (1993).{bound}"
    )


def _costs(results: SuiteResults) -> list[tuple[str, str]]:
    found = []
    if results.variants["macs"].is_not_null().any():
        found.append(
            (
                "MACs",
                "Multiply-accumulates of the encoder per sample, mean over the suite's tasks: "
                "patch embedding, linear layers and attention's two products. The attention-blind "
                "count leaves those two products out, as the counters behind most published "
                "figures did; the share they miss grows with the number of tokens. Ratios are "
                "reference / candidate: 2.9x reads 2.9 times fewer.",
            )
        )
    if results.variants["published_gflops"].is_not_null().any():
        found.append(
            (
                "GFLOPs as published",
                "The cost that the imported table states, by its own counter, at its own input "
                "sizes; it never shares an axis or a ratio with MACs.",
            )
        )
    return found


def _probes(results: SuiteResults) -> list[tuple[str, str]]:
    run = results.run
    if is_empty(results.samples):
        return []
    seeds = f"{words.number(len(run.seeds), 'seed')} ({words.listed([str(s) for s in run.seeds])})"
    return [
        (
            "Probes and splits",
            "The encoder is frozen. Probes are fitted on train, chosen on validation and scored "
            f"once on test; {seeds}.",
        )
    ]


def facts(results: SuiteResults) -> tuple[tuple[str, str], ...]:
    """Hashes, fingerprints and versions, in full."""
    run = results.run
    data = {(task.dataset, task.fingerprint) for task in run.tasks}
    return (
        ("Suite", f"{run.suite} (hash {run.suite_hash})"),
        ("Code", run.git_commit or "unknown commit"),
        *((f"Data: {name}", f"fingerprint {print_}") for name, print_ in sorted(data)),
        ("Packages", ", ".join(f"{k} {v}" for k, v in sorted(run.versions.items()))),
    )
