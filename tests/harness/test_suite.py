"""Suite files: what is written is what runs, and a typo is found before anything does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.suite import (
    DEFAULT_BASELINES,
    SUITES_FOLDER,
    Overrides,
    json_schema,
    load_suite,
    suite_names,
)
from models.errors import UserError

EUROSAT = (SUITES_FOLDER / "eurosat.yaml").read_text()


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_are_valid(name: str) -> None:
    suite = load_suite(SUITES_FOLDER / f"{name}.yaml")
    assert suite.name == name
    assert suite.tasks
    assert suite.entrants


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("patch_size: 8", "patchsize: 8", 'unknown key "patchsize": did you mean "patch_size"'),
        ("patch_size: 8", "patch_size: 9", "less than or equal to 8"),
        ("kind: knn", "kind: kn", 'did you mean "knn"'),
        ("metric: accuracy", "metric: acuracy", 'did you mean "accuracy"'),
        ("v1-nano:single", "v1-nano:singl", 'did you mean "single"'),
        ("dataset: eurosat", "dataset: eurosta", 'did you mean "eurosat"'),
        ("trials: 64", "trails: 64", 'unknown key "trails": did you mean "trials"'),
        ("[0, 1, 2]", "[0, 1, 0]", '"0" stands twice among the seeds'),
        ("name: eurosat-linear", "name: eurosat-knn", "stands twice among the tasks"),
        ("tier: random", "tier: randem", 'did you mean "random"'),
        ("tier: random", "tier: random\ntier: study", 'key "tier" stands twice'),
        ("title:", "title: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_answered_with_file_line_and_allowed_values(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    file = tmp_path / "broken.yaml"
    text = EUROSAT.replace(old, new, 1)
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_suite(file)
    message = str(caught.value)
    assert sentence in message
    assert message.startswith(f"{file}:")
    line = int(message.removeprefix(f"{file}:").split(":")[0])
    changed = [i for i, row in enumerate(text.splitlines(), 1) if new.splitlines()[-1] in row]
    # YAML notices an unclosed bracket where the next key begins.
    assert any(abs(line - at) <= 2 for at in changed)


def test_overrides_replace_what_the_file_says() -> None:
    overrides = Overrides(
        variants=("olmoearth-v1-base",), tier="official", seeds=(7,), patch_size=4
    )
    suite = load_suite(SUITES_FOLDER / "eurosat.yaml", overrides)
    asked, *added = suite.entrants
    assert (asked.variant.name, asked.tier) == ("olmoearth-v1-base", "official")
    # What it has to beat comes unasked: the baselines, and itself untrained.
    assert [(e.variant.name, e.tier) for e in added] == [
        *((name, "baseline") for name in DEFAULT_BASELINES[:-1]),
        ("olmoearth-v1-base", "random"),
    ]
    assert suite.seeds == (7,)
    assert {task.patch_size for task in suite.tasks} == {4}


def test_the_json_schema_refuses_what_the_loader_refuses() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert {"knn", "linear", "segmentation"} == set(
        schema["$defs"]["TaskEntry"]["properties"]["probe"]["discriminator"]["mapping"]
    )
