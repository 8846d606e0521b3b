"""From a variant and its weights to an encoder that can be run.

The only place where families' builders are named: a new family adds a line here. It
must know nothing of data or probes.
"""

from __future__ import annotations

from torch import nn

from harness.plan import Weights
from models.olmoearth import OlmoEarthEncoder, init_random
from models.registry import Variant
from models.weights import load_local, load_into


def build_encoder(variant: Variant, weights: Weights) -> nn.Module:
    """The encoder with its weights, on the CPU, in evaluation mode.

    Raises `UserError` when a checkpoint does not fit the architecture.
    """
    encoder = OlmoEarthEncoder(variant.config())
    if weights.tier == "random":
        assert weights.seed is not None
        init_random(encoder, weights.seed)
    else:
        assert weights.folder is not None
        load_into(encoder, load_local(weights.folder))
    return encoder.eval()
