"""From stored pixels to an encoder's input, by the rules of a resolved `ModelInput`.

Order of bands, derived channels, normalisation, clipping, truncation, size: all of it
happens here, in one place for every family. It must know nothing of encoders' insides or of
where embeddings go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.model_input import ModalityInput, ModelInput, Source
from harness.pixels import CHUNK
from models.normalisation import BandStatistics, StatisticsAccumulator, normalise, two_sigma
from models.sensors import modality
from suites.datasets.base import DatasetCard

Vector = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]


class ImageSource(Protocol):
    """Images as stored, consecutive samples at a time (`harness.pixels.Pixels` is one)."""

    def __len__(self) -> int: ...
    def images(self, modality: str, start: int, stop: int) -> npt.NDArray[Any]:
        """``[B, H, W, T, D]`` of samples ``start .. stop``."""
        ...


@dataclass(frozen=True)
class InputRule:
    """How one modality's pixels become a model's input (see `prepare`).

    ``positions`` holds, per channel of the model, the stored position of its band, or of the
    two that it is derived from. The channel is then ``(x - shift) / divisor``, with both in
    stored units; a divisor of 0 marks a band that never varies, which becomes 0.5.
    """

    positions: tuple[tuple[int, ...], ...]
    shift: Vector
    divisor: Vector
    clip: bool = False
    levels: int | None = None
    size: tuple[int, int] | None = None  # to which images are resized


def make_rules(
    card: DatasetCard,
    given: ModelInput,
    normalisation: str,
    pixels: ImageSource,
    train: npt.NDArray[np.int64],
) -> dict[str, InputRule]:
    """Rules per modality, by the pretraining's statistics or those of the rows ``train``.

    A model without statistics of its own always takes the data's.
    """
    return {
        each.name: _rule(card, each, *_statistics(card, each, normalisation, pixels, train))
        for each in given.modalities
    }


def _rule(card: DatasetCard, each: ModalityInput, shift: Vector, divisor: Vector) -> InputRule:
    stored = card.bands[each.name]
    resized = (each.given.height, each.given.width)
    return InputRule(
        positions=tuple(tuple(stored.index(band) for band in s.bands) for s in each.sources),
        shift=shift,
        divisor=divisor,
        clip=each.needs.clip,
        levels=each.needs.levels,
        size=resized if resized != (each.stored.height, each.stored.width) else None,
    )


def _statistics(
    card: DatasetCard,
    each: ModalityInput,
    normalisation: str,
    pixels: ImageSource,
    train: npt.NDArray[np.int64],
) -> tuple[Vector, Vector]:
    """Shift and divisor per channel, in stored units."""
    shift, divisor = _own(each, _units(card, each.name))
    if normalisation == "pretraining" and each.needs.shift is not None:
        return shift, divisor
    found = _training_statistics(card, each, pixels, train)
    free = np.array([source.channel not in each.needs.fixed for source in each.sources])
    own_shift, own_divisor = two_sigma(found.mean, found.std)
    return np.where(free, own_shift, shift), np.where(free, own_divisor, divisor)


def _own(each: ModalityInput, units: float) -> tuple[Vector, Vector]:
    """The pretraining's constants, converted: images stay in stored units."""
    index = {channel: i for i, channel in enumerate(each.needs.channels)}
    rows = [index[source.channel] for source in each.sources]
    if each.needs.shift is None or each.needs.divisor is None:
        return np.zeros(len(rows)), np.ones(len(rows))
    scale = np.array([1.0 if _unitless(each.name, s) else units for s in each.sources])
    shift, divisor = np.array(each.needs.shift)[rows], np.array(each.needs.divisor)[rows]
    return shift / scale, divisor / scale


def _unitless(modality_name: str, source: Source) -> bool:
    return source.how == "derived"


