"""A user's weights file into the user's class: the state dict, name by name, strictly."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from models.own.encoder import OwnEncoder
from models.weights import load_state


def load(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict in. Raises `UserError` naming the first tensor that does not fit."""
    assert isinstance(encoder, OwnEncoder)
    load_state(encoder.model, state, "it")
