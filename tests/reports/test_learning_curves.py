"""Learning curves: means over seeds, the table, and figures that name and draw every arm."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from reports.learning_curve_figures import compute_chart, knn_chart, loss_chart
from reports.learning_curve_files import CSV, write_learning_curves
from reports.learning_curves import (
    COLUMNS,
    ArmInfo,
    LearningCurves,
    Reading,
    TrainingCurve,
    curves_csv,
    mean_curve,
    smoothed,
)
from reports.look import NARROW, VERSION_COLOURS, WIDE, to_svg

ARMS = (
    ArmInfo("v1", main=True),
    ArmInfo("v1.1", main=True),
    ArmInfo("v1.1-no-band-dropout", main=False, departs_from="v1.1"),
)


def training(arm: str, seed: int, macs: float | None, *knn: float) -> TrainingCurve:
    """A curve of one reading every 1,000 samples; losses fall by half each time."""
    losses = tuple(Reading(1000 * (i + 1), 2.0 / 2**i) for i in range(4))
    scores = tuple(Reading(1000 * (i + 1), value) for i, value in enumerate(knn))
    return TrainingCurve(
        arm, seed, macs, {"knn": scores, "loss": losses, "discrimination": losses,
                          "contrast": losses},
    )  # fmt: skip


@pytest.fixture
def curves() -> LearningCurves:
    trainings = (
        training("v1", 0, 3e9, 0.5, 0.6, 0.7),
        training("v1", 1, 3e9, 0.6, 0.7),
        training("v1.1", 0, 1e9, 0.4, 0.8, 0.8),
        training("v1.1-no-band-dropout", 0, 1e9, 0.3, 0.5, 0.6),
    )
    return LearningCurves("tokens", ARMS, trainings, "EuroSAT", "4,232 tiles", "real")


def test_a_mean_is_taken_only_where_every_seed_has_a_reading(curves: LearningCurves) -> None:
    """A mean over fewer seeds further on would jump by the seeds' difference."""
    mean = mean_curve(curves.of("v1"), "knn")
    assert [(r.samples, r.value) for r in mean] == [
        (1000, pytest.approx(0.55)),
        (2000, pytest.approx(0.65)),
    ]
    unprobed = replace(curves.trainings[0], readings={})
    assert mean_curve([unprobed, curves.trainings[2]], "knn") == curves.trainings[2].readings["knn"]
    assert mean_curve([unprobed], "knn") == ()


def test_smoothing_keeps_the_mean_and_the_end() -> None:
    curve = tuple(Reading(i, float(i % 7)) for i in range(1, 181))
    short = smoothed(curve, 60)
    assert len(short) == 60
    assert short[-1].samples == curve[-1].samples
    assert sum(r.value for r in short) / 60 == pytest.approx(sum(r.value for r in curve) / 180)
    assert smoothed(curve[:5]) == curve[:5]
    assert smoothed(()) == ()


def test_the_table_holds_every_reading_and_its_compute(curves: LearningCurves) -> None:
    rows = list(csv.DictReader(io.StringIO(curves_csv(curves))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 3 + 2 + 3 + 3 + 4 * 3 * 4
    found = next(
        r for r in rows if (r["arm"], r["metric"], r["samples"]) == ("v1.1", "knn", "2000")
    )
    assert float(found["value"]) == 0.8
    assert int(found["macs"]) == 2000 * 10**9


@pytest.mark.parametrize("frame", [WIDE, NARROW], ids=["wide", "narrow"])
def test_figures_name_every_arm_and_keep_panels_apart(
    curves: LearningCurves, frame: object
) -> None:
    for chart in (knn_chart, compute_chart, loss_chart):
        spec = chart(curves, frame)  # type: ignore[arg-type]
        assert spec is not None
        svg = to_svg(spec)
        panels = 4 if chart is loss_chart else 2
        assert len(spec["concat"]) == panels
        # v1.1 stands beside the ablation that departs from it; v1 does not.
        assert svg.count(">v1.1</text>") == panels
        assert svg.count(">v1</text>") == panels // 2
        # Cut where a phone has no room for it.
        assert svg.count(">v1.1-no-band") == panels // 2
        assert VERSION_COLOURS[1] in svg
        assert "4,232 tiles" in svg


def test_an_axis_of_compute_says_log_where_it_is_and_names_its_numbers(
    curves: LearningCurves,
) -> None:
    # 0.02 to 0.09 TMACs: 1, 2, 5 a decade.
    trainings = tuple(replace(t, macs_per_sample=2e7) for t in curves.trainings[2:])
    spec = compute_chart(replace(curves, trainings=trainings))
    assert spec is not None
    svg = to_svg(spec)
    assert ">0.02<" in svg
    assert ">0.05<" in svg
    assert svg.count("(log scale)</text>") == 2
    # One probe so far: an axis from 0, of which nobody says that it is logarithmic.
    first = tuple(
        replace(t, readings={**t.readings, "knn": t.readings["knn"][:1]}) for t in trainings
    )
    svg = to_svg(compute_chart(replace(curves, trainings=first)) or {})
    assert "log scale" not in svg
    assert ">0.02<" in svg


def test_seeds_are_thin_and_a_single_one_is_not_drawn_twice(curves: LearningCurves) -> None:
    spec = knn_chart(curves)
    assert spec is not None
    kinds = [
        (row["version"], row["kind"], row["line"])
        for rows in spec["datasets"].values()
        for row in rows
        if "kind" in row
    ]
    seeds = {(version, line) for version, kind, line in kinds if kind == "one seed"}
    assert {version for version, _ in seeds} == {"v1"}
    assert len(seeds) == 2
    assert to_svg(spec).count('stroke-width="0.8" opacity="0.45"') == 2 + 1  # and in the legend
    alone = replace(curves, trainings=curves.trainings[2:])
    drawn = knn_chart(alone)
    assert drawn is not None
    assert "one seed" not in to_svg(drawn)


def test_simulated_images_are_told_in_the_warning_colour(curves: LearningCurves) -> None:
    spec = knn_chart(replace(curves, origin="simulated"))
    assert spec is not None
    assert "SIMULATED DATA" in to_svg(spec)


def test_without_probes_or_macs_their_figures_are_left_out(
    curves: LearningCurves, tmp_path: Path
) -> None:
    bare = tuple(
        replace(t, macs_per_sample=None, readings={**t.readings, "knn": ()})
        for t in curves.trainings
    )
    written = write_learning_curves(replace(curves, trainings=bare), tmp_path)
    assert {path.name for path in written} == {CSV, "loss.svg", "loss.png"}
    assert (tmp_path / "loss.png").read_bytes()[1:4] == b"PNG"
    probed = tuple(replace(t, macs_per_sample=None) for t in curves.trainings)
    assert compute_chart(replace(curves, trainings=probed)) is None
    assert knn_chart(replace(curves, trainings=probed)) is not None
