"""Who beats the baselines: against a plain bootstrap of the test's own, and where it is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from reports import look
from reports.absences import absences
from reports.against_baselines import AgainstBaselines, against_baselines
from reports.baseline_tables import baseline_sentences, untrained_sentences
from reports.build import build_report
from reports.dotplot import task_scores_chart
from reports.ranking import rank
from reports.resampling import bootstrap
from reports.table import MissingCell, SuiteResults, TaskInfo

Make = Callable[..., SuiteResults]
Task = Callable[..., TaskInfo]
Values = npt.NDArray[np.float64]
N = 140
MARK, OTHER = "baseline-statistics-mean_std", "baseline-projection-512"


def judged(results: SuiteResults, resamples: int = 1000) -> tuple[AgainstBaselines, ...]:
    scores = bootstrap(results, resamples)
    return against_baselines(results, rank(results, scores=scores), scores)


def with_values(
    make_results: Make,
    values: Mapping[str, Mapping[str, Values]],
    tasks: list[TaskInfo],
    tiers: Mapping[str, str],
) -> SuiteResults:
    """Results of one seed whose per-sample values are given: ``values[variant][task]`` [N]."""
    plain = make_results(dict.fromkeys(values, 0.5), tasks, tiers=tiers)
    given = pl.DataFrame(
        [
            {"variant": name, "task": task, "sample": f"s{i:05d}", "value": float(v)}
            for name, by_task in values.items()
            for task, column in by_task.items()
            for i, v in enumerate(column)
        ]
    )
    keys = ["variant", "task", "sample"]
    samples = plain.samples.drop("value").join(given, on=keys).select(plain.samples.columns)
    means = given.group_by("variant", "task").agg(pl.col("value").mean().alias("score"))
    scores = plain.scores.drop("score").join(means, on=["variant", "task"])
    return replace(plain, samples=samples, scores=scores.select(plain.scores.columns))


def plain_interval(a: Values, b: Values) -> tuple[float, float]:
    """95% percentile interval of mean(a) - mean(b), sample by sample, drawn here."""
    rng = np.random.default_rng(99)
    picks = rng.integers(len(a), size=(20_000, len(a)))
    low, high = np.quantile((a - b)[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def hits(share: float, seed: int) -> Values:
    """Hits and misses that overlap between calls, so that pairing matters."""
    rng = np.random.default_rng(5)
    difficulty = rng.uniform(size=N)
    noise = np.random.default_rng(seed).normal(0, 0.1, N)
    return (difficulty + noise < share).astype(float)


@pytest.mark.parametrize("metric", ["accuracy", "rmse"])
def test_margins_are_those_of_a_plain_paired_bootstrap(
    make_results: Make, make_task: Task, metric: str
) -> None:
    task = make_task("t", metric=metric, higher_is_better=metric == "accuracy")
    levels = {"olmoearth-v1-nano": 0.75, "olmoearth-v1.1-nano": 0.45, "olmoearth-v1-tiny": 0.62}
    levels |= {MARK: 0.6, OTHER: 0.5}
    values = {name: {"t": hits(level, i)} for i, (name, level) in enumerate(levels.items())}
    if metric == "rmse":  # graded errors, where the worst variant has the largest
        values = {name: {"t": 1.5 - v["t"] + hits(0.5, 9) / 7} for name, v in values.items()}
    tiers = dict.fromkeys(levels, "official") | {MARK: "baseline", OTHER: "baseline"}
    (found,) = judged(with_values(make_results, values, [task], tiers))
    assert found.best["t"].variant == MARK  # the highest accuracy, the lowest error
    sign = 1 if metric == "accuracy" else -1
    verdicts = {}
    for standing in found.baselines:
        (margin,) = standing.margins
        own, mark = values[standing.variant]["t"], values[MARK]["t"]
        low, high = sorted(sign * end for end in plain_interval(own, mark))
        assert margin.gain == pytest.approx(sign * (own.mean() - mark.mean()))
        assert margin.gain_interval is not None
        # A thousand draws against twenty thousand: their ends differ by sampling noise.
        assert margin.gain_interval.low == pytest.approx(low, abs=0.012)
        assert margin.gain_interval.high == pytest.approx(high, abs=0.012)
        verdicts[standing.variant] = margin.verdict
        assert standing.verdict == margin.verdict
    assert verdicts == {
        "olmoearth-v1-nano": "beats",
        "olmoearth-v1.1-nano": "loses",
        "olmoearth-v1-tiny": "cannot be told apart",
    }


def test_over_all_tasks_wins_are_counted_draw_by_draw(make_results: Make, make_task: Task) -> None:
    """The verdict over tasks, from draws made here: most clear, some even, one against."""
    shares = {"a": 0.62, "b": 0.66, "c": 0.75, "d": 0.5, "e": 0.63}
    tasks = [make_task(name, dataset=name) for name in shares]
    values = {
        "olmoearth-v1-nano": {
            name: hits(share, i) for i, (name, share) in enumerate(shares.items())
        },
        "olmoearth-v1.1-nano": {name: hits(0.4, 20 + i) for i, name in enumerate(shares)},
        MARK: {name: hits(0.55, 10 + i) for i, name in enumerate(shares)},
    }
    tiers = dict.fromkeys(values, "official") | {MARK: "baseline"}
    (found,) = judged(with_values(make_results, values, tasks, tiers))
    rng = np.random.default_rng(3)
    for standing in found.baselines:
        wins = np.zeros(20_000)
        for name in shares:
            gain = values[standing.variant][name] - values[MARK][name]
            wins += np.sign(gain[rng.integers(N, size=(20_000, N))].sum(axis=1))
        low, high = np.quantile(wins, [0.025, 0.975])
        expected = "beats" if low > 0 else "loses" if high < 0 else "cannot be told apart"
        assert standing.verdict == expected
        assert not standing.beats_all
    assert [s.verdict for s in found.baselines] == ["beats", "loses"]


def test_equal_predictions_are_no_win_and_no_loss(make_results: Make, make_task: Task) -> None:
    same = hits(0.6, 1)
    values = {"olmoearth-v1-nano": {"t": same}, MARK: {"t": same}}
    tiers = {"olmoearth-v1-nano": "official", MARK: "baseline"}
    (found,) = judged(with_values(make_results, values, [make_task("t")], tiers))
    (standing,) = found.baselines
    (margin,) = standing.margins
    assert (margin.gain, margin.verdict) == (0.0, "cannot be told apart")
    assert margin.gain_interval is not None
    assert (margin.gain_interval.low, margin.gain_interval.high) == (0.0, 0.0)
    assert standing.verdict == "cannot be told apart"


SUITE = {
    "olmoearth-v1-nano": 0.85,
    "olmoearth-v1.1-nano": 0.6,
    "galileo-v1-nano": 0.3,
    "olmoearth-v1-tiny": 0.4,
    "galileo-v1-tiny": 0.35,
    MARK: 0.6,
    OTHER: 0.2,
}
TIERS = dict.fromkeys(SUITE, "official") | {
    **{"olmoearth-v1-tiny": "random", "galileo-v1-tiny": "random"},
    **{MARK: "baseline", OTHER: "baseline"},
}


def test_a_trained_variant_is_held_to_its_own_family_untrained(make_results: Make) -> None:
    official, random = judged(make_results(SUITE, tiers=TIERS))
    marks = {s.variant: {m.mark for m in s.margins} for s in official.untrained}
    assert marks == {
        "olmoearth-v1-nano": {"olmoearth-v1-tiny"},
        "olmoearth-v1.1-nano": {"olmoearth-v1-tiny"},
        "galileo-v1-nano": {"galileo-v1-tiny"},
    }
    assert random.untrained == ()  # what is untrained itself is held to the baselines alone
    assert {s.variant for s in random.baselines} == {"olmoearth-v1-tiny", "galileo-v1-tiny"}
    said = " ".join(untrained_sentences(official))
    assert "2 of 3 variants beat" in said
    assert "galileo-v1-nano cannot be told apart from galileo-v1-tiny" in said


def test_the_sentences_name_who_fails(make_results: Make) -> None:
    official, _ = judged(make_results(SUITE, tiers=TIERS))
    said = " ".join(baseline_sentences(official))
    assert said.startswith("1 of 3 variants beats the best baseline on both tasks.")
    assert f"galileo-v1-nano loses to {MARK}" in said
    assert "olmoearth-v1.1-nano cannot be told apart from it" in said
    assert "olmoearth-v1-nano " not in said
    high = dict.fromkeys(("olmoearth-v1-nano", "olmoearth-v1.1-nano", "olmoearth-v1-tiny"), 0.9)
    tiers = {MARK: "baseline"}
    (found,) = judged(make_results({**high, MARK: 0.5}, tiers=tiers))
    assert baseline_sentences(found)[0] == "All 3 variants beat the best baseline on both tasks."
    (found,) = judged(make_results({**dict.fromkeys(high, 0.4), MARK: 0.6}, tiers=tiers))
    first, *rest = baseline_sentences(found)
    assert first == "None of the 3 variants beats the best baseline on either task."
    assert f"On eurosat-knn, all 3 lose to {MARK}" in rest[0]


def test_what_is_missing_is_not_judged_as_beaten(make_results: Make) -> None:
    """A variant with half of its tasks keeps its margins there, and is not said to beat all."""
    quality = {"olmoearth-v1-nano": 0.9, "olmoearth-v1-tiny": 0.9, MARK: 0.4}
    gap = ("olmoearth-v1-tiny", "eurosat-linear", 0)
    (found,) = judged(make_results(quality, tiers={MARK: "baseline"}, without=[gap]))
    whole, half = found.baselines
    assert (whole.variant, whole.beats_all) == ("olmoearth-v1-nano", True)
    assert ([m.task.name for m in half.margins], half.beats_all) == (["eurosat-knn"], False)
    assert "olmoearth-v1-tiny" not in " ".join(baseline_sentences(found))


def test_without_baselines_the_report_has_no_such_section(
    make_results: Make, tmp_path: Path
) -> None:
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    assert judged(results) == ()
    text = build_report(results, tmp_path, resamples=50).markdown.read_text()
    assert "baseline" not in text.lower()


def test_the_report_says_it_first_and_everywhere(make_results: Make, tmp_path: Path) -> None:
    files = build_report(make_results(SUITE, tiers=TIERS), tmp_path, resamples=300)
    markdown = files.markdown.read_text().replace("\\", "")
    answer = markdown[: markdown.index("## Ranking")]
    assert "**Against the baselines.** 1 of 3 variants beats the best baseline" in answer
    headings = re.findall(r"^## (.*)$", markdown, flags=re.M)
    # Neither baselines nor the untrained encoders beside them are ranked or drawn by themselves.
    assert headings.count("Answer") == 1
    assert {"Against the baselines", "What there is to beat"} <= set(headings)
    assert not [p.name for p in files.figures if "baseline" in p.name or "random" in p.name]
    assert not re.search(r'data-facet="family">.*value="baseline"', files.html.read_text(), re.S)
    table = pl.read_parquet(files.parquet)
    record = json.loads(files.json.read_text())
    official = table.filter(tier="official")
    assert set(official["best_baseline"]) == {MARK}
    assert table.filter(tier="baseline")["margin"].is_null().all()
    for row in official.to_dicts():
        mark = table.filter(variant=MARK, task=row["task"])["score"].item()
        assert row["margin"] == pytest.approx(row["score"] - mark)
        assert row["margin_low"] <= row["margin"] <= row["margin_high"]
    found = {(e["variant"], e["mark"]): e for e in record["against_baselines"]}
    assert found["olmoearth-v1-nano", "baseline"]["beats_on_every_task"] is True
    assert found["galileo-v1-nano", "baseline"]["over_all_tasks"] == "loses"
    assert found["galileo-v1-nano", "untrained"]["tasks"][0]["best_baseline"] == "galileo-v1-tiny"


def test_the_dashed_line_stands_at_the_best_baseline(make_results: Make, make_task: Task) -> None:
    """Its place in the drawing is that of its score on the axis, which reaches that far."""
    tasks = [make_task("knn")]
    results = make_results({"olmoearth-v1-nano": 0.3, MARK: 0.9}, tasks, tiers={MARK: "baseline"})
    scores = bootstrap(results)
    rankings = rank(results, scores=scores)
    (found,) = against_baselines(results, rankings, scores)
    for frame in (look.WIDE, look.NARROW):
        spec = task_scores_chart(results, rankings[0], frame, marks=found.best)
        assert spec is not None
        (panel,) = spec["concat"]
        low, high = panel["layer"][0]["encoding"]["x"]["scale"]["domain"]
        svg = look.to_svg(spec)
        rule = re.search(
            rf'aria-label="{MARK}: best baseline[^"]*"[^>]*transform="translate\(([\d.]+),', svg
        )
        assert rule is not None
        share = float(rule[1]) / panel["width"]
        assert low + share * (high - low) == pytest.approx(found.best["knn"].score, abs=0.005)
        assert "statistics mean_std" in svg
        assert f"{found.best['knn'].score:.3f}" in svg


def test_absences_are_told_once_per_variant(make_results: Make, make_task: Task) -> None:
    names = {"olmoearth-v1-nano": 0.6, "croma-v1-base": 0.6, "satmae-v1-base": 0.5}
    tasks = [make_task("a"), make_task("b"), make_task("c")]
    gaps = [("croma-v1-base", t.name, s) for t in tasks for s in (0, 1)]
    gaps += [("satmae-v1-base", "a", 0), ("satmae-v1-base", "b", 0), ("satmae-v1-base", "c", 1)]
    results = make_results(names, tasks, seeds=(0, 1), without=gaps)
    (ranking,) = rank(results, resamples=20)
    assert [a.sentence for a in absences(results, ranking)] == [
        "croma-v1-base was not run: out of memory.",
        "satmae-v1-base has no result on a and b with seed 0: out of memory.",
        "satmae-v1-base has no result on c with seed 1: out of memory.",
    ]
    missing = tuple(
        MissingCell(m.variant, m.task, m.seed, f"{m.variant}: patch size 8 is not possible.")
        for m in results.run.missing
    )
    named = replace(results, run=replace(results.run, missing=missing))
    first = absences(named, ranking)[0]
    assert first.sentence == "croma-v1-base was not run: patch size 8 is not possible."


def test_a_tier_of_which_nothing_was_run_is_a_reason_and_no_section(
    make_results: Make, tmp_path: Path
) -> None:
    """Weights that cannot be had, in a tier of their own: no empty answer stands first."""
    quality = {"olmoearth-v1-nano": 0.5, "olmoearth-v1.1-nano": 0.6, "galileo-v1-nano": 0.7}
    tiers = dict.fromkeys(quality, "random") | {"galileo-v1-nano": "official"}
    gaps = [("galileo-v1-nano", task, 0) for task in ("eurosat-knn", "eurosat-linear")]
    results = make_results(quality, tiers=tiers, without=gaps)
    columns = ["params", "tokens", "macs", "macs_patch_embedding", "macs_linear", "macs_attention"]
    absent = pl.col("variant") == "galileo-v1-nano"
    results = replace(
        results,
        variants=results.variants.with_columns(
            pl.when(~absent).then(pl.col(name)).alias(name) for name in columns
        ),
    )
    text = build_report(results, tmp_path, resamples=50).markdown.read_text()
    assert re.findall(r"^## Answer.*$", text, flags=re.M) == ["## Answer"]
    assert "so there is no ranking" not in text
    assert text.count("galileo-v1-nano was not run: out of memory.") == 1


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("MIT", "may be used, changed and passed on, also commercially"),
        ("CC BY-NC 4.0", "may be shared and adapted with credit, but not for commercial"),
        # Of a licence that may not be that of the weights nothing is claimed.
        ("MIT (of the code; the weights state their own)", "read its terms before use"),
    ],
)
def test_licences_stand_beside_the_ranking(
    make_results: Make, tmp_path: Path, licence: str, said: str
) -> None:
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    results = replace(results, variants=results.variants.with_columns(licence=pl.lit(licence)))
    text = build_report(results, tmp_path, resamples=50).markdown.read_text()
    ranking = text[text.index("## Ranking") : text.index("## Side by side")]
    assert f"{licence} (olmoearth v1 and olmoearth v1.1): {said}" in ranking
