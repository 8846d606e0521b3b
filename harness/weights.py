"""Which weights an entrant runs with: a seed, a published checkpoint, or the project's own.

Finding them reads no tensor: a file is known by its hash, study weights by their card as well.
It must not know data sets or cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.entrants import BASELINE, Entrant
from models.checkpoints import Places as CheckpointPlaces
from models.checkpoints import find_checkpoint
from models.errors import UserError
from models.study_cards import (
    SEED_FIELD,
    FoundWeights,
    StudyCard,
    find_shipped,
    find_weights,
    is_study_folder,
    is_untrained,
    main_recipe,
    refuse_other,
)


@dataclass(frozen=True)
class Weights:
    """Which weights a cell uses: a seed (tier random), or a file's hash and place.

    ``card``: what is known of study weights; of no others.
    """

    tier: str
    seed: int | None = None
    sha256: str | None = None
    config: Path | None = None
    file: Path | None = None
    source: str = ""
    card: StudyCard | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What of it can change a result: the place the file came from cannot."""
        return {"tier": self.tier, "seed": self.seed, "sha256": self.sha256}

    @property
    def label(self) -> str:
        """Short text for tables: the file's hash, or the seed."""
        return self.sha256 or f"random, seed {self.seed}"


@dataclass(frozen=True)
class Resolved:
    """An entrant with its weights per seed, or the sentence that says why it has none.

    The entrant names its recipe now, where it is of tier study.
    """

    entrant: Entrant
    weights: tuple[Weights | str, ...]


def resolve_weights(
    entrant: Entrant, seeds: tuple[int, ...], weights_dir: Path | None, cache: Path
) -> Resolved:
    """Look for an entrant's weights, once where seeds do not change them.

    Raises `UserError` for a place that the user gave and that is wrong.
    """
    if entrant.tier == "study":
        return _study(entrant, seeds, cache)
    if entrant.tier in ("random", BASELINE):
        return Resolved(entrant, tuple(_seeded(entrant, seed) for seed in seeds))
    return Resolved(entrant, (_official(entrant, weights_dir, cache),) * len(seeds))


def _seeded(entrant: Entrant, seed: int) -> Weights:
    if entrant.tier == "random":
        return Weights("random", seed=seed, source=f"random initialisation, seed {seed}")
    drawn = seed if entrant.variant.options.get("seeded", True) else 0
    return Weights(BASELINE, seed=drawn, source="no training of any kind")


# --- what this project trained ------------------------------------------------------------------


def _study(entrant: Entrant, seeds: tuple[int, ...], cache: Path) -> Resolved:
    """Study weights: the package's own, or a place of the user's, which may name each seed."""
    if entrant.weights is None:
        recipe = entrant.recipe or main_recipe(entrant.variant)
        shipped = find_shipped(entrant.variant, recipe, cache)
        found = shipped if isinstance(shipped, str) else _of_study(shipped)
        card = None if isinstance(found, str) else found.card
        return Resolved(replace(entrant, recipe=recipe, card=card), (found,) * len(seeds))
    if SEED_FIELD in str(entrant.weights):
        each = [
            _given(entrant, Path(str(entrant.weights).replace(SEED_FIELD, str(seed))), cache)
            for seed in seeds
        ]
    else:
        each = [_given(entrant, entrant.weights, cache)] * len(seeds)
    cards = [found.card for found in each if isinstance(found, Weights) and found.card]
    _require_one_training(cards, entrant)
    recipe = cards[0].recipe if cards else entrant.recipe or main_recipe(entrant.variant)
    card = cards[0] if cards else None
    return Resolved(replace(entrant, recipe=recipe, card=card), tuple(each))


def _require_one_training(cards: list[StudyCard], entrant: Entrant) -> None:
    """Seeds of one row may differ in nothing but the seed: their mean would mean nothing."""
    for what, of in _SAME.items():
        values = list(dict.fromkeys(of(card) for card in cards))
        if len(values) > 1:
            raise UserError(
                f"{entrant.weights} holds weights that differ from seed to seed in their {what} "
                f"({values[0]}, {values[1]}); one row of a table is one training repeated, so give "
                f"{entrant.variant.name} weights of one."
            )


