"""Encoder x data set -> pooled embeddings, streamed to the store in batches.

Memory holds one batch of images and its tokens, whatever the number of samples. All
poolings are taken in the same pass. It must know nothing of probes, splits or suites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.inputs import InputRule, prepare
from harness.pixels import Pixels
from models.errors import UserError
from suites.datasets.base import Batch

# Tokens x width of one batch: small enough that a layer's activations stay in the
# processor's cache, which on a CPU matters more than a large batch does.
CPU_BATCH_ELEMENTS = 1_500_000
GPU_BATCH_ELEMENTS = 100_000_000


def batch_size(tokens: int, dim: int, device: torch.device) -> int:
    """Samples per batch for sequences of ``tokens`` tokens of width ``dim``.

    A function of the shape alone: the batch size can change the last bits of a result.
    """
    budget = CPU_BATCH_ELEMENTS if device.type == "cpu" else GPU_BATCH_ELEMENTS
    return max(1, min(256, budget // max(1, tokens * dim)))


def pool(tokens: Mapping[str, Tensor], how: str) -> Tensor:
    """Pool tokens ``[B, H/p, W/p, T, G, dim]`` of all modalities into ``[B, dim]``.

    Every token weighs the same, as in OlmoEarth's evaluation.
    """
    flat = torch.cat([t.flatten(1, -2) for t in tokens.values()], dim=1)
    if how == "mean":
        return flat.mean(dim=1)
    if how == "max":
        return flat.amax(dim=1)
    raise ValueError(f"unknown pooling {how}")


def embed_into(
    arrays: Mapping[str, Any],
    encoder: nn.Module,
    pixels: Pixels,
    rules: dict[str, InputRule],
    patch_size: int,
    batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fill ``arrays[pooling]`` (``[N, dim]``) with the embeddings of all samples, in order.

    Raises `UserError` when an embedding is not finite: no score may rest on it.
    """
    encoder.to(device).eval()
    total = len(pixels)
    with torch.inference_mode():
        for start in range(0, total, batch):
            stop = min(start + batch, total)
            samples = pixels.read(start, stop)
            tokens = _encode(encoder, samples, rules, patch_size, device)
            for how, array in arrays.items():
                pooled = pool(tokens, how).float().cpu().numpy()
                if not np.isfinite(pooled).all():
                    raise UserError(
                        f"Samples {start} to {stop - 1} give embeddings with NaN or infinity; "
                        "check their pixels (tokenrank data check) and the variant's weights."
                    )
                array[start:stop] = pooled
            if progress:
                progress(stop, total)


def _encode(
    encoder: nn.Module,
    samples: Batch,
    rules: dict[str, InputRule],
    patch_size: int,
    device: torch.device,
) -> Mapping[str, Tensor]:
    images = {name: torch.from_numpy(x).to(device) for name, x in prepare(samples, rules).items()}
    timestamps = torch.from_numpy(samples.timestamps).to(device)
    tokens: Mapping[str, Tensor] = encoder(images, timestamps, patch_size)
    return tokens
