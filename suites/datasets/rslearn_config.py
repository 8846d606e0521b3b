"""The config.json of an `rslearn` data set: which layers there are, and how each is stored.

Source: the format documented by allenai/rslearn (docs/DatasetFormat.md, docs/DatasetConfig.md).
It must know nothing of windows or of pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.errors import UserError, did_you_mean

_LONGEST = 64
_GEOTIFF = ("GeotiffRasterFormat", "geotiff")
_GEOJSON = ("GeojsonVectorFormat", "geojson")
_FILES = "FileWindowStorageFactory"
_BY_GROUP, _BY_LAYER = "PerItemGroupStorageFactory", "PerLayerStorageFactory"


@dataclass(frozen=True)
class BandSet:
    """Bands in one file. ``folder``: its name within a layer's folder.

    ``zoom``: the file has ``2 ** zoom`` pixels for each of a window's; or it has ``size`` (rows,
    columns). ``classes``: names of the values of each band, where the file says them.
    """

    bands: tuple[str, ...]
    folder: str
    zoom: int
    size: tuple[int, int] | None
    classes: tuple[tuple[str, ...], ...] | None


@dataclass(frozen=True)
class Layer:
    """One layer. ``classes``: of a vector layer, the values that its property may have."""

    name: str
    kind: Literal["raster", "vector"]
    band_sets: tuple[BandSet, ...]
    classes: tuple[str, ...] | None

    @property
    def bands(self) -> tuple[str, ...]:
        """All bands, as the data set names them."""
        return tuple(dict.fromkeys(band for each in self.band_sets for band in each.bands))


@dataclass(frozen=True)
class Config:
    """``packed``: all item groups of a layer lie in one file (`window_data_storage`)."""

    path: Path
    layers: Mapping[str, Layer]
    packed: bool

    def layer(self, name: str, kind: Literal["raster", "vector"]) -> Layer:
        """A layer by name. `UserError` naming those there are, or when it is of another kind."""
        found = self.layers.get(name)
        if found is None:
            hint = did_you_mean(name, self.layers)
            raise UserError(f'{self.path} has no layer "{name}": {hint}.')
        if found.kind != kind:
            raise UserError(
                f'{self.path}: layer "{name}" is a {found.kind} layer; a {kind} layer is needed '
                "here."
            )
        return found


def read_config(folder: Path) -> Config:
    """The configuration of a data set. `UserError` when it is missing, or none of `rslearn`'s."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no config.json, so it is no rslearn data set; give the folder that "
            "holds config.json and windows."
        )
    said = read_json(path)
    layers = said.get("layers") if isinstance(said, dict) else None
    if not isinstance(layers, dict) or not layers:
        raise UserError(
            f'{path} lists no "layers", so it is not the configuration of an rslearn data set.'
        )
    storage = _class_of(said.get("storage"), _FILES)
    if storage != _FILES:
        raise UserError(
            f"{path} keeps its windows by {storage}; only windows in files (metadata.json) can be "
            "read."
        )
    data = _class_of(said.get("window_data_storage"), _BY_GROUP)
    if data not in (_BY_GROUP, _BY_LAYER):
        raise UserError(
            f"{path} stores its data by {data}; only {_BY_GROUP} and {_BY_LAYER} can be read."
        )
    return Config(
        path, {name: _layer(name, each, path) for name, each in layers.items()}, data == _BY_LAYER
    )


def read_json(path: Path) -> Any:
    """What a JSON file holds. `UserError` naming it when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; copy the data set again.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); copy it again.") from None


def _layer(name: str, said: Any, path: Path) -> Layer:
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name:
        raise UserError(
            f'{path}: the layer name "{name}" leads outside of a window\'s folder; rename it.'
        )
    kind = said.get("type") if isinstance(said, dict) else None
    if kind not in ("raster", "vector"):
        raise UserError(
            f'{path}: layer "{name}" has the type {kind!r}; rslearn has raster and vector.'
        )
    names = said.get("class_names")
    return Layer(
        name,
        kind,
        tuple(_band_set(name, each, path) for each in said.get("band_sets") or ()),
        tuple(str(each) for each in names) if names else None,
    )


def _band_set(layer: str, said: Any, path: Path) -> BandSet:
    try:
        bands = [str(band) for band in said.get("bands") or ()]
        bands = bands or [f"B{i}" for i in range(int(said["num_bands"]))]
        size, names = said.get("spatial_size"), said.get("class_names")
        return BandSet(
            tuple(bands),
            _folder(bands),
            int(said.get("zoom_offset") or 0),
            (int(size[0]), int(size[1])) if size else None,
            tuple(tuple(str(each) for each in band) for band in names) if names else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise UserError(f'{path}: layer "{layer}" has a band set that lists no bands.') from None


def check_formats(config: Config, layer: Layer) -> None:
    """`UserError` where a layer that is to be read is stored in a format that cannot be."""
    said = read_json(config.path)["layers"][layer.name]
    if layer.kind == "vector":
        formats, known, wanted = [said.get("vector_format")], _GEOJSON, "GeoJSON"
    else:
        formats = [each.get("format") for each in said["band_sets"]]
        known, wanted = _GEOTIFF, "GeoTIFF"
    for each in formats:
        found = _class_of(each, known[0])
        if found not in known:
            raise UserError(
                f'{config.path}: layer "{layer.name}" is stored as {found}; only {wanted} can be '
                "read."
            )


def _class_of(said: Any, default: str) -> str:
    """The last part of a class path; files of older versions give a name in its place."""
    if not said:
        return default
    if isinstance(said, dict):
        said = said.get("class_path") or said.get("name") or default
    return str(said).rsplit(".", 1)[-1]


def _folder(bands: list[str]) -> str:
    """The name of a band set's folder: its bands, or a hash where that would be unclear or long."""
    if any("_" in band for band in bands):
        return hashlib.sha256(json.dumps(bands).encode()).hexdigest()
    name = "_".join(bands)
    return name if len(name) <= _LONGEST else hashlib.sha256(name.encode()).hexdigest()
