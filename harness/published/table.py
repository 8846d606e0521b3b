"""Chosen published models on the tasks they all share -> the table that reports are made from.

What a table of results cannot know (tokens, MACs, predictions) is null. It must know nothing
of the store, the terminal or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import polars as pl

from harness.content import content_key
from harness.published.entrants import Entrant
from harness.published.library import Source
from harness.published.matching import Selection
from harness.published.notes import notes
from harness.published.tasks import Task, bands_words, shown_value
from harness.published.vocabulary import vocabulary
from models.errors import UserError
from models.registry import Variant, load_registry
from reports.table import (
    SAMPLE_SCHEMA,
    SCORE_SCHEMA,
    VARIANT_SCHEMA,
    RunInfo,
    SuiteResults,
    TaskInfo,
)

SUITE = "published"
TIER = "published"
UNKNOWN = "unknown"


def build(selection: Selection, sources: Sequence[Source], command: str) -> SuiteResults:
    """The table of a selection. ``command`` regenerates it."""
    names = task_names(selection.tasks)
    infos = tuple(task_info(task, names[task], sources) for task in selection.tasks)
    key = _run_key(selection, sources)
    run = RunInfo(
        suite=SUITE,
        title="Published results, ranked like with like",
        description=_description(selection, sources),
        suite_hash=key,
        seeds=_seeds(selection.tasks),
        tasks=infos,
        missing=(),
        versions={},
        git_commit="",
        command=command,
        notes=tuple(notes(selection, sources)),
    )
    licences = ", ".join(dict.fromkeys(s.licence for s in sources))
    return SuiteResults(
        run=run,
        variants=pl.DataFrame(
            [variant_row(e, e.name, selection.tasks, licences) for e in selection.entrants],
            schema=VARIANT_SCHEMA,
            orient="row",
        ),
        scores=pl.DataFrame(
            [
                score_row(e, e.name, task, names[task])
                for e in selection.entrants
                for task in selection.tasks
            ],
            schema=SCORE_SCHEMA,
            orient="row",
        ),
        samples=pl.DataFrame(schema=SAMPLE_SCHEMA),
    )


def _run_key(selection: Selection, sources: Sequence[Source]) -> str:
    return content_key(
        {
            "kind": "published",
            "tables": sorted(source.digest for source in sources),
            "entrants": [entrant.name for entrant in selection.entrants],
            "tasks": [asdict(task) for task in selection.tasks],
        }
    )


def _seeds(tasks: Sequence[Task]) -> tuple[int, ...]:
    """The source's seeds; a published score stands for each of them."""
    stated = {seed for task in tasks for seed in task.seeds if seed is not None}
    return tuple(sorted(stated)) or (0,)


def _description(selection: Selection, sources: Sequence[Source]) -> str:
    names = " and ".join(source.name for source in sources)
    datasets = len({task.dataset for task in selection.tasks})
    return (
        f"{len(selection.entrants)} models on the {len(selection.tasks)} tasks "
        f"({datasets} data sets) that all of them share, as stated in {names}. Nothing was run "
        "here: these are others' measurements, compared only where data set, metric, probe, "
        "bands, image size and samples are the same."
    )


# --- tasks ------------------------------------------------------------------------------


def task_names(tasks: Sequence[Task]) -> dict[Task, str]:
    """Short, distinct names: data set and probe, and whatever else tells two tasks apart."""
    names: dict[Task, str] = {}
    for task in tasks:
        base = _base_name(task)
        twins = [other for other in tasks if _base_name(other) == base]
        apart = [
            name
            for name in ("metric", "bands", "image_size", "partition", "n_train", "n_test", "seeds")
            if len({getattr(twin, name) for twin in twins}) > 1
        ]
        extra = [shown_value(name, getattr(task, name)) for name in apart]
        names[task] = "-".join([base, *extra])
    return _numbered(names)


