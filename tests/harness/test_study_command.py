"""`tokenrank study`: trainings in useful order, taken up where they stopped, ranked as they stand.

(Study weights in a suite are in `test_study`.)
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from torch import nn

from harness.commands.views import latest_results
from harness.content import pretraining_version
from harness.store import Store
from harness.studies.curves import ArmCost
from harness.studies.file import STUDIES_FOLDER, Study, load_study, study_names
from harness.studies.shipping import ship
from harness.studies.trainings import State, Wanted, state_of, trainings_of
from harness.suite import load_suite, suite_path
from models.errors import UserError
from models.pretraining.checkpoint import Record, read_history
from models.pretraining.distributed import group_of_environment
from models.pretraining.loop import Habits, Job, train
from models.sensors import SENTINEL2_L2A
from models.study_cards import read_card
from suites.chips import open_chips, simulated_chips

Tokenrank = Callable[..., Any]
TOKENS = STUDIES_FOLDER / "tokens.yaml"
BANDS = SENTINEL2_L2A.band_names
FILES = {
    "pico.yaml": """\
family: olmoearth
sizes:
  pico: {dim: 32, depth: 1, heads: 4}
versions:
  one: {scheme: single, sizes: [pico]}
  three: {scheme: per-resolution, sizes: [pico]}
""",
    "tiny.yaml": """\
name: tiny
title: Tiny
samples: 64
batch: 8
crops: {patch_sizes: [8], sides: [2]}
views: {crop: own, brightness: 0.1}
optimiser: {learning_rate: 0.001, weight_decay: 0.02, warmup_fraction: 0.1}
""",
    "one.yaml": """\
name: one
title: One token
variant: olmoearth-one
main: true
masking: band-groups
contrast_weight: 0.1
""",
    # Similarities divided by next to nothing are infinite, and so is the loss.
    "three.yaml": """\
name: three
title: Three tokens, at a temperature that cannot be
variant: olmoearth-three
main: true
masking: band-groups
contrast_weight: 0.1
temperature: 1.0e-45
""",
    "pair.yaml": """\
name: pair
title: One token against three
setting: tiny.yaml
size: pico
registry: [pico.yaml]
arms:
  - {recipe: one.yaml, seeds: [0]}
  - {recipe: three.yaml, seeds: [0]}
suites: [rank.yaml]
""",
    "rank.yaml": """\
name: rank
title: One token against three
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100, normalisations: [pretraining], poolings: [mean]}
tier: study
study: pair
seeds: [0]
variants:
  - {variant: olmoearth-one-pico, recipe: one}
  - {variant: olmoearth-three-pico, recipe: three}
tasks:
  - name: sim-knn
    dataset: simulated
    data: {size: 100}
    probe: {kind: knn, k: 5}
