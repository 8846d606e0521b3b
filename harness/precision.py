"""How exactly an encoder's products are taken: in single precision, or in bfloat16.

In bfloat16 by torch's autocast, on every device alike: products of matrices (attention's among
them) read bfloat16 and add up in single precision; weights, norms, the softmax's statistics and
what blocks add up stay in single precision. It must not know encoders or data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from harness.suite_file import Precision


def products_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, products on ``device`` are taken in ``precision``."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def is_fast_at_bfloat16(device: torch.device) -> bool:
    """Whether the device is an accelerator that is made for products in bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def in_single(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tokens of half precision in single precision, all others as they are."""
    half = (torch.bfloat16, torch.float16)
    return {name: x.float() if x.dtype in half else x for name, x in tokens.items()}


@contextmanager
def true_float32() -> Iterator[None]:
    """Within it, products in single precision read all of its bits on a GPU, too.

    TF32 reads ten of 23. Torch leaves it out of matrix products, but not of convolutions.
    """
    matrices, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(matrices)
