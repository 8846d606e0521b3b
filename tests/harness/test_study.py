"""Study weights in a suite: the encoder that was written is the one that is scored, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from harness.mlflow_view.facts import SuiteRun, study_tags, variant_params
from harness.plan import Cell, Places, Plan, make_plan
from harness.provenance import Manifest
from harness.run import Outcome, Seconds, compute_cells, run_suite
from harness.store import Store
from harness.suite import Overrides, load_suite
from models import study_cards
from models.errors import UserError
from models.families import encoder_code
from models.normalisation import pretraining_statistics
from models.registry import load_registry
from models.sensors import modality
from models.study_cards import BandRow, StudyCard, StudyData, StudyFiles
from models.study_weights import write_study_weights
from reports.against_baselines import against_baselines, is_mark_only
from reports.io import load_results, save_results
from reports.pairs import compare
from reports.ranking import rank
from reports.resampling import bootstrap
from reports.study_part import study_part

Tokenrank = Callable[..., Any]
ONE, THREE = "olmoearth-one-pico", "olmoearth-three-pico"
ABLATION = "one-no-band-dropout"
TRAINED = 7  # the seed of the random weights that play the trained ones


def family_statistics(name: str = "sentinel2_l2a") -> dict[str, dict[str, BandRow]]:
    """What OlmoEarth's own weights are normalised by."""
    rows = zip(modality(name).band_names, *pretraining_statistics(name), strict=True)
    return {name: {band: BandRow(mean=mean, std=std) for band, mean, std in rows}}


class Quiet:
    """Watches a run without a word."""

    def planned(self, plan: Plan, to_do: list[Cell]) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def progress(self, what: str, done: int, total: int) -> None: ...
    def finished(self, cell: Cell, score: float) -> None: ...


