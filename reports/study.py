"""Study weights in words: whose they are, and what this project trained them on.

All of it comes from the weights' cards, by way of the results. It must know nothing of pages, or
of how anything was trained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reports import words
from reports.table import StudyWeights, SuiteResults


def trained_on(results: SuiteResults, variants: Collection[str] | None = None) -> str:
    """The images behind the study weights of some variants (of all): number, origin and title.

    ``2,400 real images: Sentinel-2 tiles``; empty where none has study weights.
    """
    mine = [s for s in results.run.study if variants is None or s.variant in variants]
    return words.listed(list(dict.fromkeys(map(images, mine))))


def images(study: StudyWeights) -> str:
    """``2,400 real images: Sentinel-2 tiles``."""
    return f"{study.data_count:,} {study.data_origin} images: {words.clip(study.data_title, 60)}"


def study_of(results: SuiteResults) -> Mapping[str, StudyWeights]:
    """What is known of study weights, by the name of the variant's row."""
    return {study.variant: study for study in results.run.study}


def design(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a variant is, whatever its weights."""
    return tuple(str(row[key]) for key in ("family", "version", "size", "scheme"))


def is_beginning(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether an untrained variant takes part with study weights too: it is where those began.

    Such a row is a mark for the trained ones, and not to be chosen.
    """
    return row["tier"] == "random" and any(
        other["tier"] == "study" and design(other) == design(row) for other in rows
    )


def departs_in_recipe(row: Mapping[str, Any]) -> bool:
    """Whether a variant's row has weights of another recipe than its main arm's; its name says so.

    Such rows are held against the recipe that theirs departs from, and stand for no version.
    """
    return bool(row["recipe"]) and str(row["variant"]).endswith(f"@{row['recipe']}")


def departed_from(recipe: str, main: Iterable[str]) -> str | None:
    """The main recipe whose name a recipe's goes on from: ``v1.1`` of ``v1.1-no-band-dropout``."""
    return max((m for m in main if recipe.startswith(f"{m}-")), key=len, default=None)
