"""`tokenrank compare`: the right pairs, the right tests, and sentences that say what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.comparison import compare
from models.errors import UserError
from reports.io import load_results, save_results
from reports.table import SCORE_SCHEMA, SuiteResults

Tokenrank = Callable[..., Any]
SIZES = ("nano", "tiny")
WORDS = 80  # columns


@pytest.fixture
def table(small_run: Any) -> SuiteResults:
    """Two versions in two sizes, one seed; v2-nano loses on the first task, the rest are alike."""
    measured = load_results(small_run.results)
    tasks = measured.run.tasks
    rows = [
        {
            **measured.variants.row(0, named=True),
            "variant": f"olmoearth-{version}-{size}",
            "version": version,
            "size": size,
            "macs": 1e9 * (1 + SIZES.index(size)) / (3 if version == "v2" else 1),
            "macs_attention": 2e8,
            "tokens": 192.0 if version == "v1" else 64.0,
        }
        for version in ("v1", "v2")
        for size in SIZES
    ]
    rng = np.random.default_rng(0)
    samples, scores = [], []
    for task in tasks:
        hits = rng.random(200) < 0.7
        for row in rows:
            own = hits ^ (rng.random(200) < 0.05)
            if (row["variant"], task.name) == ("olmoearth-v2-nano", tasks[0].name):
                own &= rng.random(200) < 0.7
            frame = {"sample": [f"s{i:03d}" for i in range(200)], "value": own.astype(float)}
            samples.append(
                pl.DataFrame(frame).with_columns(
                    variant=pl.lit(row["variant"]),
                    task=pl.lit(task.name),
                    seed=pl.lit(0, pl.Int64),
                    label=pl.lit(1, pl.Int64),
                    prediction=pl.lit(1, pl.Int64),
                    confidence=pl.lit(0.5),
                )
            )
            scores.append(
                {
                    **dict.fromkeys(SCORE_SCHEMA),
                    "variant": row["variant"],
                    "task": task.name,
                    "seed": 0,
                    "score": float(own.mean()),
                    "cell": f"{row['variant']}{task.name}",
                }
            )
    return replace(
        measured,
        run=replace(measured.run, seeds=(0,)),
        variants=pl.DataFrame(rows, schema=measured.variants.schema),
        scores=pl.DataFrame(scores, schema=SCORE_SCHEMA),
        samples=pl.concat(samples).select(measured.samples.columns),
    )


@pytest.fixture
def saved(table: SuiteResults, tmp_path: Path) -> Path:
    save_results(table, tmp_path / "results")
    return tmp_path / "results"


def test_versions_are_paired_by_size_and_corrected_together(table: SuiteResults) -> None:
    """p-values from scipy's exact binomial on the discordant samples, Holm from statsmodels."""
    found = compare(table, "v1", "olmoearth-v2")
    assert [(p.reference, p.candidate) for p in found.pairs] == [
        (f"olmoearth-v1-{size}", f"olmoearth-v2-{size}") for size in SIZES
    ]
    expected = []
    for pair in found.pairs:
        for task in table.run.tasks:
            wide = (
                table.samples.filter(pl.col("task") == task.name)
                .pivot(on="variant", index="sample", values="value")
                .select(pair.reference, pair.candidate)
                .to_numpy()
            )
            lost, gained = (
                int(((wide[:, a] == 1) & (wide[:, b] == 0)).sum()) for a, b in ((0, 1), (1, 0))
            )
            expected.append(stats.binomtest(lost, lost + gained, 0.5).pvalue)
    differences = [d for pair in found.pairs for d in pair.differences]
    assert [d.p_value for d in differences] == pytest.approx(expected)
    holm = multipletests(expected, method="holm")[1]
    assert [d.p_adjusted for d in differences] == pytest.approx(holm)
    assert {d.test for d in differences} == {"McNemar"}
    assert found.pairs[0].cost("macs").ratio == pytest.approx(3)


def test_the_terminal_says_cost_quality_test_and_conclusion(
    saved: Path, tokenrank: Tokenrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WORDS))
    ended = tokenrank("compare", "v1-nano", "olmoearth-v2-nano", "--results", saved)
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert "SIMULATED DATA, untrained (random) weights" in text
    assert "tokens 192 64 3.00x fewer" in text
    assert "exact McNemar test" in text
    last = text.rpartition("not corrected. ")[2]
    assert last == (
        "olmoearth-v2-nano against olmoearth-v1-nano: 3.00x fewer MACs; worse on 1 (sim-knn), "
        "not separated on 1 of 2 tasks (simulated data and untrained weights)."
    )
    assert max(map(len, ended.out.splitlines())) <= WORDS


def test_several_seeds_are_compared_by_bootstrap(small_run: Any, tokenrank: Tokenrank) -> None:
    ended = tokenrank("compare", "one-pico", "three-pico", "--results", small_run.results)
    assert ended.code == 0
    assert "paired bootstrap over samples and seeds" in " ".join(ended.out.split())


def test_published_scores_are_compared_by_their_intervals(
    table: SuiteResults, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    scores = table.scores.with_columns(
        ci_low=pl.col("score") - 0.02,
        ci_high=pl.col("score") + 0.02,
        seed=pl.lit(None, pl.Int64),
    )
    variants = table.variants.with_columns(
        tier=pl.lit("published"), macs=pl.lit(None, pl.Float64), tokens=pl.lit(None, pl.Float64)
    )
    published = replace(table, scores=scores, variants=variants, samples=table.samples.clear())
    save_results(published, tmp_path / "published")
    ended = tokenrank("compare", "v1-nano", "v2-nano", "--results", tmp_path / "published")
    text = " ".join(ended.out.split())
    assert ended.code == 0
    assert "published results (imported, not run here)" in text
    assert "unpaired, from published intervals alone" in text
    assert "its cost is unknown; worse on 1 (sim-knn)" in text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("olmoearth-v1-nanno", "v2-nano"), 'did you mean "olmoearth-v1-nano"'),
        (("v1", "v3"), 'no variant or version "v3"'),
        (("v1", "v1"), "are the same"),
        (("v1", "v2-nano"), "a version, "),
    ],
)
def test_a_wrong_name_is_one_sentence(
    names: tuple[str, str], words: str, saved: Path, tokenrank: Tokenrank
) -> None:
    ended = tokenrank("compare", *names, "--results", saved)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1


def test_without_a_run_or_a_common_size_it_says_so(
    table: SuiteResults, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    ended = tokenrank("compare", "v1", "v2", "--store", tmp_path / "none")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    only = table.variants.filter(
        pl.col("variant").is_in(["olmoearth-v1-nano", "olmoearth-v2-tiny"])
    )
    with pytest.raises(UserError, match="no size in common"):
        compare(replace(table, variants=only), "v1", "v2")


def test_the_comparison_is_written_as_json(
    saved: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    out = tmp_path / "comparison.json"
    assert tokenrank("compare", "v1", "v2", "--results", saved, "--json", out).code == 0
    content = json.loads(out.read_text())
    assert [pair["candidate"] for pair in content["pairs"]] == [
        "olmoearth-v2-nano",
        "olmoearth-v2-tiny",
    ]
