"""Keys of data: a change of any code that makes images or labels makes others of them."""

from __future__ import annotations

import pytest

from harness.content import module_file
from harness.data_code import data_code
from suites.datasets.cut import Cut
from suites.datasets.simulated import Simulated


@pytest.mark.parametrize("changed", ["suites.datasets.simulated", "suites.datasets.scenes"])
@pytest.mark.parametrize("side", [None, 16])
def test_a_changed_loader_or_helper_is_other_data_cut_or_not(
    monkeypatch: pytest.MonkeyPatch, changed: str, side: int | None
) -> None:
    whole = Simulated(100)
    data = whole if side is None else Cut(whole, side, None)
    seen: list[tuple[str, ...]] = []

    def version(modules: tuple[str, ...]) -> str:
        seen.append(modules)
        return str(modules)

    monkeypatch.setattr("harness.data_code.code_version", version)
    data_code(data)
    assert changed in seen[0]
    assert ("suites.datasets.cut" in seen[0]) == (side is not None)
    assert all(module_file(name).is_file() for name in seen[0])
    assert not {"suites.datasets.catalogue", "suites.datasets.mados"} & set(seen[0])
