"""The check: which changes turn it red, yellow or green, and how it tells a build server."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness.commands.check import as_recorded
from harness.commands.measure import RunOptions
from harness.commands.run import regenerating_command
from harness.regression.verdicts import sketch_distance
from harness.suite import Overrides
from reports.io import load_results, save_results
from reports.table import SuiteResults

Tokenrank = Callable[..., Any]
Change = Callable[[SuiteResults], SuiteResults]
NASTY = '<script>alert("x")</script>|`a`\n::error::\x1b[31m\x00 100%, a:b 🛰️ &amp; [l](u)'


@pytest.fixture
def kept(small_run: Any, tmp_path: Path, tokenrank: Tokenrank) -> Path:
    """A baseline of the small suite with a margin that its 30 test samples can show."""
    path = tmp_path / "baseline.json"
    made = tokenrank("baseline", "--results", small_run.results, "--margin", 0.2, "--out", path)
    assert made.code == 0, made.err
    return path


@pytest.fixture
def check(small_run: Any, kept: Path, tmp_path: Path, tokenrank: Tokenrank) -> Callable[..., Any]:
    """Check results that differ from the baseline's by a change."""

    def call(change: Change = lambda table: table, *options: object) -> Any:
        save_results(change(load_results(small_run.results)), tmp_path / "changed")
        return tokenrank("check", "--baseline", kept, "--results", tmp_path / "changed", *options)

    return call


def with_frame(name: str, **columns: pl.Expr) -> Change:
    return lambda table: replace(table, **{name: getattr(table, name).with_columns(**columns)})


def with_task(**facts: object) -> Change:
    def change(table: SuiteResults) -> SuiteResults:
        tasks = (replace(table.run.tasks[0], **facts), *table.run.tasks[1:])
        return replace(table, run=replace(table.run, tasks=tasks))

    return change


def of_cell(variant: str, task: str) -> pl.Expr:
    return (pl.col("variant") == variant) & (pl.col("task") == task)


def scoring(share: float) -> Change:
    """Predictions of one variant on one task, of which this share is right."""
    cell = of_cell("olmoearth-one-pico", "sim-knn")
    right = pl.col("sample").rank("ordinal").over("variant", "task", "seed") <= 30 * share

    def change(table: SuiteResults) -> SuiteResults:
        prediction = pl.when(right).then("label").otherwise((pl.col("label") + 1) % 10)
        samples = table.samples.with_columns(
            prediction=pl.when(cell).then(prediction).otherwise("prediction"),
            value=pl.when(cell).then(right.cast(pl.Float64)).otherwise("value"),
        )
        scores = table.scores.with_columns(
            score=pl.when(cell).then(int(30 * share) / 30).otherwise("score")
        )
        return replace(table, samples=samples, scores=scores)

    return change


def test_the_same_results_are_green(check: Callable[..., Any]) -> None:
    ended = check()
    assert ended.code == 0
    assert "4 same" in ended.out
    assert "No regression" in ended.out
    assert "SIMULATED" in ended.out


def test_a_cached_suite_is_checked_without_computing(
    small_run: Any, kept: Path, tokenrank: Tokenrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.executors.work.try_cell", None)  # would be called
    ended = tokenrank("check", "--baseline", kept, small_run.suite, "--store", small_run.store)
    assert ended.code == 0, ended.err


def test_what_is_missing_is_computed(
    small_run: Any, kept: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    store = tmp_path / "store"
    shutil.copytree(small_run.store / "pixels", store / "pixels")
    ended = tokenrank("check", "--baseline", kept, small_run.suite, "--store", store)
    assert ended.code == 0, ended.err
    assert len(list((store / "cells").rglob("*.json"))) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_frame("scores", macs=pl.col("macs") + 1), "MACs changed from"),
        (with_frame("scores", tokens=pl.col("tokens") - 1), "tokens changed from"),
        (with_frame("variants", params=pl.col("params") + 1), "params changed from"),
        (
            with_frame("scores", sketch=pl.col("sketch").list.eval(pl.element() * 1.001)),
            "other emb",
        ),
        (with_frame("scores", sketch=pl.col("sketch").list.head(10)), "other embeddings"),
        (scoring(0.0), "the score changed by"),
    ],
)
def test_a_regression_is_red(check: Callable[..., Any], change: Change, words: str) -> None:
    ended = check(change)
    assert ended.code == 1
    assert words in " ".join(ended.out.split())
    assert "Regression:" in ended.out


