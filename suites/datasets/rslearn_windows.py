"""Windows of an rslearn data set on disk: which there are, their layers, dates and rasters.

Format: rslearn's DatasetFormat page (``config.json``; of each window ``metadata.json``,
``items.json``, ``layers/LAYER[.N]/BANDSET/geotiff.tif``, ``completed``), file storage and GeoTIFF
only. The package itself is not needed. It must know nothing of tasks or labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.arrays import read_tiff

Date = tuple[int, int, int]
_LONGEST_NAME = 64


@dataclass(frozen=True)
class BandSet:
    """Bands of a layer that lie in one file, at 2^``zoom`` times the window's resolution."""

    bands: tuple[str, ...]
    zoom: int

    @property
    def folder(self) -> str:
        """The folder's name: the bands joined, or a hash where that is no good name."""
        if any("_" in band for band in self.bands):
            return hashlib.sha256(json.dumps(list(self.bands)).encode()).hexdigest()
        name = "_".join(self.bands)
        return hashlib.sha256(name.encode()).hexdigest() if len(name) > _LONGEST_NAME else name


@dataclass(frozen=True)
class Layer:
    """A layer as ``config.json`` has it; a vector layer has no band sets."""

    name: str
    kind: str
    band_sets: tuple[BandSet, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """Of all band sets, in their order."""
        return tuple(band for each in self.band_sets for band in each.bands)


@dataclass(frozen=True)
class Window:
    """A window: ``size`` rows and columns in pixels, ``place`` its middle in units of ``crs``."""

    folder: Path
    group: str
    size: tuple[int, int]
    crs: str
    place: tuple[float, float]
    times: tuple[datetime, datetime] | None
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``group/window``."""
        return f"{self.group}/{self.folder.name}"

    def layer_folder(self, layer: str, step: int = 0) -> Path:
        """Where an item group of a layer lies."""
        return self.folder / "layers" / (f"{layer}.{step}" if step else layer)

    def steps(self, layer: str) -> int:
        """How many item groups of a layer are completed, counted from the first."""
        count = 0
        while (self.layer_folder(layer, count) / "completed").is_file():
            count += 1
        return count


def layers_of(root: Path) -> dict[str, Layer]:
    """The layers of a data set. `UserError` where it is none."""
    content = _json(root / "config.json")
    try:
        return {name: _layer(name, said) for name, said in content["layers"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{root / 'config.json'} is no configuration of an rslearn data set "
            f"({type(error).__name__}: {error})."
        ) from None


def _layer(name: str, said: Mapping[str, Any]) -> Layer:
    sets = tuple(
        BandSet(tuple(map(str, each["bands"])), int(each.get("zoom_offset") or 0))
        for each in said.get("band_sets") or ()
        if each.get("bands")
    )
    return Layer(name, str(said["type"]), sets)


def layer_named(layers: Mapping[str, Layer], name: str, kind: str, root: Path) -> Layer:
    """A layer of a kind. `UserError` that names those there are."""
    if name not in layers:
        raise UserError(
            f'{root / "config.json"} has no layer "{name}": {did_you_mean(name, layers)}.'
        )
    if layers[name].kind != kind:
        raise UserError(
            f'{root / "config.json"}: layer "{name}" is a {layers[name].kind} layer, but a {kind} '
            "layer is needed."
        )
    return layers[name]


def windows_of(root: Path, groups: Sequence[str] | None) -> tuple[Window, ...]:
    """All windows, by group and name. `UserError` for a group that is not there, and for none."""
    home = root / "windows"
    there = sorted(path.name for path in _folders(home))
    for group in groups or ():
        if group not in there:
            raise UserError(f'{home} has no group "{group}": {did_you_mean(group, there)}.')
    found = tuple(
        _window(folder, group)
        for group in (sorted(set(groups)) if groups else there)
        for folder in sorted(_folders(home / group))
    )
    if not found:
        raise UserError(
            f"{home} holds no windows (GROUP/WINDOW/metadata.json); windows that are stored in a "
            "database cannot be read."
        )
    return found


def _folders(path: Path) -> Iterator[Path]:
    """Folders within one, but for hidden ones; one that leads outside is refused."""
    try:
        inside = [each for each in path.iterdir() if not each.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{path} cannot be listed: {error.strerror or error}.") from None
    for each in inside:
        if not each.is_dir():
            continue
        if not each.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{each} leads outside of the data set; copy its content instead.")
        yield each


def _window(folder: Path, group: str) -> Window:
    path = folder / "metadata.json"
    said = _json(path)
    try:
        left, top, right, bottom = (int(value) for value in said["bounds"])
        projection, times = said["projection"], said.get("time_range")
        steps = float(projection["x_resolution"]), float(projection["y_resolution"])
        window = Window(
            folder,
            group,
            (bottom - top, right - left),
            str(projection["crs"]),
            ((left + right) / 2 * steps[0], (top + bottom) / 2 * steps[1]),
            _times(times) if times else None,
            dict(said.get("options") or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no metadata of an rslearn window ({type(error).__name__}: {error})."
        ) from None
    if min(window.size) < 1:
        raise UserError(f"{path} has bounds {said['bounds']}, which hold no pixel.")
    return window


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; is its folder of an rslearn data set?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None


def _times(said: Sequence[str]) -> tuple[datetime, datetime]:
    first, last = (datetime.fromisoformat(str(text)) for text in said)
    return first, last


def dates_of(window: Window, layer: str, steps: int) -> list[Date] | None:
    """Day, month (0-based), year of a layer's item groups; None where nothing says when.

    The middle of the time range that was asked for, else of the group's first item, else (of a
    single group) of the window.
    """
    ranges = _group_times(window, layer)
    if len(ranges) < steps or any(each is None for each in ranges[:steps]):
        ranges = [window.times] if steps == 1 else []
    if not ranges:
        return None
    return [_middle(each) for each in ranges[:steps] if each is not None] or None


def _group_times(window: Window, layer: str) -> list[tuple[datetime, datetime] | None]:
    path = window.folder / "items.json"
    if not path.is_file():
        return []
    said = [each for each in _json(path) if each.get("layer_name") == layer]
    if not said:
        return []
    try:
        groups = said[0]["serialized_item_groups"]
        asked = said[0].get("group_time_ranges") or [None] * len(groups)
        return [
            _times(times) if times else _item_times(items)
            for times, items in zip(asked, groups, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no list of items of an rslearn window ({type(error).__name__}: {error})."
        ) from None


def _item_times(items: Sequence[Mapping[str, Any]]) -> tuple[datetime, datetime] | None:
    times = items[0]["geometry"].get("time_range") if items else None
    return _times(times) if times else None


def _middle(times: tuple[datetime, datetime]) -> Date:
    middle = times[0] + (times[1] - times[0]) / 2
    return middle.day, middle.month - 1, middle.year


def raster(window: Window, layer: Layer, band_set: BandSet, step: int) -> npt.NDArray[Any]:
    """``[H, W, bands]`` of a band set on the window's pixels.

    A coarser one is repeated, a finer one averaged. `UserError` naming a file that is missing,
    broken, or of another size than the window.
    """
    path = raster_path(window, layer, band_set, step)
    image, count, (rows, columns) = read_tiff(path), len(band_set.bands), window.size
    if image.ndim == 2:
        image = image[None]
    if image.ndim == 3 and image.shape[0] != count and image.shape[2] == count:
        image = np.moveaxis(image, 2, 0)
    scale = 2.0**band_set.zoom
    wanted = (count, max(1, round(rows * scale)), max(1, round(columns * scale)))
    if image.shape != wanted:
        raise UserError(
            f"{path} has shape {image.shape}, but its window asks for {wanted}: bands, rows, "
            "columns; materialize it again."
        )
    return np.moveaxis(_on_pixels(image, window.size), 0, -1)


def raster_path(window: Window, layer: Layer, band_set: BandSet, step: int) -> Path:
    """The file of a band set."""
    return window.layer_folder(layer.name, step) / band_set.folder / "geotiff.tif"


def _on_pixels(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """``[C, h, w]`` to ``[C, H, W]``: repeated, or averaged over whole cells."""
    for axis, wanted in ((1, size[0]), (2, size[1])):
        have = image.shape[axis]
        if have < wanted:
            image = np.take(image, np.arange(wanted) * have // wanted, axis=axis)
        elif have > wanted:
            cells = np.array_split(image, wanted, axis=axis)
            image = np.concatenate([c.mean(axis=axis, keepdims=True) for c in cells], axis=axis)
    return image