_SAME: Mapping[str, Callable[[StudyCard], object]] = {
    "recipe": lambda card: card.recipe,
    "recipe's hash": lambda card: card.recipe_hash,
    "training data": lambda card: card.data.fingerprint,
    "number of samples seen": lambda card: card.samples_seen,
}


def require_equal_terms(entrants: Sequence[Entrant]) -> None:
    """What one study compares was trained on the same images, at one scale, on as many samples.

    A recipe that asks for a multiple of the samples has as many times as many. Raises `UserError`
    naming two entrants that differ.
    """
    firsts: dict[str, Entrant] = {}
    for entrant in entrants:
        if entrant.study is None or entrant.card is None:
            continue
        first = firsts.setdefault(entrant.study, entrant)
        assert first.card is not None
        for what, of in _TERMS.items():
            if of(first.card) != of(entrant.card):
                raise UserError(
                    f'Weights of study "{entrant.study}" are not comparable: {first.recipe} was '
                    f"trained with {what} {of(first.card)}, {entrant.recipe} with "
                    f"{of(entrant.card)}; train both alike, or rank them in a suite without the "
                    'key "study".'
                )


_TERMS: Mapping[str, Callable[[StudyCard], object]] = {
    "training data": lambda card: card.data.fingerprint[:12],
    "setting": lambda card: card.setting,
    "samples": lambda card: card.samples_seen // card.samples_factor,
}


def _given(entrant: Entrant, place: Path, cache: Path) -> Weights | str:
    try:
        found = find_weights(place, cache)
    except UserError as error:
        # What is there and wrong is a mistake, optional or not.
        if entrant.study is not None and is_untrained(place):
            return (
                f"{place} holds no weights yet; `tokenrank study {entrant.study} --data CHIPS` "
                f"trains them, --weights {entrant.variant.name}@{entrant.recipe}=PLACE names "
                "others."
            )
        if entrant.optional and not place.exists():
            return f"{str(error).rstrip('.')}; it is optional in this suite."
        raise
    refuse_other(found.card, found.files, entrant.variant, entrant.recipe)
    return _of_study(found)


def _of_study(found: FoundWeights) -> Weights:
    card, file = found.card, found.files.weights
    return Weights("study", sha256=card.weights_sha256, file=file, source=str(file), card=card)


# --- what somebody published --------------------------------------------------------------------


def _official(entrant: Entrant, weights_dir: Path | None, cache: Path) -> Weights | str:
    variant = entrant.variant
    if variant.brought is not None and entrant.weights is None:
        from harness.encoders import brought_weights  # noqa: PLC0415  (torch loads with it)

        return Weights("official", sha256=brought_weights(variant), source=variant.brought)
    if variant.official is None and entrant.weights is None:
        return (
            f"no official weights exist for {variant.name}: nobody published any for token "
            f'scheme "{variant.scheme.name}" on {variant.family} {variant.version} {variant.size}; '
            "choose other variants or another tier."
        )
    if entrant.weights is not None and is_study_folder(entrant.weights):
        raise UserError(
            f"{entrant.weights} holds weights that tokenrank pretrained, but {variant.name} is of "
            "tier official; choose tier study."
        )
    homes = CheckpointPlaces(weights_dir, cache)
    try:
        found = find_checkpoint(variant.name, variant.official, entrant.weights, homes)
    except UserError as error:
        # A place that the user gave and that is wrong is a mistake, optional or not.
        given = entrant.weights or weights_dir
        if entrant.optional and (given is None or (given.is_dir() and entrant.weights is None)):
            return f"{str(error).rstrip('.')}; it is optional in this suite."
        raise
    return Weights(
        "official",
        sha256=found.sha256,
        config=found.config,
        file=found.weights,
        source=found.source,
    )