baselines: []
""",
}


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A study of two arms, one of which must fail, and 16 chips to train on."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    chips = tmp_path / "chips"
    chips.mkdir()
    (chips / "chips.yaml").write_text(
        f"origin: simulated\nbands: [{', '.join(BANDS)}]\naxes: NHWD\n"
    )
    tiles = simulated_chips(100)
    images = [tiles.chip(row).images[SENTINEL2_L2A.name][:, :, 0] for row in range(16)]
    np.save(chips / "tiles.npy", np.stack(images))
    return tmp_path / "pair.yaml"


class Interrupting:
    """Ends a training at a record, as a person at the keyboard does."""

    def __init__(self, at: int) -> None:
        self.at = at

    def started(self, job: Job, steps_done: int, history: Sequence[Record]) -> None: ...

    def logged(self, record: Record, samples_per_second: float, encoder: nn.Module) -> None:
        if record.step >= self.at:
            raise KeyboardInterrupt


def test_an_interrupted_study_goes_on_and_a_failed_arm_stops_no_other(
    pair: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    study = load_study(pair)
    chips = open_chips(tmp_path / "chips", cache_dir=tmp_path / "store" / "cache", tolerate=0)
    out = tmp_path / "out"
    one, _ = trainings_of(study, Wanted(), out, chips)
    assert one.job is not None
    habits = Habits(log_every=2, save_seconds=0)
    with group_of_environment() as group:
        with pytest.raises(KeyboardInterrupt):
            train(one.job, one.folder, group, habits, Interrupting(6))
        whole = train(one.job, tmp_path / "whole", group, Habits(log_every=4), Interrupting(99))
    assert state_of(one, study).standing == "to go on"
    assert state_of(one, study).samples == 4 * 8

    arguments = ("--data", tmp_path / "chips", "--out", out, "--store", tmp_path / "store")
    ended = tokenrank("study", pair, *arguments, "--workers", 1, "--no-track")
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1
    assert "1 of 2 trainings failed (three seed 0: " in ended.err
    assert "diverged" in ended.err
    assert "to go on" in ended.out

    # The arm that was interrupted is what it would have been.
    assert state_of(one, study).is_done
    last = read_history(one.folder)[-1]
    assert (last.step, last.samples) == (8, 64)
    expected = whole.history[-1]
    assert (last.loss, last.spread) == pytest.approx((expected.loss, expected.spread), rel=1e-3)
    card = read_card(one.folder)
    assert card.samples_seen == 64
    assert card.pretraining_macs is not None
    assert (card.setting, card.precision, card.samples_factor) == ("tiny", "float32", 1)
    assert card.code == pretraining_version() != ""
    assert card.created_by_command.endswith("--registry pico.yaml")
    # One date, one sensor, one group: what nobody could learn here of a masking is said.
    assert any("say nothing of their recipe's" in limit for limit in card.limits)
    # It is ranked, and the arm that failed is listed with a reason.
    assert "rank" in ended.out
    assert "olmoearth-three-pico" in ended.out
    assert (out / "curves" / "learning-curves.csv").read_text().startswith("arm,seed,metric")
    assert (out / "curves" / "loss.png").stat().st_size > 1000

    again = tokenrank("study", pair, "--out", out, "--store", tmp_path / "store", "--rank-only")
    assert again.code == 0, again.err
    assert "done" in again.out
    # Whichever arm is asked for, all that stand are ranked: their seeds are paired.
    other = tokenrank(
        *("study", pair, "--out", out, "--store", tmp_path / "store", "--rank-only"),
        *("--arm", "three"),
    )
    assert other.code == 0, other.err
    assert re.search(r"one-pico +1\.00", other.out)
    refused = tokenrank("study", pair, *arguments, "--train-only", "--ship", tmp_path / "ship")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "leave --train-only out" in refused.err
    _check_shipping(study, [state_of(one, study)], tmp_path)


def _check_shipping(study: Study, states: list[State], tmp_path: Path) -> None:
    """The seed with the best last probe is shipped, as it is, with what its suite scored it."""
    arm = replace(states[0].training.arm, recipe=states[0].training.arm.recipe.model_copy(
        update={"main": True}))  # fmt: skip
    only = replace(study, arms=(arm,))
    folder = states[0].training.folder
    better = folder.with_name("seed-1")
    shutil.copytree(folder, better)
    for place, knn in ((folder, 0.5), (better, 0.6)):
        score = {"step": 8, "samples": 64, "dataset": "simulated", "knn": knn}
        (place / "probe.jsonl").write_text(json.dumps(score) + "\n")
    mine = [
        replace(state, training=replace(state.training, arm=arm, folder=place))
        for state in states
        for place in (folder, better)
    ]
    results = latest_results(Store(tmp_path / "store"), None)
    target = tmp_path / "shipped"
    (shipped,) = ship(only, mine, [results], target)
    assert (shipped.validation, shipped.replaced) == (0.6, False)
    card = read_card(shipped.files)
    assert card.weights_sha256 == read_card(better).weights_sha256
    table = results.scores.filter(pl.col("variant") == "olmoearth-one-pico")
    expected = {(row["task"], row["score"]) for row in table.iter_rows(named=True)}
    assert expected
    assert {(score.task, score.score) for score in card.scores} == expected
    assert {(score.dataset, score.origin) for score in card.scores} == {("simulated", "simulated")}
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    # Of other weights than those that were ranked no score is told.
    (facts,) = (s for s in results.run.study if s.recipe == card.recipe)
    others = replace(facts, weights_sha256=("0" * 64,) * len(facts.training_seeds))
    ranked = replace(results, run=replace(results.run, study=(others,)))
    with pytest.raises(UserError, match="ranked other weights of one seed 0"):
        ship(only, mine, [ranked], target)
    # A study that is not finished ships nothing, not even the arms that are.
    undone = [s for s in states if not s.is_done] or [replace(mine[0], standing="to do")]
    missing = replace(undone[0], standing="to do", training=replace(
        undone[0].training, arm=replace(arm, seeds=(5,))))  # fmt: skip
    both = replace(study, arms=(arm, missing.training.arm))
    with pytest.raises(UserError, match=r"has no finished training; .*--arm"):
        ship(both, [*mine, missing], [results], target)
    (better / "probe.jsonl").write_text(
        json.dumps({"step": 8, "samples": 64, "dataset": "eurosat", "knn": 0.7}) + "\n"
    )
    with pytest.raises(UserError, match=r"different data sets \(eurosat, simulated\)"):
        ship(only, mine, [results], target)
    (better / "probe.jsonl").unlink()
    (folder / "probe.jsonl").unlink()
    with pytest.raises(UserError, match="holds no probe"):
        ship(only, mine, [results], target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_without_chips_or_weights_a_sentence_says_what_to_do(
    pair: Path, tmp_path: Path, tokenrank: Tokenrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ("--store", tmp_path / "store")
    ended = tokenrank("study", pair, *store)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--data" in ended.err
    ended = tokenrank("run", tmp_path / "rank.yaml", *store)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "tokenrank study pair --data CHIPS" in ended.err
    ended = tokenrank("study", pair, "--data", tmp_path / "chips", *store, "--arm", "on")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert 'did you mean "one"' in ended.err


def test_another_trainings_weights_are_refused_before_anything_starts(
    pair: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    """Fewer samples in the same folder would mix two studies."""
    study = load_study(pair)
    chips = open_chips(tmp_path / "chips", cache_dir=tmp_path / "store" / "cache", tolerate=0)
    one, three = trainings_of(study, Wanted(), tmp_path / "out", chips)
    assert one.job is not None
    with group_of_environment() as group, pytest.raises(KeyboardInterrupt):
        train(one.job, one.folder, group, Habits(log_every=2, save_seconds=0), Interrupting(4))
    ended = tokenrank(
        *("study", pair, "--data", tmp_path / "chips", "--out", tmp_path / "out"),
        *("--store", tmp_path / "store", "--samples", 32, "--no-track"),
    )
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "is of another run: its steps is 8" in ended.err
    assert not three.folder.exists()


# --- the file, and the order ---------------------------------------------------------------------


@pytest.mark.parametrize("name", study_names())
def test_what_a_shipped_study_ranks_it_trains(name: str) -> None:
    """Every entrant of its suites is one of its arms, with all seeds that the suite names."""
    study = load_study(STUDIES_FOLDER / f"{name}.yaml")
    arms = {(arm.variant.name, arm.recipe.name): set(arm.seeds) for arm in study.arms}
    ranked = set()
    for suite_name in study.suites:
        suite = load_suite(suite_path(suite_name))
        for entrant in (e for e in suite.entrants if e.tier == "study"):
            assert entrant.study == study.name
            key = (entrant.variant.name, str(entrant.recipe))
            assert arms[key] >= set(suite.seeds)
            ranked.add(key)
    assert ranked == set(arms)


def test_main_arms_come_first_and_seed_by_seed() -> None:
    study = load_study(TOKENS)
    order = [(t.arm.recipe.name, t.seed) for t in trainings_of(study, Wanted(), Path("o"), None)]
    main = ["v1", "v1-single", "v1.1", "v1.1-equal-compute"]
    assert order[:12] == [(name, seed) for seed in (0, 1, 2) for name in main]
    assert {seed for _, seed in order[12:]} == {0}
    assert len(order) == len(set(order)) == 17


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("recipe: v1-single,", "recipe: v1-singel,", 'did you mean "v1-single"'),
        ("recipe: v1-single,", "recipe: v1,", 'recipe "v1" stands twice'),
        ("setting: study", "setting: studio", 'did you mean "study"'),
        ("size: nano", "size: nana", 'did you mean "nano"'),
        ("study-ablations]", "study-ablation]", 'did you mean "study-ablations"'),
        ("seeds: [0, 1, 2]", "seeds: [0, 0]", "stands twice among the seeds"),
        ("dataset: eurosat", "dataset: eurosta", 'did you mean "eurosat"'),
        ("every:", "evry:", 'unknown key "evry"'),
    ],
)
def test_a_mistake_in_a_study_is_answered_with_file_and_line(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(TOKENS.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert sentence in str(caught.value)
    line = str(caught.value).removeprefix(f"{path}:").partition(":")[0]
    assert line.isdigit(), str(caught.value)


# --- telling -------------------------------------------------------------------------------------


def test_the_ratio_of_training_costs_is_told_in_macs_and_in_time() -> None:
    from harness.commands.study import cost_sentences  # noqa: PLC0415

    v1 = ArmCost("v1", 1, 1, 1000, 6_000, 50.0, 2.0)
    newer = ArmCost("v1.1", 1, 1, 1000, 3_000, 80.0, 2.0)
    macs, seconds = cost_sentences([v1, newer])
    assert "2.00x the MACs" in macs
    assert "1.60x the time" in seconds
    assert cost_sentences([v1]) == []
