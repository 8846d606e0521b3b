"""Ranking of published results: only like with like, and the ranks an independent sum gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness.published.entrants import choose, entrants_of
from harness.published.grids import implied_positions
from harness.published.library import Rules, read_published
from harness.published.matching import select
from harness.published.table import build
from models.errors import UserError
from reports.pairs import compare
from reports.ranking import rank

Tokenrank = Callable[..., Any]
Write = Callable[..., Path]
V1, V11 = "olmoearth-v1", "olmoearth-v1.1"


def ranks_of(path: Path, *models: str, **options: Any) -> dict[str, float]:
    imported = read_published(path, Rules())
    chosen = choose(entrants_of(imported.results), models)
    results = build(select(chosen, **options), [imported.source], "command")
    (table,) = rank(results, resamples=20)
    assert not table.incomplete
    return {r.variant: r.average_rank for r in table.ranked}


def rows(scores: dict[str, dict[str, float]], **more: str) -> list[dict[str, str]]:
    return [
        {"model": model, "dataset": dataset, "score": str(score), **more}
        for dataset, by_model in scores.items()
        for model, score in by_model.items()
    ]


# --- ranks ------------------------------------------------------------------------------


def test_ranks_by_hand_over_the_tasks_that_all_share(plain: Write) -> None:
    table = plain(
        *rows({"one": {"a": 0.9, "b": 0.8, "c": 0.7}, "two": {"a": 0.5, "b": 0.5, "c": 0.6}}),
        *rows({"three": {"a": 0.1, "b": 0.9}}),  # c lacks it: nobody is ranked on it
        *rows({"four": {"a": 3.0, "b": 1.0, "c": 2.0}}, metric="rmse"),  # lower is better
    )
    # one: 1 2 3; two: 2.5 2.5 1; four: 3 1 2
    assert ranks_of(table, "a", "b", "c") == pytest.approx({"a": 6.5 / 3, "b": 5.5 / 3, "c": 6 / 3})
    assert ranks_of(table, "a", "b") == pytest.approx({"a": 6.5 / 4, "b": 5.5 / 4})


def test_models_that_nobody_knows_are_ranked_and_mirrored(
    plain: Write, tokenrank: Tokenrank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # into the store's own database
    table = plain(*rows({"fields": {"foo_one": 0.9, "foo_two": 0.8}}))
    store = tmp_path / "store"
    ended = tokenrank("published", "report", "*", "--from", table, "--store", store)
    assert ended.code == 0, ended.err
    assert "already there" in tokenrank("sync", "--store", store).out


def test_a_lower_error_is_won_not_lost(plain: Write, tokenrank: Tokenrank, tmp_path: Path) -> None:
    by_model = {f"{V1}-nano": 3.0, f"{V11}-nano": 2.0}
    table = plain(*rows({"heights": by_model, "yields": by_model}, metric="rmse"))
    ended = tokenrank(
        "published", "report", *by_model, "--from", table, "--store", tmp_path / "store"
    )
    assert ended.code == 0, ended.err
    assert f"{V11}-nano against {V1}-nano: 2 won, 0 tied, 0 lost" in " ".join(ended.out.split())


def test_the_real_table_ranks_as_pandas_does(
    real_table: Path, tmp_path: Path, tokenrank: Tokenrank
) -> None:
    """The report's numbers against a pivot of the raw file, joined by its raw columns."""
    pandas = pytest.importorskip("pandas")
    raw = pandas.read_csv(real_table).drop_duplicates()
    names = {
        f"olmoearth_{v}_{size}": f"{version}-{size}"
        for v, version in (("v1", V1), ("v1_1", V11))
        for size in ("nano", "tiny", "base")
    }
    mine = raw[raw["name"].isin(names) & (raw["method"] != "profile")].fillna({"image_size": 0})
    task = ["dataset", "method", "metric_name", "bands", "image_size", "partition", "n_test"]
    table = mine.pivot_table(
        index=task, columns="name", values="metric_value", aggfunc=["first", "nunique"]
    )
    scores = table["first"][(table["nunique"] == 1).all(axis=1)]
    every = scores.rank(axis=1, ascending=False)
    assert len(every) == 14
    same_grid = every.drop(["m-so2sat", "so2sat"])
    for expected, option in ((same_grid, []), (every, ["--any-grid"])):
        ended = tokenrank(
            "published", "report", V1, V11, "--from", real_table, "--store", tmp_path / "store",
            "--out", tmp_path / "out", *option,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        found = pl.read_parquet(tmp_path / "out" / "results.parquet")
        ranks = dict(found.select("variant", "average_rank").unique().iter_rows())
        assert ranks == pytest.approx({names[k]: v for k, v in expected.mean().items()})
        assert found["task"].n_unique() == len(expected)
        assert set(found["tier"]) == {"published"}
        assert set(found["origin"]) == {"real"}


def test_versions_stand_for_the_sizes_that_all_have(torchgeo: Write) -> None:
    names = ("v1_nano", "v1_large", "v1_1_nano", "v1_1_tiny", "v1_nano_lsat_x100")
    table = torchgeo(*({"name": f"olmoearth_{name}"} for name in names))
    entrants = entrants_of(read_published(table, Rules()).results)
    assert [e.name for e in choose(entrants, [V1, V11])] == [f"{V1}-nano", f"{V11}-nano"]
    assert [e.name for e in choose(entrants, [V1])] == [f"{V1}-nano", f"{V1}-large"]
    assert [e.name for e in choose(entrants, ["*large", "olmoearth_v1_nano"])] == [
        f"{V1}-large", f"{V1}-nano"
    ]  # fmt: skip


# --- like with like ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"image_size": "224"}, {"bands": "rgb"}, {"metric": "macro_f1"}, {"probe": "linear"},
        {"n_test": "999"}, {"n_train": "50"}, {"partition": "0.01x_train"}, {"seed": "1"},
    ],
)  # fmt: skip
def test_results_that_differ_in_what_matters_are_never_ranked_together(
    other: dict[str, str], plain: Write
) -> None:
    fields = {"n_train": "100", "seed": "0", "partition": ""}
    table = plain({**fields, "model": "a"}, {**fields, "model": "b", **other})
    with pytest.raises(UserError, match="share no task"):
        ranks_of(table, "a", "b")


