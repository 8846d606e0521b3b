"""The model that is fine-tuned: an encoder, its pooling, a fixed scale and one linear layer.

And what it is given: images by the row, ready for the encoder. It must not know how it is trained
(``finetune.py``), nor variants, data sets, files or suites.

The encoder stays in evaluation mode (no dropout, no drop path, batch statistics as they are). Maps
have a linear layer from each patch to a class for each of its pixels. Features reach the linear
layer with mean 0 and deviation 1 by what the training split's were before any training: running
statistics of a batch normalisation trail an encoder that moves, the more so where labels are few
and steps therefore too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Event

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.embed import pool
from harness.precision import in_single, products_in
from harness.probes.answers import Answers, answers_of
from harness.probes.base import Targets
from harness.probes.linear import initial_linear
from harness.probes.map_objective import require_pixels
from harness.probes.side_by_side import side_by_side
from harness.suite_file import Precision
from models.errors import UserError
from suites.datasets.base import MAP_KINDS, TargetKind

Rows = npt.NDArray[np.int64]
Images = Mapping[str, Tensor]
Read = Callable[[str, Rows], tuple[Images, Tensor]]
"""From a normalisation and rows to images ``[b, H, W, T, D]`` per modality, and timestamps."""


@dataclass(frozen=True)
class FinetuneInputs:
    """All that the probe may know.

    ``encoder``: makes a new one each time, with the weights to start from. ``targets``: of all
    samples, as the data set has them. ``grid``: rows and columns of patches, of maps only.
    ``width``: of an embedding. ``at_once``: samples that are in memory together, where it does not
    hold a batch; None: whole batches. Raises `UserError` for an empty split, or one training
    sample.
    """

    encoder: Callable[[], nn.Module]
    read: Read
    targets: Targets
    splits: Mapping[str, Rows]
    kind: TargetKind
    outputs: int
    normalisations: tuple[str, ...]
    poolings: tuple[str, ...]
    patch_size: int
    width: int
    grid: tuple[int, int] | None = None
    precision: Precision = "float32"
    at_once: int | None = None

    def __post_init__(self) -> None:
        for name, rows in self.splits.items():
            if len(rows) < (2 if name == "train" else 1):
                raise UserError(
                    f"The {name} split has {len(rows)} samples; fine-tuning needs one or more in "
                    "each, and two to train on."
                )
        if self.kind in MAP_KINDS:
            known = {name: self.splits[name] for name in ("train", "val")}
            require_pixels(self.targets, known, self.kind)

    def parts(self, rows: Rows, batch: int | None = None) -> list[Rows]:
        """Rows in blocks of ``batch`` (None: one), or of as many as are in memory together."""
        size = min(batch or len(rows), self.at_once or len(rows))
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    @cached_property
    def answers(self) -> Answers:
        """How outputs are held to the targets, and read off."""
        return answers_of(self.kind, self.targets, self.splits["train"], self.outputs, self.grid)


@dataclass(frozen=True)
class Trial:
    """One setting of what is tuned."""

    learning_rate: float
    normalisation: str
    pooling: str


@dataclass(frozen=True)
class Scale:
    """Mean and deviation ``[width]`` of the training split's features before any training."""

    mean: Tensor
    deviation: Tensor


class TunedModel(nn.Module):
    """Encoder, pooling, fixed scale, linear layer; of maps for each patch by itself."""

    def __init__(self, inputs: FinetuneInputs, trial: Trial, seed: int) -> None:
        super().__init__()
        self.encoder = inputs.encoder()
        self.learned = [p for p in self.encoder.parameters() if p.requires_grad]
        self.pooling, self.grid, self.patch_size = trial.pooling, inputs.grid, inputs.patch_size
        self.precision = inputs.precision
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(inputs.width))
        self.register_buffer("deviation", torch.ones(inputs.width))
        self.head = nn.Linear(inputs.width, inputs.answers.outputs(inputs.patch_size))
        weight, bias = initial_linear(inputs.width, self.head.out_features, seed)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        self.eval()
        self.let_learn(True)

    def embedded(self, images: Images, timestamps: Tensor) -> Tensor:
        """Pooled embeddings ``[b, width]``, of maps ``[b, h, w, width]``."""
        learning = self.learns and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning):  # inference has faster paths
            with products_in(self.precision, timestamps.device):
                tokens = self.encoder(images, timestamps, self.patch_size)
            pooled = pool(in_single(tokens), self.pooling, self.grid)
            # Some encoders normalise what they have pooled, instead of the tokens before.
            after = getattr(self.encoder, "after_pooling", None) or nn.Identity()
            found: Tensor = after(pooled)
        return found

    def forward(self, images: Images, timestamps: Tensor) -> Tensor:
        """Outputs ``[b, outputs]``, of maps ``[b, h, w, outputs]``."""
        x = (self.embedded(images, timestamps) - self.mean) / self.deviation
        outputs: Tensor = self.head(x)
        return outputs

    def take(self, scale: Scale) -> None:
        """Scale features by this from now on."""
        self.mean.copy_(scale.mean)
        self.deviation.copy_(scale.deviation)

    def let_learn(self, encoder: bool) -> None:
        """Whether the encoder learns too. What its author had fixed stays fixed."""
        self.learns = encoder
        for parameter in self.learned:
            parameter.requires_grad_(encoder)


def untouched(
    inputs: FinetuneInputs, rows: Rows, device: torch.device
) -> list[npt.NDArray[np.float32]]:
    """Embeddings of some samples before any training, for every normalisation and pooling."""
    [found] = side_by_side(lambda at: _untouched(inputs, at, device), [rows], device, Event())
    return found


@torch.no_grad()
def _untouched(
    inputs: FinetuneInputs, rows: Rows, device: torch.device
) -> list[npt.NDArray[np.float32]]:
    model = TunedModel(inputs, Trial(0.0, "", ""), 0).to(device)
    found = []
    for normalisation in inputs.normalisations:
        parts = [
            _pooled(model, inputs.poolings, *read_rows(inputs, normalisation, part, device))
            for part in inputs.parts(rows)
        ]
        found += [np.concatenate(of_each) for of_each in zip(*parts, strict=True)]
    return found


def _pooled(
    model: TunedModel, poolings: Iterable[str], images: Images, timestamps: Tensor
) -> list[npt.NDArray[np.float32]]:
    found = []
    for model.pooling in poolings:
        found.append(model.embedded(images, timestamps).cpu().numpy())
    return found


def read_rows(
    inputs: FinetuneInputs, normalisation: str, rows: Rows, device: torch.device
) -> tuple[Images, Tensor]:
    """Images and timestamps of some samples, on the device."""
    images, timestamps = inputs.read(normalisation, rows)
    return {name: x.to(device) for name, x in images.items()}, timestamps.to(device)
