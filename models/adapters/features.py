"""From images to the tokens of a timm model, whatever the layout of its features.

It must not know which library made the model, or which bands it is fed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.errors import UserError


def tokens_of(model: Any, images: Tensor) -> Tensor:
    """Tokens of ``[B, H, W, T, C]``, each time step encoded by itself.

    A feature map gives ``[B, h, w, T, 1, dim]``. So does a transformer whose patches form a
    grid, else ``[B, T * N, dim]``; class and register tokens are left out. A model that pools
    by itself gives ``[B, T, dim]``.
    """
    batch, height, width, steps, channels = images.shape
    x = images.permute(0, 3, 4, 1, 2).reshape(batch * steps, channels, height, width)
    features = model.forward_features(x)
    if not isinstance(features, Tensor) or features.ndim not in (2, 3, 4):
        raise UserError(
            f"{type(model).__name__} gives no feature map and no sequence of tokens; wrap it in a "
            "class of your own."
        )
    if features.ndim == 2:
        return torch.unflatten(features, 0, (batch, steps))
    if features.ndim == 3:
        features = features[:, getattr(model, "num_prefix_tokens", 0) or 0 :]
        grid = _grid(model, height, width)
        if grid is None or grid[0] * grid[1] != features.shape[1]:
            return features.reshape(batch, -1, features.shape[-1])
        features = torch.unflatten(features, 1, grid)
    elif not _channels_last(model, features):
        features = features.permute(0, 2, 3, 1)
    by_step = torch.unflatten(features, 0, (batch, steps))
    return by_step.permute(0, 2, 3, 1, 4)[:, :, :, :, None]


def _channels_last(model: Any, features: Tensor) -> bool:
    declared = getattr(model, "output_fmt", None)
    if declared is not None:
        return str(getattr(declared, "value", declared)) == "NHWC"
    width = getattr(model, "num_features", None)
    return bool(features.shape[-1] == width and features.shape[1] != width)


def _grid(model: Any, height: int, width: int) -> tuple[int, int] | None:
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is None:
        return None
    side = (patch, patch) if isinstance(patch, int) else patch
    return height // side[0], width // side[1]


def norm_after_pooling(model: Any) -> Any:
    """The norm that a timm transformer applies to its pooled tokens instead of each; or None."""
    norm = getattr(model, "fc_norm", None)
    return norm if norm is not None and any(True for _ in norm.parameters()) else None
