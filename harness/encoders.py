"""From a variant and its weights to an encoder that can be run.

The only place where families' builders are named: a new family adds a line here. It
must know nothing of data or probes.
"""

from __future__ import annotations

from torch import nn

from harness.plan import Weights
from models.errors import UserError
from models.olmoearth import OlmoEarthEncoder, init_random
from models.olmoearth_checkpoint import load_reference_state_dict
from models.registry import Variant
from models.weights import read_checkpoint


def build_encoder(variant: Variant, weights: Weights) -> nn.Module:
    """The encoder with its weights, on the CPU, in evaluation mode.

    Raises `UserError` when a checkpoint does not fit the architecture, or is no longer
    the file that was planned with.
    """
    encoder = OlmoEarthEncoder(variant.config())
    if weights.seed is not None:
        init_random(encoder, weights.seed)
    elif weights.config is not None and weights.file is not None:
        checkpoint = read_checkpoint(weights.config, weights.file, weights.source)
        if checkpoint.sha256 != weights.sha256:
            raise UserError(
                f"{weights.file} is not the file that the suite was planned with; remove the "
                "folder cache/weights from the store and run the command again."
            )
        try:
            load_reference_state_dict(encoder, checkpoint.state_dict)
        except UserError as error:
            raise UserError(f"{weights.file} does not suit {variant.name}: {error}") from None
    else:
        raise ValueError(f"{variant.name} has neither a seed nor a file of weights")
    return encoder.eval()
