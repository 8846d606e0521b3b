"""Cards of study weights: what this project trained, on what, for how long; where they are.

Study weights are a pair of files: an encoder as safetensors and a card (YAML) that says
everything a reader of its scores must know. Planning needs the card and the file's hash long
before anything is computed, so nothing here imports a tensor library; `models.study_weights`
writes and loads the tensors. It must not know suites or how anything was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models import config_file
from models.checkpoints import remembered_sha256
from models.design import InputNeeds, ModalityNeeds
from models.errors import UserError
from models.registry import Variant

STUDY_FOLDER = Path(__file__).parent / "study"
"""Where the package's own study weights are: ``<recipe>-<size>.safetensors`` and ``.yaml``."""

FORMAT = "tokenrank-encoder-1"
ENCODER_FILE, CARD_FILE = "encoder.safetensors", "card.yaml"
SEED_FIELD = "{seed}"
"""In the place of study weights: stands for the suite's seed."""

RECIPE = r"^[a-z0-9][a-z0-9._-]*$"
_NO_RECIPES = ("official", "study", "random", "baseline", "published")  # tiers, after an "@" too
_HEADER_BYTES = 100_000_000  # the format's own limit of a header


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyData(_Strict):
    """The images that the weights were trained on.

    ``count`` is how many there are, ``title`` what they are called in a sentence
    ("Sentinel-2 L2A tiles of Europe").
    """

    title: str = Field(min_length=1)
    count: int = Field(gt=0)
    fingerprint: str = Field(min_length=1)
    origin: Literal["real", "simulated", "real and simulated"]
    licence: str = Field(min_length=1)


class BandRow(_Strict):
    """Mean and standard deviation of one band, in digital numbers (radar: dB)."""

    mean: float
    std: float = Field(ge=0)


class StudyScore(_Strict):
    """A score that the project measured, with its 95% interval where it has one.

    ``dataset`` and ``origin``: of the images it was measured on.
    """

    suite: str
    task: str
    dataset: str
    origin: str
    score: float
    low: float | None = None
    high: float | None = None
    note: str = ""


