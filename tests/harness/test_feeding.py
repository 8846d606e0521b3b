"""Batches to an accelerator and back, on one that is as late as it may be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.embed import Pass, _on_accelerator, embed_into
from harness.feeding import UNDERWAY, Cuda, pieces, through
from tests.harness.test_embed import BANDS, RULE, SIDE, Images, PixelsAsTokens


class Late:
    """Copies arrive when they are waited for, and not before: until then they hold NaN.

    Implements `harness.feeding.Accelerator`. ``most``: copies back that were underway at once.
    """

    def __init__(self) -> None:
        self.coming: list[tuple[Tensor, Tensor]] = []
        self.held_by: set[int] = set()
        self.readable: dict[int, Tensor] = {}
        self.underway = self.most = 0

    def held(self, tensor: Tensor) -> Tensor:
        self.held_by.add(threading.get_ident())
        copy = tensor.clone()
        self.readable[id(copy)] = copy
        return copy

    def send(self, tensor: Tensor) -> Tensor:
        assert id(tensor) in self.readable
        blank = torch.full_like(tensor, torch.nan if tensor.is_floating_point() else -1)
        self.coming.append((blank, tensor))
        return blank

    def await_sent(self, tensors: Sequence[Tensor]) -> None:
        asked = {id(tensor) for tensor in tensors}
        for blank, tensor in self.coming:
            if id(blank) in asked:
                blank.copy_(tensor)
        self.coming = []

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        blank = torch.full_like(tensor, torch.nan)
        self.underway += 1
        self.most = max(self.most, self.underway)

        def wait() -> Tensor:
            self.underway -= 1
            return blank.copy_(tensor)

        return wait


class OfItsBatch(nn.Module):
    """Tokens that tell which samples came together. Real encoders' must not; batches are seen."""

    def forward(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        assert (timestamps == 0).all()
        return {name: (x - x.sum())[..., None, :] for name, x in images.items()}


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
@pytest.mark.parametrize("encoder", [PixelsAsTokens(), OfItsBatch()])
def test_an_accelerator_gives_what_the_processor_gives(batch: int, encoder: nn.Module) -> None:
    images, rules = Images(1.0), {"s2": RULE}
    arrays = {how: np.zeros((len(images), BANDS), dtype=np.float32) for how in ("mean", "max")}
    embed_into(arrays, encoder, images, rules, 1, batch, torch.device("cpu"))
    late = Late()
    over = Pass(encoder, images, rules, 1)
    done = list(_on_accelerator(late, over, ("mean", "max"), None, batch))
    starts = range(0, len(images), batch)
    assert [rows for rows, _ in done] == [(s, min(s + batch, len(images))) for s in starts]
    for how, expected in arrays.items():
        np.testing.assert_array_equal(np.concatenate([found[how] for _, found in done]), expected)
    assert late.underway == 0
    assert late.most <= 2 * (UNDERWAY + 1)
    if len(starts) > UNDERWAY:  # results of one batch are not waited for before the next is given
        assert late.most == 2 * (UNDERWAY + 1)
    assert threading.get_ident() not in late.held_by  # the one thread that gives work loads nothing


def test_each_batch_is_cut_by_itself_and_by_its_size() -> None:
    assert list(pieces(10, 4, 2)) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9), (9, 10)]
    assert list(pieces(3, 8, 16)) == [(0, 1), (1, 2), (2, 3)]
    assert list(pieces(5, 5, 2)) == [(0, 3), (3, 5)]


def test_a_mistake_in_loading_or_computing_ends_it() -> None:
    def load(rows: tuple[int, int]) -> dict[str, Tensor]:
        if rows[0] >= 6:
            raise OSError("gone")
        return {"x": torch.zeros(rows[1] - rows[0], 1)}

    with pytest.raises(OSError, match="gone"):
        list(through(Late(), load, dict, 10, 2))

    def too_much(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("full")

    threads = torch.get_num_threads()
    with pytest.raises(torch.OutOfMemoryError):
        list(through(Late(), lambda _: {"x": torch.zeros(2, 1)}, too_much, 10, 2))
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("batch", [3, 10])
def test_a_gpu_gives_what_the_processor_gives(batch: int) -> None:
    images, rules = Images(1.0), {"s2": RULE}
    single = {"mean": np.zeros((len(images), SIDE, SIDE, BANDS), dtype=np.float32)}
    other = {"mean": np.zeros_like(single["mean"])}
    for arrays, device in ((single, "cpu"), (other, "cuda")):
        embed_into(arrays, PixelsAsTokens(), images, rules, 1, batch, torch.device(device))
    np.testing.assert_allclose(other["mean"], single["mean"], rtol=1e-6)
    assert Cuda(torch.device("cuda")).held(torch.zeros(1)).is_pinned()
