"""Study weights as tensors: an encoder's state dict to float16 safetensors, and back.

The tensors' names are those of this project's own encoders, so loading is strict and knows no
publisher. The same tensors and card give the same bytes. It must not know how they were
trained, or what they are used for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from models.checkpoints import file_sha256
from models.errors import UserError
from models.families import encoder_code
from models.registry import Variant
from models.replacing import replacing
from models.study_cards import StudyCard, StudyFiles, find_weights, refuse_other
from models.weights import load_encoder_file, load_state


def write_study_weights(
    place: Path | StudyFiles, state: Mapping[str, Tensor], card: StudyCard
) -> str:
    """Write an encoder's weights (float16) and their card; returns the weights' SHA-256.

    Args:
        place: a training run's folder (it is made), or the two files.
        state: the encoder's ``state_dict()``; it may be on any device.
        card: what is known of them; its ``weights_sha256`` is set here.

    Each file appears whole or not at all, the weights first: a card never describes weights
    that are not there yet.

    Raises:
        UserError: a tensor is not finite in float16, or the place cannot be written. Nothing
            has changed then.
    """
    files = place if isinstance(place, StudyFiles) else StudyFiles.in_folder(place)
    content = _encoded(_halved(state, files.weights), card.header)
    try:
        files.weights.parent.mkdir(parents=True, exist_ok=True)
        with replacing(files.weights, sync=True) as temporary:
            temporary.write_bytes(content)
        sha256 = file_sha256(files.weights)
        facts = card.model_copy(update={"weights_sha256": sha256}).model_dump(mode="json")
        text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=100)
        with replacing(files.card, sync=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Study weights cannot be written to {files.weights.parent} "
            f"({error.strerror or error}); choose a writable place with room."
        ) from error
    return sha256


def load(variant: Variant, place: Path | StudyFiles) -> nn.Module:
    """The variant's encoder with study weights, float32, on the CPU, in evaluation mode.

    Raises:
        UserError: as `models.study_cards.read_card`; or the weights are another variant's, or
            their tensors do not fit it.
    """
    found = find_weights(place)
    refuse_other(found.card, found.files, variant, None)
    encoder = encoder_code(variant).build(variant, {})
    load_tensors(encoder, found.files.weights)
    return encoder.eval()


def load_tensors(encoder: nn.Module, weights: Path) -> str:
    """Copy a file's tensors into an encoder, as float32; returns the file's SHA-256.

    Raises `UserError` naming the first tensor that does not fit; the encoder is then unchanged.
    """
    checkpoint = load_encoder_file(weights)
    load_state(encoder, checkpoint.state_dict, str(weights))
    return checkpoint.sha256


def _halved(state: Mapping[str, Tensor], target: Path) -> dict[str, Tensor]:
    halved = {}
    for name, tensor in sorted(state.items()):
        half = tensor.detach().to("cpu", torch.float16).contiguous()
        if not bool(torch.isfinite(half).all()):
            largest = float(tensor.detach().abs().max())
            raise UserError(
                f'Tensor "{name}" does not fit float16 (its largest value is {largest:.3g}), so '
                f"{target} was not written; weights like these have diverged, train them again "
                "with a lower learning rate."
            )
        halved[name] = half
    return halved


def _encoded(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; the library's own writer puts metadata in another order each time."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    parts, end = [], 0
    for name, tensor in tensors.items():
        parts.append(tensor.numpy().tobytes())
        start, end = end, end + len(parts[-1])
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