def _units(card: DatasetCard, modality_name: str) -> float:
    """Stored value x units = digital number; radar is stored in dB, which nothing converts."""
    optical = any(band.wavelength is not None for band in modality(modality_name).bands)
    return card.units_per_dn if optical else 1.0


def _training_statistics(
    card: DatasetCard, each: ModalityInput, pixels: ImageSource, rows: npt.NDArray[np.int64]
) -> BandStatistics:
    wanted = np.zeros(len(pixels), dtype=bool)
    wanted[rows] = True
    stored = card.bands[each.name]
    positions = tuple(tuple(stored.index(band) for band in s.bands) for s in each.sources)
    total = StatisticsAccumulator()
    for start in range(0, len(pixels), CHUNK):
        stop = min(start + CHUNK, len(pixels))
        chosen = pixels.images(each.name, start, stop)[wanted[start:stop]]
        if len(chosen):
            total.update(channels_of(chosen, positions))
    return total.result()


def channels_of(images: npt.NDArray[Any], positions: tuple[tuple[int, ...], ...]) -> Images:
    """The model's channels ``[..., C]`` of stored images ``[..., D]``, not normalised yet.

    A derived channel of bands a, b is ``(a - b) / (a + b)``, 0 where the sum is not positive.
    """
    taken = np.take(images, [place[0] for place in positions], axis=-1).astype(np.float32)
    for i, place in enumerate(positions):
        if len(place) == 2:
            a = images[..., place[0]].astype(np.float64)
            b = images[..., place[1]].astype(np.float64)
            total = a + b
            taken[..., i] = np.where(total > 0, (a - b) / np.where(total > 0, total, 1.0), 0.0)
    return taken


def prepare(
    pixels: ImageSource, rules: dict[str, InputRule], start: int, stop: int
) -> dict[str, Images]:
    """Images ``[B, H, W, T, C]`` as the model wants them, float32."""
    return {
        name: apply_rule(pixels.images(name, start, stop), rule) for name, rule in rules.items()
    }


def apply_rule(images: npt.NDArray[Any], rule: InputRule) -> Images:
    """One modality's stored images ``[B, H, W, T, D]`` to ``[B, H', W', T, C]``."""
    x = channels_of(images, rule.positions)
    if rule.size is not None:
        x = _resized(x, rule.size)
    x = normalise(x, rule.shift, rule.divisor)
    if rule.clip:
        np.clip(x, 0.0, 1.0, out=x)
    if rule.levels is not None:
        np.floor(x * np.float32(rule.levels), out=x)
        x /= np.float32(rule.levels)
    return x


def _resized(images: Images, size: tuple[int, int]) -> Images:
    """Bilinear, antialiased when it shrinks; half-pixel centres."""
    import torch  # noqa: PLC0415  (planning reads this module's neighbours without it)
    from torch.nn import functional as F  # noqa: N812, PLC0415

    batch, height, width, steps, bands = images.shape
    x = torch.from_numpy(images).permute(0, 3, 4, 1, 2).reshape(-1, bands, height, width)
    y = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    y = y.view(batch, steps, bands, *size).permute(0, 3, 4, 1, 2)
    return np.ascontiguousarray(y.numpy())


def rules_to_json(rules: dict[str, InputRule]) -> dict[str, Any]:
    """Plain data; floats survive it exactly."""
    return {
        name: {
            "positions": [list(p) for p in rule.positions],
            "shift": rule.shift.tolist(),
            "divisor": rule.divisor.tolist(),
            "clip": rule.clip,
            "levels": rule.levels,
            "size": rule.size,
        }
        for name, rule in rules.items()
    }


def rules_from_json(data: dict[str, Any]) -> dict[str, InputRule]:
    """What `rules_to_json` wrote."""
    return {
        name: InputRule(
            tuple(tuple(p) for p in r["positions"]),
            np.array(r["shift"]),
            np.array(r["divisor"]),
            r["clip"],
            r["levels"],
            tuple(r["size"]) if r["size"] else None,
        )
        for name, r in data.items()
    }
