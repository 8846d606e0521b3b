"""What a run of MLflow says of a variant and of a suite run: parameters, metrics, tags.

Pure functions of the results. The metrics are few, because MLflow draws a chart and offers
a column for each; what belongs to a table of intervals is in the run's description and
artifacts. It must know nothing of clients and servers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.mlflow_view import names
from harness.provenance import Manifest
from reports import words
from reports.against_baselines import AgainstBaselines, Standing, against_baselines
from reports.ranking import BASELINE, IncompleteVariant, RankedVariant, RankingTable, rank
from reports.resampling import RESAMPLES, bootstrap
from reports.study import images, study_of, trained_on
from reports.table import SuiteResults, TaskInfo

SUITE_RUN, VARIANT = "suite run", "variant"
BEATS = "beats_baselines"
DESIGN_COLOURS = (  # Okabe and Ito's, told apart under every common colour blindness
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fd1"),
)


@dataclass(frozen=True)
class SuiteRun:
    """All that is mirrored of one suite run. ``digest`` names the content of the whole view."""

    results: SuiteResults
    manifest: Manifest
    rankings: tuple[RankingTable, ...]
    digest: str
    against: tuple[AgainstBaselines, ...] = ()

    @classmethod
    def of(
        cls, results: SuiteResults, manifest: Manifest, digest: str, resamples: int = RESAMPLES
    ) -> SuiteRun:
        """Rank the results and hold them to the baselines, by one set of draws."""
        scores = bootstrap(results, resamples)
        rankings = rank(results, scores=scores)
        against = against_baselines(results, rankings, scores)
        return cls(results, manifest, rankings, digest, against)

    @property
    def name(self) -> str:
        """Short and unique within an experiment: the start of the run's key."""
        return self.manifest.run_key[:8]


@dataclass(frozen=True)
class Measured:
    """One metric; ``task`` is the task it was measured on, None for the suite as a whole."""

    key: str
    value: float
    task: TaskInfo | None = None


Place = tuple[RankingTable, RankedVariant]
Row = Mapping[str, Any]
"""A row of ``SuiteResults.variants``."""


def places(run: SuiteRun, variant: str) -> list[Place]:
    """The variant's place in each ranking that holds it: one per origin of data.

    Baselines have none: sorted by average rank, they would stand among what they are a mark for.
    """
    ranked = [table for table in run.rankings if BASELINE not in table.tiers]
    return [(t, e) for t in ranked for e in t.ranked if e.variant == variant]


def standings(run: SuiteRun, variant: str) -> list[Standing]:
    """The variant against the best baselines: one entry per origin of data, none without any."""
    return [s for found in run.against for s in found.baselines if s.variant == variant]


def entries(run: SuiteRun, variant: str) -> Iterator[RankedVariant | IncompleteVariant]:
    """The variant's entry in each ranking, complete or not."""
    for table in run.rankings:
        every: list[RankedVariant | IncompleteVariant] = [*table.ranked, *table.incomplete]
        yield from (entry for entry in every if entry.variant == variant)


def origins(run: SuiteRun) -> str:
    """Origins of the data, e.g. "real" or "real, simulated"."""
    return ", ".join(sorted({task.origin for task in run.results.run.tasks}))


def precisions(run: SuiteRun) -> str:
    """In which encoders took their products; what an imported table does not say is left out."""
    found = {task.precision for task in run.results.run.tasks if task.patch_size}
    return ", ".join(sorted(found)) or words.NO_VALUE


def tiers(run: SuiteRun) -> str:
    """Tiers of the weights, e.g. "official"."""
    return ", ".join(sorted(set(run.results.variants["tier"].to_list())))


def suite_run_title(run: SuiteRun) -> str:
    """What a suite run is called: suite, what it was measured with and on, its key."""
    return f"{run.results.run.suite} · {tiers(run)} weights, {origins(run)} data · {run.name}"


