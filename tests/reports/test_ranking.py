"""Average ranks against pandas, scipy, a table by hand, and the coverage of their intervals."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from reports.ranking import rank, task_ranks
from reports.resampling import bootstrap
from reports.table import SAMPLE_SCHEMA, SCORE_SCHEMA, VARIANT_SCHEMA, SuiteResults, TaskInfo

Make = Callable[..., SuiteResults]


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.2 + 1e-14, 0.5, 0.9]), min_size=1, max_size=9),
    st.booleans(),
)
def test_ranks_equal_scipy(values: list[float], higher: bool) -> None:
    exact = np.round(values, 10) * (-1 if higher else 1)
    expected = scipy.stats.rankdata(exact, method="average")
    np.testing.assert_array_equal(task_ranks(np.array(values), higher), expected)


def _with_scores(results: SuiteResults, table: dict[str, list[float]]) -> SuiteResults:
    """Replace the scores by a table {variant: score per task}, without samples."""
    rows = [
        {"variant": v, "task": task.name, "seed": 0, "score": score}
        for v, scores in table.items()
        for task, score in zip(results.run.tasks, scores, strict=True)
    ]
    scores = pl.DataFrame(rows, schema_overrides={"seed": pl.Int64})
    empty = pl.DataFrame(schema=SAMPLE_SCHEMA)
    full = pl.concat([pl.DataFrame(schema=SCORE_SCHEMA), scores], how="diagonal")
    return SuiteResults(results.run, results.variants, full, empty)


def test_table_by_hand(make_results: Make, make_task: Callable[..., object]) -> None:
    names = ["olmoearth-v1-nano", "olmoearth-v1.1-nano", "olmoearth-v1-tiny"]
    tasks = [make_task("a"), make_task("b"), make_task("rmse", higher_is_better=False)]
    results = make_results(dict.fromkeys(names, 0.5), tasks)
    table = {names[0]: [0.8, 0.7, 2.0], names[1]: [0.8, 0.9, 3.0], names[2]: [0.6, 0.8, 1.0]}
    (ranking,) = rank(_with_scores(results, table))
    # Ranks: a 1.5 1.5 3; b 3 1 2; rmse (lower is better) 2 3 1.
    expected = {names[2]: 2.0, names[1]: 5.5 / 3, names[0]: 6.5 / 3}
    assert {r.variant: r.average_rank for r in ranking.ranked} == pytest.approx(expected)
    assert [r.variant for r in ranking.ranked] == [names[1], names[2], names[0]]
    assert all(r.interval is None and r.significance_tier is None for r in ranking.ranked)


def test_incomplete_variant_is_named_and_moves_nobody(make_results: Make) -> None:
    names = ["olmoearth-v1-nano", "olmoearth-v1.1-nano", "olmoearth-v1-tiny"]
    quality = dict(zip(names, (0.6, 0.7, 0.95), strict=True))
    gap = ("olmoearth-v1-tiny", "eurosat-linear", 1)
    (ranking,) = rank(make_results(quality, seeds=(0, 1), without=[gap]))
    (alone,) = rank(make_results(dict(list(quality.items())[:2]), seeds=(0, 1)))
    assert [r.variant for r in ranking.ranked] == ["olmoearth-v1.1-nano", "olmoearth-v1-nano"]
    assert [r.average_rank for r in ranking.ranked] == [r.average_rank for r in alone.ranked]
    (incomplete,) = ranking.incomplete
    assert incomplete.lacks == ("eurosat-linear, seed 1: out of memory",)
    assert set(incomplete.scores) == {"eurosat-knn"}


def test_tiers_and_origins_stay_apart(make_results: Make, make_task: Callable[..., object]) -> None:
    tiers = {"olmoearth-v1-nano": "official", "olmoearth-v1.1-nano": "random"}
    tasks = [make_task("real"), make_task("made", origin="simulated")]
    quality = dict.fromkeys(tiers, 0.7)
    apart = rank(make_results(quality, tasks, tiers=tiers))
    assert [(t.tiers, t.origin, len(t.ranked)) for t in apart] == [
        (("official",), "real", 1),
        (("official",), "simulated", 1),
        (("random",), "real", 1),
        (("random",), "simulated", 1),
    ]
    mixed = rank(make_results(quality, tasks, tiers=tiers, mix_tiers=True))
    assert [(t.tiers, t.origin, len(t.ranked)) for t in mixed] == [
        (("official", "random"), "real", 2),
        (("official", "random"), "simulated", 2),
    ]


def test_clear_winner_is_separated_and_equals_tie(make_results: Make) -> None:
    clear = {"olmoearth-v1-nano": 0.3, "olmoearth-v1.1-nano": 0.9, "olmoearth-v1-tiny": 0.55}
    (ranking,) = rank(make_results(clear))
    assert [r.significance_tier for r in ranking.ranked] == [1, 2, 3]
    assert ranking.ranked[0].first == 1.0
    (tied,) = rank(make_results(dict.fromkeys(clear, 0.7)))
    assert {r.significance_tier for r in tied.ranked} == {1}
    assert sum(r.first or 0 for r in tied.ranked) == pytest.approx(1)


def test_identical_predictions_share_everything(make_results: Make) -> None:
    names = ["olmoearth-v1-nano", "olmoearth-v1.1-nano"]
    results = make_results(dict.fromkeys(names, 0.7), seeds=(0, 1, 2), noise=0.0)
    (ranking,) = rank(results)
    assert [r.average_rank for r in ranking.ranked] == [1.5, 1.5]
    assert [r.first for r in ranking.ranked] == [0.5, 0.5]
    assert {(r.interval.low, r.interval.high) for r in ranking.ranked if r.interval} == {(1.5, 1.5)}


def test_score_interval_matches_the_binomial(make_results: Make) -> None:
    results = make_results({"olmoearth-v1-nano": 0.8})
    task = bootstrap(results, resamples=4000)["eurosat-knn"]
    n, p = 140, float(task.point[0])
    low, high = scipy.stats.binom.interval(0.95, n, p)
    (found,) = task.intervals
    assert found is not None
    assert found.low == pytest.approx(low / n, abs=1.01 / n)
    assert found.high == pytest.approx(high / n, abs=1.01 / n)


def test_how_much_seeds_differ_is_in_the_interval(make_results: Make) -> None:
    """One seed gets every sample right, the other none: only the draw of the seeds varies."""
    one = make_results({"olmoearth-v1-nano": 0.7})
    both = [(0, 1.0), (1, 0.0)]
    results = dataclasses.replace(
        one,
        run=dataclasses.replace(one.run, seeds=(0, 1)),
        scores=pl.concat(
            [one.scores.with_columns(seed=pl.lit(k, pl.Int64), score=v) for k, v in both]
        ),
        samples=pl.concat(
            [one.samples.with_columns(seed=pl.lit(k, pl.Int64), value=v) for k, v in both]
        ),
    )
    task = bootstrap(results, resamples=8000)["eurosat-knn"]
    assert task.draws is not None
    assert sorted(set(task.draws[:, 0].tolist())) == [0.0, 0.5, 1.0]
    assert task.draws[:, 0].var() == pytest.approx(1 / 8, rel=0.05)  # of the mean of two coins
    (found,) = task.intervals
    assert found is not None
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_same_test_samples_under_another_seed_are_no_new_evidence(make_results: Make) -> None:
    """Two seeds with equal values: what the spread is on the same and on other samples.

    On the same samples it is that of one seed; on other samples its variance is 3/4 of
    that (both seeds drawn: half; one of them drawn twice: the whole).
    """
    one = make_results({"olmoearth-v1-nano": 0.7})
    run = make_results({"olmoearth-v1-nano": 0.7}, seeds=(0, 1)).run
    scores = pl.concat([one.scores, one.scores.with_columns(seed=pl.lit(1, pl.Int64))])
    second = one.samples.with_columns(seed=pl.lit(1, pl.Int64))
    others = second.with_columns(pl.concat_str(pl.lit("other-"), "sample").alias("sample"))

    def spread(samples: pl.DataFrame) -> float:
        results = SuiteResults(run, one.variants, scores, pl.concat([one.samples, samples]))
        draws = bootstrap(results, resamples=8000)["eurosat-knn"].draws
        assert draws is not None
        return float(draws.std())

    alone = bootstrap(one, resamples=8000)["eurosat-knn"].draws
    assert alone is not None
    assert spread(second) == pytest.approx(float(alone.std()), rel=0.05)
    assert spread(others) == pytest.approx(float(alone.std()) * 0.75**0.5, rel=0.05)


def test_order_of_rows_changes_nothing(make_results: Make) -> None:
    quality = {"olmoearth-v1-nano": 0.65, "olmoearth-v1.1-nano": 0.7}
    results = make_results(quality, seeds=(0, 1))
    shuffled = SuiteResults(
        results.run,
        results.variants,
        results.scores.sample(fraction=1, shuffle=True, seed=1),
        results.samples.sample(fraction=1, shuffle=True, seed=2),
    )
    assert rank(results) == rank(shuffled)


@pytest.mark.parametrize("fault", ["twice", "unpaired", "score"])
def test_contradictory_tables_are_refused(make_results: Make, fault: str) -> None:
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    samples, scores = results.samples, results.scores
    if fault == "twice":
        samples = pl.concat([samples, samples.head(1)])
    elif fault == "unpaired":
        samples = samples.with_columns(
            pl.when(pl.int_range(pl.len()) == 0)
            .then(pl.lit("x"))
            .otherwise("sample")
            .alias("sample")
        )
    else:
        scores = scores.with_columns(pl.col("score") + 0.01)
    with pytest.raises(ValueError, match=r"twice|same test samples|not the mean"):
        rank(SuiteResults(results.run, results.variants, scores, samples))


@pytest.mark.skipif(
    "TOKENRANK_TEST_DATA" not in os.environ, reason="needs published/ in TOKENRANK_TEST_DATA"
)
@pytest.mark.parametrize("method", ["knn5", "linear"])
def test_published_results_against_pandas(
    make_results: Make, make_task: Callable[..., object], method: str
) -> None:
    """The published table, like with like: RGB at 224 pixels, one row per model and data set."""
    path = Path(os.environ["TOKENRANK_TEST_DATA"]) / "published" / "torchgeo_bench_2026-07.csv"
    table = pd.read_csv(path)
    like = (table.method == method) & (table.bands == "rgb") & (table.image_size == 224)
    rows = table[like & (table.normalization == "model_native")]
    rows = rows.drop_duplicates(["dataset", "name"])
    wide = rows.pivot(index="name", columns="dataset", values="metric_value")
    complete = wide.dropna()
    expected = complete.rank(ascending=False, method="average").mean(axis=1)
    assert len(complete) > 15
    assert len(complete) < len(wide)  # or the incomplete ones are not put to the test

    tasks = [make_task(name) for name in wide.columns]
    names = list(wide.index)
    blank = make_results({}, tasks)
    variants = pl.DataFrame(
        {"variant": names, "tier": ["published"] * len(names)},
        schema_overrides={"variant": VARIANT_SCHEMA["variant"]},
    )
    long = rows[["name", "dataset", "metric_value"]].to_dict("list")
    scores = pl.DataFrame(
        {"variant": long["name"], "task": long["dataset"], "score": long["metric_value"]}
    ).with_columns(seed=pl.lit(0, pl.Int64), ci_low=None, ci_high=None)
    (ranking,) = rank(
        SuiteResults(blank.run, variants.with_columns(macs=None), scores, blank.samples)
    )
    found = {r.variant: r.average_rank for r in ranking.ranked}
    assert found == pytest.approx(expected.to_dict())
    assert {i.variant for i in ranking.incomplete} == set(wide.index) - set(complete.index)


def test_a_published_score_is_drawn_from_its_interval_beside_own_samples(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    """One null-seed row stands for every seed; its draws are as wide as its interval says."""
    results = make_results({"olmoearth-v1-nano": 0.6}, [make_task("knn")], seeds=(0, 1))
    row = results.variants.with_columns(variant=pl.lit("theirs"), tier=pl.lit("published"))
    published = pl.DataFrame(
        {"variant": ["theirs"], "task": ["knn"], "score": [0.7], "ci_low": [0.6], "ci_high": [0.8]}
    )
    together = SuiteResults(
        dataclasses.replace(results.run, mix_tiers=True),
        pl.concat([results.variants, row]),
        pl.concat([results.scores, published], how="diagonal"),
        results.samples,
    )
    found = bootstrap(together, resamples=4000)["knn"]
    assert found.variants == ("olmoearth-v1-nano", "theirs")
    assert found.sampled == (True, False)
    assert found.draws is not None
    assert found.draws[:, 1].std() == pytest.approx(0.1 / 1.96, rel=0.05)
    assert abs(np.corrcoef(found.draws.T)[0, 1]) < 0.06
    alone = bootstrap(results, resamples=4000)["knn"]
    assert alone.draws is not None
    np.testing.assert_array_equal(found.draws[:, 0], alone.draws[:, 0])
    (table,) = rank(together)
    assert not table.incomplete
    assert table.ranked[0].variant == "theirs"


def test_the_interval_of_a_rank_holds_the_rank(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    """Drawn ranks crowd towards the middle; a reader must not meet 1.7 with 1.9 to 4.0."""
    quality = {f"olmoearth-v1-nano:s{i:02d}": 0.4 + 0.005 * i for i in range(20)}
    tasks = [make_task(f"task-{i}", n_test=60) for i in range(40)]
    (table,) = rank(make_results(quality, tasks, noise=0.05), resamples=500)
    assert table.draws is not None
    outside = 0
    for r, drawn in zip(table.ranked, table.draws.T, strict=True):
        assert r.interval is not None
        assert r.average_rank in r.interval
        low, high = np.quantile(drawn, (0.025, 0.975))
        assert r.interval.low == min(low, r.average_rank)
        assert r.interval.high == max(high, r.average_rank)
        outside += not low <= r.average_rank <= high
    assert outside  # the plain percentiles would leave some rank out
