"""A user's model behind the interface of every encoder.

It brings images to what the class is promised (z-scores, float32), its answer to tokens
``[B, rows, columns, steps, groups, width]``, and refuses an answer that breaks the contract:
a wrong shape, numbers that are not finite, a token that depends on the other samples of its
batch. It must not know how the class was found or where the tokens go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.families import Channels
from models.own.loading import construct, in_one_sentence, load_class
from models.own.source import source_of
from models.own.variant import OwnVariant
from models.registry import Variant

SHAPES = "[B, h, w, T, G, dim], [B, N, dim] or [B, dim]"
SAME = 1e-3  # of the largest value: far above rounding, far below a sample that matters


class OwnEncoder(nn.Module):
    """One instance of a user's class; ``patch_embedding`` is the class's own, if it has one."""

    def __init__(self, variant: OwnVariant, model: nn.Module) -> None:
        super().__init__()
        self.variant = variant
        self.width: int | None = None
        self.checked = False
        self.take(model)

    def take(self, model: nn.Module) -> None:
        """Encode with this instance from now on."""
        embedding = getattr(model, "patch_embedding", None)
        if isinstance(embedding, nn.Module):
            self.patch_embedding = embedding
        # What pooled tokens go through last (`harness.embed`), where a model norms them there.
        norm = getattr(model, "after_pooling", None)
        if isinstance(norm, nn.Module):
            self.after_pooling = norm
        self.model = model.eval()

    def forward(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        """Tokens of a batch, see `models.families.EncoderCode`."""
        given = {name: (x - 0.5) * 4 for name, x in images.items()}
        tokens = self._tokens(given, timestamps, patch_size)
        if not (self.checked or timestamps.is_meta or _is_traced()):
            self._check_alone(given, timestamps, patch_size, tokens)
            self.checked = True
        return tokens

    def _tokens(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        shown = self.variant.shown
        what = f"{shown} cannot encode"
        if _in_half(timestamps):
            what += " in bfloat16 (where it never can, leave the protocol's precision at float32)"
        with in_one_sentence(what, self.variant.reference.root):
            answer = self.model(dict(images), timestamps, patch_size)
        batch = len(timestamps)
        if isinstance(answer, Tensor):
            answer = {"tokens": answer}
        if not isinstance(answer, Mapping) or not answer:
            raise UserError(
                f"{shown} returns {type(answer).__name__}; it must return tokens {SHAPES}, or a "
                "dict of them."
            )
        found = {str(name): self._six(str(name), x, batch) for name, x in answer.items()}
        self._check_width({name: x.shape[-1] for name, x in found.items()})
        return found

    def _six(self, name: str, tokens: Any, batch: int) -> Tensor:
        shown = self.variant.shown
        if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
            kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
            raise UserError(
                f'{shown} returns {kind} as "{name}"; tokens are floating-point tensors.'
            )
        if tokens.ndim not in (2, 3, 6) or tokens.shape[0] != batch or 0 in tokens.shape:
            raise UserError(
                f'{shown} returns "{name}" of shape {list(tokens.shape)} for {batch} samples; '
                f"allowed: {SHAPES}."
            )
        if tokens.ndim == 2:
            return tokens.float()[:, None, None, None, None]
        return (tokens[:, :, None, None, None] if tokens.ndim == 3 else tokens).float()

    def _check_width(self, widths: Mapping[str, int]) -> None:
        distinct = sorted(set(widths.values()))
        if len(distinct) > 1:
            raise UserError(
                f"{self.variant.shown} returns tokens of widths {', '.join(map(str, distinct))}; "
                "all are pooled together and must be equally wide."
            )
        if self.width not in (None, distinct[0]):
            raise UserError(
                f"{self.variant.shown} changes the width of its tokens from {self.width} to "
                f"{distinct[0]}; it must not depend on the images' contents."
            )
        self.width = distinct[0]

    def _check_alone(
        self,
        images: Mapping[str, Tensor],
        timestamps: Tensor,
        patch_size: int,
        tokens: Mapping[str, Tensor],
    ) -> None:
        if not _in_half(timestamps):
            self._check(images, timestamps, patch_size, tokens)
            return
        # Half precision rounds a sample alone otherwise, whatever the others' influence.
        with torch.autocast(timestamps.device.type, enabled=False):
            tokens = self._tokens(images, timestamps, patch_size)
            self._check(images, timestamps, patch_size, tokens)

    def _check(
        self,
        images: Mapping[str, Tensor],
        timestamps: Tensor,
        patch_size: int,
        tokens: Mapping[str, Tensor],
    ) -> None:
        """On the first real batch: finite, and the same for a sample that comes alone."""
        shown = self.variant.shown
        for name, found in tokens.items():
            if not bool(torch.isfinite(found).all()):
                raise UserError(
                    f'{shown} returns "{name}" with NaN or infinity; no score may rest on that.'
                )
        first = {name: x[:1] for name, x in images.items()}
        alone = self._tokens(first, timestamps[:1], patch_size)
        for name, found in tokens.items():
            there, here = found[:1], alone[name]
            difference = float((there - here).abs().max()) if there.shape == here.shape else 1e30
            if difference > SAME * float(there.abs().max()) + 1e-6:
                raise UserError(
                    f"{shown} gives a sample other tokens when it comes alone than among others of "
                    "its batch, or from one call to the next; in evaluation mode nothing may be "
                    "random or shared between samples."
                )


def _in_half(timestamps: Tensor) -> bool:
    """Whether products are taken in half precision where these are."""
    return not timestamps.is_meta and torch.is_autocast_enabled(timestamps.device.type)


def _is_traced() -> bool:
    return bool(torch._C._get_tracing_state())


def build(variant: Variant, channels: Channels) -> OwnEncoder:
    """An instance of the class, on the CPU; its random weights are those of seed 0."""
    own = _own(variant)
    source = source_of(own.reference)
    if source.sha256 != own.code:
        raise UserError(
            f"The code of {own.shown} changed since the suite was planned; run the command again."
        )
    found = load_class(own.reference, source)
    return OwnEncoder(own, construct(found, own.reference, 0))


def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Another instance in its place, made under ``seed``: torch's default initialisation."""
    assert isinstance(encoder, OwnEncoder)
    encoder.take(construct(type(encoder.model), encoder.variant.reference, seed))
    return encoder


def _own(variant: Variant) -> OwnVariant:
    assert isinstance(variant, OwnVariant)
    return variant