def variant_metrics(run: SuiteRun, row: Row) -> list[Measured]:
    """Rank, margins over the baselines, cost, a score per task; what is not known is left out."""
    found = [
        *_rank_metrics(run, row["variant"]),
        *_baseline_metrics(run, row["variant"]),
        *_cost_metrics(row),
        *(
            Measured(score_key(task), round(entry.scores[task.name].value, 6), task)
            for entry in entries(run, row["variant"])
            for task in run.results.run.tasks
            if task.name in entry.scores
        ),
    ]
    # Rounded, for columns that are read; the results among the artifacts are exact.
    return [m for m in found if math.isfinite(m.value)]


def score_key(task: TaskInfo) -> str:
    """The metric that holds a task's score."""
    return names.metric_key("score", task.name)


def margin_key(task: TaskInfo) -> str:
    """The metric that holds by how much a variant is better than the task's best baseline."""
    return names.metric_key("margin_over_baseline", task.name)


def _baseline_metrics(run: SuiteRun, variant: str) -> Iterator[Measured]:
    """``beats_baselines`` is 1 where the best baseline is beaten on every task, else 0."""
    found = standings(run, variant)
    if found:
        yield Measured(BEATS, float(all(standing.beats_all for standing in found)))
    for standing in found:
        for margin in standing.margins:
            yield Measured(margin_key(margin.task), round(margin.gain, 6), margin.task)


def rank_keys(run: SuiteRun) -> list[str]:
    """``average_rank``; one per origin where data of several origins are ranked apart."""
    found = list(dict.fromkeys(table.origin for table in run.rankings))
    return ["average_rank"] if len(found) < 2 else [f"average_rank_{o}" for o in found]


def _rank_metrics(run: SuiteRun, variant: str) -> Iterator[Measured]:
    several = len(rank_keys(run)) > 1
    for table, entry in places(run, variant):
        key = f"average_rank_{table.origin}" if several else "average_rank"
        yield Measured(key, round(entry.average_rank, 4))
        if entry.interval:
            yield Measured(f"{key}_low", round(entry.interval.low, 4))
            yield Measured(f"{key}_high", round(entry.interval.high, 4))


def _cost_metrics(row: Row) -> Iterator[Measured]:
    columns = {
        "macs": "macs",
        "macs_attention": "macs_attention",
        "tokens": "tokens",
        "params": "parameters",
        "published_gflops": "published_gflops",
    }
    for column, key in columns.items():
        if row[column] is not None:
            yield Measured(key, float(row[column]))
    if row["macs"]:
        # MLflow's scatter charts have no logarithmic axis, and sizes differ a hundredfold.
        yield Measured("macs_log10", round(math.log10(row["macs"]), 4))


def variant_params(run: SuiteRun, row: Row) -> dict[str, str]:
    """What a user filters and groups by; complete in each run, so that a flat search does."""
    facts = run.results.run
    params = {
        "variant": row["variant"],
        "token_scheme": row["scheme"] or "unknown",
        "version": row["version"],
        "size": row["size"],
        "family": row["family"],
        "tier": row["tier"],
        "recipe": row["recipe"] or words.NO_VALUE,
        "trained_on": trained_on(run.results, [row["variant"]]) or words.NO_VALUE,
        "data_origin": origins(run),
        "tokens": words.count(row["tokens"]),
        "macs": words.quantity(row["macs"]),
        "average_rank": _rank_text(run, row),
        BEATS: beats_words(run, row),
        "band_groups": words.whole(row["groups"]),
        "patch_size": ", ".join(sorted({str(task.patch_size) for task in facts.tasks})),
        "precision": precisions(run),
        "seeds": ", ".join(str(seed) for seed in facts.seeds) or words.NO_VALUE,
        "weights": row["weights_hash"],
        "licence": row["licence"],
        "suite_run": run.name,
    }
    return {key: names.clipped(str(text), names.PARAM_LENGTH) for key, text in params.items()}