def test_rounding_in_the_embeddings_is_green(check: Callable[..., Any]) -> None:
    noise = with_frame("scores", sketch=pl.col("sketch").list.eval(pl.element() * (1 + 1e-5)))
    assert check(noise).code == 0
    assert check(noise, "--sketch-tolerance", 1e-6).code == 1


def test_other_weights_are_judged_by_scores_alone(check: Callable[..., Any]) -> None:
    """A newly trained model may have other embeddings; its scores must still hold."""

    def retrained(table: SuiteResults) -> SuiteResults:
        trained = with_frame("variants", tier=pl.lit("official"), weights_hash=pl.lit("ab" * 32))
        return trained(
            with_frame("scores", sketch=pl.col("sketch").list.eval(-pl.element()))(table)
        )

    assert check(retrained).code == 2  # random weights in the baseline
    assert "random weights, the run official ones" in " ".join(check(retrained).out.split())


def test_the_hash_of_the_weights_decides_whether_embeddings_must_agree(
    small_run: Any, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    def official(sha: str, sign: int) -> Path:
        table = load_results(small_run.results)
        table = with_frame("variants", tier=pl.lit("official"), weights_hash=pl.lit(sha))(table)
        table = with_frame("scores", sketch=pl.col("sketch").list.eval(sign * pl.element()))(table)
        save_results(table, tmp_path / f"{sha[:2]}{sign}")
        return tmp_path / f"{sha[:2]}{sign}"

    kept = tmp_path / "official.json"
    made = tokenrank("baseline", "--results", official("ab" * 32, 1), "--out", kept)
    assert made.code == 0, made.err
    same = tokenrank("check", "--baseline", kept, "--results", official("ab" * 32, -1))
    other = tokenrank("check", "--baseline", kept, "--results", official("cd" * 32, -1))
    assert (same.code, other.code) == (1, 0)
    assert "other weights than the baseline's" in " ".join(other.out.split())


def test_a_gain_is_green_and_said(check: Callable[..., Any]) -> None:
    ended = check(scoring(1.0))
    assert ended.code == 0
    assert "1 better" in ended.out


def test_missing_is_yellow_and_new_is_green(check: Callable[..., Any]) -> None:
    gone = "olmoearth-three-pico"

    def without(table: SuiteResults) -> SuiteResults:
        kept_rows = pl.col("variant") != gone
        return replace(
            table,
            **{n: getattr(table, n).filter(kept_rows) for n in ("variants", "scores", "samples")},
        )

    ended = check(without)
    assert ended.code == 2
    assert "Cannot tell" in ended.out
    assert f'the run has no variant "{gone}"' in " ".join(ended.out.split())

    def more(table: SuiteResults) -> SuiteResults:
        name = pl.col("variant").replace(gone, "olmoearth-four-pico")
        return replace(
            table,
            **{
                n: pl.concat(
                    [
                        getattr(table, n),
                        getattr(table, n)
                        .filter(pl.col("variant") == gone)
                        .with_columns(variant=name),
                    ]
                )
                for n in ("variants", "scores", "samples")
            },
        )

    ended = check(more)
    assert ended.code == 0
    assert "2 new" in ended.out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_task(fingerprint="ef" * 32), "other data: fingerprint is"),
        (with_task(origin="real"), "other data: simulated in the baseline, real in the run"),
        (with_task(patch_size=4), "other protocol: patch_size is 8 in the baseline, 4 in the run"),
        (with_task(metric="macro_f1"), "other protocol: metric is accuracy"),
        (with_task(n_test=31), "other data: n_test is 30"),
        (
            with_frame("samples", sample=pl.col("sample") + "x"),
            "other data: test_samples is",
        ),
    ],
)
def test_what_cannot_be_compared_is_yellow_with_a_reason(
    check: Callable[..., Any], change: Change, words: str
) -> None:
    ended = check(change)
    assert ended.code == 2
    assert words in " ".join(ended.out.split())


