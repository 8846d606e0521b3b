"""What a licence of weights lets its user do, in one sentence, where that is certain.

Sources: the Apache License 2.0, sections 2 and 4; the MIT License; Creative Commons BY-NC 4.0,
sections 2 and 3; the OlmoEarth Artifact License, sections 1 and 2. Of any other licence nothing
is claimed. It must know nothing of pages.
"""

from __future__ import annotations

from collections.abc import Mapping

from reports import words
from reports.ranking import RankingTable
from reports.table import SuiteResults

_ALLOWS = {
    "Apache-2.0": (
        "may be used, changed and passed on, also commercially, with its notices kept and "
        "changes marked"
    ),
    "MIT": "may be used, changed and passed on, also commercially, with its notice kept",
    "CC BY-NC 4.0": "may be shared and adapted with credit, but not for commercial purposes",
    "OlmoEarth Artifact License": (
        "may be used, changed and passed on free of charge, except for the uses that its "
        "section 2 rules out, military and defence ones among them"
    ),
}


def licence_sentences(results: SuiteResults, ranking: RankingTable) -> list[str]:
    """One per licence of the ranking's trained weights: whose it is, and what it allows."""
    names = {entry.variant for entry in ranking.entries if entry.scores}
    holders: dict[str, list[str]] = {}
    for row in results.variants.to_dicts():
        if row["variant"] in names and _has_licence(row):
            holders.setdefault(row["licence"], []).append(f"{row['family']} {row['version']}")
    return [
        f"{licence} ({words.listed(list(dict.fromkeys(who)))}): {_allows(licence)}."
        for licence, who in holders.items()
    ]


def _has_licence(row: Mapping[str, object]) -> bool:
    """Whether a variant's weights were made by somebody who may say what they are for."""
    return row["tier"] in ("official", "study") and bool(row["licence"])


def _allows(licence: str) -> str:
    # A licence with a remark ("of the code repository") may not be that of the weights.
    return _ALLOWS.get(licence, "read its terms before use")
