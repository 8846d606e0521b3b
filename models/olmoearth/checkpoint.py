"""Translate a reference OlmoEarth state dict into our encoder's own tensors.

The published checkpoints hold encoder, decoder, target encoder and heads under the names
of the reference package. Here those names are known, each one is either used or dropped
for a stated reason, and anything else is an error. It must not know files or the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, cat, nn

from models.errors import UserError
from models.olmoearth.encoder import OlmoEarthEncoder
from models.patches import kernel_as_matrix

DECODE_ONLY = (
    "worldcover",
    "srtm",
    "openstreetmap_raster",
    "wri_canopy_height_map",
    "cdl",
    "worldcereal",
)
"""Maps that pretraining only ever decoded; the encoder never saw one."""

# Everything in a checkpoint that is not the encoder's forward pass.
_UNUSED = re.compile(
    r"(decoder|target_encoder|reconstructor|supervision_head)\."
    r"|encoder\.project_and_aggregate\."  # the contrastive head
    r"|encoder\.composite_encodings\.pos_embed$"  # a fixed table in older files, recomputed
    r"|encoder\.composite_encodings\.per_modality_channel_embeddings\."
    rf"({'|'.join(DECODE_ONLY)})$"
    rf"|encoder\.patch_embeddings\.per_modality_embeddings\.({'|'.join(DECODE_ONLY)})\."
)
_CHANNEL = "encoder.composite_encodings.per_modality_channel_embeddings."
_MONTHS = "encoder.composite_encodings.month_embed.weight"
_PATCH = re.compile(
    r"encoder\.patch_embeddings\.per_modality_embeddings\.\w+\.(\w+)__(\d+)\."
    r"(pixel_proj\.0|proj)\.(weight|bias)"
)
_ROTARY = re.compile(r"encoder\.blocks\.(\d+)\.attn\.rope_mixed_freqs")
_QKV = re.compile(r"encoder\.(blocks\.\d+\.attn)\.([qkv])\.(weight|bias)")


def load_reference_state_dict(encoder: OlmoEarthEncoder, state: Mapping[str, Tensor]) -> None:
    """Copy the weights of ``OlmoEarthPretrain_v1`` (v1, v1.1 or v1.2) into ``encoder``.

    Keys are the reference model's own (``encoder.*``, and others that are ignored by name).

    Raises:
        UserError: naming the first tensor that is unknown, absent or of another shape. The
            encoder is then unchanged.
    """
    own = encoder.state_dict()
    converted = convert(state)
    _refuse_other_positions(encoder, converted)
    for name, tensor in converted.items():
        if name not in own:
            raise UserError(
                f'The checkpoint holds tensor "{_published(name)}", which this variant has no '
                "place for; check that version, size and token scheme are the checkpoint's own."
            )
        if tensor.shape != own[name].shape:
            raise UserError(
                f'The checkpoint does not fit this variant: tensor "{_published(name)}" has shape '
                f"{list(tensor.shape)} where {list(own[name].shape)} is expected; choose the "
                "version, size and token scheme that it was trained with."
            )
    for name in own:
        if name not in converted:
            raise UserError(
                f'The checkpoint lacks tensor "{_published(name)}"; '
                "check that version, size and token scheme are the checkpoint's own."
            )
    encoder.load_state_dict(converted, strict=True)


def load(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """As `load_reference_state_dict`, for an encoder that `encoder.build` made."""
    assert isinstance(encoder, OlmoEarthEncoder)
    load_reference_state_dict(encoder, state)


def _refuse_other_positions(encoder: OlmoEarthEncoder, converted: Mapping[str, Tensor]) -> None:
    """v1.1 and v1.2 differ in nothing else, so this is what tells them apart."""
    rotary = any(name.startswith("rotary.") for name in converted)
    if rotary and encoder.rotary is None:
        raise UserError(
            "The checkpoint is OlmoEarth v1.2's (it holds rotary frequencies), while this variant "
            "adds encodings of position to its tokens; choose olmoearth-v1.2 and the same size."
        )
    if encoder.rotary is not None and not rotary:
        raise UserError(
            "The checkpoint holds no rotary frequencies, so it is not OlmoEarth v1.2's; choose "
            "olmoearth-v1.1 (or v1) and the same size."
        )


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reference names and layouts to ours: fused query/key/value, kernels as matrices."""
    converted: dict[str, Tensor] = {}
    separate: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if _UNUSED.match(key):
            continue
        if match := _QKV.fullmatch(key):
            separate.setdefault(f"{match[1]}.qkv.{match[3]}", {})[match[2]] = tensor
        elif match := _PATCH.fullmatch(key):
            layer = "proj" if match[3] == "proj" else "pixel"
            name = f"patch_embedding.groups.{match[1]}.{match[2]}.{layer}.{match[4]}"
            converted[name] = kernel_as_matrix(tensor)
        elif match := _ROTARY.fullmatch(key):
            converted[f"rotary.frequencies.{match[1]}"] = tensor
        elif key.startswith(_CHANNEL):
            converted[f"channel_embeddings.{key.removeprefix(_CHANNEL)}"] = tensor
        elif key == _MONTHS:
            converted["months"] = tensor
        elif key.startswith(("encoder.blocks.", "encoder.norm.")):
            converted[key.removeprefix("encoder.")] = tensor
        else:
            raise UserError(
                f'The checkpoint holds an unknown tensor "{key}"; only checkpoints of OlmoEarth '
                "v1, v1.1 and v1.2 are understood."
            )
    for name, parts in separate.items():
        absent = [part for part in "qkv" if part not in parts]
        if absent:
            missing = name.replace("qkv", absent[0])
            raise UserError(f'The checkpoint lacks tensor "encoder.{missing}".')
        converted[name] = cat([parts["q"], parts["k"], parts["v"]])
    return converted


def _published(name: str) -> str:
    """Our tensor's name as the checkpoint's reader knows it."""
    if match := re.fullmatch(r"patch_embedding\.groups\.(\w+)\.(\d+)\.(\w+)\.(\w+)", name):
        layer = "proj" if match[3] == "proj" else "pixel_proj.0"
        return (
            f"encoder.patch_embeddings.per_modality_embeddings.{match[1]}."
            f"{match[1]}__{match[2]}.{layer}.{match[4]}"
        )
    if match := re.fullmatch(r"rotary\.frequencies\.(\d+)", name):
        return f"encoder.blocks.{match[1]}.attn.rope_mixed_freqs"
    if name.startswith("channel_embeddings."):
        return _CHANNEL + name.removeprefix("channel_embeddings.")
    return _MONTHS if name == "months" else f"encoder.{name}"
