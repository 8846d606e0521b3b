"""The part of the page that holds every variant to what was never trained.

It must know nothing of how a margin is computed, nor of HTML, Markdown or files.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.absences import absences
from reports.against_baselines import AgainstBaselines
from reports.baseline_tables import (
    baseline_sentences,
    mark_tables,
    standing_tables,
    untrained_sentences,
)
from reports.document import Part
from reports.ranking import BASELINE, RankingTable
from reports.table import SuiteResults

_READING = (
    "Positive: the variant is better, by the paired difference; its 95% interval stands beneath. "
    "Over all tasks a variant beats its mark if it wins more tasks than it loses in at least 97.5% "
    "of the draws."
)


def against_baselines_part(found: AgainstBaselines | None, label: str) -> Part:
    """A ranking's variants against the best baseline and, if trained, against their family."""
    heading = f"Against the baselines{label}"
    if found is None:
        return Part(heading)
    family = Part(
        "Against the same encoders, untrained"
        if found.own_beginning
        else "Against the same family, untrained",
        paragraphs=tuple(untrained_sentences(found)),
        tables=tuple(standing_tables(found.untrained, None)),
    )
    told = tuple(baseline_sentences(found))
    return Part(
        heading,
        paragraphs=(*told, _READING),
        tables=tuple(standing_tables(found.baselines, found.best)),
        parts=(family,) if found.untrained else (),
    )


def marks_part(
    results: SuiteResults, marks: Sequence[RankingTable], against: Sequence[AgainstBaselines]
) -> Part:
    """What there is to beat: baselines and untrained encoders, with scores and costs."""
    origins = {ranking.origin for ranking in marks}
    judged = {found.ranking.name: found for found in against}
    parts = []
    for ranking in sorted(marks, key=lambda r: BASELINE not in r.tiers):
        name = "Baselines" if BASELINE in ranking.tiers else "Untrained encoders"
        found = judged.get(ranking.name)
        parts.append(
            Part(
                name + (f": {ranking.origin} data" if len(origins) > 1 else ""),
                paragraphs=tuple(baseline_sentences(found)) if found else (),
                tables=tuple(mark_tables(results, ranking)),
                bullets=tuple(absence.sentence for absence in absences(results, ranking)),
            )
        )
    kept = tuple(part for part in parts if not part.is_empty)
    return Part("What there is to beat", parts=kept)
