"""What can only be found out by running a user's class: done once, and noted by content.

`examine` holds a class to the contract before a suite is planned with it; `answer_of` finds the
shape of its tokens, without arithmetic where its code allows that (torch's meta device).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.own.declaration import Declaration, declared_by
from models.own.encoder import OwnEncoder, build
from models.own.loading import construct, load_class
from models.own.reference import Reference
from models.own.source import Source
from models.own.variant import OwnVariant
from models.tokens import InputShape
from models.weights import weights_fingerprint

BATCH = 2  # so that an answer without a batch axis is noticed
MOSTLY = 0.5  # of all parameters


def examine(reference: Reference, source: Source) -> Declaration:
    """What the class declares, after its construction has been held to the contract."""
    found = load_class(reference, source)
    _check_forward(found, reference.shown)
    first, again = (construct(found, reference, 0) for _ in range(2))
    declaration = declared_by(first, reference.shown)
    if weights_fingerprint(first) != weights_fingerprint(again):
        raise UserError(
            f"{reference.shown} has other weights each time it is made, under one seed; draw them "
            "from torch's global generator, as its layers do."
        )
    if declaration.weights is None:
        other = construct(found, reference, 1)
        if _unchanged_share(first, other) > MOSTLY:
            raise UserError(
                f"{reference.shown} has weights that do not follow from a seed; say where they "
                'are from in an attribute, e.g. weights = "ImageNet-1k, by ...".'
            )
    return declaration


def _check_forward(found: type[nn.Module], shown: str) -> None:
    try:
        inspect.signature(found.forward).bind(None, {}, None, 4)
    except TypeError as error:
        raise UserError(
            f"forward of {shown} must take (images, timestamps, patch_size): {error}."
        ) from None


def _unchanged_share(one: nn.Module, other: nn.Module) -> float:
    """Share of parameters that are the same under two seeds, those that are constants apart.

    Zero biases and unit scales say nothing of where a model's weights come from.
    """
    total = same = 0
    for (_, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        total += a.numel()
        if torch.equal(a, b) and bool((a != a.reshape(-1)[0]).any()):
            same += a.numel()
    return same / total if total else 0.0


def answer_of(variant: OwnVariant, shapes: Sequence[InputShape], patch_size: int) -> dict[str, Any]:
    """Shape of the answer for one sample.

    Returns ``{"tokens": {name: [rows, columns, steps, groups]}, "width": dim}``. Raises
    `UserError` when the class cannot encode such images or breaks the contract.
    """
    encoder = encoder_of(variant)
    encoder.width = None  # it may be another one for other patches
    try:
        tokens = _answer(meta_copy(encoder), shapes, patch_size, "meta")
    except Exception:
        # Code that looks at values, or makes tensors on the CPU, needs real ones; what is truly
        # wrong goes wrong again.
        tokens = _answer(encoder, shapes, patch_size, "cpu")
    width = next(iter(tokens.values())).shape[-1]
    return {"tokens": {name: list(x.shape[1:5]) for name, x in tokens.items()}, "width": width}


def _answer(
    encoder: OwnEncoder, shapes: Sequence[InputShape], patch_size: int, device: str
) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = {
        s.modality: torch.rand(
            (BATCH, s.height, s.width, s.steps, len(s.bands or ())), generator=draw
        ).to(device)
        for s in shapes
    }
    dates = torch.tensor([[15, step % 12, 2020] for step in range(shapes[0].steps)])
    with torch.inference_mode():
        return encoder(images, dates.expand(BATCH, -1, -1).to(device), patch_size)  # type: ignore[no-any-return]


def encoder_of(variant: OwnVariant) -> OwnEncoder:
    """One instance per class and options, for questions that need no particular weights."""
    return _memo(_Key(variant))


def meta_copy(encoder: OwnEncoder) -> OwnEncoder:
    """The same without memory for its tensors."""
    return copy.deepcopy(encoder).to("meta")


class _Key:
    """A variant as a dictionary key: what its class answers follows from its identity."""

    def __init__(self, variant: OwnVariant) -> None:
        self.variant = variant
        self.text = repr(variant.identity)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.text == self.text


@lru_cache(maxsize=2)
def _memo(key: _Key) -> OwnEncoder:
    return build(key.variant, {})
