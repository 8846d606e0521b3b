"""Learning curves of a study: what they are made of, their means over seeds, and a table of them.

Plain data in, plain data out. It must know nothing of where the numbers were read, nor of how the
curves are drawn.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Metric = Literal["knn", "loss", "discrimination", "contrast"]
METRICS: tuple[Metric, ...] = ("knn", "loss", "discrimination", "contrast")
COLUMNS = ("arm", "seed", "metric", "samples", "macs", "value")


@dataclass(frozen=True)
class Reading:
    """A number after so many samples."""

    samples: int
    value: float


@dataclass(frozen=True)
class TrainingCurve:
    """One training: an arm with one seed.

    ``macs_per_sample``: its MACs, forward and backward; None where they are not known.
    ``readings``: per metric, in the order in which they were taken.
    """

    arm: str
    seed: int
    macs_per_sample: float | None
    readings: dict[Metric, tuple[Reading, ...]]


@dataclass(frozen=True)
class ArmInfo:
    """An arm of the study; ``main`` ones are what it is about, the others vary one of them.

    ``departs_from``: which main arm an other one varies.
    """

    name: str
    main: bool
    departs_from: str | None = None


@dataclass(frozen=True)
class LearningCurves:
    """All trainings of a study. ``probe`` and ``data`` say on what the curves were taken.

    ``origin``: of the probe's images and of those that were trained on, real or simulated.
    """

    study: str
    arms: tuple[ArmInfo, ...]
    trainings: tuple[TrainingCurve, ...]
    probe: str
    data: str
    origin: str

    def of(self, arm: str) -> tuple[TrainingCurve, ...]:
        """The arm's trainings."""
        return tuple(t for t in self.trainings if t.arm == arm)


def mean_curve(trainings: Sequence[TrainingCurve], metric: Metric) -> tuple[Reading, ...]:
    """Mean over the seeds, where every seed that has any reading has one."""
    curves = [t.readings.get(metric, ()) for t in trainings]
    by_samples = [{r.samples: r.value for r in curve} for curve in curves if curve]
    if not by_samples:
        return ()
    shared = sorted(set.intersection(*(set(found) for found in by_samples)))
    return tuple(
        Reading(samples, sum(found[samples] for found in by_samples) / len(by_samples))
        for samples in shared
    )


def smoothed(curve: Sequence[Reading], most: int = 60) -> tuple[Reading, ...]:
    """At most so many points: means over neighbours, each at the last of its samples."""
    size = -(-len(curve) // most)
    parts = [curve[i : i + size] for i in range(0, len(curve), max(1, size))]
    return tuple(Reading(p[-1].samples, sum(r.value for r in p) / len(p)) for p in parts)


def curves_csv(curves: LearningCurves) -> str:
    """Every reading of every training as CSV; see `COLUMNS`. ``macs`` are those up to there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for training in curves.trainings:
        for metric in METRICS:
            for reading in training.readings.get(metric, ()):
                each = training.macs_per_sample
                macs = "" if each is None else round(each * reading.samples)
                writer.writerow(
                    (training.arm, training.seed, metric, reading.samples, macs, reading.value)
                )
    return text.getvalue()
