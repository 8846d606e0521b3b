"""The atlas of a suite run: its variants at the input that they are given of its first task.

It must know nothing of results.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.atlas.collect import entry_of
from harness.plan import Plan, given_input
from models.errors import UserError
from reports.atlas import Atlas, Entry, Refusal


def atlas_of(plan: Plan, params: Mapping[str, int]) -> Atlas | None:
    """Each variant once, whatever its weights; None when none can be shown.

    ``params`` are the numbers of parameters that are known, by variant.
    """
    task = plan.suite.tasks[0]
    dataset = plan.dataset_of(task)
    entries: dict[str, Entry] = {}
    refused: dict[str, Refusal] = {}
    for entrant in plan.suite.entrants:
        variant = entrant.variant
        if variant.name in entries or variant.name in refused:
            continue
        given = given_input(entrant, task, dataset)
        if isinstance(given, str):
            refused[variant.name] = Refusal(variant.name, given)
            continue
        count = params.get(variant.name)
        try:
            found = entry_of(variant, given.shapes, task.patch_size, count)
            entries[variant.name] = found
        except UserError as error:
            refused[variant.name] = Refusal(variant.name, str(error))
    if not entries:
        return None
    card = dataset.card
    size = (card.height, card.width, card.steps, task.patch_size)
    return Atlas(tuple(entries.values()), tuple(refused.values()), *size)
