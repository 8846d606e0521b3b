"""What MLflow's pages say in words: the experiment, a suite run, a variant (markdown).

A reader who comes without a manual learns what was measured on what, which weights and
data these are, and how to read the numbers. It must know nothing of clients and servers.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.mlflow_view import names
from harness.mlflow_view.facts import Row, SuiteRun, entries, places, rank_words
from harness.mlflow_view.names import in_code, in_markdown
from reports import words
from reports.ranking import RankingTable
from reports.table import TaskInfo

READING = (
    "**How to read it.** Variants are ranked within each task (1 is best, ties share a rank) and "
    "the ranks are averaged: *lower is better*. Intervals are 95%, from a paired bootstrap over "
    "test samples and seeds. MACs are per sample and include attention. Ranks compare variants of "
    "one suite run only; weights of different tiers, and real and simulated data, are ranked apart."
)
SEARCHES = (
    "params.token_scheme = 'single' and metrics.average_rank < 3",
    "params.size = 'nano' and params.tier = 'official'",
    "tags.`tokenrank.kind` = 'variant'",
)


def experiment_note(run: SuiteRun, view_link: str) -> str:
    """The experiment's description."""
    facts = run.results.run
    lines = [
        f"**{in_markdown(facts.title)}**",
        "",
        in_markdown(facts.description),
        "",
        f"- [**Compare the token designs of the latest suite run**]({view_link}): ranked table "
        "and charts. The same and older comparisons are in the list of saved views.",
        "- One *suite run* per set of results; beneath it one run per *variant* with its scores, "
        "costs, predictions, confusion matrices and tuning history. The report is among the suite "
        "run's artifacts (`report/report.html`).",
        "- Searches that work: " + "; ".join(f"`{search}`" for search in SEARCHES),
        "",
        READING,
    ]
    return names.clipped("\n".join(lines), names.EXPERIMENT_TAG_LENGTH)


def suite_note(run: SuiteRun, view_link: str) -> str:
    """A suite run's description: its rankings, tasks and caveats."""
    facts = run.results.run
    head = [
        f"**{in_markdown(facts.title)}**",
        "",
        in_markdown(facts.description),
        "",
        f"[**Compare its token designs**]({view_link}) · report: artifacts, `report/report.html` · "
        f"regenerate: {in_code(run.manifest.command)} · on any machine that reaches this server: "
        f"{in_code(f'tokenrank report {facts.suite} --from-mlflow --tracking-uri URI')}",
    ]
    tail = ["", *_tasks(facts.tasks), "", READING, ""]
    tail += [f"- {in_markdown(note)}" for note in facts.notes]
    room = names.TAG_LENGTH - len("\n".join([*head, *tail])) - 100
    ranking = "\n".join(line for table in run.rankings for line in _ranking(table))
    if len(ranking) > room:
        kept = ranking[: max(room, 0)].rpartition("\n")[0]
        ranking = f"{kept}\n\n(The rest is in the report.)"
    return names.clipped("\n".join([*head, ranking, *tail]), names.TAG_LENGTH)


def _ranking(table: RankingTable) -> list[str]:
    status = words.status(table.tiers, table.origin)
    lines = ["", f"### {status}", "", "| variant | average rank | group |", "| --- | --- | --- |"]
    lines += [
        f"| {in_markdown(entry.variant)} | {rank_words(entry)} | "
        f"{entry.significance_tier or words.NO_VALUE} |"
        for entry in table.ranked
    ]
    lines += [f"| {in_markdown(entry.variant)} | incomplete | |" for entry in table.incomplete]
    return [*lines, "", "Variants of one group cannot be told apart by these data."]


def _tasks(tasks: Sequence[TaskInfo]) -> list[str]:
    shown = [
        f"- {in_markdown(task.name)}: {in_markdown(task.title)}, {task.origin.upper()} data, "
        f"{words.count(task.n_test)} test samples; {in_markdown(task.metric)}; "
        f"{in_markdown(task.protocol)}"
        for task in tasks[:8]
    ]
    return ["**Tasks**", "", *shown, *([f"- and {len(tasks) - 8} more"] if tasks[8:] else [])]


def variant_note(run: SuiteRun, row: Row) -> str:
    """A variant's description: what it is, its place, its scores with intervals."""
    name = row["variant"]
    ranked = places(run, name)
    share = row["macs_attention"] / row["macs"] if row["macs"] and row["macs_attention"] else None
    origin = " and ".join(sorted({task.origin for task in run.results.run.tasks}))
    lines = [
        f"**{in_markdown(name)}** · {words.status([row['tier']], origin)}",
        "",
        f"Token scheme {in_code(row['scheme'])}, {words.count(row['tokens'])} tokens and "
        f"{words.quantity(row['macs'])} MACs per sample"
        + (f" ({words.percent(share)} of them attention)" if share is not None else "")
        + f", {words.quantity(row['params'])} parameters.",
        "",
    ]
    for table, entry in ranked:
        lines += [
            f"Average rank **{rank_words(entry)}** among {len(table.ranked)} variants over "
            f"{len(table.tasks)} tasks.",
            "",
        ]
    for any_entry in entries(run, name):
        lacks = getattr(any_entry, "lacks", ())
        if lacks:
            lines += ["**Incomplete, so without a rank.** It lacks:", ""]
            lines += [f"- {in_markdown(reason)}" for reason in lacks[:10]]
            lines.append("")
    lines += [*_scores(run, name), "", READING, "", ARTIFACTS]
    return names.clipped("\n".join(lines), names.TAG_LENGTH)


ARTIFACTS = (
    "**Artifacts.** `confusion.html`: a confusion matrix per task; `scores.csv`: every cell with "
    "its interval and what tuning chose; `tuning.csv`: each trial's validation score; "
    "`predictions.parquet`: label, prediction and confidence per test sample and seed."
)


def _scores(run: SuiteRun, variant: str) -> list[str]:
    lines = ["| task | score | 95% interval | rank |", "| --- | --- | --- | --- |"]
    for entry in entries(run, variant):
        ranks = getattr(entry, "ranks", {})
        for task, found in entry.scores.items():
            low_high = found.interval
            span = f"{low_high.low:.3f} to {low_high.high:.3f}" if low_high else words.NO_VALUE
            place = f"{ranks[task]:g}" if task in ranks else words.NO_VALUE
            lines.append(f"| {in_markdown(task)} | {found.value:.3f} | {span} | {place} |")
    return lines
