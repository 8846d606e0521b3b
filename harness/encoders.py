"""From a variant and its weights to an encoder that can be run.

It must know nothing of data or probes, nor of any family: `models.families` finds their code.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from harness.plan import Cell, EmbeddingJob
from harness.weights import Weights
from models.errors import UserError
from models.families import Channels, checkpoint_code, encoder_code
from models.registry import Variant
from models.study_weights import load_tensors
from models.weights import read_checkpoint, weights_fingerprint


def build_encoder(variant: Variant, weights: Weights, channels: Channels) -> nn.Module:
    """The encoder with its weights, on the CPU, in evaluation mode.

    ``channels`` are those of the images that it will be given, per modality.

    Raises `UserError` when a checkpoint does not fit the architecture, or is no longer
    the file that was planned with.
    """
    code = encoder_code(variant)
    encoder = code.build(variant, channels)
    if weights.seed is not None:
        code.init_random(encoder, weights.seed)
    elif weights.card is not None and weights.file is not None:
        _require_planned(load_tensors(encoder, weights.file), weights)
    elif weights.file is not None:
        checkpoint = read_checkpoint(weights.config, weights.file, weights.source)
        _require_planned(checkpoint.sha256, weights)
        try:
            checkpoint_code(variant).load(encoder, checkpoint.state_dict)
        except UserError as error:
            raise UserError(f"{weights.file} does not suit {variant.name}: {error}") from None
    elif variant.brought is not None:
        if weights_fingerprint(encoder) != weights.sha256:
            raise UserError(
                f"The weights that {variant.name} brings are no longer those that the suite was "
                "planned with; run the command again."
            )
    else:
        raise ValueError(f"{variant.name} has neither a seed nor a file of weights")
    return encoder.eval()


def _require_planned(sha256: str, weights: Weights) -> None:
    if sha256 != weights.sha256:
        raise UserError(
            f"{weights.file} is not the file that the suite was planned with; remove the "
            "folder cache/weights from the store and run the command again."
        )


def brought_weights(variant: Variant) -> str:
    """Hash of the weights that the variant's own code brings along, as it is made now."""
    return weights_fingerprint(encoder_code(variant).build(variant, {}))


def check_weights(encoded: Iterable[EmbeddingJob | Cell]) -> None:
    """Load every checkpoint of these jobs, and of cells that train their encoder, once.

    A file of the wrong size should end a run in its first minute, not in its fifth hour.
    Raises `UserError` as `build_encoder` does.
    """
    seen: set[tuple[str, str | None]] = set()
    for each in encoded:
        name = (each.variant.name, each.weights.sha256)
        if each.weights.file is not None and name not in seen:
            seen.add(name)
            build_encoder(each.variant, each.weights, each.given.channels)
