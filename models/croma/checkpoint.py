"""CROMA's published state dicts in our encoder's own tensors.

A file holds five state dicts (arXiv 2311.00566; hub repository antofuller/CROMA), here under
dotted names: two encoders, their pooling networks, the joint encoder. A variant takes the
parts that it has. It must not know files or the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from models.croma.design import MODEL, PATCH_SIZE
from models.croma.encoder import CromaEncoder
from models.errors import UserError
from models.patches import kernel_as_matrix
from models.renaming import Source, load_renamed

_SHORT = {"sentinel2_l2a": "s2", "sentinel1": "s1", "optical": "s2", "radar": "s1"}
_PARTS = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
_ATTENTION = {"norm1": "0.input_norm", "attn.qkv": "0.to_qkv", "attn.proj": "0.to_out"}
_CROSS = {"norm_cross": "1.input_norm", "cross.q": "1.to_q", "cross.proj": "1.to_out"}


def _mlp(place: int) -> dict[str, str]:
    return {
        "norm2": f"{place}.input_norm",
        "mlp.fc1": f"{place}.net.0",
        "mlp.fc2": f"{place}.net.3",
    }


_SENSOR_LAYER = {**_ATTENTION, **_mlp(1)}
_JOINT_LAYER = {**_ATTENTION, **_CROSS, **_mlp(2)}
_POOLING_LAYER = {"norm": "0", "mlp.fc1": "1", "mlp.fc2": "3"}


def load(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy published weights in; parts that the variant has not are skipped.

    Raises:
        UserError: another family's or size's, truncated, or with tensors that nobody knows.
    """
    assert isinstance(encoder, CromaEncoder)
    found = {name.partition(".")[0] for name in state}
    if not found & set(_PARTS):
        raise UserError(
            f"The checkpoint is not {MODEL}'s: it has none of the parts {', '.join(_PARTS)}."
        )
    wanted = {
        f"{_SHORT[part]}_{kind}" for part in encoder.encoders for kind in ("encoder", "GAP_FFN")
    }
    wanted |= {"joint_encoder"} if encoder.joint is not None else set()
    unwanted = set(_PARTS) - wanted
    load_renamed(encoder, state, _source, lambda name: name.partition(".")[0] in unwanted, MODEL)


def _source(own: str) -> Source:
    """Where our tensor ``own`` comes from."""
    own, _, kind = own.rpartition(".")
    if match := re.fullmatch(r"patch_embedding\.sensors\.(\w+)", own):
        layout = _rows_first if kind == "weight" else None
        return Source((f"{_SHORT[match[1]]}_encoder.linear_input.{kind}",), layout)
    if match := re.fullmatch(r"pooling\.(\w+)\.(.+)", own):
        return Source((f"{_SHORT[match[1]]}_GAP_FFN.{_POOLING_LAYER[match[2]]}.{kind}",))
    if match := re.fullmatch(r"encoders\.(\w+)\.(.+)", own):
        root, layer, rest = f"{_SHORT[match[1]]}_encoder.transformer", _SENSOR_LAYER, match[2]
    else:
        root, layer, rest = "joint_encoder", _JOINT_LAYER, own.removeprefix("joint.")
    if rest == "norm":
        return Source((f"{root}.norm_out.{kind}",))
    _, number, name = rest.split(".", 2)
    if name == "cross.kv":
        return Source(tuple(f"{root}.layers.{number}.1.{each}.{kind}" for each in ("to_k", "to_v")))
    return Source((f"{root}.layers.{number}.{layer[name]}.{kind}",))


def _rows_first(weight: Tensor) -> Tensor:
    """From patches flattened as (channel, row, column) to ours: (row, column, channel)."""
    return kernel_as_matrix(weight.reshape(len(weight), -1, PATCH_SIZE, PATCH_SIZE))
