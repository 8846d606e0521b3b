"""Galileo's own two poolings of its tokens: over the whole sample, and over each patch.

It must not know the encoder. The harness pools every family's tokens alike and does not use
these; they are what the authors' code offers, and what their published numbers rest on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.errors import UserError

Visible = Mapping[str, Tensor]


def average_tokens(tokens: Mapping[str, Tensor], visible: Visible) -> Tensor:
    """Mean over the visible tokens of each sample, of all sources: ``[B, dim]``.

    Args:
        tokens: per source, as the encoder returns them.
        visible: per source a boolean of the same shape without the last axis; a source that
            is not named is visible.

    Raises:
        UserError: a sample has no visible token.
    """
    values = [x.flatten(1, -2) for x in tokens.values()]
    seen = [_seen(name, x, visible).flatten(1) for name, x in tokens.items()]
    return _mean(torch.cat(values, dim=1), torch.cat(seen, dim=1))


def patch_average(tokens: Mapping[str, Tensor], visible: Visible) -> Tensor:
    """For each patch the mean over its own visible tokens and those that have no place.

    Arguments and errors as in `average_tokens`. Returns ``[B, patches, dim]``, row-major.
    """
    values = [_by_patch(x, _in_space(x)) for x in tokens.values()]
    seen = [
        _by_patch(_seen(name, x, visible)[..., None], _in_space(x))[..., 0]
        for name, x in tokens.items()
    ]
    patches = max(x.shape[1] for x in values)
    return _mean(
        torch.cat([x.expand(-1, patches, -1, -1) for x in values], dim=2),
        torch.cat([x.expand(-1, patches, -1) for x in seen], dim=2),
    )


def _in_space(tokens: Tensor) -> bool:
    """Space-time and space tokens have rows and columns; time and static ones fewer axes."""
    return tokens.ndim >= 5


def _by_patch(x: Tensor, in_space: bool) -> Tensor:
    """``[B, patches, n, D]``, with one patch for what has no place."""
    return x.flatten(1, 2).flatten(2, -2) if in_space else x.flatten(1, -2)[:, None]


def _seen(name: str, tokens: Tensor, visible: Visible) -> Tensor:
    return visible.get(name, torch.ones_like(tokens[..., 0], dtype=torch.bool))


def _mean(x: Tensor, seen: Tensor) -> Tensor:
    """Mean over the second last axis of ``[..., N, dim]``, of what is seen."""
    counts = seen.sum(dim=-1, keepdim=True)
    if not bool(counts.all()):
        raise UserError("A sample has no visible token to average; show at least one group.")
    return x.masked_fill(~seen[..., None], 0.0).sum(dim=-2) / counts
