"""Translate a published Galileo ``encoder.pt`` into our encoder's own tensors.

The file is a flat state dict. Every tensor of it has one place here; it is checked under its
published name and shape before anything is copied. It must not know files or the hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Size, Tensor, cat, nn

from models.errors import UserError
from models.galileo.encoder import GalileoEncoder
from models.galileo.patch_resizing import STORED_SIDE
from models.galileo.sources import Group, Kind, weighted_groups
from models.patches import kernel_as_matrix

_PREFIX: dict[Kind, str] = {"space_time": "s_t", "space": "sp", "time": "t", "static": "st"}
_BLOCK_LAYERS = ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def load(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a published encoder's weights into ``encoder``.

    Raises:
        UserError: naming the first tensor that is unknown, of another shape, or absent. The
            encoder is then unchanged.
    """
    assert isinstance(encoder, GalileoEncoder)
    # Some files were saved from a wrapper that calls the layers its backbone.
    given = {name.replace(".backbone", ""): tensor for name, tensor in state.items()}
    _check(given, dict(_published_shapes(encoder)))
    encoder.load_state_dict(dict(_converted(encoder, given)), strict=True)


def _check(given: Mapping[str, Tensor], expected: Mapping[str, Size]) -> None:
    for name, tensor in given.items():
        if name not in expected:
            raise UserError(
                f'The checkpoint holds tensor "{name}", which this variant has no place for; '
                "give the encoder.pt of a Galileo model of this variant's size."
            )
        if tensor.shape != expected[name]:
            raise UserError(
                f'The checkpoint does not fit this variant: tensor "{name}" has shape '
                f"{list(tensor.shape)} where {list(expected[name])} is expected; choose the size "
                "and token scheme that it was trained with."
            )
    for name in expected:
        if name not in given:
            raise UserError(
                f'The checkpoint lacks tensor "{name}" that this variant needs; give the whole '
                "encoder.pt of a Galileo model, with a token scheme that it was trained with."
            )


def _groups(encoder: GalileoEncoder) -> dict[Kind, list[Group]]:
    groups: dict[Kind, list[Group]] = {kind: [] for kind in _PREFIX}
    for kind, group in weighted_groups(encoder.config.shown):
        groups[kind].append(group)
    return groups


def _layer(kind: Kind, group: Group) -> str:
    """A group's layer by its published name."""
    return f"{kind}_embed.{group.name}" + (".proj" if kind in ("space_time", "space") else "")


def _published_shapes(encoder: GalileoEncoder) -> Iterator[tuple[str, Size]]:
    """Every tensor of the published layout of this encoder, by name."""
    dim = encoder.config.dim
    yield "pos_embed", encoder.steps.shape
    yield "month_embed.weight", encoder.months.shape
    for kind, groups in _groups(encoder).items():
        yield f"{_PREFIX[kind]}_channel_embed", Size((len(groups), dim // 4))
        in_space = kind in ("space_time", "space")
        side = (STORED_SIDE, STORED_SIDE) if in_space else ()
        for group in groups:
            yield f"{_layer(kind, group)}.weight", Size((dim, len(group.channels), *side))
            yield f"{_layer(kind, group)}.bias", Size((dim,))
    own = encoder.state_dict()
    for block in range(encoder.config.depth):
        for part in "qkv":
            yield f"blocks.{block}.attn.{part}.weight", Size((dim, dim))
            yield f"blocks.{block}.attn.{part}.bias", Size((dim,))
    for name in _same_names(encoder):
        yield name, own[name].shape


def _same_names(encoder: GalileoEncoder) -> Iterator[str]:
    """Tensors that are called and laid out alike here and there."""
    layers = [f"blocks.{i}.{layer}" for i in range(encoder.config.depth) for layer in _BLOCK_LAYERS]
    for layer in (*layers, "norm"):
        yield f"{layer}.weight"
        yield f"{layer}.bias"


def _converted(
    encoder: GalileoEncoder, given: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    yield "steps", given["pos_embed"]
    yield "months", given["month_embed.weight"]
    for kind, groups in _groups(encoder).items():
        vectors = given[f"{_PREFIX[kind]}_channel_embed"]
        for group, vector in zip(groups, vectors, strict=True):
            place = f"patch_embedding.groups.{group.name}"
            yield f"{place}.channel", vector
            yield f"{place}.proj.weight", kernel_as_matrix(given[f"{_layer(kind, group)}.weight"])
            yield f"{place}.proj.bias", given[f"{_layer(kind, group)}.bias"]
    for block in range(encoder.config.depth):
        for suffix in ("weight", "bias"):
            parts = [given[f"blocks.{block}.attn.{part}.{suffix}"] for part in "qkv"]
            yield f"blocks.{block}.attn.qkv.{suffix}", cat(parts)
    for name in _same_names(encoder):
        yield name, given[name]