def test_band_names_are_one_language_per_sensor(plain: Write) -> None:
    table = plain(
        {"model": "a", "bands": "blue,green,red,nir"},
        {"model": "b", "bands": "B08, B04, B03, B02", "score": "0.8"},
    )
    assert ranks_of(table, "a", "b") == {"a": 1.0, "b": 2.0}
    # Landsat's bands have other numbers, and radar beside them is another input.
    table = plain(
        {"model": "a", "dataset": "m-forestnet", "bands": "nir"},
        {"model": "b", "dataset": "m-forestnet", "bands": "b08"},
        {"model": "a", "dataset": "m-so2sat", "bands": "red,nir"},
        {"model": "b", "dataset": "m-so2sat", "bands": "red,nir,vv_real"},
    )
    with pytest.raises(UserError, match="share no task"):
        ranks_of(table, "a", "b")


def test_two_normalisations_of_a_model_are_two_entrants(plain: Write) -> None:
    table = plain(
        {"model": "a", "normalisation": "own"},
        {"model": "a", "normalisation": "z", "score": "0.8"},
        {"model": "b", "normalisation": "z", "score": "0.7"},
    )
    assert ranks_of(table, "a@own", "a@z", "b") == {"a@own": 1.0, "a@z": 2.0, "b": 3.0}
    with pytest.raises(UserError, match="name which: a@own, a@z"):
        ranks_of(table, "a", "b")


def test_seeds_are_averaged_where_all_have_the_same(plain: Write) -> None:
    seeds = [
        {
            "model": m,
            "seed": str(s),
            "score": str(v),
            "ci_low": str(v - 0.1),
            "ci_high": str(v + 0.1),
        }
        for m, values in (("a", (0.2, 0.6)), ("b", (0.3, 0.4)))
        for s, v in enumerate(values)
    ]
    imported = read_published(plain(*seeds), Rules())
    chosen = choose(entrants_of(imported.results), ["a", "b"])
    results = build(select(chosen), [imported.source], "")
    assert results.run.seeds == (0, 1)
    found = results.scores.select("score", "ci_low", "ci_high").rows()
    assert found == [pytest.approx((0.4, 0.3, 0.5)), pytest.approx((0.35, 0.25, 0.45))]