def test_a_run_of_another_protocol_is_refused_before_it_is_computed(
    small_run: Any, kept: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    store = tmp_path / "store"
    ended = tokenrank(
        *("check", "--baseline", kept, small_run.suite, "--patch-size", 4, "--store", store)
    )
    assert ended.code == 2
    assert "patch_size is 8 in the baseline, 4 in the run" in " ".join(ended.out.split())
    assert not (store / "embeddings").exists()


def test_a_baseline_of_another_suite_is_one_sentence(
    small_run: Any, kept: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    for options in (["eurosat"], []):
        ended = tokenrank("check", "--baseline", kept, *options, "--store", tmp_path / "store")
        assert ended.code == 2
        assert 'suite "small"' in ended.err
        assert ended.err.count("\n") == 1
    table = load_results(small_run.results)
    save_results(replace(table, run=replace(table.run, suite="other")), tmp_path / "other")
    ended = tokenrank("check", "--baseline", kept, "--results", tmp_path / "other")
    assert ended.code == 2
    assert 'of suite "other"' in ended.err
    assert ended.err.count("\n") == 1


def test_results_without_predictions_are_compared_by_interval(
    small_run: Any, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    """A published table: the same number is the same, a much lower one is worse."""

    def table_with(score: float) -> Path:
        table = load_results(small_run.results)
        table = replace(
            table,
            run=replace(table.run, seeds=(0,)),
            samples=table.samples.clear(),
            scores=table.scores.filter(pl.col("seed") == 0).with_columns(
                seed=pl.lit(None, pl.Int64),
                score=pl.lit(score),
                ci_low=pl.lit(score - 0.01),
                ci_high=pl.lit(score + 0.01),
                macs=pl.lit(None, pl.Float64),
                tokens=pl.lit(None, pl.Int64),
                sketch=pl.lit([], pl.List(pl.Float64)),
            ),
        )
        save_results(table, tmp_path / f"{score}")
        return tmp_path / f"{score}"

    kept = tmp_path / "published.json"
    assert tokenrank("baseline", "--results", table_with(0.8), "--out", kept).code == 0
    codes = {
        score: tokenrank("check", "--baseline", kept, "--results", table_with(score)).code
        for score in (0.8, 0.795, 0.78, 0.83)
    }
    assert codes == {0.8: 0, 0.795: 0, 0.78: 1, 0.83: 0}


def test_a_seed_that_stayed_hides_no_seed_that_fell(
    small_run: Any, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    """Without predictions: seed 0 is unchanged and wide, seed 1 loses ten points, narrow."""

    def table_with(second: float) -> Path:
        table = load_results(small_run.results)
        assert table.run.seeds == (0, 1)
        value = pl.when(pl.col("seed") == 0).then(0.8).otherwise(second)
        half = pl.when(pl.col("seed") == 0).then(0.2).otherwise(0.01)
        scores = table.scores.with_columns(
            score=value,
            ci_low=value - half,
            ci_high=value + half,
            sketch=pl.lit([], pl.List(pl.Float64)),
        )
        save_results(
            replace(table, samples=table.samples.clear(), scores=scores), tmp_path / f"{second}"
        )
        return tmp_path / f"{second}"

    kept = tmp_path / "two-seeds.json"
    assert tokenrank("baseline", "--results", table_with(0.8), "--out", kept).code == 0
    assert tokenrank("check", "--baseline", kept, "--results", table_with(0.8)).code == 0
    fell = tokenrank("check", "--baseline", kept, "--results", table_with(0.7))
    assert fell.code == 1
    assert "-0.05" in fell.out  # the mean over both seeds


def test_a_baseline_without_predictions_is_held_against_a_run_that_has_them(
    small_run: Any, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    table = load_results(small_run.results)
    save_results(replace(table, samples=table.samples.clear()), tmp_path / "bare")
    kept = tmp_path / "bare.json"
    assert tokenrank("baseline", "--results", tmp_path / "bare", "--out", kept).code == 0
    ended = tokenrank("check", "--baseline", kept, "--results", small_run.results)
    assert ended.code == 0, ended.out + ended.err


@pytest.mark.parametrize("command", ["check", "baseline"])
def test_options_of_a_run_are_refused_beside_results(
    small_run: Any, kept: Path, tmp_path: Path, tokenrank: Tokenrank, command: str
) -> None:
    own = ("--baseline", kept) if command == "check" else ("--out", tmp_path / "new.json")
    ended = tokenrank(command, *own, "--results", small_run.results, "--seed", "0")
    assert ended.code == 2
    assert "--seed chooses what a run computes" in ended.err


def test_the_baselines_own_options_are_used_unless_others_are_given() -> None:
    overrides = Overrides(variants=("a-b-c:d", "e f"), tier="random", seeds=(3, 4), patch_size=2)
    command = regenerating_command("eurosat", overrides, own_data=True)
    nothing = RunOptions(data_dir=None, store=Path("s"), weights_dir=None)
    filled = as_recorded(nothing, command).overrides()
    assert filled == overrides
    given = replace(nothing, seeds=(9,), patch_size=8)
    assert as_recorded(given, command).seeds == (9,)
    assert as_recorded(given, command).patch_size == 8
    assert as_recorded(nothing, 'an "unclosed quote') == nothing


# --- what a build server is told --------------------------------------------------------


def renamed(table: SuiteResults) -> SuiteResults:
    """One variant with a name that tries everything."""
    name = pl.col("variant").replace("olmoearth-one-pico", NASTY)
    return replace(
        table,
        **{
            n: getattr(table, n).with_columns(variant=name)
            for n in ("variants", "scores", "samples")
        },
    )


@pytest.fixture
def told(small_run: Any, tmp_path: Path, tokenrank: Tokenrank) -> Mapping[str, str]:
    """What the check says of a regression of a variant with a nasty name."""
    results = tmp_path / "nasty"
    save_results(renamed(load_results(small_run.results)), results)
    kept = tmp_path / "nasty.json"
    assert tokenrank("baseline", "--results", results, "--out", kept).code == 0
    worse = with_frame("scores", macs=pl.col("macs") + 1)(load_results(results))
    save_results(worse, results)
    junit, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    ended = tokenrank(
        *("check", "--baseline", kept, "--results", results, "--annotations", "github"),
        *("--junit", junit, "--markdown", markdown),
    )
    assert ended.code == 1
    return {"out": ended.out, "junit": junit.read_text(), "markdown": markdown.read_text()}


def test_junit_survives_any_name_and_counts_right(told: Mapping[str, str]) -> None:
    suite = ET.fromstring(told["junit"]).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.attrib["tests"]) == 4
    failures = [case for case in cases if case.find("failure") is not None]
    assert len(failures) == int(suite.attrib["failures"]) == 4
    assert {case.attrib["classname"] for case in cases} == {"small.sim-knn", "small.sim-linear"}
    # All but what XML 1.0 cannot hold comes back as it was.
    expected = NASTY.replace("\x1b", "\ufffd").replace("\x00", "\ufffd")
    assert expected in {case.attrib["name"] for case in cases}
    assert all("MACs changed" in str(c.find("failure").text) for c in cases)  # type: ignore[union-attr]


def test_junit_has_only_what_jenkins_schema_allows(told: Mapping[str, str]) -> None:
    """Elements and attributes of xunit-plugin's junit-10.xsd, as far as they are used here."""
    allowed = {
        "testsuites": set(),
        "testsuite": {"name", "tests", "failures", "errors", "skipped"},
        "properties": set(),
        "property": {"name", "value"},
        "testcase": {"name", "classname"},
        "failure": {"message", "type"},
        "error": {"message", "type"},
        "skipped": {"message"},
    }
    for element in ET.fromstring(told["junit"]).iter():
        assert set(element.attrib) <= allowed[element.tag]


def test_markdown_shows_any_name_as_text(told: Mapping[str, str]) -> None:
    text = told["markdown"]
    assert "<script" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert columns == {9}  # eight cells in every row: no name opened another
    assert r"\`a\`" in text


def test_annotations_are_whole_commands_at_the_line_of_the_cell(
    told: Mapping[str, str], tmp_path: Path
) -> None:
    commands = [line for line in told["out"].splitlines() if line.startswith("::")]
    assert len(commands) == 4
    kept = (tmp_path / "nasty.json").read_text().splitlines()
    for command in commands:
        found = re.fullmatch(r"::error ([^\n]*?)::(.*)", command)
        assert found is not None
        properties = dict(item.split("=", 1) for item in found[1].split(","))
        assert set(properties) == {"file", "line", "title"}
        assert ":" not in properties["title"]
        title = properties["title"].replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
        cell = json.loads(kept[int(properties["line"]) - 1].rstrip(","))
        assert cell["task"] in title
        assert "MACs changed" in found[2]
    assert not any(line.startswith("::error::") for line in told["out"].splitlines())


def test_no_more_annotations_than_a_host_shows(
    small_run: Any, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    table = load_results(small_run.results)
    many = [f"olmoearth-one-pico{i}" for i in range(12)]

    def repeated(frame: pl.DataFrame) -> pl.DataFrame:
        one = frame.filter(pl.col("variant") == "olmoearth-one-pico")
        return pl.concat([one.with_columns(variant=pl.lit(name)) for name in many])

    tables = {n: repeated(getattr(table, n)) for n in ("variants", "scores", "samples")}
    save_results(replace(table, **tables), tmp_path / "many")
    kept = tmp_path / "many.json"
    assert tokenrank("baseline", "--results", tmp_path / "many", "--out", kept).code == 0
    worse = with_frame("scores", macs=pl.col("macs") + 1)(replace(table, **tables))
    save_results(worse, tmp_path / "many")
    ended = tokenrank(
        *("check", "--baseline", kept, "--results", tmp_path / "many", "--annotations", "github")
    )
    commands = [line for line in ended.out.splitlines() if line.startswith("::error")]
    assert len(commands) == 10
    assert "15 more cells are worse" in commands[-1]


def test_annotations_come_by_themselves_inside_github_actions(
    check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = with_frame("scores", macs=pl.col("macs") + 1)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert "::error" not in check(worse).out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::error" in check(worse).out
    ended = check(worse, "--annotations", "gitlab")
    assert ended.code == 2
    assert "Allowed: github, none" in ended.err


def test_the_shipped_baseline_is_of_the_shipped_suite() -> None:
    """Its own suite, in all variants and tasks, with the protocol as it is written now."""
    from harness.regression.baseline import read_baseline  # noqa: PLC0415
    from harness.suite import load_suite, suite_path  # noqa: PLC0415

    kept = read_baseline(Path(__file__).parents[2] / "reports/baselines/regression.json")
    suite = load_suite(suite_path("regression"))
    expected = {
        (entrant.variant.name, task.name, seed)
        for entrant in suite.entrants
        for task in suite.tasks
        for seed in suite.seeds
    }
    assert set(kept.snapshot.cells) == expected


def test_embeddings_that_are_nan_agree_with_nothing() -> None:
    assert sketch_distance([1.0, 2.0], [1.0, float("nan")]) == float("inf")
    assert sketch_distance([1.0, 2.0], [1.0, 2.0]) == 0
