"""What a model will really see of a data set: which stored band becomes which channel, and how.

`resolve` brings a data set's card and a design's needs together, or refuses in one sentence.
Bands are matched by name, so the order in which a file stores them cannot matter; a channel
that the data lack is refused, or made by a rule that is recorded, never filled with zeros.
It is planning: no pixel is read, no tensor library imported.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

from models.design import Design, InputNeeds, ModalityNeeds
from models.errors import UserError
from models.sensors import DERIVED, modality
from models.tokens import InputShape
from suites.datasets.base import DatasetCard

MissingBands = Literal["refuse", "nearest"]
Resize = Literal["refuse", "fit", "native"]
NEAREST_WITHIN = 120.0  # nm; beyond it another band says nothing of the missing one


@dataclass(frozen=True)
class InputPolicy:
    """What a protocol allows the harness to do to an input that does not fit a model.

    ``missing_bands``: "nearest" puts the stored band of the nearest centre wavelength, at
    most `NEAREST_WITHIN` nm away, in a missing one's place. ``resize``: "fit" enlarges to
    the next multiple of the patch size, "native" brings the image to the side that the
    model was pretrained with (and acts as "fit" for a model that saw many).
    """

    missing_bands: MissingBands = "refuse"
    resize: Resize = "refuse"


STRICT = InputPolicy()


@dataclass(frozen=True)
class Source:
    """Where one channel comes from: ``bands`` are stored ones (two for a derived channel)."""

    channel: str
    how: Literal["stored", "imputed", "derived"]
    bands: tuple[str, ...]

    @property
    def words(self) -> str:
        """Short text for tables, e.g. ``"B8A (from B08)"``."""
        if self.how == "stored":
            return self.channel
        made = f"from {self.bands[0]}" if self.how == "imputed" else f"of {', '.join(self.bands)}"
        return f"{self.channel} ({made})"


@dataclass(frozen=True)
class ModalityInput:
    """One modality as the encoder is given it. ``rule`` is the model's own normalisation."""

    name: str
    sources: tuple[Source, ...]
    stored: InputShape
    given: InputShape
    needs: ModalityNeeds


@dataclass(frozen=True)
class ModelInput:
    """All that a model sees of one data set's samples."""

    modalities: tuple[ModalityInput, ...]
    notes: tuple[str, ...]

    @property
    def shapes(self) -> tuple[InputShape, ...]:
        """Shapes that the encoder is given, with their channels."""
        return tuple(m.given for m in self.modalities)

    @property
    def channels(self) -> dict[str, tuple[str, ...]]:
        """Per modality, the channels in the encoder's order."""
        return {m.name: tuple(s.channel for s in m.sources) for m in self.modalities}

    @property
    def has_statistics(self) -> bool:
        """Whether the model brings a normalisation of its own."""
        return any(m.needs.shift is not None for m in self.modalities)

    @property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an embedding, as plain data."""
        return {
            m.name: {
                "sources": [[s.channel, s.how, *s.bands] for s in m.sources],
                "given": [m.given.height, m.given.width, m.given.steps],
                "rule": asdict(m.needs),
            }
            for m in self.modalities
        }


def resolve(
    name: str,
    design: Design,
    card: DatasetCard,
    policy: InputPolicy,
    patch_size: int,
    needs: InputNeeds | None = None,
) -> ModelInput:
    """How a variant called ``name`` is fed with a data set's samples.

    ``needs``: where its weights want other than the design's.

    Raises:
        UserError: the data lack a modality or band that it needs, or a sample's shape does
            not fit it, and the policy allows no way out.
    """
    needs = needs or design.needs
    _check_patch(name, needs, patch_size)
    if card.steps > needs.max_steps:
        raise UserError(
            f"{name} takes at most {needs.max_steps} time step{'s' * (needs.max_steps > 1)}, but "
            f"{card.name} has {card.steps}."
        )
    found = tuple(
        _modality(name, card, each, needs, policy, patch_size)
        for each in _shared(name, needs, card)
    )
    made = ModelInput(found, tuple(_notes(name, needs, card, found)))
    design.layout(made.shapes, patch_size)  # refuses what it cannot cut
    return made


def _check_patch(name: str, needs: InputNeeds, patch_size: int) -> None:
    if patch_size not in needs.patch_sizes:
        allowed = ", ".join(map(str, needs.patch_sizes))
        raise UserError(
            f"{name} cannot cut patches of {patch_size} x {patch_size} pixels; "
            f"allowed patch sizes: {allowed}."
        )


def _shared(name: str, needs: InputNeeds, card: DatasetCard) -> list[str]:
    """Modalities that the model reads and the data hold, in the model's order."""
    absent = [each for each in needs.required if each not in card.bands]
    shared = [each for each in needs.modalities if each in card.bands]
    if absent or not shared:
        wanted = " and ".join(absent) if absent else " or ".join(needs.modalities)
        raise UserError(
            f"{name} needs {wanted}, but {card.name} holds only {', '.join(card.bands)}."
        )
    return shared


