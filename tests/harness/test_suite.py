"""Suite files: what is written is what runs, and a typo is found before anything does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.suite import (
    SUITES_FOLDER,
    Overrides,
    load_suite,
    suite_names,
)
from harness.suite_file import DEFAULT_BASELINES, DataOptions, json_schema
from models.errors import UserError
from suites.datasets import breizhcrops, cropharvest_labels
from suites.datasets.entries import ENTRIES

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
        ("patch_size: 8", "patch_size: 8\n  precision: bf16", 'did you mean "bfloat16"'),
        ("kind: knn", "kind: kn", 'did you mean "knn"'),
        ("metric: accuracy", "metric: acuracy", 'did you mean "accuracy"'),
        ("v1-nano:single", "v1-nano:singl", 'did you mean "single"'),
        ("dataset: eurosat", "dataset: eurosta", 'did you mean "eurosat"'),
        ("trials: 64", "trails: 64", 'unknown key "trails": did you mean "trials"'),
        ("[0, 1, 2]", "[0, 1, 0]", '"0" stands twice among the seeds'),
        ("name: eurosat-linear", "name: eurosat-knn", "stands twice among the tasks"),
        ("tier: study", "tier: studdy", 'did you mean "study"'),
        ("tier: study", "tier: study\ntier: random", 'key "tier" stands twice'),
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
    probes = {"knn", "linear", "segmentation", "pixel_regression", "attention", "finetune"}
    assert probes == set(
        schema["$defs"]["TaskEntry"]["properties"]["probe"]["discriminator"]["mapping"]
    )


# --- suites of suites --------------------------------------------------------------------------


BASE = """\
name: base
title: Base
protocol: {patch_size: 8}
variants: [olmoearth-v1-nano]
tasks:
  - {name: one, dataset: simulated, probe: {kind: knn}}
  - {name: two, dataset: simulated, probe: {kind: knn}, patch_size: 2}
