"""What memory did not hold once: batches halved, and remembered in the store for everyone.

A smaller batch can change the last bits of an embedding, so it is made smaller only where a batch
did not fit, and the embedding says so. It must not know what is computed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from harness.store import Store
from models.errors import UserError

Result = TypeVar("Result")
HALVINGS = "halvings"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or the accelerator had not enough memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def halved(store: Store, key: str) -> int:
    """How often the batch of this work was halved before."""
    known = store.cached(HALVINGS, key)
    return known if isinstance(known, int) else 0


def halve(store: Store, key: str) -> None:
    """Remember that it was too much."""
    store.cache(HALVINGS, key, halved(store, key) + 1)


def fitting(store: Store, key: str, batch: int, work: Callable[[int], Result]) -> Result:
    """``work(batch)``, with half the batch each time that memory does not hold it.

    Raises `UserError` where not even a single sample fits.
    """
    while True:
        size = max(1, batch >> halved(store, key))
        try:
            return work(size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise UserError(
                    f"Not even one sample at a time fits into memory ({error}); use a machine "
                    "with more, a smaller variant, or smaller images (data: side)."
                ) from None
            halve(store, key)
        # Not above, where the error still holds all that was in memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
