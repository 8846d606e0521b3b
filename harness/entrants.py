"""Who takes part in a suite, in which tier, with whose weights: from its entries to `Entrant`s.

Here a suite's and the command line's wishes meet: tiers, recipes, folders of weights, and the
marks (baselines, untrained encoders) that nobody has to name. It must not know tasks or data,
nor look for any weights: `harness.weights` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from models import config_file
from models.errors import UserError, did_you_mean
from models.registry import Registry, Variant
from models.study_cards import SEED_FIELD, StudyCard, main_recipe

if TYPE_CHECKING:
    from harness.suite import Overrides
    from harness.suite_file import SuiteFile, VariantEntry

BASELINE = "baseline"  # the tier of what nobody trains; no suite file chooses it
RANDOM = "random"
PRETRAINED = Path("pretrained")
"""Where `tokenrank pretrain` and `tokenrank study` leave weights unless told otherwise."""
Listed = Sequence[tuple["VariantEntry", "int | None"]]
"""Entries, each with its place among the file's variants; None: a command alone names it."""


class Row(NamedTuple):
    """What tells rows of a table apart: a variant, and whose weights it has."""

    variant: str
    tier: str
    recipe: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Without the recipe where there is none."""
        return tuple(word for word in self if word is not None)


@dataclass(frozen=True)
class Entrant:
    """A variant as it takes part in a suite: with a tier, and maybe a folder of weights.

    ``recipe``: of study weights; a plan's entrants of that tier all have one. ``card``: of such
    weights once they are found; those of its seeds differ in nothing that matters to an input.
    ``added``: nobody named it; it is there as a mark for the others.
    ``study``: the study that trains its weights; what it has not trained yet is no mistake.
    """

    variant: Variant
    tier: str
    weights: Path | None = None
    optional: bool = False
    added: bool = False
    recipe: str | None = None
    card: StudyCard | None = None
    study: str | None = None

    @property
    def row(self) -> Row:
        """The row of a table that it gets."""
        return Row(self.variant.name, self.tier, self.recipe)


def entrants_of(
    file: SuiteFile,
    listed: Listed,
    document: config_file.Document,
    registry: Registry,
    overrides: Overrides,
) -> tuple[Entrant, ...]:
    """All that take part: those ``listed``, then what the suite adds as marks for them.

    Raises `UserError`, with the file's line where it is the file's, for an unknown variant, a
    tier that it cannot have, one that stands twice, or weights that nobody uses.
    """
    folders = _Folders(dict(overrides.weights))
    found: list[Entrant] = []
    for entry, place in listed:
        line: config_file.Location = ("variants",) if place is None else ("variants", place)
        try:
            # A path is relative to where it is written: in the suite's file, or in a command.
            folder = document.path.parent if place is not None else None
            variant = registry.variant(entry.variant, entry.options, folder)
        except UserError as error:
            if overrides.variants:
                raise
            raise document.error(line, str(error)) from None
        try:
            entrant = _entrant(entry, variant, file.tier, folders, document, overrides.tier)
            entrant = _of_a_study(entrant, file.study)
            _refuse_twice(entrant, found)
        except UserError as error:
            raise document.error(line, str(error)) from None
        found.append(entrant)
    folders.refuse_unused({entrant.variant.name for entrant in found})
    return (*found, *_baselines(file.baselines, document, registry, found))


def _entrant(
    entry: VariantEntry,
    variant: Variant,
    usual: str,
    folders: _Folders,
    document: config_file.Document,
    asked: str | None,
) -> Entrant:
    """An entry in its tier: the command line's, its own, or what follows from its weights."""
    own_folder = path_from(document.path, entry.weights)
    trained = own_folder is not None or folders.has(variant.name) or variant.brought is not None
    implied = "study" if entry.recipe or (usual == "study" and variant.brought is None) else ""
    tier = asked or entry.tier or implied or ("official" if trained else usual)
    if variant.encoder == BASELINE:
        tier = BASELINE  # whatever is asked of the others: nothing in it can be trained
    if entry.recipe is not None and tier != "study":
        raise UserError(
            f'"{variant.name}" names recipe "{entry.recipe}" but is of tier {tier}; only study '
            "weights have a recipe.",
        )
    if tier in (RANDOM, "study") and variant.brought is not None:
        other = "random ones" if tier == RANDOM else "those of a study"
        raise UserError(
            f'"{variant.name}" brings weights of its own ({variant.brought}) and cannot run '
            f"with {other}; choose tier official."
        )
    if tier == RANDOM and own_folder is not None:
        raise UserError(
            f'"{variant.name}" has a folder of weights but runs with random ones; '
            "remove its weights, or choose tier official."
        )
    if tier in (RANDOM, BASELINE):
        return Entrant(variant, tier, None, entry.optional)
    weights = folders.take(variant.name, entry.recipe, own_folder)
    if tier != "study" and weights is not None and SEED_FIELD in str(weights):
        raise UserError(
            f'"{variant.name}" is of tier {tier}, and its weights name a seed ({weights}); only '
            "study weights are trained once per seed."
        )
    return Entrant(variant, tier, weights, entry.optional, recipe=entry.recipe)