@pytest.fixture
def train(small_suite: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes study weights as a training run would, ``seed`` deciding their values."""
    registry = load_registry([small_suite.parent / "pico.yaml"])

    def write(
        place: str | StudyFiles, name: str = ONE, seed: int = TRAINED, **facts: Any
    ) -> Path | StudyFiles:
        variant = registry.variant(name)
        code = encoder_code(variant)
        encoder = code.init_random(code.build(variant, {}), seed)
        known: dict[str, Any] = {
            "variant": name,
            "recipe": study_cards.main_recipe(variant),
            "recipe_hash": "0123abcd",
            "setting": "small",
            "size": variant.size,
            "seed": seed,
            "steps": 10,
            "samples_seen": 640,
            "data": StudyData(
                title="Tiles of nowhere", count=64, fingerprint="ff", origin="real", licence="CC0"
            ),
            "code": "cc",
            "statistics": family_statistics(),
            "packages": {"torch": "2", "numpy": "2"},
            "limits": ["64 images are few."],
            "created_by_command": "tokenrank pretrain one",
        }
        where = tmp_path / place if isinstance(place, str) else place
        write_study_weights(where, encoder.state_dict(), StudyCard(**{**known, **facts}))
        return where

    return write  # type: ignore[return-value]


@pytest.fixture
def suite(small_suite: Path) -> Callable[[str], Path]:
    """The small suite with other variants, as YAML."""

    def write(variants: str, **settings: str) -> Path:
        text = small_suite.read_text()
        for line in text.splitlines():
            key = line.partition(":")[0]
            if key == "variants":
                text = text.replace(line, f"variants: {variants}")
            elif key in settings:
                text = text.replace(line, f"{key}: {settings[key]}")
        small_suite.write_text(text)
        return small_suite

    return write


def plan_of(path: Path, tmp_path: Path, **overrides: Any) -> Plan:
    return make_plan(load_suite(path, Overrides(**overrides)), Places(None, None, tmp_path / "c"))


def run(path: Path, store: Path, **overrides: Any) -> Outcome:
    places = Places(None, None, store / "cache")
    chosen = load_suite(path, Overrides(**overrides))
    return run_suite(chosen, places, Store(store), "tokenrank run small", Quiet())


def embeddings(path: Path, store: Path, **overrides: Any) -> Mapping[str, Any]:
    """Embeddings of the kNN task's first cell by normalisation, read by the safetensors library."""
    plan = plan_of(path, store, **overrides)
    cell = next(c for c in plan.cells if c.task.name == "sim-knn" and c.variant.name == ONE)
    compute_cells(plan, [cell], Store(store), Quiet(), Seconds())
    return {
        job.normalisation: load_file(store / "embeddings" / job.key[:2] / f"{job.key}.safetensors")
        for job in cell.embeddings
    }


def test_a_study_variant_embeds_as_the_encoder_that_was_written(
    train: Callable[..., Path], suite: Callable[..., Path], tmp_path: Path
) -> None:
    """The oracle is the same encoder by another way: tier random, of the seed it was made by."""
    train("trained")
    path = suite(f"[{{variant: {ONE}, tier: study, weights: trained}}]")
    ours = embeddings(path, tmp_path / "study")
    suite(f"[{ONE}]")
    theirs = embeddings(path, tmp_path / "direct", seeds=(TRAINED,))
    assert ours.keys() == theirs.keys() == {"pretraining", "dataset"}
    for normalisation, pooled in ours.items():
        for how, rows in pooled.items():
            other = theirs[normalisation][how]
            spread = np.abs(other).max()
            np.testing.assert_allclose(rows, other, atol=5e-3 * spread)
            assert np.abs(rows - other).max() > 0  # float16 was there


def test_a_place_per_seed_gives_each_seed_its_own_cells(
    train: Callable[..., Path], suite: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in (0, 1):
        train(f"run/seed-{seed}", seed=seed)
    own = plan_of(
        suite(f"[{{variant: {ONE}, tier: study, weights: 'run/seed-{{seed}}'}}]"), tmp_path
    )
    assert [cell.weights.card.seed for cell in own.cells if cell.weights.card] == [0, 0, 1, 1]
    assert len({cell.key for cell in own.cells}) == 4
    same = plan_of(suite(f"[{{variant: {ONE}, tier: study, weights: run/seed-0}}]"), tmp_path)
    knn = [cell for cell in same.cells if cell.task.name == "sim-knn"]
    assert len(knn) == 2
    assert knn[0].key == knn[1].key  # kNN draws nothing


def test_keys_change_with_the_weights_and_not_with_their_place(
    train: Callable[..., Path], suite: Callable[..., Path], tmp_path: Path
) -> None:
    def keys(folder: str) -> list[str]:
        path = suite(f"[{{variant: {ONE}, tier: study, weights: {folder}}}]")
        return [cell.key for cell in plan_of(path, tmp_path).cells]

    train("here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    train("other", seed=TRAINED + 1)
    assert keys("here") == keys("there")
    assert not set(keys("here")) & set(keys("other"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for all runs of `ablated`: the second finds its cells and its report there."""
    return tmp_path_factory.mktemp("ablated")


@pytest.fixture
def ablated(train: Callable[..., Path], suite: Callable[..., Path], kept: Path) -> Outcome:
    """One variant with weights of two recipes, its untrained self, and a baseline."""
    train("one")
    train("ablation", seed=TRAINED + 1, recipe=ABLATION)
    path = suite(
        f"[{{variant: {ONE}, tier: study, weights: one}}, "
        f"{{variant: {ONE}, recipe: {ABLATION}, weights: ablation}}]",
        baselines="[baseline-statistics-mean_std, random]",
    )
    return run(path, kept)


def test_two_recipes_of_a_variant_are_two_rows_everywhere(ablated: Outcome, tmp_path: Path) -> None:
    results = ablated.results
    main, other = f"{ONE}@study", f"{ONE}@{ABLATION}"
    rows = results.variants.filter(tier="study").select("variant", "recipe", "licence").rows()
    assert rows == [(main, "one", "Apache-2.0"), (other, ABLATION, "Apache-2.0")]
    assert set(results.scores["variant"]) >= {main, other, f"{ONE}@random"}
    cells = results.scores.filter(task="sim-knn", seed=0)
    assert cells.filter(variant=main)["cell"][0] != cells.filter(variant=other)["cell"][0]

    (ablation,) = compare(results)
    assert (ablation.kind, ablation.reference, ablation.candidate) == ("pretraining", main, other)
    assert {d.task for d in ablation.differences} == {"sim-knn", "sim-linear"}
    assert ablation.macs_ratio == 1.0

    page = (ablated.report / "report.html").read_text()
    for said in (other, "64 real images: Tiles of nowhere", "64 images are few.", ABLATION):
        assert said in page
    assert "trained by this project at small scale on 64 real images" in page


def test_a_page_says_where_arms_were_trained_by_different_code(ablated: Outcome) -> None:
    results = ablated.results
    assert not any("training code" in said for said in study_part(results).bullets)
    first, *others = results.run.study
    mixed = (replace(first, code=("aa", "bb")), *others)
    (said,) = (
        bullet
        for bullet in study_part(replace(results, run=replace(results.run, study=mixed))).bullets
        if "training code" in bullet
    )
    assert "3 versions of the training code (aa, bb, cc)" in said


def test_a_study_encoder_is_held_to_its_own_beginning(ablated: Outcome) -> None:
    results = ablated.results
    scores = bootstrap(results)
    rankings = rank(results, scores=scores)
    study, *_ = against_baselines(results, rankings, scores)
    assert study.ranking.tiers == ("study",)
    marks = {m.mark for standing in study.untrained for m in standing.margins}
    assert marks == {f"{ONE}@random"}
    assert {m.mark for s in study.baselines for m in s.margins} == {"baseline-statistics-mean_std"}
    assert [r.tiers[0] for r in rankings if is_mark_only(results, r)] == ["random", "baseline"]


def test_what_mlflow_is_told_names_recipe_and_images(ablated: Outcome) -> None:
    manifest = Manifest("k" * 64, "small", "tokenrank run small", "c", {}, {})
    suite_run = SuiteRun.of(ablated.results, manifest, "d", resamples=20)
    row = ablated.results.variants.filter(recipe=ABLATION).to_dicts()[0]
    params = variant_params(suite_run, row)
    assert params["tier"] == "study"
    assert params["recipe"] == ABLATION
    assert params["trained_on"] == "64 real images: Tiles of nowhere"
    assert study_tags(suite_run, row)["tokenrank.samples_seen"] == "640"


def test_saved_results_keep_it_and_older_ones_are_still_read(
    ablated: Outcome, tmp_path: Path
) -> None:
    save_results(ablated.results, tmp_path / "new")
    assert load_results(tmp_path / "new").run.study == ablated.results.run.study
    old = tmp_path / "new"
    table = pl.read_parquet(old / "variants.parquet").drop("recipe")
    table.write_parquet(old / "variants.parquet")
    record = json.loads((old / "run.json").read_text())
    del record["run"]["study"]
    (old / "run.json").write_text(json.dumps(record))
    found = load_results(old)
    assert found.run == replace(ablated.results.run, study=())
    assert found.variants["recipe"].to_list() == [None] * len(found.variants)


# --- the package's own ---------------------------------------------------------------------------


@pytest.fixture
def shipped(train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships weights of one variant, by its main recipe and by an ablation."""
    monkeypatch.setattr(study_cards, "STUDY_FOLDER", tmp_path / "shipped")
    for recipe in ("one", ABLATION):
        train(StudyFiles.shipped(recipe, "pico"), recipe=recipe)  # type: ignore[arg-type]
    return tmp_path / "shipped"


def test_shipped_weights_are_used_and_who_has_none_is_missing_with_the_reason(
    shipped: Path, suite: Callable[..., Path], tmp_path: Path
) -> None:
    path = suite(f"[{ONE}, {THREE}]", tier="study", baselines="[random]")
    plan = plan_of(path, tmp_path)
    assert {cell.row.words for cell in plan.cells} == {(ONE, "study", "one"), (ONE, "random")}
    assert {m.entrant.variant.name for m in plan.missing} == {THREE}
    reason = plan.missing[0].reason
    assert f"no study weights of {THREE} are shipped" in reason
    assert ONE in reason


def test_a_recipe_may_be_named_in_the_suite_or_on_the_command_line(
    shipped: Path, suite: Callable[..., Path], tmp_path: Path
) -> None:
    path = suite(f"[{{variant: {ONE}, recipe: {ABLATION}}}, {{variant: {ONE}, tier: random}}]")
    rows = {cell.row.words for cell in plan_of(path, tmp_path).cells}
    assert rows == {(ONE, "study", ABLATION), (ONE, "random")}
    suite(f"[{ONE}]")
    asked = plan_of(path, tmp_path, variants=(f"{ONE}@{ABLATION}",))
    assert {cell.row.words for cell in asked.cells} == {(ONE, "study", ABLATION)}


def test_nothing_shipped_is_one_sentence(
    tokenrank: Tokenrank, small_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_cards, "STUDY_FOLDER", tmp_path / "nothing")
    ended = tokenrank("run", small_suite, "--store", tmp_path / "store", "--tier", "study")
    assert ended.code == 2
    assert "no study weights of olmoearth-one-pico are shipped" in ended.err
    assert "Traceback" not in ended.err


def test_the_table_of_models_says_who_has_study_weights(
    shipped: Path, tokenrank: Tokenrank, small_suite: Path
) -> None:
    registry = small_suite.parent / "pico.yaml"
    ended = tokenrank("models", ONE, THREE, "--registry", registry)
    assert ended.code == 0, ended.err
    assert "study, random" in ended.out
    assert "64 real images (Tiles of nowhere)" in ended.out
    assert ended.out.count("study, random") == 1


# --- mistakes ------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda at: cut(at / "encoder.safetensors"), "changed or damaged"),
        (lambda at: (at / "card.yaml").unlink(), "never used without their card"),
        (shutil.rmtree, "is not there"),
    ],
)
def test_damaged_or_missing_files_end_before_anything_is_computed(
    train: Callable[..., Path],
    suite: Callable[..., Path],
    tokenrank: Tokenrank,
    tmp_path: Path,
    damage: Callable[[Path], None],
    sentence: str,
) -> None:
    damage(train("trained"))
    path = suite(f"[{{variant: {ONE}, tier: study, weights: trained}}]")
    ended = tokenrank("run", path, "--store", tmp_path / "store")
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert not list((tmp_path / "store").rglob("cells/*/*"))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (f"{{variant: {THREE}, tier: study, weights: trained}}", f"weights of {ONE}, which do not"),
        (f"{{variant: {ONE}, recipe: one-other, weights: trained}}", 'comes of recipe "one"'),
        (f"{{variant: {ONE}, recipe: one, tier: random}}", "only study weights have a recipe"),
        (f"{{variant: {ONE}, recipe: random}}", "is the name of a tier"),
        (f"{{variant: {ONE}, tier: official, weights: trained}}", "choose tier study"),
        (f"{{variant: {ONE}, tier: official, weights: 'at-{{seed}}'}}", "once per seed"),
        (
            f"{{variant: {ONE}, tier: study, weights: trained}}, "
            f"{{variant: {ONE}, tier: study, weights: again}}",
            'twice with weights of recipe "one"',
        ),
    ],
)
def test_weights_that_do_not_suit_their_entry_are_one_sentence(
    train: Callable[..., Path],
    suite: Callable[..., Path],
    tmp_path: Path,
    entry: str,
    sentence: str,
) -> None:
    train("trained")
    train("again", seed=TRAINED + 1)
    with pytest.raises(UserError) as refused:
        plan_of(suite(f"[{entry}]"), tmp_path)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_seeds_of_one_row_must_be_one_training_repeated(
    train: Callable[..., Path], suite: Callable[..., Path], tmp_path: Path
) -> None:
    train("run/seed-0", seed=0)
    train("run/seed-1", seed=1, samples_seen=1280)
    path = suite(f"[{{variant: {ONE}, tier: study, weights: 'run/seed-{{seed}}'}}]")
    with pytest.raises(UserError, match=r"number of samples seen \(640, 1280\)"):
        plan_of(path, tmp_path)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"samples_seen": 1280, "samples_factor": 2}, None),  # by its recipe, and said everywhere
        ({"samples_seen": 1280}, "samples 640, one-longer with 1280"),
        ({"setting": "large"}, "setting small, one-longer with large"),
        (
            {"data": StudyData(title="T", count=9, fingerprint="e", origin="real", licence="CC0")},
            "training data ff, one-longer with e",
        ),
    ],
)
def test_arms_of_a_study_were_trained_alike(
    train: Callable[..., Path],
    suite: Callable[..., Path],
    tmp_path: Path,
    facts: dict[str, Any],
    sentence: str | None,
) -> None:
    train("one")
    train("longer", recipe="one-longer", **facts)
    path = suite(f"[{{variant: {ONE}, recipe: one}}, {{variant: {ONE}, recipe: one-longer}}]")
    path.write_text(path.read_text() + "study: small\n")
    given = tuple(
        (f"{ONE}@{r}", tmp_path / p) for r, p in (("one", "one"), ("one-longer", "longer"))
    )
    if sentence is None:
        assert len(plan_of(path, tmp_path, tier="study", weights=given).cells) > 0
        return
    with pytest.raises(UserError, match=sentence):
        plan_of(path, tmp_path, tier="study", weights=given)


