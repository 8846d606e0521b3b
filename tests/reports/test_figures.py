"""Figures: labels that can be read, the front, and pictures that say what they stand on."""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.cost_points import pareto_front, points_of
from reports.descriptions import Marker, described, silent
from reports.dotplot import axis_ranges, task_scores_chart
from reports.figures import cost_rank_chart
from reports.labels import Box, place_labels, side_by_side, text_width
from reports.look import NARROW, VEGA_LITE, WIDE, Frame, to_png, to_svg
from reports.ranking import rank
from reports.rendering import Job, Studio, draw
from reports.table import SuiteResults, TaskInfo
from reports.tables import task_columns

Make = Callable[..., SuiteResults]
SIZES = ("nano", "tiny", "small", "base", "large")


def _meet(a: Box, b: Box) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(40, 660), st.integers(20, 410)), min_size=1, max_size=20).map(
        lambda spots: [(float(x), float(y)) for x, y in spots]
    )
)
def test_up_to_twenty_labels_neither_overlap_nor_leave_the_frame(
    points: list[tuple[float, float]],
) -> None:
    sizes = [(text_width("v1.1 nano :single", 11), 13.0)] * len(points)
    boxes = [p.box for p in place_labels(points, sizes, Box(0, 0, 700, 430))]
    assert all(b.left >= 0 and b.top >= 0 and b.right <= 700 and b.bottom <= 430 for b in boxes)
    assert not [pair for pair in combinations(boxes, 2) if _meet(*pair)]


@pytest.mark.parametrize("frame", [WIDE, NARROW])
def test_labels_of_twenty_coincident_points_stay_apart(frame: Frame) -> None:
    points = [(150.0, 200.0)] * 20
    sizes = [(text_width("v1.1 nano", 11), 13.0)] * 20
    area = Box(0, 0, frame.width, frame.height)
    boxes = [p.box for p in place_labels(points, sizes, area)]
    assert not [pair for pair in combinations(boxes, 2) if _meet(*pair)]
    assert all(b.left >= 0 and b.right <= frame.width for b in boxes)


def test_points_of_one_cost_are_spread_and_others_left_alone() -> None:
    lines = [Box(100, 10, 100, 60), Box(100, 40, 100, 90), Box(100, 200, 100, 220)]
    assert side_by_side(lines, 12) == [94, 106, 100]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=10))
def test_front_is_what_nothing_beats(found: list[tuple[int, int]]) -> None:
    costs = {str(i): float(c) for i, (c, _) in enumerate(found)}
    ranks = {str(i): float(r) for i, (_, r) in enumerate(found)}
    front = pareto_front(costs, ranks)
    for name, place in ((n, (costs[n], ranks[n])) for n in list(costs)):
        spots = [(c, r) for c, r in zip(costs.values(), ranks.values(), strict=True)]
        rivals = [s for s in spots if s != place and s[0] <= place[0] and s[1] <= place[1]]
        assert (name in front) == (not rivals)


