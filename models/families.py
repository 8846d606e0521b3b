"""Which code stands behind a variant: the one place that finds a family's modules by name.

A family is a folder ``models/<encoder>/`` with ``design.py`` (tokens, cost, inputs; no tensor
library), ``encoder.py`` (``build`` and ``init_random``) and, where somebody publishes
weights, ``checkpoint.py`` (``load``). It must not know what any of them does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from models.design import Design
from models.registry import Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

Channels = Mapping[str, tuple[str, ...]]
"""Per modality, the channels of the images that an encoder will be given, in its order."""


class EncoderCode(Protocol):
    """What ``models/<family>/encoder.py`` offers.

    An encoder is a module with ``forward(images, timestamps, patch_size)``, from images
    ``[B, H, W, T, D]`` per modality and integers ``[B, T, 3]`` to tokens
    ``[B, H/p, W/p, T, G, dim]`` under any names, and a submodule ``patch_embedding``. It may
    have a module ``after_pooling`` (else, or None: nothing), from ``[B, dim]`` to the same: what
    training put on the mean of the tokens, and so belongs on every pooled embedding.
    """

    def build(self, variant: Variant, channels: Channels) -> nn.Module:
        """The encoder, its weights as torch leaves them."""
        ...

    def init_random(self, encoder: nn.Module, seed: int) -> nn.Module:
        """Set every weight from ``seed`` alone, in place."""
        ...


class CheckpointCode(Protocol):
    """What ``models/<family>/checkpoint.py`` offers."""

    def load(self, encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Copy published weights in; `UserError` when they are another family's or size's."""
        ...


def design_of(variant: Variant) -> Design:
    """The variant's design; nothing heavy is imported."""
    module = importlib.import_module(f"models.{variant.encoder}.design")
    return cast(Design, module.design(variant))


def is_trainable(variant: Variant) -> bool:
    """Whether its encoder has anything to learn; a family without says so in its design."""
    module = importlib.import_module(f"models.{variant.encoder}.design")
    return bool(getattr(module, "TRAINABLE", True))


def encoder_code(variant: Variant) -> EncoderCode:
    """The module that builds the variant's encoder."""
    return cast(EncoderCode, importlib.import_module(f"models.{variant.encoder}.encoder"))


def checkpoint_code(variant: Variant) -> CheckpointCode:
    """The module that loads the variant's published weights."""
    return cast(CheckpointCode, importlib.import_module(f"models.{variant.encoder}.checkpoint"))


def code_of(variant: Variant) -> tuple[str, ...]:
    """Names of the modules that only this variant's family runs: part of every content key."""
    folder = Path(__file__).parent / variant.encoder
    return tuple(
        f"models.{variant.encoder}.{path.stem}" for path in sorted(folder.glob("[!_]*.py"))
    )