"""


def test_an_included_suite_brings_tasks_and_variants_and_takes_this_protocol(
    tmp_path: Path,
) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    more = tmp_path / "more.yaml"
    more.write_text(
        "name: more\ntitle: More\ninclude: [base.yaml]\nprotocol: {patch_size: 4}\n"
        "tasks:\n  - {name: three, dataset: simulated, probe: {kind: linear}}\n"
    )
    suite = load_suite(more)
    assert [(t.name, t.patch_size) for t in suite.tasks] == [("one", 4), ("two", 2), ("three", 4)]
    assert suite.entrants[0].variant.name == "olmoearth-v1-nano"
    more.write_text(more.read_text() + 'variants: ["olmoearth-v1.1-nano"]\n')
    assert load_suite(more).entrants[0].variant.name == "olmoearth-v1.1-nano"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("include: [base.yaml, base.yaml]", r'base.yaml:6: "one" stands twice among the tasks'),
        ("include: [mine.yaml]", r'mine.yaml:3: "mine.yaml" includes itself'),
        ("include: [eurosatt]", 'no suite "eurosatt": did you mean "eurosat"'),
        ("variants: [olmoearth-v1-nano]", "mine.yaml:1: It has no tasks"),
        ("tasks: [{name: a, dataset: simulated, probe: {kind: knn}}]", "It has no variants"),
        (
            "include: [base.yaml]\nvariants: [{select: size == giant}]",
            "mine.yaml:4: No variant fits",
        ),
        (
            "include: [base.yaml]\ntasks: [{name: a, dataset: fuel-moisture, "
            "probe: {kind: knn}, metric: accuracy}]",
            r'"accuracy" cannot score what fuel-moisture asks for \(a number a sample\); '
            "allowed: rmse",
        ),
        (
            "include: [base.yaml]\ntasks: [{name: a, dataset: bark-beetle, probe: {kind: knn}}]",
            r'Probe "knn" cannot answer what bark-beetle asks for .*allowed: segmentation',
        ),
    ],
)
def test_mistakes_in_suites_of_suites(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"name: mine\ntitle: Mine\n{text}\n")
    with pytest.raises(UserError, match=said):
        load_suite(mine)


def test_variants_are_selected_by_what_they_are_in_several_schemes(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\ntitle: Mine\ninclude: [base.yaml]\nvariants:\n"
        "  - {select: 'version == v1 and size in [nano, tiny] and family == olmoearth'}\n"
        "  - select: 'name == \"olmoearth-v1-nano\"'\n"
        "    schemes: [per-resolution, single, per-band]\n"
    )
    mine.write_text(mine.read_text().replace("version == v1", 'version == "v1"'))
    with pytest.raises(UserError, match="stands twice"):
        load_suite(mine)
    mine.write_text(mine.read_text().replace("per-resolution, ", ""))
    names = [e.variant.name for e in load_suite(mine).entrants if not e.added]
    assert names == [
        "olmoearth-v1-nano",
        "olmoearth-v1-tiny",
        "olmoearth-v1-nano:single",
        "olmoearth-v1-nano:per-band",
    ]


def test_the_usual_metric_of_each_kind_and_the_protocols_where_it_fits(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\ntitle: Mine\nprotocol: {metric: macro_f1}\nvariants: [olmoearth-v1-nano]\n"
        "tasks:\n"
        "  - {name: a, dataset: simulated, probe: {kind: knn}}\n"
        "  - {name: b, dataset: fuel-moisture, probe: {kind: knn}}\n"
        "  - {name: c, dataset: m-bigearthnet, probe: {kind: knn}}\n"
        "  - {name: d, dataset: bark-beetle, probe: {kind: segmentation}}\n"
        "  - {name: e, dataset: fuel-moisture, probe: {kind: knn}, metric: r2}\n"
    )
    metrics = [task.metric for task in load_suite(mine).tasks]
    assert metrics == ["macro_f1", "rmse", "micro_f1", "miou", "r2"]


def test_a_sweep_is_a_task_for_every_combination(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\ntitle: Mine\nvariants: [olmoearth-v1-nano]\ntasks:\n"
        "  - {name: a, dataset: simulated, probe: {kind: knn}, data: {size: 200},\n"
        "     sweep: {patch_size: [4, 8], side: [16, 32]}}\n"
        "  - {name: b, dataset: simulated, probe: {kind: knn}, sweep: {label_fraction: [0.1, 1]}}\n"
    )
    tasks = load_suite(mine).tasks
    assert [t.name for t in tasks] == [
        "a-patch4-side16",
        "a-patch4-side32",
        "a-patch8-side16",
        "a-patch8-side32",
        "b-labels0.1",
        "b-labels1",
    ]
    assert [(t.patch_size, t.data.side, t.data.size) for t in tasks[:2]] == [
        (4, 16, 200),
        (4, 32, 200),
    ]
    assert [t.label_fraction for t in tasks[4:]] == [0.1, 1]


def test_who_takes_part_is_said_by_the_file_that_lists_them(tmp_path: Path) -> None:
    """Tier, seeds and registry come with the variants; what the including file says goes before."""
    inner = tmp_path / "sub" / "inner.yaml"
    inner.parent.mkdir()
    (inner.parent / "mine.yaml").write_text(
        "family: olmoearth\nschemes:\n  pairs:\n    sentinel2_l2a:\n"
        "      - [B02, B03, B04, B08]\n      - [B05, B06, B07, B8A, B11, B12, B01, B09]\n"
    )
    inner.write_text(
        "name: inner\ntitle: Inner\ntier: official\nseeds: [4, 5]\nregistry: [mine.yaml]\n"
        "variants: [olmoearth-v1-nano, {variant: 'olmoearth-v1-nano:pairs', tier: random}]\n"
        "tasks: [{name: a, dataset: simulated, probe: {kind: knn}}]\n"
    )
    outer = tmp_path / "outer.yaml"
    outer.write_text("name: outer\ntitle: Outer\ninclude: [sub/inner.yaml]\n")
    suite = load_suite(outer)
    named = [(e.variant.name, e.tier) for e in suite.entrants if not e.added]
    assert named == [("olmoearth-v1-nano", "official"), ("olmoearth-v1-nano:pairs", "random")]
    assert suite.seeds == (4, 5)
    outer.write_text(outer.read_text() + "tier: random\nseeds: [0]\n")
    suite = load_suite(outer)
    assert {e.tier for e in suite.entrants if not e.added} == {"random"}
    assert suite.seeds == (0,)


def test_a_mistake_behind_a_selection_has_its_own_line(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\ntitle: Mine\nvariants:\n"
        "  - {select: 'family == olmoearth and size == nano'}\n"
        "  - olmoearth-v1-giant\n"
        "tasks: [{name: a, dataset: simulated, probe: {kind: knn}}]\n"
    )
    with pytest.raises(UserError, match=r"mine.yaml:5: .*giant"):
        load_suite(mine)


def test_one_patch_size_for_all_cannot_be_asked_of_a_sweep_over_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\ntitle: Mine\nvariants: [olmoearth-v1-nano]\ntasks:\n"
        "  - {name: a, dataset: simulated, probe: {kind: knn}, sweep: {patch_size: [4, 8]}}\n"
    )
    with pytest.raises(UserError, match=r"mine.yaml:5: It sweeps the patch size"):
        load_suite(mine, Overrides(patch_size=4))
    outer = tmp_path / "outer.yaml"
    outer.write_text("name: outer\ntitle: Outer\ninclude: [mine.yaml]\n")
    with pytest.raises(UserError, match=r"mine.yaml:5: It sweeps the patch size"):
        load_suite(outer, Overrides(patch_size=4))


def test_a_suite_may_say_every_option_that_a_data_set_takes() -> None:
    for entry in ENTRIES.values():
        assert set(entry.options) - {"seed"} <= set(DataOptions.model_fields), entry.name
    for level in breizhcrops.COLUMNS:
        assert DataOptions.model_validate({"level": level}).level == level
    for task in cropharvest_labels.TASKS:
        assert DataOptions.model_validate({"task": task}).task == task
