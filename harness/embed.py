"""Encoder x data set -> pooled embeddings, streamed to the store in batches.

Memory holds a few batches of images and the tokens of one, whatever the number of samples. All
poolings are taken in the same pass. It must know nothing of probes, splits or suites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.cores import on_each_core
from harness.feeding import Accelerator, Cuda, Rows, Tensors, through
from harness.inputs import ImageSource, InputRule, prepare
from harness.precision import in_single, products_in, true_float32
from harness.store import Grid
from harness.suite_file import Precision
from models.errors import UserError

Floats = npt.NDArray[np.float32]

# Tokens x width of one batch: small enough that a layer's activations stay in a core's
# own cache, which on a CPU matters more than a large batch does.
CPU_BATCH_ELEMENTS = 250_000
GPU_BATCH_ELEMENTS = 100_000_000
DATES = "timestamps"


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


@dataclass(frozen=True)
class Pass:
    """How an encoder goes over images: what it is given, and how exactly its products are taken."""

    encoder: nn.Module
    pixels: Samples
    rules: dict[str, InputRule]
    patch_size: int
    precision: Precision = "float32"

    def load(self, rows: Rows) -> dict[str, Tensor]:
        """Images of these samples by modality, their dates beside them."""
        images = prepare(self.pixels, self.rules, *rows)
        loaded = {name: torch.from_numpy(x) for name, x in images.items()}
        return {**loaded, DATES: torch.from_numpy(self.pixels.timestamps(*rows))}

    def encode(self, loaded: Tensors) -> dict[str, Tensor]:
        """The tokens of what was loaded, in single precision."""
        images = {name: x for name, x in loaded.items() if name != DATES}
        with products_in(self.precision, loaded[DATES].device):
            tokens = self.encoder(images, loaded[DATES], self.patch_size)
        return in_single(tokens)

    def pooled(self, loaded: Tensors, how: Iterable[str], grid: Grid | None) -> dict[str, Tensor]:
        """Embeddings of what was loaded, by pooling."""
        # Some encoders normalise what they have pooled, instead of the tokens before.
        after = getattr(self.encoder, "after_pooling", None) or nn.Identity()
        with torch.inference_mode():
            tokens = self.encode(loaded)
            return {each: after(pool(tokens, each, grid)).float() for each in how}


def embed_into(
    arrays: Mapping[str, Any],
    encoder: nn.Module,
    pixels: Samples,
    rules: dict[str, InputRule],
    patch_size: int,
    batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    precision: Precision = "float32",
) -> Mapping[str, float]:
    """Fill ``arrays[pooling]`` with the embeddings of all samples, in order.

    ``[N, dim]``, or ``[N, h, w, dim]`` of each patch (`pool`). Raises `UserError` when an embedding
    is not finite, as the array keeps it: no score may rest on it.

    The answer is the largest error that keeping a value made, by pooling: 0 where arrays are of
    single precision.
    """
    errors = dict.fromkeys(arrays, 0.0)
    encoder.to(device).eval()
    total = len(pixels)
    shapes = {array.shape[1:-1] for array in arrays.values()}
    grid: Grid | None = shapes.pop() or None
    over = Pass(encoder, pixels, rules, patch_size, precision)
    if device.type == "cuda":
        done = _on_accelerator(Cuda(device), over, tuple(arrays), grid, batch)
    else:
        done = _on_cores(over, tuple(arrays), grid, batch)
    for (start, stop), pooled in done:
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


Done = Iterator[tuple[Rows, dict[str, Floats]]]


def _on_cores(over: Pass, how: tuple[str, ...], grid: Grid | None, batch: int) -> Done:
    """A batch on each processor core."""
    total = len(over.pixels)

    def embed(start: int) -> tuple[Rows, dict[str, Floats]]:
        rows = (start, min(start + batch, total))
        pooled = over.pooled(over.load(rows), how, grid)
        return rows, {each: x.numpy() for each, x in pooled.items()}

    return on_each_core(embed, range(0, total, batch))


def _on_accelerator(
    accelerator: Accelerator, over: Pass, how: tuple[str, ...], grid: Grid | None, batch: int
) -> Done:
    """A batch after the other, the next ones loaded meanwhile."""

    def embed(loaded: Tensors) -> dict[str, Tensor]:
        with true_float32():
            return over.pooled(loaded, how, grid)

    for rows, pooled in through(accelerator, over.load, embed, len(over.pixels), batch):
        yield rows, {each: x.numpy() for each, x in pooled.items()}