def test_a_seed_that_is_not_trained_yet_is_missing_where_that_is_allowed(
    train: Callable[..., Path], suite: Callable[..., Path], tmp_path: Path
) -> None:
    train("run/seed-0", seed=0)
    entry = f"variant: {ONE}, tier: study, weights: 'run/seed-{{seed}}'"
    with pytest.raises(UserError, match=r"seed-1 is not there"):
        plan_of(suite(f"[{{{entry}}}]"), tmp_path)
    plan = plan_of(suite(f"[{{{entry}, optional: true}}]"), tmp_path)
    assert {cell.seed for cell in plan.cells} == {0}
    assert {m.seed for m in plan.missing} == {1}


def test_the_command_line_gives_weights_by_recipe(
    train: Callable[..., Path], suite: Callable[..., Path], tmp_path: Path
) -> None:
    train("one")
    train("ablation", recipe=ABLATION)
    path = suite(f"[{{variant: {ONE}, tier: study}}, {{variant: {ONE}, recipe: {ABLATION}}}]")
    given = ((ONE, tmp_path / "one"), (f"{ONE}@{ABLATION}", tmp_path / "ablation"))
    rows = {cell.row.words for cell in plan_of(path, tmp_path, weights=given).cells}
    assert rows == {(ONE, "study", "one"), (ONE, "study", ABLATION)}
    with pytest.raises(UserError, match=f'suite runs no {ONE} with recipe "one-other"'):
        plan_of(path, tmp_path, weights=(*given, (f"{ONE}@one-other", tmp_path / "one")))