def _modality(
    name: str,
    card: DatasetCard,
    modality_name: str,
    needs: InputNeeds,
    policy: InputPolicy,
    patch_size: int,
) -> ModalityInput:
    wanted = needs.modalities[modality_name]
    stored = card.bands[modality_name]
    sources: list[Source] = []
    missing: list[str] = []
    for channel in wanted.channels:
        # What takes whatever there is has nothing to be made up for it.
        source = _source(channel, modality_name, stored, STRICT if wanted.whichever else policy)
        if source is not None:
            sources.append(source)
        elif not wanted.whichever:
            missing.append(channel)
    if missing or not sources:
        raise UserError(_missing_sentence(name, card, modality_name, missing, policy))
    side = _given_side(name, card, needs, policy, patch_size)
    shape = InputShape(card.height, card.width, card.steps, modality_name)
    channels = tuple(source.channel for source in sources)
    given = InputShape(*side, card.steps, modality_name, channels)
    return ModalityInput(modality_name, tuple(sources), shape, given, wanted)


def _source(
    channel: str, modality_name: str, stored: tuple[str, ...], policy: InputPolicy
) -> Source | None:
    if channel in stored:
        return Source(channel, "stored", (channel,))
    pair = DERIVED.get(modality_name, {}).get(channel)
    if pair is not None:
        return Source(channel, "derived", pair) if set(pair) <= set(stored) else None
    nearest = _nearest(channel, modality_name, stored)
    if policy.missing_bands == "nearest" and nearest is not None:
        return Source(channel, "imputed", (nearest,))
    return None


def _nearest(channel: str, modality_name: str, stored: tuple[str, ...]) -> str | None:
    """The stored band nearest in wavelength; of two equally near ones the shorter."""
    waves = {b.name: b.wavelength for b in modality(modality_name).bands if b.wavelength}
    if channel not in waves:
        return None
    near = sorted((abs(waves[b] - waves[channel]), waves[b], b) for b in stored if b in waves)
    return near[0][2] if near and near[0][0] <= NEAREST_WITHIN else None


def _missing_sentence(
    name: str, card: DatasetCard, modality_name: str, missing: list[str], policy: InputPolicy
) -> str:
    stored = card.bands[modality_name]
    sentence = (
        f'Data set "{card.name}" has no {", ".join(missing) or "band"} of {modality_name}, which '
        f"{name} needs; it stores {', '.join(stored)}. Missing bands are never made up"
    )
    fillable = [band for band in missing if _nearest(band, modality_name, stored)]
    if policy.missing_bands == "refuse" and len(fillable) == len(missing):
        return f'{sentence}, unless the protocol says "missing_bands: nearest".'
    return f"{sentence}."


def _given_side(
    name: str, card: DatasetCard, needs: InputNeeds, policy: InputPolicy, patch_size: int
) -> tuple[int, int]:
    """Rows and columns that the encoder is given."""
    height, width = card.height, card.width
    if policy.resize == "native" and needs.native_side is not None:
        return needs.native_side, needs.native_side
    if policy.resize != "refuse":
        height, width = (ceil(side / patch_size) * patch_size for side in (height, width))
    if min(height, width) < patch_size:
        raise UserError(
            f"{name} cuts patches of {patch_size} pixels, but images of {card.name} have only "
            f'{height} x {width}; choose a smaller patch size, or allow "resize: fit".'
        )
    if height % patch_size or width % patch_size:
        raise UserError(
            f"Patch size {patch_size} does not divide the {height} x {width} pixels of "
            f'{card.name}; choose a divisor of both, or allow "resize: fit" in the protocol.'
        )
    if needs.square and height != width:
        raise UserError(f"{name} takes square images, but those of {card.name} are not.")
    return height, width


def _notes(
    name: str, needs: InputNeeds, card: DatasetCard, found: tuple[ModalityInput, ...]
) -> list[str]:
    """What a reader of a score must know of the model's input, one sentence each."""
    notes = []
    for each in found:
        imputed = [s.words for s in each.sources if s.how == "imputed"]
        if imputed:
            notes.append(
                f"{name} on {card.name}: missing bands are copies of their nearest neighbour in "
                f"wavelength: {', '.join(imputed)}."
            )
        if (each.given.height, each.given.width) != (each.stored.height, each.stored.width):
            notes.append(
                f"{name} on {card.name}: images of {each.stored.height} x {each.stored.width} "
                f"pixels are resized to {each.given.height} x {each.given.width} (bilinear)."
            )
    return notes


def level_mismatch(needs: InputNeeds, card: DatasetCard) -> bool:
    """Whether the data's Sentinel-2 processing level is another than the model's training data."""
    return "sentinel2_l2a" in card.bands and needs.level not in ("any", card.level)


def normalisations(given: ModelInput, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The protocol's normalisations, as this model has them.

    Without statistics of its own the pretraining's is the data set's, and is not run twice.
    """
    own = asked if given.has_statistics else ("dataset",) * len(asked)
    return tuple(dict.fromkeys(own))


def poolings(tokens: int, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The protocol's poolings; of a single token all are the same, and one is enough."""
    return asked if tokens > 1 else asked[:1]
