"""A baseline file: the same bytes, small, one line per cell, and refused when it is not itself."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import metric
from harness.regression.baseline import FORMAT, read_baseline
from harness.regression.packing import bits_for, pack_classes, unpack_classes
from reports.io import load_results, save_results

Tokenrank = Callable[..., Any]


@pytest.fixture
def results(small_run: Any) -> Path:
    """Saved results of the small suite."""
    folder: Path = small_run.results
    return folder


def written(tokenrank: Tokenrank, results: Path, out: Path) -> str:
    ended = tokenrank("baseline", "--results", results, "--out", out)
    assert ended.code == 0, ended.err
    return out.read_text()


def edited(results: Path, folder: Path, **frames: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """The same results with some tables changed."""
    table = load_results(results)
    changed = {name: change(getattr(table, name)) for name, change in frames.items()}
    save_results(replace(table, **changed), folder)
    return folder


def test_from_a_suite_and_from_its_saved_results_it_holds_the_same(
    small_suite: Path, small_run: Any, results: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    """Only the hardware is not known from a folder; the order of the suite does not matter."""
    saved = json.loads(written(tokenrank, results, tmp_path / "a.json"))
    text = small_suite.read_text()
    small_suite.write_text(
        text.replace(
            "[olmoearth-one-pico, olmoearth-three-pico]",
            "[olmoearth-three-pico, olmoearth-one-pico]",
        )
    )
    store = small_run.store
    ended = tokenrank("baseline", small_suite, "--store", store, "--out", tmp_path / "b.json")
    assert ended.code == 0, ended.err
    run = json.loads((tmp_path / "b.json").read_text())
    for key in ("provenance", "checksum"):
        assert saved.pop(key) != run.pop(key)
    assert saved == run


def test_the_same_results_give_the_same_bytes(
    results: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    first = written(tokenrank, results, tmp_path / "a.json")
    shuffled = edited(
        results,
        tmp_path / "shuffled",
        variants=lambda frame: frame.reverse(),
        scores=lambda frame: frame.sample(fraction=1, shuffle=True, seed=1),
        samples=lambda frame: frame.sample(fraction=1, shuffle=True, seed=2),
    )
    assert written(tokenrank, shuffled, tmp_path / "b.json") == first


def test_a_changed_prediction_changes_the_line_of_its_cell(
    results: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    before = written(tokenrank, results, tmp_path / "a.json")
    cell = (
        (pl.col("variant") == "olmoearth-one-pico")
        & (pl.col("task") == "sim-knn")
        & (pl.col("seed") == 1)
        & (pl.col("sample") == pl.col("sample").first())
    )
    other = edited(
        results,
        tmp_path / "other",
        samples=lambda frame: frame.with_columns(
            prediction=pl.when(cell).then((pl.col("prediction") + 1) % 10).otherwise("prediction")
        ),
    )
    after = written(tokenrank, other, tmp_path / "b.json")
    changed = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line.startswith("+ ")
    ]
    assert len(changed) == 2
    assert '"olmoearth-one-pico"' in changed[0]
    assert '"seed": 1' in changed[0]
    assert '"checksum"' in changed[1]


def test_what_is_read_back_scores_as_the_run_did(
    results: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    written(tokenrank, results, tmp_path / "a.json")
    kept = read_baseline(tmp_path / "a.json")
    scores = load_results(results).scores
    assert len(kept.snapshot.cells) == scores.height == 8
    lines = (tmp_path / "a.json").read_text().splitlines()
    for row in scores.iter_rows(named=True):
        cell = next(
            c for c in kept.snapshot.cells if c == (row["variant"], row["task"], row["seed"])
        )
        facts, labels = kept.snapshot.cells[cell], kept.snapshot.tasks[cell.task].labels
        assert labels is not None
        assert facts.predictions is not None
        assert metric("accuracy").value(labels, facts.predictions) == pytest.approx(row["score"])
        assert (facts.tokens, facts.macs) == (row["tokens"], row["macs"])
        assert facts.sketch == pytest.approx(row["sketch"], rel=1e-6)
        line = json.loads(lines[kept.lines[cell] - 1].rstrip(","))
        assert (line["variant"], line["task"], line["seed"]) == cell
        assert line["score"] == pytest.approx(row["score"], abs=1e-6)


def test_it_is_small(results: Path, tmp_path: Path, tokenrank: Tokenrank) -> None:
    """A hundredth of a kilobyte per cell and sample would already be too much for a review."""
    text = written(tokenrank, results, tmp_path / "a.json")
    entries = json.loads(text)
    per_cell = max(len(entry["predictions"]) for entry in entries["cells"])
    samples = entries["tasks"][0]["data"]["n_test"]
    assert per_cell <= 4 * (samples * 4 // 8 + 3) // 3  # four bits a sample, in base64


@given(
    st.integers(1, 70_000).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=50))
    )
)
def test_packed_classes_come_back(drawn: tuple[int, list[int]]) -> None:
    count, classes = drawn
    bits = bits_for(count)
    packed = pack_classes(np.array(classes, dtype=np.int64), bits)
    assert unpack_classes(packed, bits, len(classes)).tolist() == classes


def damages() -> Iterator[tuple[str, Callable[[str], str], str]]:
    yield "truncated", lambda text: text[: len(text) // 2], "is cut short or damaged"
    yield "empty", lambda _: "", "is cut short or damaged"
    yield "a list", lambda _: "[]\n", "is no baseline"
    yield "other format", lambda text: text.replace(FORMAT, "tokenrank-baseline-9"), "has format"
    yield "edited score", lambda text: text.replace('"score": 0.', '"score": 0.9', 1), "by hand"
    yield "edited margin", lambda text: text.replace('"margin": 0.02', '"margin": 0.9'), "by hand"
    yield "no checksum", lambda text: text.replace('"checksum"', '"checks"'), "by hand"
    yield "NaN", lambda text: text.replace('"margin": 0.02', '"margin": NaN'), "by hand"
    yield "binary", lambda text: text.replace('"format"', "\udcff"), "it is not text"


@pytest.mark.parametrize(("name", "damage", "words"), list(damages()), ids=lambda x: str(x)[:20])
def test_a_damaged_baseline_is_one_sentence(
    name: str,
    damage: Callable[[str], str],
    words: str,
    results: Path,
    tmp_path: Path,
    tokenrank: Tokenrank,
) -> None:
    path = tmp_path / "a.json"
    text = damage(written(tokenrank, results, path))
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    ended = tokenrank("check", "--baseline", path, "--results", results)
    assert ended.code == 2
    assert words in ended.err
    assert "a.json" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("baseline", "--out", "b.json"), "Give either a suite or --results"),
        (("baseline", "regresion", "--out", "b.json"), 'did you mean "regression"'),
        (("baseline", "--results", "nowhere", "--out", "b.json"), "holds no saved results"),
        (("check", "--baseline", "missing.json"), "There is no baseline missing.json"),
    ],
)
def test_other_mistakes_are_one_sentence_too(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    tokenrank: Tokenrank,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = tokenrank(*arguments)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "b.json").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(
    results: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    out = tmp_path / "no" / "such" / "folder" / "b.json"
    ended = tokenrank("baseline", "--results", results, "--out", out)
    assert ended.code == 2
    assert "cannot be written" in ended.err
    assert ended.err.count("\n") == 1
