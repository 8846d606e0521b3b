"""Pretrainings small enough for a test: a tiny registry, chips in memory, recipes and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from models.pretraining.batches import Share
from models.pretraining.checkpoint import Record
from models.pretraining.chips import Chip
from models.pretraining.distributed import Group
from models.pretraining.job import Job
from models.pretraining.loop import Habits, Trained, train
from models.pretraining.recipe import Recipe, Setting
from models.registry import Registry, load_registry
from models.sensors import MODALITIES

S2, S1 = "sentinel2_l2a", "sentinel1"
REGISTRY = """\
family: olmoearth
sizes:
  pico: {dim: 32, depth: 1, heads: 4}
versions:
  one: {scheme: single, sizes: [pico], pixel_hidden: {pico: 6}}
  three: {scheme: per-resolution, sizes: [pico]}
"""
ALONE = Group(Share(), torch.device("cpu"))


def registry(folder: Path) -> Registry:
    """The shipped one and a size that trains in milliseconds: olmoearth-{one,three}-pico."""
    path = folder / "pico.yaml"
    path.write_text(REGISTRY)
    return load_registry((path,))


@dataclass
class MemoryChips:
    """Chips that are arrays. Implements `models.pretraining.chips.Chips`."""

    chips: Sequence[Chip]
    fingerprint: str = "f" * 64
    origin: Literal["real", "simulated"] = "simulated"

    def __len__(self) -> int:
        return len(self.chips)

    @property
    def sizes(self) -> Any:
        shapes = [next(iter(chip.images.values())).shape[:3] for chip in self.chips]
        return np.array(shapes, dtype=np.int64)

    @property
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        return {name: MODALITIES[name].band_names for name in self.chips[0].images}

    def chip(self, row: int) -> Chip:
        return self.chips[row]


def chips(
    modalities: Sequence[str] = (S2,),
    count: int = 12,
    side: int = 32,
    steps: Sequence[int] | int = 1,
    seed: int = 0,
) -> MemoryChips:
    """Noise around a level of each chip's own, so that there is something to tell them apart."""
    rng = np.random.default_rng(seed)
    found = []
    for row in range(count):
        times = steps if isinstance(steps, int) else steps[row % len(steps)]
        images = {}
        for name in modalities:
            bands = len(MODALITIES[name].bands)
            level = rng.normal(2500, 800, (1, 1, 1, bands))
            noise = rng.normal(0, 300, (side, side, times, bands))
            images[name] = (level + noise).astype(np.float32)
        dates = [[1, (row + 3 * t) % 12, 2020] for t in range(times)]
        found.append(Chip(images, np.array(dates, dtype=np.int64)))
    return MemoryChips(found)


def recipe(**changes: Any) -> Recipe:
    """v1's with three groups, unless changed."""
    plain = {"variant": "olmoearth-three", "masking": "band-groups", "contrast_weight": 0.1}
    return Recipe(**{"name": "small", "title": "Small", "decoder_depth": 1, **plain, **changes})


V11 = {
    "variant": "olmoearth-one",
    "masking": "random-and-time",
    "near_duplicate": 0.999,
    "band_dropout": 0.2,
}


def setting(**changes: Any) -> Setting:
    """Six steps of four samples, three by three patches of 4 or 8 pixels."""
    crops = {"patch_sizes": [4, 8], "sides": [3]}  # as many tokens: a loss of one scale
    rate = {"learning_rate": 1e-3, "weight_decay": 0.02, "warmup_fraction": 0.2}
    plain = {"samples": 24, "batch": 4, "crops": crops, "views": {"crop": "own"}}
    return Setting(**{"name": "small", "title": "Small", "optimiser": rate, **plain, **changes})


def job(
    folder: Path,
    recipe: Recipe,
    setting: Setting,
    chips: MemoryChips,
    seed: int = 0,
) -> Job:
    """Of the size pico."""
    variant = registry(folder).variant(recipe.variant_name("pico"))
    return Job(recipe, setting, variant, chips, seed)


@dataclass
class Watched:
    """A watcher that remembers, and may do something at a step."""

    at: Mapping[int, Any] = field(default_factory=dict)
    began: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None:
        self.began.append(steps_done)

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        self.records.append(record)
        if record.step in self.at:
            self.at[record.step](encoder)


EACH_STEP = Habits(log_every=1, save_seconds=0.0)


def run(
    job: Job, folder: Path, watch: Watched | None = None, habits: Habits = EACH_STEP
) -> Trained:
    """Train it here, in one process; a record and a checkpoint at every step."""
    return train(job, folder, ALONE, habits, watch or Watched())