class StudyCard(_Strict):
    """What is known of one file of study weights.

    Args:
        variant: the encoder's variant, by its registered name.
        recipe, recipe_hash: how it was pretrained; the hash is over all that the recipe sets.
        setting: at which scale, by name; the hash is over it too.
        samples_factor: how many times the setting's samples the recipe asks for.
        precision: of the layers while training (losses are always float32).
        processes: how many shared each batch; several numbers, in their order, where an
            interrupted training went on with another.
        size, seed: of the encoder, and of its training.
        steps, samples_seen: length of the training; samples count again each time they are seen.
        data: what it was trained on.
        statistics: per modality that was trained, and per band, what normalised the images; whoever
            runs the encoder on its pretraining's normalisation uses these.
        weights_sha256: of the safetensors file beside the card; the writer sets it.
        code: version hash of the training code.
        packages: versions of torch and NumPy.
        pretraining_macs: all MACs of the training, forward and backward, where they were counted.
        scores: measured by the project; may be empty.
        limits: sentences on what the weights cannot tell.
        licence: of the weights.
        created_by_command: what makes them again.
    """

    variant: str = Field(min_length=1)
    recipe: str = Field(pattern=RECIPE)
    recipe_hash: str = Field(min_length=1)
    setting: str = Field(min_length=1)
    samples_factor: int = Field(default=1, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    processes: list[int] = Field(default=[1], min_length=1)
    size: str = Field(min_length=1)
    seed: int = Field(ge=0)
    steps: int = Field(ge=0)
    samples_seen: int = Field(ge=0)
    data: StudyData
    statistics: dict[str, dict[str, BandRow]] = Field(min_length=1)
    weights_sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    code: str = Field(min_length=1)
    packages: dict[str, str]
    pretraining_macs: int | None = Field(default=None, ge=0)
    scores: list[StudyScore] = []
    limits: list[str] = []
    licence: str = Field(default="Apache-2.0", min_length=1)
    created_by_command: str = Field(min_length=1)

    @field_validator("recipe")
    @classmethod
    def _no_tier(cls, name: str) -> str:
        return checked_recipe(name)

    def needs(self, family: InputNeeds) -> InputNeeds:
        """What these weights must be fed, given what their family must be.

        Only modalities that were trained, normalised as they were in training.
        """
        trained = {
            name: _normalised_by(needs, self.statistics[name])
            for name, needs in family.modalities.items()
            if name in self.statistics
        }
        return replace(family, modalities=trained)

    @property
    def header(self) -> dict[str, str]:
        """What the safetensors file says of itself."""
        return {
            "format": FORMAT,
            "variant": self.variant,
            "recipe": self.recipe,
            "recipe_hash": self.recipe_hash,
        }


def _normalised_by(needs: ModalityNeeds, rows: Mapping[str, BandRow]) -> ModalityNeeds:
    """By mean - 2 std and 4 std of the channels."""
    return replace(
        needs,
        shift=tuple(rows[c].mean - 2 * rows[c].std for c in needs.channels),
        divisor=tuple(4 * rows[c].std for c in needs.channels),
    )


@dataclass(frozen=True)
class StudyFiles:
    """Where the two files of one set of study weights are, or are to be."""

    weights: Path
    card: Path

    @classmethod
    def in_folder(cls, folder: Path) -> StudyFiles:
        """As a training run leaves them."""
        return cls(folder / ENCODER_FILE, folder / CARD_FILE)

    @classmethod
    def shipped(cls, recipe: str, size: str) -> StudyFiles:
        """As the package holds them."""
        stem = f"{recipe}-{size}"
        return cls(STUDY_FOLDER / f"{stem}.safetensors", STUDY_FOLDER / f"{stem}.yaml")


@dataclass(frozen=True)
class FoundWeights:
    """Study weights on this machine: the card has been held against the file."""

    files: StudyFiles
    card: StudyCard


def checked_recipe(name: str) -> str:
    """The name; `ValueError` where it would read as a tier beside a variant's name."""
    if name in _NO_RECIPES:
        raise ValueError(f'"{name}" is the name of a tier; a recipe needs another')
    return name


def main_recipe(variant: Variant) -> str:
    """The recipe of a variant's main arm: its version's own, with the scheme it departs to.

    ``v1`` for ``olmoearth-v1-nano``, ``v1-single`` for ``olmoearth-v1-nano:single``.
    """
    return f"{variant.version}-{variant.scheme.name}" if variant.departs else variant.version


def read_card(place: Path | StudyFiles, cache: Path | None = None) -> StudyCard:
    """The card of study weights, held against the weights beside it.

    ``place`` is a training run's folder, a file of weights or a card. Hashes are remembered
    under ``cache`` by path, size and time.

    Raises:
        UserError: one of the two files is absent, or the card lacks something, or the weights
            are in another format, or not those that the card describes.
    """
    return find_weights(place, cache).card


def find_weights(place: Path | StudyFiles, cache: Path | None = None) -> FoundWeights:
    """As `read_card`, with the places of both files."""
    files = place if isinstance(place, StudyFiles) else _files_at(place)
    if not files.weights.is_file():
        raise UserError(
            f"{files.weights} is not there; study weights are two files, {files.weights.name} and "
            f"{files.card.name}."
        )
    if not files.card.is_file():
        raise UserError(
            f"{files.card} is not there; study weights are never used without their card."
        )
    card = _read(files.card)
    header = _header(files.weights)
    if header.get("format") != FORMAT:
        raise UserError(
            f'{files.weights} has format "{header.get("format", "none")}", but study weights have '
            f'"{FORMAT}"; write them with tokenrank pretrain.'
        )
    sha256 = remembered_sha256(files.weights, cache)
    if sha256 != card.weights_sha256:
        raise UserError(
            f"{files.card} does not belong to {files.weights.name}: it names weights of hash "
            f"{card.weights_sha256[:12]}, the file has {sha256[:12]}; one of them was changed or "
            "damaged, get both again."
        )
    for key, said in card.header.items():
        if header.get(key) != said:
            raise UserError(
                f'{files.card} gives {key} "{said}", but the weights say '
                f'"{header.get(key, "nothing")}"; get both files again.'
            )
    return FoundWeights(files, card)


def shipped_cards() -> dict[tuple[str, str], StudyCard]:
    """Cards of the package's own study weights, by variant and recipe; hashes are not checked."""
    cards = [_read(path) for path in sorted(STUDY_FOLDER.glob("*.yaml"))]
    return {(card.variant, card.recipe): card for card in cards}


def find_shipped(variant: Variant, recipe: str, cache: Path | None = None) -> FoundWeights | str:
    """The package's own weights of a variant, or the sentence that says why there are none.

    Raises `UserError` where the package's files are damaged.
    """
    cards = shipped_cards()
    if (variant.name, recipe) in cards:
        return find_weights(StudyFiles.shipped(recipe, variant.size), cache)
    others = sorted({card.variant for card in cards.values()})
    mine = sorted(found for name, found in cards if name == variant.name)
    of_recipe = f' by recipe "{recipe}"' if mine or recipe != main_recipe(variant) else ""
    held = f"variants that have some: {', '.join(others)}" if others else "there are none yet"
    held = f"recipes of it that are: {', '.join(mine)}" if mine else held
    return (
        f"no study weights of {variant.name}{of_recipe} are shipped with this version ({held}); "
        "train some (tokenrank pretrain) and give their folder, or choose another tier (--tier "
        "random)."
    )


def _files_at(place: Path) -> StudyFiles:
    """The pair at a place; `UserError` where nothing like it is there."""
    if place.is_dir():
        if not (place / ENCODER_FILE).is_file() and any(place.glob(f"seed-*/{ENCODER_FILE}")):
            raise UserError(
                f"{place} holds one folder of weights per seed; name one of them, or all of them "
                f"as {place / 'seed-{seed}'}."
            )
        return StudyFiles.in_folder(place)
    if place.suffix == ".yaml":
        stem = ENCODER_FILE if place.name == CARD_FILE else f"{place.stem}.safetensors"
        return StudyFiles(place.with_name(stem), place)
    if place.suffix == ".safetensors":
        stem = CARD_FILE if place.name == ENCODER_FILE else f"{place.stem}.yaml"
        return StudyFiles(place, place.with_name(stem))
    if not place.exists():
        raise UserError(
            f"{place} is not there; study weights are a folder with {ENCODER_FILE} and "
            f"{CARD_FILE}, or a .safetensors file with its card beside it."
        )
    raise UserError(
        f"{place} is no file of study weights; allowed: a folder with {ENCODER_FILE} and "
        f"{CARD_FILE}, or a .safetensors file with its card beside it."
    )


def is_study_folder(place: Path) -> bool:
    """Whether a place holds study weights, whatever it was given as."""
    if place.is_dir():
        return (place / ENCODER_FILE).is_file() and (place / CARD_FILE).is_file()
    return place.suffix == ".safetensors" and _files_at(place).card.is_file()


def is_untrained(place: Path) -> bool:
    """Whether a place is not there, or a training's folder whose training has not ended."""
    if not place.is_dir():
        return not place.exists()
    return not ((place / ENCODER_FILE).exists() or (place / CARD_FILE).exists())


def _read(path: Path) -> StudyCard:
    status = path.stat()
    return _read_once(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read_once(path: Path, _mtime: int, _size: int) -> StudyCard:
    # A table of models asks for every card once a variant.
    document = config_file.read(path)
    card = config_file.validate(StudyCard, document)
    if not card.weights_sha256:
        raise document.error((), 'the key "weights_sha256" is missing; add it.')
    return card


def _header(path: Path) -> dict[str, Any]:
    """Metadata of a safetensors file: eight bytes of length, then a JSON object, then tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _HEADER_BYTES)))
        found = header.get("__metadata__", {})
        if not isinstance(found, dict):
            raise ValueError("its metadata are no mapping")
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"{path} cannot be read as safetensors weights; it is damaged or incomplete, get it "
            "again."
        ) from None
    return found


def refuse_other(card: StudyCard, files: StudyFiles, variant: Variant, recipe: str | None) -> None:
    """`UserError` where weights are another variant's, or come of another recipe than asked for."""
    if card.variant != variant.name:
        raise UserError(
            f"{files.weights} holds weights of {card.variant}, which do not fit {variant.name}; "
            "name that variant, or other weights."
        )
    if recipe is not None and card.recipe != recipe:
        raise UserError(
            f'{files.weights} comes of recipe "{card.recipe}", but the suite asks for '
            f'"{recipe}" of {variant.name}; name the recipe that it has, or other weights.'
        )