def test_cost_rank_figure_names_its_points_and_its_status(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    quality = {
        f"olmoearth-{v}-{s}": 0.5 + 0.07 * i for i, s in enumerate(SIZES) for v in ("v1", "v1.1")
    }
    quality["olmoearth-v1-nano:single"] = 0.5
    tasks = [make_task("knn", origin="simulated")]
    results = make_results(quality, tasks, tiers=dict.fromkeys(quality, "random"))
    (ranking,) = rank(results)
    spec = cost_rank_chart(results, ranking)
    assert spec is not None
    svg = to_svg(spec)
    for text in ("v1 nano", "v1.1 base", "v1 nano :single", "1G", "10G"):
        assert f">{text}</text>" in svg
    assert "SIMULATED DATA, untrained (random) weights" in svg
    y_axis = spec["layer"][0]["encoding"]["y"]["scale"]
    assert y_axis["reverse"] is True
    assert spec["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"


def test_text_is_drawn_in_the_png(make_results: Make) -> None:
    """The renderer drops text silently when it does not know the font."""
    quality = {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7}
    results = make_results(quality)
    (ranking,) = rank(results)
    spec = cost_rank_chart(results, ranking)
    assert spec is not None
    blind = {**spec, "config": {**spec["config"], "font": "No Such Font"}}
    assert len(to_png(to_svg(spec))) > 1.5 * len(to_png(to_svg(blind)))


def test_variant_without_macs_or_with_unknown_macs(make_results: Make) -> None:
    """Plain statistics cost no MACs: shown at the log axis' edge; an unknown cost is not."""
    quality = {"olmoearth-v1-nano": 0.6, "statistics-v1-plain": 0.7, "other-v1-nano": 0.5}
    results = make_results(quality)
    macs = pl.when(variant="statistics-v1-plain").then(0.0).when(variant="other-v1-nano")
    changed = results.variants.with_columns(macs=macs.then(None).otherwise("macs"))
    results = SuiteResults(results.run, changed, results.scores, results.samples)
    (ranking,) = rank(results)
    spec = cost_rank_chart(results, ranking)
    assert spec is not None
    svg = to_svg(spec)
    assert "(no MACs)" in svg
    assert "other v1 nano" not in svg
    assert "NaN" not in svg


def test_dot_plot_shows_every_variant_and_marks_incomplete_ones(make_results: Make) -> None:
    quality = {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7}
    gap = ("olmoearth-v1-nano", "eurosat-linear", 0)
    results = make_results(quality, without=[gap])
    (ranking,) = rank(results)
    spec = task_scores_chart(results, ranking)
    assert spec is not None
    svg = to_svg(spec)
    assert ">v1 nano (incomplete)</text>" in svg
    assert ">v1.1 nano</text>" in svg
    assert len(re.findall('aria-label="olmoearth-v1-nano: [0-9.]+ on eurosat-knn', svg)) == 1
    assert "olmoearth-v1-nano: 0.5 on eurosat-linear" not in svg


def test_errors_stand_on_an_axis_of_their_unit_which_other_units_do_not_share(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    tasks = [
        make_task(name, metric="rmse", unit=unit, higher_is_better=False)
        for name, unit in (("yield", "t/ha"), ("height", "m"), ("cover", "m"))
    ]
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7}, tasks)
    (ranking,) = rank(results)
    spec = task_scores_chart(results, ranking)
    assert spec is not None
    svg = to_svg(spec)
    assert len(re.findall(">t/ha</text>", svg)) == 1
    assert len(re.findall(">m</text>", svg)) == 2
    ranges = axis_ranges(ranking)
    assert ranges["height"] == ranges["cover"] != ranges["yield"]
    assert task_columns(tasks)[0] == "yield (rmse in t/ha)"


def test_marks_and_rows_know_their_variants() -> None:
    """What a filter hides: points, their intervals and labels, and every row that names one."""
    names = ["a-v1-nano", "a-v1-nano:x", 'b"<&-v1-nano', "c" * 200]
    marker = Marker(names)
    assert marker.indices(("knn", "a-v1-nano:x", "a-v1-nano")) == "1 0"
    quoted = html.escape(described(names[2], "0.5 on knn"))
    path = f'<path aria-label="{quoted}" role="graphics-symbol" d="M0"/>'
    assert 'data-variants="2"' in marker.marked(path)
    assert "0.5 on knn" in marker.marked(path)
    rule = f'<line aria-label="{silent(names[3])}" role="graphics-symbol" x2="1"/>'
    hushed = marker.marked(rule)
    assert 'data-variants="3"' in hushed
    assert "aria-label" not in hushed
    assert 'aria-hidden="true"' in hushed
    longer = '<path aria-label="a-v1-nano:x: 0.5 on knn" d="M0"/>'
    assert 'data-variants="1"' in marker.marked(longer)
    foreign = '<path aria-label="d-v1: 0.5" d="M0"/>'
    assert marker.marked(foreign) == foreign


def test_published_costs_and_macs_never_share_an_axis(make_results: Make) -> None:
    quality = {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7}
    own = make_results(quality)
    published = own.variants.with_columns(macs=pl.lit(None, pl.Float64), published_gflops=pl.lit(3))
    (ranking,) = rank(own)
    stated = replace(own, variants=published.cast({"published_gflops": pl.Float64}))
    spec = cost_rank_chart(stated, ranking)
    assert spec is not None
    assert "GFLOPs as published (source's own counter)" in to_svg(spec)
    first = pl.col("variant") == "olmoearth-v1-nano"
    mixed = own.variants.with_columns(
        macs=pl.when(first).then("macs"), published_gflops=pl.when(~first).then(3.0)
    )
    assert [p.variant for p in points_of(replace(own, variants=mixed), ranking)] == [
        "olmoearth-v1-nano"
    ]
    partly = stated.variants.with_columns(published_gflops=pl.when(first).then(3.0))
    assert cost_rank_chart(replace(own, variants=partly), ranking) is None


def test_panels_share_an_axis_only_where_that_serves_comparison(
    make_results: Make, make_task: Callable[..., TaskInfo]
) -> None:
    tasks = [make_task("a"), make_task("b"), make_task("c", metric="rmse")]
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.66}, tasks)
    (ranking,) = rank(results)
    ranges = axis_ranges(ranking)
    assert ranges["a"] == ranges["b"] != ranges["c"]
    far = {"b": pl.col("score") * 1e-3}
    moved = results.scores.with_columns(
        pl.when(pl.col("task") == "b").then(far["b"]).otherwise("score").alias("score"),
        ci_low=None,
        ci_high=None,
    )
    (ranking,) = rank(replace(results, scores=moved, samples=results.samples.clear()))
    ranges = axis_ranges(ranking)
    assert ranges["a"] != ranges["b"]


def test_drawings_do_not_depend_on_who_draws_them(
    make_results: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of many figures is drawn by a second process, where there is a core for it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    (ranking,) = rank(results)
    specs = [cost_rank_chart(results, ranking, f) for f in (WIDE, NARROW, Frame(500, 300))] * 2
    jobs = [Job(spec, VEGA_LITE, png=True) for spec in specs if spec]
    with Studio() as studio:
        places = [studio.submit(job) for job in jobs]
        drawings = studio.finish()
    assert places == list(range(len(jobs)))
    assert drawings == [draw(job) for job in jobs]


def test_a_second_process_that_dies_loses_no_drawing(
    make_results: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make_results({"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7})
    (ranking,) = rank(results)
    spec = cost_rank_chart(results, ranking)
    assert spec is not None
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with Studio() as studio:
        studio.submit(Job(spec, VEGA_LITE))
        assert studio.finish() == [draw(Job(spec, VEGA_LITE))]
