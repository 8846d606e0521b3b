"""From a sample as stored to a model's input: bands by name, units, normalisation.

Bands are matched by name, so the order in which a file stores them cannot matter, and
a band that a model needs and the data lack is refused, never filled with zeros. It must
know nothing of encoders' insides or of where embeddings go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.pixels import CHUNK, Pixels
from models.errors import UserError
from models.normalisation import StatisticsAccumulator, normalise, pretraining_statistics
from models.sensors import modality
from suites.datasets.base import DatasetCard

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class InputRule:
    """How one modality of a data set becomes a model's input (see `prepare`).

    ``mean`` and ``std`` are per band of the model, in stored units.
    """

    positions: tuple[int, ...]  # stored position of each band, in the model's order
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
    """Normalise with the statistics of the model's pretraining data (digital numbers)."""
    rules = {}
    for name in card.bands:
        mean, std = pretraining_statistics(name)
        # The images stay in stored units; it is the statistics that are converted.
        units = card.units_per_dn
        rules[name] = InputRule(band_positions(card, name), mean / units, std / units)
    return rules


def dataset_rules(
    card: DatasetCard, pixels: Pixels, rows: npt.NDArray[np.int64]
) -> dict[str, InputRule]:
    """Normalise with the statistics of these rows: the training split, never all the data."""
    wanted = np.zeros(len(pixels), dtype=bool)
    wanted[rows] = True
    rules = {}
    for name in card.bands:
        positions = band_positions(card, name)
        total = StatisticsAccumulator()
        for start in range(0, len(pixels), CHUNK):
            stop = min(start + CHUNK, len(pixels))
            chosen = pixels.images(name, start, stop)[wanted[start:stop]]
            total.update(np.take(chosen, positions, axis=-1))
        found = total.result()
        rules[name] = InputRule(positions, found.mean, found.std)
    return rules


def prepare(
    pixels: Pixels, rules: dict[str, InputRule], start: int, stop: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Images ``[B, H, W, T, D]`` in the model's band order, normalised, float32."""
    return {
        name: normalise(
            np.take(pixels.images(name, start, stop), rule.positions, axis=-1),
            rule.mean,
            rule.std,
        )
        for name, rule in rules.items()
    }


def rules_to_json(rules: dict[str, InputRule]) -> dict[str, Any]:
    """Plain data; floats survive it exactly."""
    return {
        name: {"positions": rule.positions, "mean": rule.mean.tolist(), "std": rule.std.tolist()}
        for name, rule in rules.items()
    }


def rules_from_json(data: dict[str, Any]) -> dict[str, InputRule]:
    """What `rules_to_json` wrote."""
    return {
        name: InputRule(tuple(r["positions"]), np.array(r["mean"]), np.array(r["std"]))
        for name, r in data.items()
    }