def _rank_text(run: SuiteRun, row: Row) -> str:
    if row["tier"] == BASELINE:
        return "not ranked"
    found = [rank_words(entry) for _, entry in places(run, row["variant"])]
    return "; ".join(found) or "incomplete"


def beats_words(run: SuiteRun, row: Row) -> str:
    """On how many tasks the best baseline is beaten, e.g. "on all of 2 tasks"."""
    if row["tier"] == BASELINE:
        return "is a baseline"
    found = standings(run, row["variant"])
    if not found:
        return words.NO_VALUE
    of = sum(len(standing.margins) for standing in found)
    won = sum(len(standing.on("beats")) for standing in found)
    every = all(standing.beats_all for standing in found)
    return f"on {'all' if every else won} of {words.number(of, 'task')}"


def rank_words(entry: RankedVariant) -> str:
    """An average rank with its interval, e.g. "1.50 [1.25, 1.75]"."""
    if entry.interval is None:
        return f"{entry.average_rank:.2f}"
    return f"{entry.average_rank:.2f} [{entry.interval.low:.2f}, {entry.interval.high:.2f}]"


def study_tags(run: SuiteRun, row: Row) -> dict[str, str]:
    """Tags of a variant with study weights: whose they are, on what and how long trained."""
    study = study_of(run.results).get(row["variant"])
    if study is None:
        return {}
    tags = {
        "tokenrank.tier": row["tier"],
        "tokenrank.recipe": study.recipe,
        "tokenrank.trained_on": images(study),
        "tokenrank.samples_seen": str(study.samples_seen),
    }
    return {key: names.clipped(text, names.TAG_LENGTH) for key, text in tags.items()}


def suite_params(run: SuiteRun) -> dict[str, str]:
    """Parameters of the suite run itself."""
    facts = run.results.run
    params = {
        "suite": facts.suite,
        "tasks": str(len(facts.tasks)),
        "variants": str(len(run.results.variants)),
        "tier": tiers(run),
        "trained_on": trained_on(run.results) or words.NO_VALUE,
        "data_origin": origins(run),
        "precision": precisions(run),
        "command": run.manifest.command,
    }
    return {key: names.clipped(text, names.PARAM_LENGTH) for key, text in params.items()}


def shared_tags(run: SuiteRun) -> dict[str, str]:
    """Tags of every run and model of a suite run: what it is, and where it came from."""
    facts = run.results.run
    tags = {
        "tokenrank.run_key": run.manifest.run_key,
        "tokenrank.suite": facts.suite,
        "mlflow.source.name": run.manifest.command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": run.manifest.git_commit,
    }
    return {key: names.clipped(text, names.TAG_LENGTH) for key, text in tags.items()}


def provenance_tags(run: SuiteRun) -> dict[str, str]:
    """Packages, hardware and data of a suite run; on the suite run only, they are many."""
    facts = run.results.run
    tags = {
        "tokenrank.suite_hash": facts.suite_hash,
        **{f"tokenrank.version.{n}": v for n, v in run.manifest.versions.items()},
        **{f"tokenrank.hardware.{n}": v for n, v in run.manifest.hardware.items()},
        **{f"tokenrank.data.{t.fingerprint[:8]}": t.dataset for t in one_per_dataset(facts.tasks)},
    }
    return {key: names.clipped(text, names.TAG_LENGTH) for key, text in tags.items()}


def one_per_dataset(tasks: Sequence[TaskInfo]) -> list[TaskInfo]:
    """The tasks' data sets, each once."""
    return list({task.fingerprint: task for task in tasks}.values())


def design_colour(run: SuiteRun, row: Row) -> str:
    """One colour per token design (family, version and scheme), whatever the size."""
    columns = ("family", "version", "scheme")
    designs = list(dict.fromkeys(run.results.variants.select(columns).iter_rows()))
    return DESIGN_COLOURS[designs.index(tuple(row[c] for c in columns)) % len(DESIGN_COLOURS)]