def _of_a_study(entrant: Entrant, study: str | None) -> Entrant:
    """In a study's suite, study weights are where the study leaves them unless a place is named."""
    if study is None or entrant.tier != "study":
        return entrant
    recipe = entrant.recipe or main_recipe(entrant.variant)
    usual = PRETRAINED / f"{recipe}-{entrant.variant.size}" / f"seed-{SEED_FIELD}"
    return replace(entrant, recipe=recipe, weights=entrant.weights or usual, study=study)


def _refuse_twice(entrant: Entrant, found: Sequence[Entrant]) -> None:
    def other_recipe(before: Entrant) -> bool:
        # What the weights will say: `harness.plan` looks again when they are found.
        unsaid = entrant.tier == "study" and entrant.recipe is None
        return unsaid and before.weights != entrant.weights

    if any(e.row == entrant.row and not other_recipe(e) for e in found):
        of = f" with recipe {entrant.recipe}" if entrant.recipe else ""
        raise UserError(f'"{entrant.variant.name}" stands twice in tier {entrant.tier}{of}.')


@dataclass
class _Folders:
    """Places of weights from the command line, under ``variant`` or ``variant@recipe``."""

    given: Mapping[str, Path]
    used: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        return any(key.partition("@")[0] == name for key in self.given)

    def take(self, name: str, recipe: str | None, otherwise: Path | None) -> Path | None:
        """The place for an entrant; a plain name is for the one that names no recipe."""
        key = f"{name}@{recipe}" if recipe else name
        if key not in self.given:
            return otherwise
        self.used.add(key)
        return self.given[key]

    def refuse_unused(self, names: Collection[str]) -> None:
        """Weights that were given and go nowhere are a mistake, never ignored."""
        for key in sorted(set(self.given) - self.used):
            name, at, recipe = key.partition("@")
            if name not in names:
                hint = did_you_mean(name, names)
                raise UserError(
                    f'Weights are given for "{key}", which the suite does not run: {hint}.'
                )
            if at:
                raise UserError(
                    f'Weights are given for "{key}", but the suite runs no {name} with recipe '
                    f'"{recipe}"; name the recipe in the suite, or in --variant {key}.'
                )
            raise UserError(
                f'Weights are given for "{name}", which runs with random ones; drop --weights, or '
                "choose --tier official or study."
            )


def path_from(file: Path, path: Path | None) -> Path | None:
    """A path written in a file is relative to that file."""
    return file.parent / path if path is not None else None


# --- marks ---------------------------------------------------------------------------------------


def _baselines(
    names: Sequence[str],
    document: config_file.Document,
    registry: Registry,
    found: Sequence[Entrant],
) -> list[Entrant]:
    """What takes part without being asked: baselines, and untrained encoders for comparison."""
    added: list[Entrant] = []
    for i, name in enumerate(names):
        if name == RANDOM:
            added += _untrained(found)
            continue
        try:
            added.append(Entrant(registry.variant(name), BASELINE, added=True))
        except UserError as error:
            raise document.error(("baselines", i), str(error)) from None
    taking_part = [e.variant.name for e in found]
    return [e for e in added if e.tier != BASELINE or e.variant.name not in taking_part]


def _untrained(found: Sequence[Entrant]) -> list[Entrant]:
    """Encoders as they are before training, to hold the trained ones against.

    Of study weights each variant's own initialisation, which is where its training began; of
    any other family with trained weights the smallest variant.
    """
    listed = {e.variant.name for e in found if e.tier == RANDOM}
    studied = {e.variant.name: e.variant for e in found if e.tier == "study"}
    begun = [Entrant(v, RANDOM, added=True) for n, v in studied.items() if n not in listed]
    smallest: dict[str, Variant] = {}
    for entrant in (e for e in found if e.tier != BASELINE):
        old = smallest.get(entrant.variant.family)
        if old is None or _work(entrant.variant) < _work(old):
            smallest[entrant.variant.family] = entrant.variant
    has_some = {e.variant.family for e in (*found, *begun) if e.tier == RANDOM}
    return begun + [
        Entrant(v, RANDOM, added=True)
        for family, v in smallest.items()
        if family not in has_some and v.brought is None
    ]


def _work(variant: Variant) -> int:
    return variant.depth * variant.dim**2
