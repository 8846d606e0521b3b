"""What a careful reader of published results must be told, in sentences made from the data.

Where they come from, what was left out and why, which tasks are not independent evidence,
and what the stated cost is. Pure functions; it must know nothing of how pages look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.published import grids
from harness.published.entrants import Entrant
from harness.published.formats import TORCHGEO_BENCH
from harness.published.library import Source
from harness.published.matching import LeftOut, Selection
from harness.published.tasks import Task, bands_words, size_words
from harness.published.vocabulary import vocabulary
from reports import words
from reports.ranking import average_ranks


def notes(selection: Selection, sources: Sequence[Source]) -> list[str]:
    """All notes, the sources first."""
    return [
        *(source_note(source) for source in sources),
        *cautions(selection),
        *_matching_rule(selection),
        *_cost(selection, sources),
        "Published scores come without predictions: a difference between two of them is not "
        "paired, so its interval is wider than it would have to be.",
    ]


def cautions(selection: Selection) -> list[str]:
    """What is not ranked, and what the ranking cannot know."""
    return [*_unlike_inputs(selection), *_left_out(selection), *_same_imagery(selection.tasks)]


def source_note(source: Source) -> str:
    """Where a table comes from, and what happened to its rows."""
    parts = [f"{source.rows:,} rows"]
    for n, what in (
        (source.exact_duplicates, "exact duplicate"),
        (source.repeated, "result repeated in other words"),
    ):
        if n:
            parts.append(f"{words.number(n, what, _plural(what))} dropped")
    if source.conflicts:
        fate = "the first of each used" if source.duplicates == "first" else "ranked nowhere"
        stand = words.number(len(source.conflicts), "result")
        parts.append(f"{stand} given with contradicting values, {fate}")
    if source.percent:
        parts.append("converted from percent")
    return (
        f"Source: {source.name} (SHA-256 {source.sha256[:16]}…; {', '.join(parts)}). "
        f"Licence: {source.licence}. Citation: {source.citation}."
    )


def _plural(what: str) -> str:
    return what.replace("result ", "results ") if what.startswith("result ") else f"{what}s"


def _unlike_inputs(selection: Selection) -> Iterator[str]:
    """Tasks that the columns call equal and the stated costs do not."""
    if not selection.uneven:
        return
    ranked = any(task in selection.tasks for task in selection.uneven)
    by_dataset: dict[tuple[str, str], int] = {}
    for task, groups in selection.uneven.items():
        told = " and ".join(
            f"{count:,} patch positions for {words.listed(sorted(names))}"
            for count, names in sorted(groups.items())
        )
        key = (task.dataset, told)
        by_dataset[key] = by_dataset.get(key, 0) + 1
    told = "; ".join(
        f"{dataset} ({words.number(n, 'task')}): {what}"
        for (dataset, what), n in by_dataset.items()
    )
    fate = (
        "They are ranked all the same, as asked (--any-grid)"
        if ranked
        else "They are left out; --any-grid ranks them all the same"
    )
    yield (
        f"Unlike inputs under equal columns: by their GFLOPs as published, models were not given "
        f"the same image: {told}. {fate}. {_with_and_without(selection)}"
    )


def _with_and_without(selection: Selection) -> str:
    rest = [task for task in selection.tasks if task not in selection.uneven]
    every = list(dict.fromkeys([*selection.tasks, *selection.uneven]))
    without = f"Without them: {_order(selection.entrants, rest)}. " if rest else ""
    return f"{without}With them: {_order(selection.entrants, every)}."


def _order(entrants: Sequence[Entrant], tasks: Sequence[Task]) -> str:
    """Average ranks over some tasks, best first."""
    metrics = vocabulary().metrics
    scores = [np.array([e.cells[task].score for e in entrants]) for task in tasks]
    ranks = average_ranks(scores, [metrics[task.metric].higher_is_better for task in tasks])
    order = sorted(range(len(entrants)), key=lambda i: (ranks[i], entrants[i].name))
    return ", ".join(f"{entrants[i].name} {words.rank_text(float(ranks[i]))}" for i in order)


def _left_out(selection: Selection) -> Iterator[str]:
    """One sentence per data set: the task that most of the models have, and who lacks it."""
    by_dataset: dict[str, list[LeftOut]] = {}
    for item in selection.left_out:
        by_dataset.setdefault(item.task.dataset, []).append(item)
    parts = []
    for dataset, items in by_dataset.items():
        widest = max(items, key=lambda item: sum(item.task in e.cells for e in selection.entrants))
        task = widest.task
        parts.append(
            f"{dataset} ({bands_words(task.bands)}; {size_words(task.image_size)}): {widest.reason}"
        )
    if parts:
        yield f"Not shared by all, so ranked by none: {'. '.join(parts)}."


def _same_imagery(tasks: Sequence[Task]) -> Iterator[str]:
    """Data sets that show the same places are not independent evidence."""
    known = vocabulary().datasets
    groups: dict[str, list[str]] = {}
    for dataset in dict.fromkeys(task.dataset for task in tasks):
        groups.setdefault(known[dataset].imagery if dataset in known else dataset, []).append(
            dataset
        )
    shared = [
        f"{' and '.join(names)} ({imagery})" for imagery, names in groups.items() if names[1:]
    ]
    if shared:
        yield (
            f"Data sets of the same imagery: {'; '.join(shared)}. They are not independent "
            f"evidence: {words.number(len(tasks), 'task')} rest on "
            f"{words.number(len(groups), 'source')} of images, so tests over tasks (Friedman, "
            "Nemenyi) claim more than they know."
        )


def _matching_rule(selection: Selection) -> Iterator[str]:
    settings = {e.normalisation for e in selection.entrants if e.normalisation}
    more = f" ({', '.join(sorted(settings))})" if settings else ""
    yield (
        "Compared only where data set, metric, probe, bands, image size, partition and numbers of "
        f"samples are equal. Input normalisation{more} is each model's own and is not matched."
    )


def _cost(selection: Selection, sources: Sequence[Source]) -> Iterator[str]:
    if not any(source.format == TORCHGEO_BENCH for source in sources):
        return
    known = [
        (e, t) for e in selection.entrants for t in selection.tasks if e.cells[t].gflops is not None
    ]
    exact = sum(grids.implied_positions(entrant, task) is not None for entrant, task in known)
    if known and exact:
        yield (
            "GFLOPs as published count a multiply and an add as two and include attention: "
            f"{exact} of {len(known)} stated values here equal twice the closed form of MACs "
            "exactly (patch size 8). They depend on the input that the source chose, so they are "
            "not comparable with the MACs of own runs."
        )