def test_experiments_on_a_variant_are_not_the_variant(torchgeo: Write) -> None:
    names = ("olmoearth_v1_nano", "olmoearth_v1_nano_lsat_x100", "olmoearth_v1_nano_naip_rgb")
    table = torchgeo(*({"name": name} for name in names))
    imported = read_published(table, Rules())
    chosen = choose(entrants_of(imported.results), ["*"])
    results = build(select(chosen), [imported.source], "")
    rows_ = {row["variant"]: row for row in results.variants.to_dicts()}
    assert rows_["olmoearth-v1-nano"]["family"] == "olmoearth"
    assert rows_["olmoearth-v1-nano"]["scheme"] == "per-resolution"
    experiment = rows_["olmoearth_v1_nano_lsat_x100"]
    assert (experiment["version"], experiment["size"], experiment["scheme"]) == (
        "unknown", "unknown", None
    )  # fmt: skip
    assert compare(results) == ()


def test_contradictions_across_tables_are_ranked_nowhere(plain: Write) -> None:
    one = read_published(plain({}, {"dataset": "two"}, name="one.csv"), Rules())
    other = read_published(plain({"score": "0.8"}, {"dataset": "two"}, name="other.csv"), Rules())
    entrant = entrants_of([*one.results, *other.results])["a"]
    assert {task.dataset for task in entrant.cells} == {"two"}
    assert entrant.conflicting == {"m-eurosat"}


# --- cost -------------------------------------------------------------------------------


def test_stated_gflops_are_twice_the_closed_form_with_attention(torchgeo: Write) -> None:
    """v1 nano on 64 x 64 at patch 8: 64 places x 3 frames, 3 groups, 4 layers of width 128."""
    places, dim, depth = 64 * 3, 128, 4
    tokens = places * 3
    macs = depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim) + places * 8 * 8 * 12 * dim
    assert 2 * macs == 1_623_195_648
    cost = {"method": "profile", "metric_name": "gflops"}
    table = torchgeo({}, {**cost, "metric_value": "1.623195648"},
                     {"dataset": "x"}, {**cost, "dataset": "x", "metric_value": "1.6"})  # fmt: skip
    entrant = entrants_of(read_published(table, Rules()).results)["olmoearth-v1-nano"]
    assert {t.dataset: implied_positions(entrant, t) for t in entrant.cells} == {
        "m-eurosat": places, "x": None
    }  # fmt: skip


def test_every_stated_cost_of_the_family_is_explained(real_table: Path) -> None:
    entrants = entrants_of(read_published(real_table, Rules()).results)
    family = [e for name, e in entrants.items() if name.startswith("olmoearth-")]
    found = {
        (e.name, t.dataset): implied_positions(e, t)
        for e in family
        for t in e.cells
        if e.cells[t].gflops is not None
    }
    assert len(family) == 7
    assert None not in found.values()
    assert found[f"{V1}-nano", "so2sat"] == 3 * 4 * 4
    assert found[f"{V11}-nano", "so2sat"] == 3 * 8 * 8


def test_tasks_of_unlike_inputs_are_left_out_unless_asked_for(torchgeo: Write) -> None:
    """The costs of v1 nano on 4 x 4 places and of v1.1 nano on 8 x 8, three frames each."""
    pair = [
        {"name": "olmoearth_v1_nano", "metric_value": "0.8"},
        {"name": "olmoearth_v1_1_nano", "metric_value": "0.9"},
    ]
    costs = [
        {**pair[0], "method": "profile", "metric_name": "gflops", "metric_value": "0.278396928"},
        {**pair[1], "method": "profile", "metric_name": "gflops", "metric_value": "0.41877504"},
    ]
    like = [{**row, "dataset": "like", "ci_lower": "0.1"} for row in pair]
    table = torchgeo(*({**row, "ci_lower": "0.1"} for row in pair), *costs, *like)
    table.write_text(table.read_text().replace("0.8,0.1,0.92", "0.8,0.7,0.9"))
    chosen = choose(entrants_of(read_published(table, Rules()).results), [V1, V11])
    assert [t.dataset for t in select(chosen).tasks] == ["like"]
    assert [t.dataset for t in select(chosen, any_grid=True).tasks] == ["like", "m-eurosat"]
    ((positions, _), (others, _)) = sorted(next(iter(select(chosen).uneven.values())).items())
    assert (positions, others) == (48, 192)
    with pytest.raises(UserError, match="--any-grid"):
        select(chosen, datasets=["m-eurosat"])


