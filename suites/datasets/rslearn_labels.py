"""The labels of `rslearn` windows: a vector layer's property, a window's option, a raster's pixels.

What is wrong with one is said with its window. It must know nothing of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.rslearn_config import BandSet, Config, Layer, check_formats, read_json
from suites.datasets.rslearn_file import RslearnTask, is_list, names_of
from suites.datasets.rslearn_rasters import FILE, read_band_set
from suites.datasets.rslearn_windows import Window, completed, inside

GEOJSON = "data.geojson"


@dataclass(frozen=True)
class MaskBand:
    """The band of a raster layer that holds the class, or the number, of each pixel."""

    layer: str
    band_set: BandSet
    number: int
    classes: tuple[str, ...] | None


def mask_band(config: Config, task: RslearnTask) -> MaskBand:
    """Which band the file means. `UserError` for a layer or a band that is not there."""
    assert task.label.layer is not None
    layer = config.layer(task.label.layer, "raster")
    check_formats(config, layer)
    band = task.label.band
    if band is None and len(layer.bands) != 1:
        raise UserError(
            f'{config.path}: layer "{layer.name}" has the bands {", ".join(layer.bands)}; add '
            '"band" to label:.'
        )
    band = band or layer.bands[0]
    for each in layer.band_sets:
        if band in each.bands:
            number = each.bands.index(band)
            return MaskBand(
                layer.name, each, number, each.classes[number] if each.classes else None
            )
    hint = did_you_mean(band, layer.bands)
    raise UserError(f'{config.path}: layer "{layer.name}" has no band "{band}": {hint}.')


def mask_of(
    window: Window, band: MaskBand, root: Path, task: RslearnTask
) -> tuple[Path, npt.NDArray[Any]]:
    """A window's mask ``[H, W]``, as stored, and its file.

    Raises `UserError` for numbers that are marked as no data and not ignored. Of classes the marked
    one may be asked about: it often is the background.
    """
    folder = window.item_group(band.layer, 0) / band.band_set.folder
    path = inside(folder / FILE, root)
    read = read_band_set(path, window, band.band_set, 1, [band.number])
    if task.kind == "value_maps" and task.ignore != read.no_data and read.gaps().any():
        marker = f"{read.no_data:.17g}"  # all digits, to be copied
        raise UserError(
            f"{path} holds pixels without data, marked by {marker}, which are no numbers; write "
            f"ignore: {marker}."
        )
    return path, read.values[:, :, 0, 0]


@dataclass(frozen=True)
class Said:
    """What the windows say, by number of the window; None of one without a label.

    ``several``: ids of windows whose features differ, of which the first was taken.
    """

    values: tuple[tuple[Any, ...] | None, ...]
    several: tuple[str, ...]


def said_of(windows: Sequence[Window], config: Config, task: RslearnTask) -> Said:
    """The values of the property, or the option, of each window: of ``labels`` all, else the first.

    Raises `UserError` for a layer that is not there, a broken file, and a property or option that
    no window has.
    """
    label = task.label
    layer = config.layer(label.layer, "vector") if label.layer else None
    if layer is not None:
        check_formats(config, layer)
    found: list[tuple[Any, ...] | None] = []
    several: list[str] = []
    known: set[str] = set()
    for window in windows:
        records = _records(window, layer, config.path.parent)
        known.update(*(records or ()))
        if is_list(label):
            found.append(_flagged(window, records, names_of(label)))
            continue
        values = _values(records, names_of(label)[0], task.kind == "labels")
        if task.kind != "labels" and values is not None:
            if len(values) > 1:
                several.append(window.id)
            values = values[:1]
        found.append(values)
    for name in names_of(label):
        if known and name not in known:
            place = (
                f'layer "{layer.name}" has no property' if layer else "its windows have no option"
            )
            hint = did_you_mean(name, sorted(known))
            raise UserError(f'{config.path}: {place} "{name}": {hint}.')
    return Said(tuple(found), tuple(several))


def _flagged(
    window: Window, records: list[dict[str, Any]] | None, names: Sequence[str]
) -> tuple[str, ...] | None:
    """The names that are 1; None where one is not said. `UserError` for other values than 0, 1."""
    found = []
    for name in names:
        values = _values(records, name, of_labels=False)
        if values is None:
            return None
        if len(values) > 1 or values[0] not in (0, 1):
            told = ", ".join(map(str, values[:3]))
            raise UserError(f'{window.folder}: its label "{name}" is {told}; labels are 0 or 1.')
        if values[0] == 1:
            found.append(name)
    return tuple(found)


def _records(window: Window, layer: Layer | None, root: Path) -> list[dict[str, Any]] | None:
    """The properties of each feature; None where the layer is not complete."""
    if layer is None:
        return [dict(window.options)]
    groups = completed(window, layer.name)
    if not groups:
        return None
    found = []
    for number in groups:
        path = inside(window.item_group(layer.name, number) / GEOJSON, root)
        said = read_json(path)
        try:
            found += [dict(each.get("properties") or {}) for each in said["features"]]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise UserError(f"{path} is no collection of features; copy it again.") from None
    return found


def _values(
    records: list[dict[str, Any]] | None, name: str, of_labels: bool
) -> tuple[Any, ...] | None:
    """Different values of one property, in order. Of labels a list is several, none are none."""
    if records is None:
        return None
    said: dict[Any, None] = {}
    for record in records:
        value = record.get(name)
        for each in value if isinstance(value, list) else (value,):
            if each is not None:
                said[each if isinstance(each, (int, float)) else str(each)] = None
    if of_labels:
        return tuple(said)
    return tuple(said) or None


def encoded(
    windows: Sequence[Window], said: Sequence[tuple[Any, ...]], task: RslearnTask, config: Config
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """Names of the classes (of numbers none), and the labels as `Dataset.labels` has them.

    Raises `UserError` for a class outside the list, and for a number that is none.
    """
    if task.kind == "values":
        return (), np.array(
            [_number(w, v[0]) for w, v in zip(windows, said, strict=True)], dtype=np.float64
        )
    texts = [tuple(str(value) for value in values) for values in said]
    layer = config.layers[task.label.layer] if task.label.layer else None
    if is_list(task.label):
        flags = [[name in each for name in names_of(task.label)] for each in texts]
        if task.classes is not None and len(task.classes) != len(names_of(task.label)):
            raise UserError(
                f"The task has {len(names_of(task.label))} labels, but classes: names "
                f"{len(task.classes)}."
            )
        return tuple(task.classes or names_of(task.label)), np.array(flags, dtype=np.uint8)
    listed = task.classes or _classes_of(layer, task)
    classes = tuple(listed or ()) or tuple(sorted({text for each in texts for text in each}))
    for window, each in zip(windows, texts, strict=True):
        for text in each:
            if text not in classes:
                raise UserError(
                    f'{window.folder}: its class "{text}" is not in the list: '
                    f"{did_you_mean(text, classes)}."
                )
    if len(classes) < 2:
        raise UserError(
            f"All windows of {config.path.parent} have the class {classes[0]}; a task needs two."
            if classes
            else f"No window of {config.path.parent} has a label; a task needs two."
        )
    if task.kind == "labels":
        flags = [[name in each for name in classes] for each in texts]
        return classes, np.array(flags, dtype=np.uint8)
    return classes, np.array([classes.index(each[0]) for each in texts], dtype=np.int64)


def _classes_of(layer: Layer | None, task: RslearnTask) -> Sequence[str] | None:
    """Those that config.json names, if they are of the property that is asked for."""
    if layer is None or layer.class_property not in (None, task.label.property):
        return None
    return layer.classes


def _number(window: Window, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    if not np.isfinite(found):
        raise UserError(f"{window.folder}: its label {value!r} is no number.")
    return found
