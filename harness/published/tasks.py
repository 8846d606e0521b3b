"""A task of published results: what two results must share to be compared, and how two differ.

Data set, metric, probe, bands, image size, partition of the training labels, numbers of
samples, seeds. The input normalisation is not among them: it belongs to the model, as its
weights do; every model has its own, and a table's column often names the harness's setting,
not what the model did. It must know nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from reports.words import listed


@dataclass(frozen=True)
class Task:
    """What two results must share to be compared. ``bands`` are canonical and sorted."""

    dataset: str
    metric: str
    probe: str
    bands: tuple[str, ...]
    image_size: int | None
    interpolation: str
    partition: str
    n_train: int | None
    n_val: int | None
    n_test: int | None
    seeds: tuple[int | None, ...]


FIELD_WORDS = {
    "dataset": "data set", "image_size": "image size", "n_train": "number of training samples",
    "n_val": "number of validation samples", "n_test": "number of test samples",
}  # fmt: skip


def nearest(task: Task, others: Sequence[Task]) -> Task | None:
    """The task that differs least: same data set first, then same probe, then fewest fields."""

    def distance(other: Task) -> tuple[bool, bool, int]:
        apart = fields_apart(task, other)
        return "dataset" in apart, "probe" in apart, len(apart)

    return min(others, key=distance, default=None)


def differences(task: Task, other: Task) -> str:
    """What another task has instead, in words: ``image size 224 and bands B02, B03, B04``."""
    parts = []
    for name in fields_apart(task, other):
        value = getattr(other, name)
        if name == "bands":
            parts.append(_band_difference(task.bands, other.bands))
        elif name == "image_size":
            parts.append(size_words(value))
        else:
            parts.append(f"{FIELD_WORDS.get(name, name)} {shown_value(name, value)}")
    return " and ".join(parts)


def size_words(size: int | None) -> str:
    """An image size in words: ``native size``, ``resized to 224 pixels``."""
    return "native size" if size is None else f"images resized to {size} pixels"


def _band_difference(mine: tuple[str, ...], others: tuple[str, ...]) -> str:
    more, fewer = sorted({*others} - {*mine}), sorted({*mine} - {*others})
    if "all" in others or len(others) <= 3:
        return f"bands {bands_words(others)}"
    if not fewer:
        return f"further bands {listed(more, 3)}"
    if not more:
        return f"fewer bands, without {listed(fewer, 3)}"
    return f"other bands, {bands_words(others)}"


def bands_words(bands: tuple[str, ...]) -> str:
    """A band set in a few words: ``B02, B03, B04``, or ``12 bands (B01 ... B8A)``."""
    if len(bands) <= 3:
        return ", ".join(bands)
    return f"{len(bands)} bands ({bands[0]} ... {bands[-1]})"


def fields_apart(a: Task, b: Task) -> list[str]:
    """Names of the fields in which two tasks differ."""
    # How an image was resized cannot be compared where one of them was not.
    both_resized = a.image_size is not None and b.image_size is not None
    return [
        f.name
        for f in fields(Task)
        if getattr(a, f.name) != getattr(b, f.name) and (f.name != "interpolation" or both_resized)
    ]


def shown_value(name: str, value: object) -> str:
    """A task's field as a reader sees it."""
    if name == "bands" and isinstance(value, tuple):
        return bands_words(value)
    if isinstance(value, tuple):
        return ", ".join("unstated" if v is None else str(v) for v in value)
    if value is None or value == "":
        return "native" if name == "image_size" else "unstated"
    return str(value)
