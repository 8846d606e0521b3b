"""Critical difference: separations against scikit-posthocs, warnings, a diagram one can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
import scikit_posthocs

from reports.critical_difference import (
    critical_difference_of,
    critical_difference_sentences,
)
from reports.critical_difference_diagram import critical_difference_chart
from reports.labels import text_width
from reports.look import NARROW, WIDE, Frame, to_svg
from reports.ranking import RankingTable, rank
from reports.table import SuiteResults

Make = Callable[..., SuiteResults]
SCHEMES = ("", ":single", ":spectral", ":two")


def _quality(n: int) -> dict[str, float]:
    names = [
        f"olmoearth-{version}-{size}{scheme}"
        for size in ("nano", "tiny", "small", "base", "large")
        for version in ("v1", "v1.1")
        for scheme in SCHEMES
    ]
    return {name: 0.4 + 0.5 * i / max(1, n - 1) for i, name in enumerate(names[:n])}


def _ranking(
    make_results: Make, make_task: Callable[..., object], variants: int, tasks: int
) -> tuple[SuiteResults, RankingTable]:
    made = [make_task(f"task-{i}", dataset=f"data-{i // 2}", n_test=60) for i in range(tasks)]
    results = make_results(_quality(variants), made, noise=0.4)
    return results, rank(results, resamples=10)[0]


def test_separated_pairs_are_those_of_scikit_posthocs(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    _, ranking = _ranking(make_results, make_task, 7, 12)
    found = critical_difference_of(ranking)
    assert found is not None
    # Columns are variants, rows tasks; it ranks ascending, which is symmetric for this test.
    blocks = [[r.scores[t.name].value for r in ranking.ranked] for t in ranking.tasks]
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(blocks)
    expected = {pair for pair in combinations(range(7), 2) if p_values.iloc[pair] < 0.05}
    assert set(found.separated) == expected
    assert 0 < len(expected) < 21
    # The bars say the same: two variants share one exactly when they are not separated.
    joined = {
        pair
        for pair in combinations(range(7), 2)
        if any(first <= pair[0] and pair[1] <= last for first, last in found.groups)
    }
    assert joined == set(combinations(range(7), 2)) - expected


@pytest.mark.parametrize(
    ("variants", "tasks", "said"),
    [
        (6, 2, "the critical difference is 5.33 and the largest possible rank difference is 5"),
        (2, 4, "With only 4 tasks"),
        (1, 2, "needs two complete variants"),
        (3, 1, "Friedman's test needs at least two tasks."),
        (6, 12, "The 12 tasks rest on 6 data sets"),
    ],
)
def test_what_cannot_be_concluded_is_said(
    make_results: Make, make_task: Callable[..., object], variants: int, tasks: int, said: str
) -> None:
    _, ranking = _ranking(make_results, make_task, variants, tasks)
    assert said in " ".join(critical_difference_sentences(ranking))


def test_without_power_nothing_is_called_separated(
    make_results: Make, make_task: Callable[..., object]
) -> None:
    """All tasks agree perfectly, and two of them still prove nothing about six variants."""
    results, ranking = _ranking(make_results, make_task, 6, 2)
    found = critical_difference_of(ranking)
    assert found is not None
    assert found.separated == ()
    assert found.groups == ((0, 5),)
    spec = critical_difference_chart(results, ranking)
    assert spec is not None
    assert "no difference could be" in to_svg(spec)


@pytest.mark.parametrize("frame", [WIDE, NARROW])
@pytest.mark.parametrize("variants", [2, 9, 40])
def test_every_variant_is_labelled_and_no_label_covers_another(
    make_results: Make, make_task: Callable[..., object], variants: int, frame: Frame
) -> None:
    results, ranking = _ranking(make_results, make_task, variants, 6)
    spec = critical_difference_chart(results, ranking, frame)
    assert spec is not None
    texts = _texts(spec)
    named = [t for t in texts if re.match(r"v1(\.1)? ", t["text"])]
    assert len(named) == variants
    for a, b in combinations(named, 2):
        apart = abs(a["y"] - b["y"]) >= 13 or abs(a["x"] - b["x"]) > 200
        assert apart, (a, b)
    for text in named:
        width = text_width(text["text"], 11)
        right = text["x"] if text["x"] < frame.width / 4 else text["x"] + width
        assert right <= frame.width + 1


def _texts(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    marks = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    return [row for mark in marks for row in spec["datasets"][mark["data"]["name"]]]


def test_markup_in_a_name_is_text(make_results: Make) -> None:
    quality = {'a-v1-nano:"<script>alert(1)</script>': 0.5, "a-v1-tiny:\n'&]": 0.8}
    results = make_results(quality)
    (ranking,) = rank(results, resamples=10)
    for frame in (WIDE, NARROW):
        spec = critical_difference_chart(results, ranking, frame)
        assert spec is not None
        svg = to_svg(spec)
        assert "<script" not in svg
        ElementTree.fromstring(svg)