# --- the report -------------------------------------------------------------------------

HOSTILE = ["<script>alert(1)</script>", "\"quoted\" 'names'", "two\nlines", "[bold]|pipe|", "🛰️ *"]


def test_hostile_names_are_shown_as_text(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    table = plain(
        *({"model": name, "dataset": data, "score": str(0.5 + i / 10)}
          for i, name in enumerate(HOSTILE) for data in ("one", "<b>two</b>"))
    )  # fmt: skip
    ended = tokenrank("published", "report", "*", "--from", table, "--store", tmp_path / "store",
                      "--out", tmp_path / "out")  # fmt: skip
    assert ended.code == 0, ended.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<b>two" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "[bold]|pipe|" in ended.out
    listed = tokenrank("published", "list", "--models", "--store", tmp_path / "store")
    assert listed.code == 0
    assert "<script>" in listed.out


def test_a_ranking_is_a_run_like_any_other(
    tmp_path: Path, torchgeo: Write, tokenrank: Tokenrank
) -> None:
    table = torchgeo({"metric_value": "0.91"}, {"name": "olmoearth_v1_1_nano"}, {"name": "foreign"})
    store = tmp_path / "store"
    command = ["published", "report", V1, V11, "--from", table, "--store", store]
    assert tokenrank(*command).code == 0
    (run,) = (store / "runs").iterdir()
    before = {p: p.read_bytes() for p in run.rglob("*.*")}
    assert tokenrank(*command).code == 0
    assert {p: p.read_bytes() for p in run.rglob("*.*")} == before
    facts = json.loads((run / "results" / "run.json").read_text())["run"]
    assert facts["command"] == f"tokenrank published report {V1} {V11} --from {table.name}"
    assert any("SHA-256" in note and "MIT" in note for note in facts["notes"])
    again = tokenrank("report", "published", "--store", store, "--out", tmp_path / "again")
    assert again.code == 0
    page = (tmp_path / "again" / "report.md").read_text()
    assert "Real data, published results" in page
    assert (run / "report" / "report.md").read_text() == page


def test_what_cannot_be_ranked_is_one_sentence(
    tmp_path: Path, plain: Write, tokenrank: Tokenrank
) -> None:
    store = tmp_path / "store"
    one, two = (
        plain({"model": "alpha"}, {"model": "beta", "image_size": "224"}),
        tmp_path / "two.csv",
    )
    report = ("published", "report", "--store", store)
    said = {
        (*report, "alpha"): "holds no published results",
        (*report, "--from", one): "Name the models",
        (*report, "alpha", "--from", one): "at least two models",
        (*report, "alpha", "bet", "--from", one): 'did you mean "beta"',
        (*report, "alpha", "beta", "--from", one): "it only with native size",
        (*report, "alpha", "beta", "--probe", "knm", "--from", one): 'did you mean "knn"',
        (*report, "x*", "--from", one): 'No published model matches "x*"',
        (*report, "two\nlines", "beta", "--from", one): 'model is called "two lines"',
    }
    for arguments, words in said.items():
        ended = tokenrank(*arguments)
        assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1), ended.err
        assert words in ended.err
    two.write_text(one.read_text().replace("alpha", "gamma"))
    assert tokenrank("published", "import", two, "--store", store).code == 0
    ended = tokenrank(*report, "alpha", "beta")
    assert "choose with --table" in ended.err
    assert "mine.csv" in ended.err
    ended = tokenrank(*report, "alpha", "beta", "--table", "mine.cvs")
    assert 'did you mean "mine.csv"' in ended.err
    assert not (store / "runs").exists()
