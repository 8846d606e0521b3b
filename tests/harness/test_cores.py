"""Work on several cores: in order, bounded, and the same bits however many cores there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harness.cores import on_each_core


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_results_are_in_order_and_do_not_depend_on_the_number_of_cores() -> None:
    items = [torch.randn(64, 300, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    found = {}
    for cores in (1, 2, 3):
        torch.set_num_threads(cores)
        found[cores] = list(on_each_core(lambda x: torch.softmax(x @ x.T, dim=1) @ x, items))
        assert torch.get_num_threads() == cores
    for cores in (2, 3):
        assert all(torch.equal(a, b) for a, b in zip(found[1], found[cores], strict=True))


@pytest.mark.usefixtures("threads")
def test_no_more_items_are_taken_than_can_be_worked_on() -> None:
    torch.set_num_threads(2)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield i

    results = on_each_core(lambda i: i, items())
    for i in range(10):
        assert next(results) == i
        assert taken <= i + 4


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(on_each_core(lambda i: 1 // i, [1, 0, 1]))
