"""From a sample as stored to a model's input: bands by name, units, normalisation.

Bands are matched by name, so the order in which a file stores them cannot matter, and
a band that a model needs and the data lack is refused, never filled with zeros. It must
know nothing of encoders' insides or of where embeddings go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.pixels import CHUNK, Pixels
from models.errors import UserError
from models.normalisation import StatisticsAccumulator, normalise, pretraining_statistics
from models.sensors import modality
from suites.datasets.base import Batch, DatasetCard

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class InputRule:
    """How one modality of a data set becomes a model's input (see `prepare`)."""

    positions: tuple[int, ...]  # stored position of each band, in the model's order
    units_per_dn: float
    mean: Vector
    std: Vector


def band_positions(card: DatasetCard, modality_name: str) -> tuple[int, ...]:
    """Where each band of the modality stands in the data; `UserError` when one is missing."""
    stored = card.bands[modality_name]
    missing = [band for band in modality(modality_name).band_names if band not in stored]
    if missing:
        raise UserError(
            f'Data set "{card.name}" has no {", ".join(missing)} of {modality_name}, which the '
            f"model needs; it stores {', '.join(stored)}. Missing bands are never made up."
        )
    return tuple(stored.index(band) for band in modality(modality_name).band_names)


def pretraining_rules(card: DatasetCard) -> dict[str, InputRule]:
    """Normalise with the statistics of the model's pretraining data."""
    rules = {}
    for name in card.bands:
        mean, std = pretraining_statistics(name)
        rules[name] = InputRule(band_positions(card, name), card.units_per_dn, mean, std)
    return rules


def dataset_rules(
    card: DatasetCard, pixels: Pixels, rows: npt.NDArray[np.int64]
) -> dict[str, InputRule]:
    """Normalise with the statistics of these rows: the training split, never all the data."""
    sums = {name: StatisticsAccumulator() for name in card.bands}
    wanted = np.zeros(len(pixels), dtype=bool)
    wanted[rows] = True
    for start in range(0, len(pixels), CHUNK):
        batch = pixels.read(start, start + CHUNK)
        chosen = wanted[start : start + CHUNK]
        for name, total in sums.items():
            ordered = batch.images[name][chosen][..., list(band_positions(card, name))]
            total.update(ordered * card.units_per_dn)
    rules = {}
    for name, total in sums.items():
        found = total.result()
        positions = band_positions(card, name)
        rules[name] = InputRule(positions, card.units_per_dn, found.mean, found.std)
    return rules


def prepare(batch: Batch, rules: dict[str, InputRule]) -> dict[str, npt.NDArray[np.float32]]:
    """Images ``[B, H, W, T, D]`` in the model's band order, normalised, float32."""
    return {
        name: normalise(
            batch.images[name][..., list(rule.positions)] * np.float32(rule.units_per_dn),
            rule.mean,
            rule.std,
        )
        for name, rule in rules.items()
    }
