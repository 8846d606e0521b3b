"""Recipes as data: what a pretraining varies, and the setting that all compared recipes share.

A *recipe* (``recipes/*.yaml``) is what the experiment is about: token scheme, masking, loss,
band dropout. A *setting* (``settings/*.yaml``) is the scale at which it is run: crops, views,
optimiser, samples. Both are hashed into the weights' card. It must not import a tensor library.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models import config_file
from models.errors import UserError, did_you_mean
from models.registry import Registry, Variant

RECIPES_FOLDER = Path(__file__).parent / "recipes"
SETTINGS_FOLDER = Path(__file__).parent / "settings"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(_Strict):
    """What is trained, and by which objective.

    ``variant`` is ``family-version[:scheme]``; the size is chosen when it is run.
    ``near_duplicate``: targets more alike than this (cosine) are no negatives of one another.
    ``band_dropout``: highest rate, drawn anew every step from ``U(0, it)``.
    ``samples_factor``: so many times the setting's samples are seen (compute made equal).
    ``main``: one of the arms that a study is about, not an ablation of one.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.\-]*$")
    title: str
    variant: str
    main: bool = False
    masking: Literal["band-groups", "random-and-time"]
    temperature: float = Field(default=0.1, gt=0)
    near_duplicate: float | None = Field(default=None, gt=0, lt=1)
    contrast_weight: float = Field(ge=0)
    contrast_temperature: float = Field(default=0.1, gt=0)
    band_dropout: float | None = Field(default=None, gt=0, lt=1)
    decoder_depth: int = Field(default=4, ge=1)
    samples_factor: int = Field(default=1, ge=1)

    def variant_name(self, size: str) -> str:
        """``family-version-size[:scheme]``."""
        base, colon, scheme = self.variant.partition(":")
        return f"{base}-{size}{colon}{scheme}"


class Crops(_Strict):
    """Which crops a step may draw: one patch size and one side for the whole batch.

    ``sides`` are in patches. Of all pairs, those are drawn (each as likely) whose tokens, of all
    modalities and time steps, stay within ``token_budget`` and whose pixels within the chips.
    """

    patch_sizes: list[int] = Field(min_length=1)
    sides: list[int] = Field(min_length=1)
    least_pixels: int = Field(default=1, ge=1)
    token_budget: int = Field(default=2250, ge=1)

    @model_validator(mode="after")
    def _in_range(self) -> Crops:
        if not all(1 <= p <= 8 for p in self.patch_sizes):
            raise ValueError("patch_sizes are 1 to 8 pixels")
        if not all(side >= 1 for side in self.sides):
            raise ValueError("sides are at least 1 patch")
        return self


class Views(_Strict):
    """The two looks at each sample whose pooled encodings must recognise one another.

    ``crop``: both maskings of the same crop (as published), or each of a crop of its own.
    ``flips``: a random one of the eight flips and quarter turns. ``brightness`` and ``band_gain``:
    standard deviation of a factor ``exp(N(0, it))`` on all bands, and on each band by itself, of
    optical sensors.
    """

    crop: Literal["shared", "own"] = "shared"
    flips: bool = True
    brightness: float = Field(default=0.0, ge=0, le=1)
    band_gain: float = Field(default=0.0, ge=0, le=1)


class Optimiser(_Strict):
    """AdamW with a linear warm-up and a cosine to zero; norms and biases do not decay."""

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_fraction: float | None = Field(default=None, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)

    @model_validator(mode="after")
    def _one_warmup(self) -> Optimiser:
        if (self.warmup_steps is None) == (self.warmup_fraction is None):
            raise ValueError("give either warmup_steps or warmup_fraction")
        return self


class Setting(_Strict):
    """The scale at which recipes are run and compared.

    ``batch`` samples make a step, in ``accumulate`` equal parts one after the other (contrast
    sees one part at a time). ``samples`` are seen in all, unless ``epochs`` of the chips are
    given instead. ``normalisation``: by the family's own statistics, or by those of the chips.
    ``centred_targets``: see `models.pretraining.targets`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.\-]*$")
    title: str
    samples: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    batch: int = Field(ge=2)
    accumulate: int = Field(default=1, ge=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    normalisation: Literal["family", "chips"] = "family"
    centred_targets: bool = False
    crops: Crops
    views: Views
    optimiser: Optimiser

    @model_validator(mode="after")
    def _consistent(self) -> Setting:
        if (self.samples is None) == (self.epochs is None):
            raise ValueError("give either samples or epochs")
        if self.batch % self.accumulate or self.batch // self.accumulate < 2:
            raise ValueError("accumulate must divide batch into parts of at least 2")
        return self


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a YAML file by path; `UserError` names what there is."""
    return config_file.validate(Recipe, config_file.read(_path(name, RECIPES_FOLDER, "recipe")))


def load_setting(name: str) -> Setting:
    """A shipped setting by name, or a YAML file by path; `UserError` names what there is."""
    return config_file.validate(Setting, config_file.read(_path(name, SETTINGS_FOLDER, "setting")))


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES_FOLDER.glob("*.yaml"))


def _path(name: str, folder: Path, what: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise UserError(
            f'There is no {what} "{name}": {did_you_mean(name, names)}. '
            f"A {what} of your own is given as a YAML file."
        )
    return folder / f"{name}.yaml"


def recipe_hash(recipe: Recipe, setting: Setting, size: str) -> str:
    """SHA-256 (hex, 16 characters) of all that a recipe, its setting and a size say.

    Titles are left out: a better sentence makes no other weights.
    """
    data: dict[str, Any] = {
        "recipe": recipe.model_dump(exclude={"title", "main"}),
        "setting": setting.model_dump(exclude={"title"}),
        "size": size,
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def variant_of(recipe: Recipe, size: str, registry: Registry) -> Variant:
    """The variant that a recipe trains; `UserError` when there is no such one, or none here."""
    variant = registry.variant(recipe.variant_name(size))
    if variant.encoder != "olmoearth" or variant.options.get("positions", "additive") != "additive":
        raise UserError(
            f'Recipe "{recipe.name}" trains {variant.name}, but pretraining knows OlmoEarth '
            "encoders with additive positions (v1, v1.1) only; choose one of those."
        )
    return variant
