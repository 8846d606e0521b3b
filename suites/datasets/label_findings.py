"""What the audit finds in labels, by kind: classes that a split lacks, rare labels, odd numbers.

It must know nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.base import SPLITS, Dataset, is_asked
from suites.datasets.findings import Finding, Level

Rows = npt.NDArray[np.int64]
MANY_TIMES = 10  # as many samples of one class as of another: accuracy then says little
OUTLYING = 8.0  # deviations from the mean


def label_findings(dataset: Dataset) -> Iterator[Finding]:
    """What is to be said of a data set's labels and splits."""
    try:
        labels, split = dataset.labels, dataset.splits(0)
    except UserError as error:
        yield Finding("classes", "error", str(error))
        return
    classes = dataset.card.classes
    if dataset.card.kind == "values":
        yield from _of_values(labels, split, dataset.card.unit)
    elif dataset.card.kind == "value_maps":
        yield from _of_value_maps(labels, split, dataset.card.unit)
    elif dataset.card.kind == "classes":
        counts = np.stack([np.bincount(labels[split[s]], minlength=len(classes)) for s in SPLITS])
        yield from _of_counts(counts, classes, "samples", _sizes(split))
    elif dataset.card.kind == "labels":
        counts = np.stack([labels[split[s]].sum(axis=0, dtype=np.int64) for s in SPLITS])
        yield from _of_counts(counts, classes, "labels", _sizes(split))
    else:
        counts = np.stack([_pixels(labels, split[s], len(classes)) for s in SPLITS])
        yield from _of_counts(counts, classes, "pixels", _sizes(split))
        ignored = 1 - counts.sum() / labels.size
        yield Finding("classes", "ok", f"{ignored:.1%} of the pixels are not asked about.")


def _sizes(split: Mapping[str, Rows]) -> str:
    return "splits: " + ", ".join(f"{len(split[name])} {name}" for name in SPLITS)


def _pixels(maps: npt.NDArray[Any], rows: Rows, classes: int) -> npt.NDArray[np.int64]:
    found = np.zeros(classes, dtype=np.int64)
    for row in rows:
        found += np.bincount(maps[row][maps[row] >= 0].ravel(), minlength=classes)
    return found


def _of_counts(
    counts: npt.NDArray[np.int64], classes: tuple[str, ...], of: str, sizes: str
) -> Iterator[Finding]:
    """``counts`` ``[3, C]``: of each class in train, val and test."""
    for name, found in zip(SPLITS, counts, strict=True):
        absent = [each for each, count in zip(classes, found, strict=True) if not count]
        if absent:
            # A label or a class of pixels may be rare; a class that nobody has cannot be scored.
            level: Level = "error" if of == "samples" else "warning"
            sentence = f"The {name} split has no {of.removesuffix('s')} of {', '.join(absent)}."
            yield Finding("classes", level, sentence)
    total = counts.sum(axis=0)
    ratio = total.max() / max(1, total.min())
    yield Finding(
        "classes",
        "warning" if ratio > MANY_TIMES else "ok",
        f"{len(classes)} classes with {total.min()} to {total.max()} {of} each; {sizes}.",
    )


def _of_values(
    values: npt.NDArray[np.float64], split: Mapping[str, Rows], unit: str
) -> Iterator[Finding]:
    train = values[split["train"]]
    mean, deviation = float(train.mean()), float(train.std())
    if deviation == 0:
        yield Finding("values", "error", "All numbers of the train split are the same.")
        return
    far = np.abs(values - mean) > OUTLYING * deviation
    if far.any():
        yield Finding(
            "values",
            "warning",
            f"{int(far.sum())} numbers lie more than {OUTLYING:g} deviations from the mean: mixed "
            "units, or a code for no data?",
        )
    yield Finding(
        "values",
        "ok",
        f"Numbers from {values.min():.4g} to {values.max():.4g} {unit}".rstrip()
        + f", mean {mean:.4g}, deviation {deviation:.4g}; {_sizes(split)}.",
    )


def _of_value_maps(
    maps: npt.NDArray[np.float32], split: Mapping[str, Rows], unit: str
) -> Iterator[Finding]:
    """Of maps of numbers: as of numbers, over the asked pixels, read image by image."""
    facts = np.array([_facts(each) for each in maps])
    counts, sums, squares, lows, highs = facts.T
    unasked = [name for name in SPLITS if not counts[split[name]].sum()]
    for name in unasked:
        yield Finding("values", "error", f"No pixel of the {name} split holds a number.")
    if unasked:
        return
    empty = int((counts == 0).sum())
    if empty:
        yield Finding(
            "values", "warning", f"Maps without any number, where nobody is asked: {empty}."
        )
    train = split["train"]
    count = counts[train].sum()
    mean = sums[train].sum() / count
    # Squares are of each map's departures from its own mean; those of the means come on top.
    means = sums / np.maximum(counts, 1)
    spread = squares[train].sum() + (counts * np.square(means - mean))[train].sum()
    deviation = float(np.sqrt(spread / count))
    if np.nanmin(lows[train]) == np.nanmax(highs[train]):
        yield Finding("values", "error", "All numbers of the train split are the same.")
        return
    flat = int(((counts > 1) & (lows == highs)).sum())
    if flat:
        sentence = f"Maps that hold one single number everywhere (a code for no data?): {flat}."
        yield Finding("values", "warning", sentence)
    far = np.array([np.sum(np.abs(each - mean) > OUTLYING * deviation) for each in maps])
    if far.any():
        yield Finding(
            "values",
            "warning",
            f"Numbers more than {OUTLYING:g} deviations from the mean (mixed units, or a code for "
            f"no data?): {int(far.sum()):,}, in maps: {int((far > 0).sum())}.",
        )
    yield Finding(
        "values",
        "ok",
        f"Numbers from {np.nanmin(lows):.4g} to {np.nanmax(highs):.4g} {unit}".rstrip()
        + f", mean {mean:.4g}, deviation {deviation:.4g}; "
        + f"{1 - counts.sum() / maps.size:.1%} of the pixels are not asked about; {_sizes(split)}.",
    )


def _facts(numbers: npt.NDArray[np.float32]) -> tuple[float, float, float, float, float]:
    """Of one map: asked pixels, their sum, squared departures from their mean, ends (or NaN)."""
    asked = numbers[is_asked(numbers)].astype(np.float64)
    if not len(asked):
        return 0.0, 0.0, 0.0, np.nan, np.nan
    squares = float(np.square(asked - asked.mean()).sum())
    return float(len(asked)), float(asked.sum()), squares, float(asked.min()), float(asked.max())
