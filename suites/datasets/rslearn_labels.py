"""What an rslearn data set says is to be predicted for each window, and which split it is of.

It must know nothing of images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.base import SPLITS
from suites.datasets.rslearn_file import ByGroup, ByOption, ByPlace, RslearnTask
from suites.datasets.rslearn_windows import Window

_ALSO = {"valid": "val", "validation": "val"}


def has_label(window: Window, task: RslearnTask) -> bool:
    """Whether a window is labelled at all."""
    label = task.label
    if label.option is not None:
        return all(name in window.options for name in _names(label.option))
    assert label.layer is not None
    if not (window.layer_folder(label.layer) / "completed").is_file():
        return False
    return label.band is not None or bool(_features(window, label.layer))


def label_values(windows: Sequence[Window], task: RslearnTask) -> tuple[tuple[str, ...], Any]:
    """Class names, and a value for each window, of kinds that are not maps.

    Raises `UserError` naming the window: no value, several that differ, a class outside the list,
    no number.
    """
    names = _names(task.label.property or task.label.option or "")
    said = [[_value(window, task, name) for name in names] for window in windows]
    if task.kind == "values":
        return (), np.array([_number(v[0], w) for v, w in zip(said, windows, strict=True)])
    if task.kind == "labels":
        hot = np.array(
            [[_number(v, w) for v in values] for values, w in zip(said, windows, strict=True)]
        )
        if not np.isin(hot, (0, 1)).all():
            row, column = np.argwhere(~np.isin(hot, (0, 1)))[0]
            raise UserError(
                f'{windows[row].folder}: "{names[column]}" is {hot[row, column]:g}; labels are '
                "0 or 1."
            )
        return tuple(task.classes or names), hot.astype(np.uint8)
    found = [str(values[0]) for values in said]
    classes = tuple(task.classes or sorted(set(found)))
    for window, value in zip(windows, found, strict=True):
        if value not in classes:
            raise UserError(
                f'{window.folder}: class "{value}" is not in the list: '
                f"{did_you_mean(value, classes)}."
            )
    return classes, np.array([classes.index(value) for value in found], dtype=np.int64)


def _names(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else list(said)


def _value(window: Window, task: RslearnTask, name: str) -> Any:
    if task.label.option is not None:
        return window.options[name]
    assert task.label.layer is not None
    found = {json.dumps(f.get(name)): f.get(name) for f in _features(window, task.label.layer)}
    path = window.layer_folder(task.label.layer) / "data.geojson"
    if None in found.values():
        known = sorted({key for f in _features(window, task.label.layer) for key in f})
        raise UserError(f'{path} has no property "{name}": {did_you_mean(name, known)}.')
    if len(found) > 1:
        raise UserError(
            f'{path} holds {len(found)} values of "{name}" ({", ".join(list(found)[:3])}); a '
            "sample of this kind has one."
        )
    return next(iter(found.values()))


def _features(window: Window, layer: str) -> list[Mapping[str, Any]]:
    path = window.layer_folder(layer) / "data.geojson"
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        return [dict(feature.get("properties") or {}) for feature in features]
    except FileNotFoundError:
        raise UserError(f"{path} is missing, though its layer is marked as completed.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no readable GeoJSON ({type(error).__name__}: {error})."
        ) from None


def _number(value: Any, window: Window) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise UserError(f"{window.folder}: its label {value!r} is no number.")
    return number


def said_splits(windows: Sequence[Window], task: RslearnTask, file: Path) -> tuple[str, ...] | None:
    """The split that each window says it is of; None where splits are drawn."""
    if isinstance(task.split, ByGroup):
        said = [window.group for window in windows]
        of = "its group"
    elif isinstance(task.split, ByOption):
        said = [str(window.options.get(task.split.key)) for window in windows]
        of = f'its option "{task.split.key}"'
    else:
        return None
    found = []
    for window, value in zip(windows, said, strict=True):
        name = _ALSO.get(value, value)
        if name not in SPLITS:
            raise UserError(
                f"{window.folder}: {of} is {value}; allowed: train, val, test (in {file}, "
                "split: {by: location} or {by: seed} draws them)."
            )
        found.append(name)
    missing = [name for name in SPLITS if name not in found]
    if missing:
        raise UserError(
            f"{file}: by {of.removeprefix('its ')} no window is of {', '.join(missing)}; "
            "split: {by: location} or {by: seed} draws splits."
        )
    return tuple(found)


def blocks(windows: Sequence[Window], split: ByPlace) -> tuple[str, ...]:
    """The block of the ground that each window's middle lies in."""
    places: npt.NDArray[np.int64] = np.floor(
        np.array([window.place for window in windows]) / split.cell
    ).astype(np.int64)
    return tuple(f"{w.crs}/{x}/{y}" for w, (x, y) in zip(windows, places, strict=True))
