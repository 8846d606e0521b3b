"""Encoder x data set -> pooled embeddings, streamed to the store in batches.

Memory holds one batch of images and its tokens, whatever the number of samples. All
poolings are taken in the same pass. It must know nothing of probes, splits or suites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.cores import on_each_core
from harness.inputs import ImageSource, InputRule, prepare
from harness.store import Grid
from models.errors import UserError

Floats = npt.NDArray[np.float32]

# Tokens x width of one batch: small enough that a layer's activations stay in a core's
# own cache, which on a CPU matters more than a large batch does.
CPU_BATCH_ELEMENTS = 250_000
GPU_BATCH_ELEMENTS = 100_000_000


class Samples(ImageSource, Protocol):
    """Images and their dates, consecutive samples at a time (`harness.pixels.Pixels` is one)."""

    def timestamps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """``[B, T, 3]`` of samples ``start .. stop``."""
        ...


def batch_size(tokens: int, dim: int, device: torch.device) -> int:
    """Samples per batch for sequences of ``tokens`` tokens of width ``dim``.

    A function of the shape alone: the batch size can change the last bits of a result.
    """
    budget = CPU_BATCH_ELEMENTS if device.type == "cpu" else GPU_BATCH_ELEMENTS
    return max(1, min(256, budget // max(1, tokens * dim)))


def pool(tokens: Mapping[str, Tensor], how: str, grid: Grid | None = None) -> Tensor:
    """Pool tokens ``[B, H/p, W/p, T, G, dim]`` of all modalities into ``[B, dim]``.

    With a ``grid`` of patches, those of each patch by themselves: ``[B, h, w, dim]``; tokens that
    belong to no patch (a class token) are left out. Every token weighs the same, as in OlmoEarth's
    evaluation.
    """
    if grid is None:
        flat = torch.cat([t.flatten(1, -2) for t in tokens.values()], dim=1)
    else:
        placed = [t for t in tokens.values() if tuple(t.shape[1:3]) == grid]
        flat = torch.cat([t.flatten(3, -2) for t in placed], dim=3)
    if how == "mean":
        return flat.mean(dim=-2)
    if how == "max":
        return flat.amax(dim=-2)
    raise ValueError(f"unknown pooling {how}")


def embed_into(
    arrays: Mapping[str, Any],
    encoder: nn.Module,
    pixels: Samples,
    rules: dict[str, InputRule],
    patch_size: int,
    batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, float]:
    """Fill ``arrays[pooling]`` with the embeddings of all samples, in order.

    ``[N, dim]``, or ``[N, h, w, dim]`` of each patch (`pool`). Raises `UserError` when an embedding
    is not finite, as the array keeps it: no score may rest on it.

    The answer is the largest error that keeping a value made, by pooling: 0 where arrays are of
    single precision.
    """
    errors = dict.fromkeys(arrays, 0.0)
    encoder.to(device).eval()
    # Some encoders normalise what they have pooled, instead of the tokens before.
    after = getattr(encoder, "after_pooling", None) or nn.Identity()
    total = len(pixels)
    shapes = {array.shape[1:-1] for array in arrays.values()}
    grid: Grid | None = shapes.pop() or None

    def embed(start: int) -> tuple[int, dict[str, Floats]]:
        stop = min(start + batch, total)
        with torch.inference_mode():
            tokens = _encode(encoder, pixels, rules, (start, stop), patch_size, device)
            return start, {
                how: after(pool(tokens, how, grid)).float().cpu().numpy() for how in arrays
            }

    starts = range(0, total, batch)
    done = map(embed, starts) if device.type == "cuda" else on_each_core(embed, starts)
    for start, pooled in done:
        stop = min(start + batch, total)
        for how, rows in pooled.items():
            if not np.isfinite(rows).all():
                raise UserError(
                    f"Samples {start} to {stop - 1} give embeddings with NaN or infinity; "
                    "check their pixels (tokenrank data check) and the variant's weights."
                )
            if np.abs(rows).max(initial=0) > np.finfo(arrays[how].dtype).max:
                raise UserError(
                    f"Samples {start} to {stop - 1} give embeddings of up to "
                    f"{np.abs(rows).max():.3g}, which half precision, in which patches are kept, "
                    "cannot hold; leave this variant out of tasks of maps."
                )
            arrays[how][start:stop] = rows
            if arrays[how].dtype != rows.dtype:
                kept = arrays[how][start:stop].astype(rows.dtype)
                errors[how] = max(errors[how], float(np.abs(kept - rows).max(initial=0)))
        if progress:
            progress(stop, total)
    return errors


def _encode(
    encoder: nn.Module,
    pixels: Samples,
    rules: dict[str, InputRule],
    rows: tuple[int, int],
    patch_size: int,
    device: torch.device,
) -> Mapping[str, Tensor]:
    prepared = prepare(pixels, rules, *rows)
    images = {name: torch.from_numpy(x).to(device) for name, x in prepared.items()}
    timestamps = torch.from_numpy(pixels.timestamps(*rows)).to(device)
    tokens: Mapping[str, Tensor] = encoder(images, timestamps, patch_size)
    return tokens
