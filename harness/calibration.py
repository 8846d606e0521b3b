"""How fast this machine encodes and probes, from a second's work: for estimates, never for results.

The encoder's own path is timed (`harness.embed`), with initial weights on blank images: neither
changes the time. It must not know suites or stores.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.embed import batch_size, embed_into
from harness.estimates import Machine, ProbeSpeed
from harness.inputs import InputRule
from harness.model_input import ModelInput
from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs
from harness.probes.knn import OLMOEARTH_KNN, knn_votes
from harness.probes.linear import Training, Trial, train_heads
from harness.probes.segmentation import MapInputs, MapSettings
from harness.probes.segmentation import train_heads as train_map_heads
from harness.suite_file import Precision
from models.families import design_of, encoder_code
from models.registry import Variant
from suites.datasets.base import SPLITS


@dataclass(frozen=True)
class _Blank:
    """Images that hold nothing. Implements what `embed_into` reads of `harness.pixels.Pixels`."""

    given: ModelInput
    count: int

    def __len__(self) -> int:
        return self.count

    def images(self, modality: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Zeros of the stored shape, with as many bands as the rule reads."""
        each = next(m for m in self.given.modalities if m.name == modality)
        shape = each.stored
        bands = 1 + max(max(p) for p in _positions(each.sources))
        return np.zeros(
            (stop - start, shape.height, shape.width, shape.steps, bands), dtype=np.float32
        )

    def timestamps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The first of July 2020 and of the months after it."""
        steps = self.given.shapes[0].steps
        dates = [[1, (6 + step) % 12, 2020 + (6 + step) // 12] for step in range(steps)]
        return np.tile(np.array(dates, dtype=np.int64), (stop - start, 1, 1))


def _positions(sources: Any) -> list[tuple[int, ...]]:
    places: dict[str, int] = {}
    return [
        tuple(places.setdefault(band, len(places)) for band in source.bands) for source in sources
    ]


def encoder_seconds(
    variant: Variant, given: ModelInput, patch_size: int, precision: Precision = "float32"
) -> float:
    """Seconds to encode one sample here, from one batch for each core after a first one."""
    device = _device()
    code = encoder_code(variant)
    encoder = code.build(variant, given.channels)
    code.init_random(encoder, 0)
    design = design_of(variant)
    tokens, width = design.layout(given.shapes, patch_size).tokens, design.width(given.shapes)
    size = batch_size(tokens, width, device)
    cores = 1 if device.type == "cuda" else torch.get_num_threads()
    rules = {
        each.name: InputRule(
            positions=tuple(_positions(each.sources)),
            shift=np.zeros(len(each.sources)),
            divisor=np.ones(len(each.sources)),
            size=_resized(each),
        )
        for each in given.modalities
    }
    best = float("inf")
    for count in (min(size, 4), size * cores):  # the first warms up
        arrays = {"mean": np.empty((count, width), dtype=np.float32)}
        started = time.perf_counter()
        images = _Blank(given, count)
        embed_into(arrays, encoder, images, rules, patch_size, size, device, precision=precision)
        best = (time.perf_counter() - started) / count
    return best


def _resized(each: Any) -> tuple[int, int] | None:
    given, stored = (each.given.height, each.given.width), (each.stored.height, each.stored.width)
    return given if given != stored else None


def this_machine() -> Machine:
    """What can be said at once is measured; the encoder is timed when it is asked for."""
    device = _device()
    at_once = 1 if device.type == "cuda" else torch.get_num_threads()
    return Machine(
        encoder=encoder_seconds,
        probes=probe_speed(),
        batch=partial(batch_size, device=device),
        at_once=at_once,
        halved=partial(encoder_seconds, precision="bfloat16"),
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def probe_speed(width: int = 128, outputs: int = 10) -> ProbeSpeed:
    """Measured on random embeddings."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1024, width, generator=generator)
    labels = torch.randint(0, outputs, (1024,), generator=generator)
    started = time.perf_counter()
    knn_votes(rows, labels, rows[:512], outputs, OLMOEARTH_KNN)
    vote = (time.perf_counter() - started) / (512 * 1024 * width)
    split = EmbeddedSplit(rows[:640], rows[640:800], rows[800:])
    parts = Labels(labels[:640], labels[640:800])
    inputs = ProbeInputs({("dataset", "mean"): split}, parts, outputs)
    trials = [Trial(1e-3 * (1 + i), 0.01, "dataset", "mean") for i in range(32)]
    started = time.perf_counter()
    train_heads(inputs, trials, Training(epochs=2), seed=0)
    step = (time.perf_counter() - started) / (32 * 2 * 20 * width * outputs)
    return ProbeSpeed(vote, step, _seconds_of_a_logit(width, outputs))


def _seconds_of_a_logit(width: int, classes: int, images: int = 32, side: int = 64) -> float:
    """The segmentation probe's, on random patches of 8 pixels."""
    generator = np.random.default_rng(0)
    patches = generator.standard_normal((images, side // 8, side // 8, width)).astype(np.float16)
    maps = generator.integers(0, classes, (images, side, side)).astype(np.int8)
    every = np.arange(images)
    inputs = MapInputs({("dataset", "mean"): patches}, maps, dict.fromkeys(SPLITS, every), classes)
    settings = MapSettings(epochs=2)
    started = time.perf_counter()
    train_map_heads(inputs, ("dataset", "mean"), settings, 0, torch.device("cpu"))
    logits = settings.epochs * len(settings.rates) * classes * maps.size
    return (time.perf_counter() - started) / logits
