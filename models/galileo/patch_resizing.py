"""A patch embedding's kernel, stored at 8 x 8 pixels, at the patch size that is asked for.

The image is left alone and the kernel is resized, by the pseudo-inverse of the resize of a
patch (Beyer et al. 2023, FlexiViT, arXiv 2212.08013, section 3.4): a patch of 8 x 8 pixels and
the same patch shrunk give the same token, as nearly as they can. It must not know groups,
modalities or models.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

STORED_SIDE = 8
"""Side of the stored kernels, in pixels."""


@lru_cache(maxsize=STORED_SIDE)
def resize_matrix(patch_size: int) -> Tensor:
    """``[p * p, 64]``: times a flattened 8 x 8 kernel, it is the flattened p x p kernel.

    It is the Moore-Penrose pseudo-inverse of the matrix whose row i is the i-th unit image
    of 8 x 8 pixels shrunk to p x p (bicubic, antialiased, half-pixel centres).
    """
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        units = torch.eye(STORED_SIDE**2, dtype=torch.float64)
        images = units.view(-1, 1, STORED_SIDE, STORED_SIDE)
        size = (patch_size, patch_size)
        shrunk = F.interpolate(images, size=size, mode="bicubic", antialias=True).flatten(1)
        # In float64, so that the last bit does not hang on the machine's decomposition.
        matrix: Tensor = torch.linalg.pinv(shrunk)
        return matrix.float()


def resize_kernel(kernel: Tensor, patch_size: int) -> Tensor:
    """``[dim, 64 * C]`` over (row, column, channel) of 8 x 8 to ``[dim, p * p * C]``."""
    if patch_size == STORED_SIDE:
        return kernel
    pixels = STORED_SIDE**2
    dim, channels = len(kernel), kernel.shape[1] // pixels
    if kernel.device.type == "meta":
        # Only shapes are wanted there. A trace that counts MACs shall count those of a sample;
        # the kernel is resized once for a whole batch.
        return torch.empty(dim, patch_size**2 * channels, dtype=kernel.dtype, device="meta")
    matrix = resize_matrix(patch_size).to(kernel)
    # A weight and no product of the images: autocast rounds it once, when it is multiplied with.
    with torch.autocast(kernel.device.type, enabled=False):
        return torch.matmul(matrix, kernel.view(dim, pixels, channels)).flatten(1)
