"""Cut images into patches, for encoders that read them at one patch size.

It must not know what is done with a patch.
"""

from __future__ import annotations

from torch import Tensor


def cut(images: Tensor, patch_size: int) -> Tensor:
    """``[B, H, W, D]`` to ``[B, H/p, W/p, p * p, D]``, pixels of a patch row by row.

    The patch size must divide both sides (`models.needs.check_images`).
    """
    batch, height, width, channels = images.shape
    p = patch_size
    grid = images.reshape(batch, height // p, p, width // p, p, channels)
    return grid.transpose(2, 3).reshape(batch, height // p, width // p, p * p, channels)


def kernel_as_matrix(kernel: Tensor) -> Tensor:
    """A convolution's kernel ``[dim, D, p, p]`` as a matrix ``[dim, p * p * D]``.

    It multiplies flattened patches of `cut`. A linear layer's matrix is left as it is: some
    publishers keep the one, some the other.
    """
    return kernel.permute(0, 2, 3, 1).flatten(1) if kernel.ndim == 4 else kernel
