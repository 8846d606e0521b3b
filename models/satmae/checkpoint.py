"""SatMAE's published state dicts in our encoder's own tensors.

Pretraining saves encoder and decoder, fine-tuning a classifier (arXiv 2207.08051's code). The
state dict may be under ``model``, beside an optimiser. It must not know files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.patches import kernel_as_matrix
from models.renaming import Source, load_renamed
from models.satmae.design import MODEL
from models.satmae.encoder import SatMaeEncoder

# Beside the state dict, and in it what is no part of the encoder.
_BESIDE = re.compile(r"(optimizer|scaler|lr_scheduler)\.")
_UNUSED = re.compile(r"mask_token$|decoder_|head\.")
_PREFIX = "model."
_VECTORS = {
    "class_token": "cls_token",
    "class_code": "channel_cls_embed",
    "positions": "pos_embed",
    "channel_codes": "channel_embed",
}
_TABLES = ("positions", "channel_codes")
_OWN = ("cls_token", "channel_embed", "patch_embed.0.proj.weight")


def load(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy published weights in; a missing ``channel_cls_embed`` is zero, as pretraining had it.

    Raises:
        UserError: another family's, version's or size's, truncated, or with tensors that
            nobody knows.
    """
    assert isinstance(encoder, SatMaeEncoder)
    tensors = {
        name.removeprefix(_PREFIX): t for name, t in state.items() if not _BESIDE.match(name)
    }
    if not any(name in tensors for name in _OWN):
        raise UserError(
            f"The checkpoint is not the multi-spectral {MODEL}'s: it has none of the tensors "
            f"{', '.join(_OWN)}."
        )
    pooled = encoder.config.options.global_pool
    _check_version(tensors, pooled)
    # A file with both norms serves either kind of model.
    other = re.compile(r"norm\." if pooled else r"fc_norm\.")
    load_renamed(
        encoder,
        tensors,
        lambda own: _source(own, encoder),
        lambda name: bool(_UNUSED.match(name) or other.match(name)),
        MODEL,
    )


def _check_version(tensors: Mapping[str, Tensor], pooled: bool) -> None:
    """A fine-tuned model has a norm after pooling, a pretrained one a norm before it."""
    if pooled and "fc_norm.weight" not in tensors and "norm.weight" in tensors:
        raise UserError(
            "The checkpoint is of pretraining: it has no norm after pooling (fc_norm); "
            "choose the version pretrain."
        )
    if not pooled and "norm.weight" not in tensors and "fc_norm.weight" in tensors:
        raise UserError(
            "The checkpoint is a fine-tuned one: its norm comes after pooling (fc_norm) and it "
            "has none for tokens; choose the version finetune."
        )


def _source(own: str, encoder: SatMaeEncoder) -> Source:
    """Where our tensor ``own`` comes from; the blocks' names are the same."""
    if own in _VECTORS:
        absent = torch.zeros_like(encoder.class_code) if own == "class_code" else None
        return Source((_VECTORS[own],), _table if own in _TABLES else _vector, absent)
    if match := re.fullmatch(r"patch_embedding\.groups\.(\d+)\.(weight|bias)", own):
        layout = kernel_as_matrix if match[2] == "weight" else None
        return Source((f"patch_embed.{match[1]}.proj.{match[2]}",), layout)
    return Source((own.replace("after_pooling", "fc_norm"),))


def _table(published: Tensor) -> Tensor:
    return published.squeeze(0)


def _vector(published: Tensor) -> Tensor:
    return published.flatten()
