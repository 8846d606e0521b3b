"""Learning curves written out: figures as SVG and PNG, and every reading as CSV."""

from __future__ import annotations

from pathlib import Path

from altair.utils.schemapi import debug_mode

from reports.io import write_whole
from reports.learning_curve_figures import compute_chart, knn_chart, loss_chart
from reports.learning_curves import LearningCurves, curves_csv
from reports.look import to_png, to_svg

CSV = "learning-curves.csv"


def write_learning_curves(curves: LearningCurves, folder: Path) -> list[Path]:
    """Write what there is to draw, and the table; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_whole(folder / CSV, curves_csv(curves).encode())]
    charts = {"knn-samples": knn_chart, "knn-compute": compute_chart, "loss": loss_chart}
    for stem, chart in charts.items():
        # Altair's checks find mistakes in this code, not in results: they are for its tests.
        with debug_mode(False):
            spec = chart(curves)
        if spec is None:
            continue
        svg = to_svg(spec)
        written.append(write_whole(folder / f"{stem}.svg", svg.encode()))
        written.append(write_whole(folder / f"{stem}.png", to_png(svg)))
    return written
