"""One pretraining as data: recipe, setting, variant, chips and seed, and what follows from them.

Its identity is all that decides the weights; a checkpoint of another identity is another run's.
It must not import a tensor library, or know how a step is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import UserError
from models.pretraining.chips import Chips
from models.pretraining.recipe import Recipe, Setting, recipe_hash
from models.registry import Variant
from models.tokens import TokenScheme


@dataclass(frozen=True)
class Job:
    """One pretraining, whoever runs it.

    ``samples`` are seen in all (None: the setting's), times the recipe's own factor; what is over
    a whole number of batches is left out. ``code`` is a hash of the program that trains. Raises
    `UserError` when the samples do not fill one batch, or scheme and chips share nothing.
    """

    recipe: Recipe
    setting: Setting
    variant: Variant
    chips: Chips
    seed: int
    samples: int | None = None
    code: str = ""

    def __post_init__(self) -> None:
        _ = self.modalities
        if not self.steps:
            raise UserError(
                f"{self._wanted:,} samples do not fill a batch of {self.setting.batch:,} (setting "
                f'"{self.setting.name}"); ask for more (--samples, or samples or epochs in a '
                "setting of your own), or for a smaller batch there."
            )

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self._wanted // self.setting.batch

    @property
    def _wanted(self) -> int:
        asked = self.samples or self.setting.samples
        if asked is None:
            asked = (self.setting.epochs or 0) * len(self.chips)
        return asked * self.recipe.samples_factor

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, as plain data."""
        return {
            "recipe": self.recipe.name,
            "recipe hash": recipe_hash(self.recipe, self.setting, self.variant.size),
            "variant": self.variant.name,
            "architecture": _short_hash(self.variant.architecture),
            "data": self.chips.fingerprint,
            "seed": self.seed,
            "steps": self.steps,
            "code": self.code,
        }

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the scheme and the chips share; `UserError` when there are none."""
        shared = tuple(name for name in self.variant.scheme.groups if name in self.chips.bands)
        if not shared:
            raise UserError(
                f'Recipe "{self.recipe.name}" makes tokens of '
                f"{', '.join(self.variant.scheme.groups)}, but the chips hold "
                f"{', '.join(self.chips.bands) or 'nothing'}; choose other chips."
            )
        return shared


def _short_hash(data: object) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_modalities(scheme: TokenScheme, names: Sequence[str]) -> TokenScheme:
    """The scheme with some of its modalities only."""
    return TokenScheme(scheme.name, {name: scheme.of(name) for name in names})
