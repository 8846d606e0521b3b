"""Cost curves: ratios against the closed form, and figures that name every line they draw."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.cost_curve_figures import MOST_LINES, cost_ratio_chart, macs_chart
from reports.cost_curves import cost_curve_sentences, cost_curve_table, ratio_curves
from reports.labels import pushed_apart
from reports.look import NARROW, WIDE, to_svg
from reports.pairs import compare
from reports.table import CURVE_SCHEMA, SuiteResults

Make = Callable[..., SuiteResults]
DIM, DEPTH, PATCH, PLACES = 128, 4, 4, {"side": (16, 64, 256), "steps": (1, 12)}
QUALITY = {"olmoearth-v1-nano": 0.6, "olmoearth-v1.1-nano": 0.7, "olmoearth-v1-nano:single": 0.5}


def with_curves(results: SuiteResults) -> SuiteResults:
    """Plain transformers: 12 N d^2 + 2 N^2 d per layer, N tokens of G band groups."""
    rows = []
    for name, groups in results.variants.select("variant", "groups").iter_rows():
        for axis, values in PLACES.items():
            for value in values:
                n = groups * ((value // PATCH) ** 2 if axis == "side" else 256 * value)
                attention = 2.0 * n * n * DIM * DEPTH
                total = attention + 12.0 * n * DIM**2 * DEPTH
                rows.append((name, axis, value, PATCH, n, total, attention))
    curves = pl.DataFrame(rows, schema=CURVE_SCHEMA, orient="row")
    return dataclasses.replace(results, curves=curves)


def test_ratio_follows_the_closed_form(make_results: Make) -> None:
    """Three groups against one: 3 (6 d + 3 N) / (6 d + N), and 3 without attention."""
    results = with_curves(make_results(QUALITY))
    curves = ratio_curves(results, compare(results))
    version = {c.axis: c for c in curves if c.kind == "version"}
    assert [p.value for p in version["side"].points] == [16, 64, 256]
    for point in (*version["side"].points, *version["steps"].points):
        n = point.candidate_tokens
        assert point.ratio == pytest.approx(3 * (6 * DIM + 3 * n) / (6 * DIM + n))
        assert point.blind == pytest.approx(3)
        assert point.reference_tokens == 3 * n


def test_sentence_and_table_state_the_largest_input(make_results: Make) -> None:
    results = with_curves(make_results(QUALITY))
    pairs = compare(results)
    text = " ".join(cost_curve_sentences(results, pairs))
    # N = 4096 at 256 pixels: 3 (768 + 12288) / (768 + 4096) = 8.05
    assert "At 256 x 256 pixels olmoearth-v1.1-nano needs 8.1x fewer MACs" in text
    assert "(3.0x fewer counted without attention)" in text
    table = cost_curve_table(results, pairs)
    assert table is not None
    assert {row[0].text for row in table.rows} == set(QUALITY) - {"olmoearth-v1-nano"}
    assert table.rows[0][6].text == "8.05x"


def test_lines_are_named_and_attention_blind_ones_dashed(make_results: Make) -> None:
    results = with_curves(make_results(QUALITY))
    for frame in (WIDE, NARROW):
        spec = cost_ratio_chart(results, compare(results), frame)
        assert spec is not None
        svg = to_svg(spec)
        assert svg.count(">v1.1 nano</text>") == 2
        assert svg.count('stroke-dasharray="5,3"') >= 2
        both = macs_chart(results, frame)
        assert both is not None
        drawn = to_svg(both)
        assert all(drawn.count(f">{n}</text>") == 2 for n in ("v1 nano", "v1 nano :single"))


def test_without_curves_or_with_too_many_lines_nothing_is_drawn(make_results: Make) -> None:
    bare = make_results(QUALITY)
    assert cost_ratio_chart(bare, compare(bare)) is None
    assert macs_chart(bare) is None
    assert cost_curve_table(bare, compare(bare)) is None
    assert "unknown" in cost_curve_sentences(bare, compare(bare))[0]
    many = {f"olmoearth-v1-nano:s{i}": 0.5 for i in range(MOST_LINES + 1)}
    assert macs_chart(with_curves(make_results(many))) is None


@given(st.lists(st.floats(0, 300), max_size=20).map(sorted))
def test_pushed_apart_keeps_order_gap_and_frame(places: list[float]) -> None:
    found = pushed_apart(places, 12, 0, 300)
    assert all(b - a >= 12 - 1e-6 for a, b in itertools.pairwise(found))
    assert all(-1e-6 <= y <= 300 + 1e-6 for y in found)
    if all(b - a >= 12 for a, b in itertools.pairwise(places)):
        assert found == pytest.approx(places)