def _base_name(task: Task) -> str:
    short = {"knn-5-l2-uniform": "knn5", "logistic-regression-c-sweep": "logistic"}
    return f"{task.dataset}-{short.get(task.probe, task.probe)}"


def _numbered(names: Mapping[Task, str]) -> dict[Task, str]:
    """Names that are still equal (bands shortened alike) get a number."""
    seen: dict[str, int] = {}
    distinct = {}
    for task, name in names.items():
        seen[name] = seen.get(name, 0) + 1
        distinct[task] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return distinct


def task_info(task: Task, name: str, sources: Sequence[Source]) -> TaskInfo:
    """A task as a report shows it. A number the table does not state is 0."""
    words = vocabulary()
    entry = words.datasets.get(task.dataset)
    side = task.image_size or (entry.side if entry else 0)
    resized = f"resized to {task.image_size} pixels" if task.image_size else "not resized"
    probe = words.probes.get(task.probe, f'"{task.probe}", as the table names it')
    return TaskInfo(
        name=name,
        dataset=task.dataset,
        title=entry.title if entry else task.dataset,
        origin="real",
        metric=task.metric,
        higher_is_better=words.metrics[task.metric].higher_is_better,
        protocol=f"{probe}; images {resized}; bands: {bands_words(task.bands)}.",
        probe=task.probe,
        bands=task.bands,
        partition=task.partition,
        height=side,
        width=side,
        steps=1,
        patch_size=0,
        n_train=task.n_train or 0,
        n_val=task.n_val or 0,
        n_test=task.n_test or 0,
        classes=(),
        fingerprint=_fingerprint(task, sources),
        licence="licence not stated",
        notes=(entry.note.strip(),) if entry and entry.note else (),
    )


def _fingerprint(task: Task, sources: Sequence[Source]) -> str:
    """Stands for the data set as these tables name it; nobody here has seen its pixels."""
    named = {"data set": task.dataset, "tables": sorted(s.sha256 for s in sources)}
    return f"{content_key(named)[:32]} (of the imported table, not of the data)"


# --- rows -------------------------------------------------------------------------------


def variant_row(
    entrant: Entrant, shown: str, tasks: Sequence[Task], licence: str
) -> dict[str, object]:
    """One row of the variants' table; what a table of results cannot know is null."""
    variant = registry_variant(entrant)
    costs = [entrant.cells[task].gflops for task in tasks]
    params = {entrant.cells[task].params for task in tasks}
    known = [cost for cost in costs if cost is not None]
    return {
        "variant": shown,
        # A model of no known family is a family of its own, so that it is no version or
        # scheme of another one.
        "family": variant.family if variant else entrant.name,
        "version": variant.version if variant else UNKNOWN,
        "size": variant.size if variant else UNKNOWN,
        "scheme": variant.scheme.name if variant else None,
        "tier": TIER,
        "licence": f"results: {licence}",
        "groups": _groups(variant) if variant else None,
        "params": int(params.pop() or 0) or None if len(params) == 1 else None,
        "tokens": None,
        "macs": None,
        "macs_patch_embedding": None,
        "macs_linear": None,
        "macs_attention": None,
        "weights_hash": "not stated",
        "published_gflops": sum(known) / len(known) if len(known) == len(costs) else None,
    }


def registry_variant(entrant: Entrant) -> Variant | None:
    """The registry's variant that a published model is, if it is one."""
    try:
        return load_registry().variant(entrant.variant)
    except UserError:
        return None


def _groups(variant: Variant) -> int:
    return len(variant.scheme.of("sentinel2_l2a"))


def score_row(entrant: Entrant, shown: str, task: Task, name: str) -> dict[str, object]:
    """One published score; its null seed stands for every seed."""
    cell = entrant.cells[task]
    return {
        "variant": shown,
        "task": name,
        "seed": None,
        "score": cell.score,
        "ci_low": cell.ci_low,
        "ci_high": cell.ci_high,
        "val_score": None,
        "tokens": None,
        "macs": None,
        "chosen": "",
        "cell": "",
        "sketch": [],
    }
