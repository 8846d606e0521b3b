"""Import of published tables: what a file may say, and what is said about one that may not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness.published import library
from harness.published.columns import COLUMNS, json_schema
from harness.published.entrants import entrants_of
from harness.published.library import Rules, imported_tables, read_published
from harness.store import Store

Tokenrank = Callable[..., Any]
Write = Callable[..., Path]


def refused(ended: Any, store: Path, *words: str) -> None:
    """One sentence with these words, exit code 2, and nothing in the store."""
    assert "Traceback" not in ended.out + ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert ended.err.startswith("tokenrank: ")
    for word in words:
        assert word in ended.err, ended.err
    assert ended.code == 2
    assert not store.exists() or not list(store.rglob("*.*"))


# --- what a file says -------------------------------------------------------------------


def test_both_formats_and_parquet_give_the_same_results(
    tmp_path: Path, plain: Write, torchgeo: Write
) -> None:
    ours = {
        "model": "x", "score": "0.91", "ci_low": "0.9", "ci_high": "0.92", "seed": "0",
        "probe": "knn-5-l2-uniform", "bands": "rgb", "image_size": "224", "n_train": "20",
        "n_val": "10", "n_test": "30", "partition": "default", "interpolation": "bilinear",
        "normalisation": "own", "gflops": "2.5", "params": "", "source": "",
    }  # fmt: skip
    theirs = {
        "name": "x", "metric_value": "0.91", "ci_lower": "0.9", "ci_upper": "0.92",
        "bands": "rgb", "image_size": "224.0", "n_train": "20", "n_val": "10", "n_test": "30",
        "normalization": "own",
    }  # fmt: skip
    cost = {**theirs, "method": "profile", "metric_name": "gflops", "metric_value": "2.5"}
    from_plain = read_published(plain(ours), Rules()).results
    from_torchgeo = read_published(torchgeo(theirs, cost), Rules()).results
    parquet = tmp_path / "mine.parquet"
    pl.read_csv(plain(ours)).with_columns(
        pl.lit(["red", "blue", "green"]).alias("bands")
    ).write_parquet(parquet)
    (mine,) = from_plain
    assert mine.bands == ("B02", "B03", "B04")
    assert mine.image_size == 224
    assert mine.gflops == 2.5
    assert [r.identity for r in from_torchgeo] == [mine.identity]
    assert [(r.value, r.gflops) for r in from_torchgeo] == [(mine.value, 2.5)]
    assert [(r.identity, r.value) for r in read_published(parquet, Rules()).results] == [
        (mine.identity, mine.value)
    ]


def test_importing_twice_changes_nothing(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    store, table = tmp_path / "store", plain({}, {"model": "b"})
    assert tokenrank("published", "import", table, "--store", store).code == 0
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in store.rglob("*.*")}
    again = tokenrank("published", "import", table, "--store", store)
    assert "Already imported" in again.out
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in store.rglob("*.*")} == before
    (kept,) = imported_tables(Store(store))
    assert kept.results == read_published(table, Rules()).results


def test_an_import_is_whole_or_not_there(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table = tmp_path / "store", plain({})
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(library, "write_json", full)
        ended = tokenrank("published", "import", table, "--store", store)
    assert ended.code == 2
    assert "disk is full" in ended.err
    assert imported_tables(Store(store)) == []
    assert "Imported as" in tokenrank("published", "import", table, "--store", store).out


def test_a_damaged_entry_is_imported_anew(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    store, table = tmp_path / "store", plain({})
    tokenrank("published", "import", table, "--store", store)
    (rows,) = store.glob("published/*.parquet")
    rows.write_bytes(rows.read_bytes()[:-5])
    assert "Imported as" in tokenrank("published", "import", table, "--store", store).out
    assert len(imported_tables(Store(store))) == 1


def test_the_schema_names_every_column_and_what_is_needed() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {c.name for c in COLUMNS}
    assert schema["required"] == [
        "model", "dataset", "metric", "score", "probe", "bands", "image_size"
    ]  # fmt: skip
    assert "null" not in schema["properties"]["score"]["type"]
    assert "null" in schema["properties"]["image_size"]["type"]


# --- duplicates and units ---------------------------------------------------------------


def test_exact_duplicates_are_dropped_and_contradictions_ranked_nowhere(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    twice = {"model": "b", "dataset": "so2sat"}
    table = plain({}, {}, {"model": "b"}, {**twice, "score": "0.5"}, {**twice, "score": "0.6"})
    ended = tokenrank("published", "import", table, "--store", tmp_path / "store")
    assert "1 exact duplicate dropped" in ended.out
    assert "b on so2sat, knn: 0.5 and 0.6 (lines 5, 6)" in ended.out
    entrants = entrants_of(read_published(table, Rules()).results)
    assert {t.dataset for t in entrants["b"].cells} == {"m-eurosat"}
    first = entrants_of(read_published(table, Rules(duplicates="first")).results)
    assert {t.dataset: c.score for t, c in first["b"].cells.items()} == {
        "m-eurosat": 0.9, "so2sat": 0.5
    }  # fmt: skip


def test_equal_scores_under_another_spelling_are_one_result(plain: Write) -> None:
    rgb, listed = {"bands": "rgb"}, {"bands": "B04, b03,Blue"}
    imported = read_published(plain(rgb, listed), Rules())
    assert imported.source.repeated == 1
    assert imported.source.conflicts == ()
    (conflict,) = read_published(plain(rgb, {**listed, "score": "0.8"}), Rules()).source.conflicts
    assert conflict.scores == (0.9, 0.8)


def test_percent_is_converted_where_the_user_says_so(plain: Write) -> None:
    table = plain(
        {"score": "87.5", "ci_low": "85", "ci_high": "90"},
        {"dataset": "other", "metric": "rmse", "score": "12.5"},
    )
    fraction, error = read_published(table, Rules(percent=True)).results
    assert fraction.value == (0.875, 0.85, 0.9)
    assert error.score == 12.5  # no fraction, so never a percentage


# --- bad input --------------------------------------------------------------------------

ROWS: dict[str, tuple[dict[str, str], list[str]]] = {
    "percent": ({"score": "87.5"}, ['"score" holds 87.5', "--percent", "accuracy"]),
    "percent sign": ({"score": "87.5%"}, ['"87.5%"', "% sign"]),
    "comma": ({"score": "0,875"}, ['"0,875"', "point"]),
    "text": ({"score": "n/a"}, ['"score" holds "n/a"', "not a number"]),
    "nan": ({"score": "NaN"}, ['"score" holds "NaN"']),
    "infinite": ({"score": "inf"}, ['"score" holds "inf"']),
    "negative": ({"score": "-0.1"}, ['"score" holds -0.1', "never below 0"]),
    "blank score": ({"score": ""}, ['"score" is blank']),
    "blank model": ({"model": " "}, ['"model" is blank']),
    "unknown metric": ({"metric": "acuracy"}, ['"acuracy"', 'did you mean "accuracy"']),
    "outside": ({"score": "0.5", "ci_low": "0.6", "ci_high": "0.7"}, ["outside its own interval"]),
    "half interval": ({"ci_low": "0.8"}, ['"ci_high" is blank', "both ends"]),
    "fraction of a sample": ({"n_test": "10.5"}, ['"n_test" holds "10.5"', "whole number"]),
    "no size": ({"image_size": "0"}, ['"image_size" holds "0"', "blank"]),
    "control": ({"model": "a\x1b[31m"}, ['"model" holds a control character', r"\x1b"]),
    "line break": ({"metric": "two\nlines"}, ['"metric" holds "two lines"']),
    "no bands": ({"bands": ","}, ['"bands" holds ","', "names no band"]),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_value_is_named_with_file_line_and_column(
    case: str, tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    row, words = ROWS[case]
    table = plain({"model": "good"}, row)
    ended = tokenrank("published", "import", table, "--store", tmp_path / "store")
    refused(ended, tmp_path / "store", f"{table}:3: ", *words)


def test_percent_of_a_file_in_fractions_or_of_mixed_units_is_refused(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    store = tmp_path / "store"
    for other in ("0.8", "80"):
        table = plain({"model": "b", "score": other}, {"score": "0.9"})
        ended = tokenrank("published", "import", table, "--percent", "--store", store)
        refused(ended, store, "is no percentage", "without --percent")
    table = plain({"score": "187.5"})
    ended = tokenrank("published", "import", table, "--percent", "--store", store)
    refused(ended, store, "holds 187.5", "never above 1")


def test_lines_are_the_files_own_where_values_span_several(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    table = plain({"model": "two\nlines"}, {"score": "x"})
    ended = tokenrank("published", "import", table, "--store", tmp_path / "store")
    refused(ended, tmp_path / "store", f"{table}:4: ")


@pytest.mark.parametrize("column", ["metric_value", "bands"])
def test_missing_columns_are_named_with_the_allowed(
    column: str, tmp_path: Path, torchgeo: Write, plain: Write, tokenrank: Tokenrank
) -> None:
    store = tmp_path / "store"
    ended = tokenrank("published", "import", torchgeo({}, without=column), "--store", store)
    refused(ended, store, f'the column "{column}"', "torchgeo-bench", "normalization", "best_c")
    ended = tokenrank("published", "import", plain({}, without="bands"), "--store", store)
    refused(ended, store, 'the column "bands"', "plain schema", "image_size", "gflops")


def test_a_misspelt_column_is_recognised(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    table = plain({"bnads": "all"}, without="bands")
    ended = tokenrank("published", "import", table, "--store", tmp_path / "store")
    refused(ended, tmp_path / "store", '"bands"', 'is it meant by "bnads"?')
    table = plain({"platform": "x"}, without="bands")
    assert "meant by" not in tokenrank("published", "import", table, "--store", tmp_path).err


FILES: dict[str, tuple[bytes, list[str]]] = {
    "empty.csv": (b"", ["is empty"]),
    "header.csv": (b"model,dataset\n", ["no rows"]),
    "semicolons.csv": (b"model;dataset\na;b\n", [":1: ", "commas"]),
    "latin.csv": ("modèl,b\né,ü\n".encode("latin-1"), [":1: ", "UTF-8"]),
    "ragged.csv": (b"a,b\n1,2\n1\n", [":3: ", "1 values", "2 columns"]),
    "quote.csv": (b'a,b\n1,2\n"1,2\n', [":3: ", "quoted"]),
    "twice.csv": (b"a,a\n1,2\n", [":1: ", 'the column "a" stands twice']),
    "cut.parquet": (b"PAR1 not really", ["not a readable Parquet table"]),
    "nul.csv": (b"a,b\n\x00,2\n", ["needed: model"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_is_one_sentence(
    name: str, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    ended = tokenrank("published", "import", tmp_path / name, "--store", tmp_path / "store")
    refused(ended, tmp_path / "store", name, *words)


def test_what_is_not_there_or_not_allowed_is_one_sentence(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    store = tmp_path / "store"
    refused(
        tokenrank("published", "import", tmp_path / "no.csv", "--store", store),
        store,
        "no such file",
    )
    refused(tokenrank("published", "import", tmp_path, "--store", store), store, "is a folder")
    table = plain({"score": "0.5"}, {"score": "0.6"})
    refuse = ("published", "import", table, "--store", store, "--duplicates")
    refused(tokenrank(*refuse, "refuse"), store, f"{table}:2: ", "line 3", "0.5 and 0.6", "exclude")
    refused(tokenrank(*refuse, "frist"), store, 'did you mean "first"')
    refused(tokenrank("published", "list", "--store", store), store, "no published results")


def test_the_real_table_is_read_whole(real_table: Path) -> None:
    imported = read_published(real_table, Rules())
    source = imported.source
    assert (source.rows, source.exact_duplicates, source.costs, source.results) == (
        4730, 78, 2344, 2308
    )  # fmt: skip
    assert {(c.model, c.dataset) for c in source.conflicts} == {
        ("olmoearth_v1_tiny", "m-pv4ger"),
        ("tgeo_resnet50_s2all_moco", "m-forestnet"),
        ("tgeo_resnet50_s2all_moco", "forestnet"),
        ("tgeo_resnet50_s2all_moco", "m-pv4ger"),
        ("tgeo_resnet18_s2rgb_seco", "m-brick-kiln"),
        ("tgeo_resnet50_s2rgb_seco", "m-brick-kiln"),
    }
    assert source.licence.startswith("MIT")
