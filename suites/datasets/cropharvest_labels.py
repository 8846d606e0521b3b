"""CropHarvest's tasks and labels: which samples a task trains on, and of which class they are.

A task is a crop, a box around a country and the published test that belongs to it. Source:
G. Tseng, I. Zvonkov, C. Nakalembe and H. Kerner (NeurIPS Datasets and Benchmarks 2021). It must
know nothing of pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from models.errors import UserError

LABELS = "labels.geojson"
_AGAIN = "fetch the data set again"


@dataclass(frozen=True)
class Box:
    """Degrees of latitude and longitude, edges included."""

    south: float
    north: float
    west: float
    east: float

    def holds(self, lat: float, lon: float) -> bool:
        """Whether a place lies in it."""
        return self.south <= lat <= self.north and self.west <= lon <= self.east


@dataclass(frozen=True)
class Task:
    """What is asked: ``crop`` against everything else, or crops against everything else (``None``).

    Training samples lie in ``box``; ``test`` begins the names of the published test's files,
    ``kept_out`` are the boxes of its regions. Without a test the samples are split here.
    """

    title: str
    classes: tuple[str, str]
    box: Box
    crop: str | None = None
    test: str | None = None
    kept_out: tuple[Box, ...] = ()


TASKS: Mapping[str, Task] = {
    "togo": Task(
        "crops of Togo",
        ("no crop", "crop"),
        Box(6.089404296874989, 11.115624999999994, -0.09018554687497726, 1.7779296875000057),
        test="togo-eval",
    ),
    "kenya": Task(
        "maize in Kenya",
        ("other", "maize"),
        Box(-4.6923828125, 5.4922851562499915, 33.900000000000006, 41.88398437500001),
        "maize",
        "Kenya_maize",
        (Box(0.47190, 0.47749, 34.22847, 34.23266), Box(0.69365, 0.69767, 34.36586, 34.37199)),
    ),
    "brazil": Task(
        "coffee in Brazil",
        ("other", "coffee"),
        Box(-33.7421875, 5.257958984374994, -74.00205078124999, -34.80546874999999),
        "coffee",
        "Brazil_coffee",
        (Box(-12.1995, -12.1226, -45.8238, -45.7579),),
    ),
    "crop": Task("crops of the world", ("no crop", "crop"), Box(-90, 90, -180, 180)),
}
"""Boxes of countries as published evaluations take them: of Natural Earth's 1:50m outlines, the
part that holds the test. They hold places of neighbouring countries as well."""


@dataclass(frozen=True)
class Labelled:
    """A sample that has an array: its file's ``name``, what grows there, where, until when."""

    name: str
    dataset: str
    is_crop: bool
    crop: str | None
    lat: float
    lon: float
    end: date
    is_test: bool


@dataclass(frozen=True)
class Labels:
    """The table: samples that have an array, and the last dates of every source."""

    samples: tuple[Labelled, ...]
    ends: Mapping[str, frozenset[date]]
    without_array: int


def read_labels(path: Path, arrays: Collection[str]) -> Labels:
    """The samples of ``labels.geojson``; ``arrays`` names the files there are, without suffix.

    Raises `UserError` for a missing or damaged file, a class that is neither 0 nor 1, a row without
    place or date, or a sample that is there twice.
    """
    try:
        rows = [
            feature["properties"] for feature in json.loads(path.read_text("utf-8"))["features"]
        ]
        names = [f"{int(row['index'])}_{row['dataset']}" for row in rows]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no table of CropHarvest's labels ({type(error).__name__}: {error}); "
            f"{_AGAIN}."
        ) from None
    kept = [(name, row) for name, row in zip(names, rows, strict=True) if name in arrays]
    seen: set[str] = set()
    for name, _ in kept:
        if name in seen:
            raise UserError(f"{path} lists sample {name} twice; {_AGAIN}.")
        seen.add(name)
    samples = tuple(
        _sample(name, row, path) for name, row in sorted(kept, key=lambda pair: pair[0])
    )
    return Labels(samples, _ends(names, rows, path), len(rows) - len(kept))


def classes_of(samples: Iterable[Labelled], task: Task, path: Path) -> dict[Labelled, int]:
    """The class of each sample that a task trains on, 1 for its crop.

    A crop of which nobody knows which it is takes no part where one crop is asked for. Raises
    `UserError` for a sample of the published test that is not marked as such, and for a class
    with fewer than two samples.
    """
    found: dict[Labelled, int] = {}
    for sample in samples:
        if sample.is_test or not task.box.holds(sample.lat, sample.lon):
            continue
        if sample.dataset == task.test or any(
            box.holds(sample.lat, sample.lon) for box in task.kept_out
        ):
            raise UserError(
                f"{path} does not mark sample {sample.name} as test, but it belongs to the test of "
                f"{task.title}, so that train and test overlap; {_AGAIN}."
            )
        if task.crop is None:
            found[sample] = int(sample.is_crop)
        elif sample.crop == task.crop:
            found[sample] = 1
        elif sample.crop is not None or not sample.is_crop:
            found[sample] = 0
    for number, name in enumerate(task.classes):
        many = sum(label == number for label in found.values())
        if many < 2:
            raise UserError(
                f'{path} and features/arrays hold {many} training sample(s) of "{name}" for '
                f"{task.title}, too few to train and validate; {_AGAIN}."
            )
    return found


def _sample(name: str, row: Mapping[str, Any], path: Path) -> Labelled:
    def flag(key: str) -> bool:
        value = row.get(key)
        if value not in (0, 1):  # True and False are among them
            raise UserError(f"{path}: {key} of sample {name} is {value!r}, not 0 or 1; {_AGAIN}.")
        return bool(value)

    crop = row.get("label")
    return Labelled(
        name,
        str(row["dataset"]),
        flag("is_crop"),
        crop.lower() if isinstance(crop, str) else None,
        _read(row, "lat", _degrees, name, path),
        _read(row, "lon", _degrees, name, path),
        _read(row, "export_end_date", _day, name, path),
        flag("is_test"),
    )


def _ends(
    names: list[str], rows: list[Mapping[str, Any]], path: Path
) -> dict[str, frozenset[date]]:
    """Last dates of the sources that are a published test: their own files hold none."""
    tests = {task.test for task in TASKS.values()}
    found: dict[str, set[date]] = {}
    for name, row in zip(names, rows, strict=True):
        if row["dataset"] in tests:
            end = _read(row, "export_end_date", _day, name, path)
            found.setdefault(str(row["dataset"]), set()).add(end)
    return {source: frozenset(dates) for source, dates in found.items()}


def _read(
    row: Mapping[str, Any], key: str, kind: Callable[[Any], Any], name: str, path: Path
) -> Any:
    try:
        return kind(row[key])
    except (KeyError, ValueError, TypeError):
        raise UserError(
            f"{path}: {key} of sample {name} is {row.get(key)!r}, which is none; {_AGAIN}."
        ) from None


def _degrees(value: Any) -> float:
    degrees = float(value)
    if not math.isfinite(degrees):
        raise ValueError
    return degrees


def _day(value: Any) -> date:
    return date.fromisoformat(str(value)[:10])
