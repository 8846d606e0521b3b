"""Published results beside own ones, in one table, only where they measure the same thing.

Own tasks are matched with published ones field by field (`tasks.Task`). Where nothing
matches, the nearest miss is named with what differs: a number beside another of a different
protocol would be read as a comparison. It must know nothing of files or terminals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from harness.content import content_key
from harness.published.entrants import Entrant
from harness.published.library import Source
from harness.published.notes import source_note
from harness.published.table import score_row, variant_row
from harness.published.tasks import FIELD_WORDS, Task, fields_apart, nearest, shown_value
from harness.published.vocabulary import vocabulary
from models.errors import UserError
from reports import words
from reports.table import SCORE_SCHEMA, VARIANT_SCHEMA, RunInfo, SuiteResults, TaskInfo

_AS_PUBLISHED = "as-published band order"  # how a data set's title says so


@dataclass(frozen=True)
class Match:
    """An own task and the published task that measures the same; seeds are free."""

    own: TaskInfo
    published: Task


def own_task(info: TaskInfo) -> Task:
    """An own task in the terms of published ones; images at native size are not resized."""
    entry = vocabulary().datasets.get(info.dataset)
    native = entry is None or entry.side == info.height == info.width
    return Task(
        dataset=info.dataset,
        metric=vocabulary().metric(info.metric) or info.metric,
        probe=info.probe,
        bands=info.bands,
        image_size=None if native else info.height,
        interpolation="",
        partition=info.partition,
        n_train=info.n_train,
        n_val=info.n_val,
        n_test=info.n_test,
        seeds=(),
    )


def matches(own: SuiteResults, entrants: Sequence[Entrant]) -> list[Match]:
    """Own tasks on which all these entrants have a published result of the same kind.

    Raises `UserError` naming the nearest miss when there is none.
    """
    shared = [t for t in entrants[0].cells if all(t in e.cells for e in entrants)]
    found = [
        Match(info, task)
        for info in own.run.tasks
        for task in shared
        if _anonymous(task) == own_task(info) and not _other_bands_inside(info)
    ]
    if not found:
        published = shared or list(dict.fromkeys(t for e in entrants for t in e.cells))
        raise UserError(_nearest_miss(own, published))
    twice = [m.own.name for m in found if sum(m.own == n.own for n in found) > 1]
    if twice:
        raise UserError(
            f'Own task "{twice[0]}" matches several published ones, which differ in their seeds '
            "only; choose fewer models."
        )
    return found


def _anonymous(task: Task) -> Task:
    return replace(task, seeds=())


def _other_bands_inside(info: TaskInfo) -> bool:
    """Whether own band names were corrected where the published scores used the wrong ones."""
    entry = vocabulary().datasets.get(info.dataset)
    wrong = entry is not None and entry.band_order == "as-published"
    return wrong and _AS_PUBLISHED not in info.title


def _nearest_miss(own: SuiteResults, published: Sequence[Task]) -> str:
    candidates = [_anonymous(task) for task in published]
    pairs = []
    for info in own.run.tasks:
        near = nearest(own_task(info), candidates)
        if near is not None:
            pairs.append((info, near, _apart(info, near)))
    head = f'No published result measures what a task of "{own.run.suite}" measures'
    if not pairs:
        return f"{head}; the chosen models have no result that could be compared."
    info, near, apart = min(pairs, key=lambda p: (p[0].dataset != p[1].dataset, len(p[2])))
    return (
        f'{head}; the nearest is own task "{info.name}" and the published {near.dataset} with '
        f"{near.probe}, which differ in {words.listed(apart, 12)}."
    )


def _apart(info: TaskInfo, near: Task) -> list[str]:
    mine = own_task(info)
    differing = [
        f"{FIELD_WORDS.get(name, name)} ({_brief(name, mine)} here, {_brief(name, near)} there)"
        for name in fields_apart(mine, near)
    ]
    if _other_bands_inside(info):
        differing.append(
            "band order (corrected here, the mislabelled one there; set band_order: as-published "
            "to compare)"
        )
    return differing


def _brief(name: str, task: Task) -> str:
    """A field in few words: beyond three bands, how many there are."""
    value = getattr(task, name)
    if name == "bands" and len(value) > 3:
        return str(len(value))
    return shown_value(name, value)


def build_beside(
    own: SuiteResults,
    entrants: Sequence[Entrant],
    found: Sequence[Match],
    sources: Sequence[Source],
    command: str,
    mix_tiers: bool,
) -> SuiteResults:
    """Own results and published ones on the matching tasks only."""
    kept = [match.own.name for match in found]
    names = _shown_names(own, entrants)
    tasks = [match.published for match in found]
    licence = ", ".join(dict.fromkeys(source.licence for source in sources))
    theirs = [variant_row(e, names[e.name], tasks, licence) for e in entrants]
    scores = [
        score_row(e, names[e.name], match.published, match.own.name)
        for e in entrants
        for match in found
    ]
    ours = own.scores.filter(pl.col("task").is_in(kept))
    return SuiteResults(
        run=_run(own.run, found, sources, command, mix_tiers, list(names.values())),
        variants=pl.concat(
            [own.variants, pl.DataFrame(theirs, schema=VARIANT_SCHEMA, orient="row")]
        ),
        scores=pl.concat([ours, pl.DataFrame(scores, schema=SCORE_SCHEMA, orient="row")]),
        samples=own.samples.filter(pl.col("task").is_in(kept)),
        trials=own.trials.filter(pl.col("task").is_in(kept)),
        curves=own.curves,
    )


def _shown_names(own: SuiteResults, entrants: Sequence[Entrant]) -> Mapping[str, str]:
    """Published names; with ``@published`` where an own variant has the same."""
    taken = set(own.variants["variant"].to_list())
    return {e.name: f"{e.name}@published" if e.name in taken else e.name for e in entrants}


def _run(
    own: RunInfo,
    found: Sequence[Match],
    sources: Sequence[Source],
    command: str,
    mix_tiers: bool,
    names: Sequence[str],
) -> RunInfo:
    kept = {match.own.name for match in found}
    dropped = [task.name for task in own.tasks if task.name not in kept]
    paired = ", ".join(f"{m.own.name} ({m.published.dataset}, {m.published.probe})" for m in found)
    left_out = f"; left out, without a published one: {', '.join(dropped)}" if dropped else ""
    return replace(
        own,
        suite=f"{own.suite}-beside-published",
        title=f"{own.title}, beside published results",
        suite_hash=content_key(
            {
                "kind": "beside published",
                "own": own.suite_hash,
                "tables": sorted(source.digest for source in sources),
                "published": list(names),
                "tasks": sorted(kept),
                "mix_tiers": mix_tiers,
            }
        ),
        tasks=tuple(match.own for match in found),
        missing=tuple(cell for cell in own.missing if cell.task in kept),
        command=command,
        mix_tiers=mix_tiers,
        notes=(
            *own.notes,
            *(source_note(source) for source in sources),
            "Own and published results stand together where data set, metric, probe, bands, image "
            "size, partition and numbers of samples are equal. Patch size, time steps and input "
            "normalisation are each model's own: the published ones are the source's choice.",
            f"Own tasks with a published result of the same kind: {paired}{left_out}.",
        ),
    )
