"""A transformer over visible tokens only: each sample as if it were alone, with little padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.visible import PARTS, over_visible


class Summing:
    """Sums over what may be attended: a stand-in for attention whose result is easily known."""

    def __init__(self) -> None:
        self.padded: list[int] = []

    def __call__(self, x: Tensor, bias: Tensor | None, places: Tensor, rows: Tensor) -> Tensor:
        real = torch.ones(x.shape[:2]) if bias is None else bias[:, 0, 0].float()
        self.padded.append(int((real == 0).sum()))
        total = (x * real[..., None]).sum(dim=1, keepdim=True)
        return total + places[..., None] + 100 * rows[:, None, None]


def visible_of(lengths: list[int], tokens: int) -> Tensor:
    keys = torch.rand(len(lengths), tokens, generator=torch.Generator().manual_seed(0))
    return keys.argsort(dim=1).argsort(dim=1) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize(
    "lengths",
    [[3, 3, 3], [5, 2, 5, 2, 2], [0, 4, 1, 0], [7, 1, 6, 2, 5, 3, 4, 0, 7], [0, 0]],
    ids=["equal", "two lengths", "some without any", "many lengths", "none"],
)
def test_every_sample_is_transformed_as_if_alone(lengths: list[int]) -> None:
    visible = visible_of(lengths, 7)
    x = torch.rand(len(lengths), 7, 2, generator=torch.Generator().manual_seed(1))
    found = over_visible(Summing(), x, visible)
    for sample, seen in enumerate(visible):
        expected = torch.zeros(7, 2)
        places = seen.nonzero()[:, 0]
        expected[places] = x[sample, places].sum(dim=0) + places[:, None] + 100 * sample
        torch.testing.assert_close(found[sample], expected)


def test_samples_of_few_lengths_are_never_padded_and_of_many_go_in_few_parts() -> None:
    few, many = Summing(), Summing()
    over_visible(few, torch.rand(6, 9, 2), visible_of([9, 3, 6, 3, 9, 3], 9))
    assert few.padded == [0, 0, 0]
    lengths = list(range(1, 21))
    over_visible(many, torch.rand(20, 20, 2), visible_of(lengths, 20))
    # Five samples a part, each padded to its part's longest: 4 + 3 + 2 + 1 + 0.
    assert many.padded == [10] * PARTS
