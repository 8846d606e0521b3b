"""Plans of many cells: what cells share is found once, and no key hangs on how it was made."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from harness import content, plan
from harness.content import content_key
from harness.plan import Places, Plan, make_plan
from harness.suite import load_suite

TASKS = """\
tasks:
  - {name: few, dataset: simulated, data: {size: 100}, probe: {kind: knn, k: 5},
     label_fraction: 0.5}
  - {name: knn, dataset: simulated, data: {size: 100}, probe: {kind: knn, k: 5}}
  - {name: linear, dataset: simulated, data: {size: 100}, probe: {kind: linear}}
  - {name: attention, dataset: simulated, data: {size: 100}, probe: {kind: attention}}
  - {name: tuned, dataset: simulated, data: {size: 100}, probe: {kind: finetune}}
"""


def planned(small_suite: Path, tmp_path: Path, seeds: int = 2) -> Plan:
    written = small_suite.read_text().replace("[0, 1]", str(list(range(seeds))))
    small_suite.write_text(written.partition("tasks:")[0] + TASKS + "baselines: []\n")
    return make_plan(load_suite(small_suite), Places(None, None, tmp_path / "cache"))


def test_a_cells_key_is_the_hash_of_all_that_is_recorded_with_it(
    small_suite: Path, tmp_path: Path
) -> None:
    cells = planned(small_suite, tmp_path).cells
    assert len(cells) == 2 * 5 * 2
    assert {cell.key: content_key(cell.inputs) for cell in cells} == {c.key: c.key for c in cells}
    for cell in cells:
        assert cell.inputs["embeddings"] == [job.key for job in cell.embeddings]
        assert ("encoder" in cell.inputs) == (cell.task.name == "tuned")
        assert ("seed" in cell.inputs) == (cell.task.name != "knn")
    jobs = {job.key for cell in cells for job in cell.embeddings}
    assert len(jobs) == 2 * 2 * 2 * 2  # variants, seeds, normalisations; pooled or by patch


def test_a_hundred_seeds_are_planned_with_the_work_of_one(
    small_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: object) -> object:
            asked[name] += 1
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    for name in ("given_input", "code_of"):
        counted(plan, name)
    counted(content, "normalised_source")
    content.code_version.cache_clear()
    content._code.cache_clear()
    cells = planned(small_suite, tmp_path, seeds=100).cells
    assert len(cells) == 2 * 5 * 100
    assert asked["given_input"] == 2 * 5
    assert asked["code_of"] <= 2 * 5
    modules = {*content.EMBEDDING_CODE, *content.PROBE_CODE}
    own = 30  # those of the family, and of the data set with all that it imports
    assert len(modules) <= asked["normalised_source"] <= len(modules) + own
