"""A task whose data are not there: optional ones are left out by name, others are an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan import Places, Plan, left_out_sentences, make_plan
from harness.suite import load_suite
from models.errors import UserError

HEAD = """\
name: some
title: Some
variants: [olmoearth-v1.1-nano]
baselines: []
tasks:
"""
HERE = "  - {name: here, dataset: simulated, data: {size: 100}, probe: {kind: knn}}\n"
THERE = "  - {name: NAME, dataset: pastis-r, optional: true, probe: {kind: segmentation}}\n"


def plan_of(tasks: str, tmp_path: Path, data: Path | None = None) -> Plan:
    path = tmp_path / "some.yaml"
    path.write_text(HEAD + tasks)
    return make_plan(load_suite(path), Places(data, None, tmp_path / "cache"))


def test_an_optional_task_without_data_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    both = THERE.replace("NAME", "crops") + HERE + THERE.replace("NAME", "again")
    plan = plan_of(both, tmp_path)
    assert [task.name for task in plan.suite.tasks] == ["here"]
    assert {cell.task.name for cell in plan.cells} == {"here"}
    [said] = left_out_sentences(plan)
    assert "crops, again (pastis-r: no data directory is set" in said
    other = tmp_path / "other"
    (other / "something").mkdir(parents=True)
    [said] = left_out_sentences(plan_of(both, tmp_path, other))
    assert "does not hold PASTIS-R/metadata.geojson" in said
    assert plan_of(both, tmp_path).key == plan_of(HERE, tmp_path).key  # the same run
    assert left_out_sentences(plan_of(HERE, tmp_path)) == ()


def test_nothing_left_and_a_wrong_place_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'"some" has nothing to run: .*\(pastis-r: no data dir'):
        plan_of(THERE.replace("NAME", "crops"), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        plan_of(HERE + THERE.replace("NAME", "crops"), tmp_path, tmp_path / "nowhere")
    with pytest.raises(UserError, match="pastis-r"):
        plan_of(
            HERE + THERE.replace("NAME, dataset: pastis-r, optional: true", "a, dataset: pastis-r"),
            tmp_path,
        )
