"""A task on an rslearn data set, the form in which partner tasks of OlmoEarth come.

Rasters of one or several item groups are the images, a vector layer's property, a raster layer's
band or a window's option is what is predicted. It must know nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.sensors import modality
from suites.datasets.arrays import read_tiff
from suites.datasets.base import IGNORED, MAP_KINDS, SPLITS, Batch, DatasetCard
from suites.datasets.digests import (
    DigestCache,
    Progress,
    digest_files,
    fingerprint,
    pixel_digest,
)
from suites.datasets.own import brought
from suites.datasets.own_masks import class_mask, number_mask
from suites.datasets.rslearn_file import ByPlace, read_rslearn
from suites.datasets.rslearn_labels import blocks, has_label, label_values, said_splits
from suites.datasets.rslearn_windows import (
    Date,
    Layer,
    Window,
    dates_of,
    layer_named,
    layers_of,
    raster,
    raster_path,
    windows_of,
)
from suites.datasets.splits import joined, split_rule, stratified_split, three_of_groups

READER = "rslearn-1"
_KNOWN_BESIDE = ("B10",)  # a band that L1C has and no encoder reads


class Rslearn:
    """The task of one file. Implements `suites.datasets.base.Dataset`.

    Raises `UserError` for a mistake in the file, a layer or band that is not there, windows of
    different sizes where no ``side`` is given, of different numbers of item groups where no
    ``steps`` are, and when no complete, labelled window is left.
    """

    def __init__(self, file: Path, *, cache_dir: Path | None = None) -> None:
        self._task, document = read_rslearn(file)
        self._file, self._root = file, file.parent / self._task.rslearn
        layers = layers_of(self._root)
        self._layers = {
            name: layer_named(layers, layer, "raster", self._root)
            for name, layer in self._task.layers.items()
        }
        self._bands = {name: _bands(name, layer) for name, layer in self._layers.items()}
        label = self._task.label
        self._label: Layer | None = None
        if label.layer is not None:
            kind = "raster" if label.band is not None else "vector"
            self._label = layer_named(layers, label.layer, kind, self._root)
            if label.band is not None and label.band not in self._label.bands:
                raise document.error(
                    ("label",), f'Layer "{label.layer}" has no band "{label.band}".'
                )
        self._find_windows()
        sizes = Counter(window.size for window in self._windows)
        if self._task.side is None and len(sizes) > 1:
            told = ", ".join(f"{h} x {w}" for (h, w), _ in sizes.most_common(3))
            raise document.error(
                (), f"Its windows differ in size ({told}); give side: N to bring them to N x N."
            )
        self._shape = (self._task.side,) * 2 if self._task.side else next(iter(sizes))
        self._cache = DigestCache.of(cache_dir, self._root, READER)

    def _find_windows(self) -> None:
        """Those that are complete and labelled; how many are not is told in a note."""
        every = windows_of(self._root, self._task.groups)
        labelled = [window for window in every if has_label(window, self._task)]
        counted = [
            (window, min(window.steps(each.name) for each in self._layers.values()))
            for window in labelled
        ]
        different = sorted({count for _, count in counted if count})
        if self._task.steps is None and len(different) > 1:
            raise UserError(
                f"{self._file}: its windows have from {different[0]} to {different[-1]} item "
                "groups of each layer; give steps: N to take the first N, and leave out windows "
                "with fewer."
            )
        self._steps = self._task.steps or (different[0] if different else 1)
        self._windows = tuple(window for window, count in counted if count >= self._steps)
        if not self._windows:
            raise UserError(
                f"{self._file}: of {len(every)} windows in {self._root}, "
                f"{len(every) - len(labelled)} have no label and {len(labelled)} too few completed "
                f"item groups of "
                f"{', '.join(self._task.layers.values())} ({self._steps} needed); nothing is left."
            )
        self._left_out = (len(every) - len(labelled), len(labelled) - len(self._windows))

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these samples, as the file and the windows say."""
        task = self._task
        return DatasetCard(
            name=task.name,
            title=task.title or task.name,
            origin="real",
            licence=task.licence,
            home="",
            level=task.level,
            classes=self._classes_and_values[0],
            bands={name: tuple(bands) for name, bands in self._bands.items()},
            height=self._shape[0],
            width=self._shape[1],
            steps=self._steps,
            units_per_dn=1.0,
            split_rule=self._split_words(),
            notes=tuple(self._notes()),
            kind=task.kind,
            unit=task.unit,
        )

    def _notes(self) -> list[str]:
        unlabelled, incomplete = self._left_out
        notes = ["An rslearn data set; optical values are taken as digital numbers."]
        if unlabelled:
            notes.append(f"{unlabelled:,} windows have no label and are left out.")
        if incomplete:
            notes.append(f"{incomplete:,} windows lack item groups of a layer and are left out.")
        if self._task.side:
            notes.append(
                f"Windows are cut around their middle, or mirrored, to {self._task.side} pixels a "
                "side."
            )
        return notes

    @cached_property
    def ids(self) -> Sequence[str]:
        """``group/window``."""
        return tuple(window.name for window in self._windows)

    @cached_property
    def _classes_and_values(self) -> tuple[tuple[str, ...], Any]:
        if self._task.kind in MAP_KINDS:
            return tuple(self._task.classes or ()), None
        return label_values(self._windows, self._task)

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """By kind (`suites.datasets.base.Dataset.labels`)."""
        task = self._task
        if task.kind not in MAP_KINDS:
            values: npt.NDArray[Any] = self._classes_and_values[1]
            return values
        is_number = task.kind == "value_maps"
        nobody = np.nan if is_number else IGNORED
        maps = np.full(
            (len(self._windows), *self._shape), nobody, np.float32 if is_number else np.int16
        )
        for place, window in enumerate(self._windows):
            maps[place] = brought(self._map(window)[..., None], self._shape, nobody)[..., 0]
        return maps

    def _map(self, window: Window) -> npt.NDArray[Any]:
        assert self._label is not None and self._task.label.band is not None  # noqa: PT018
        band_set = next(b for b in self._label.band_sets if self._task.label.band in b.bands)
        path = raster_path(window, self._label, band_set, 0)
        if band_set.zoom != 0:
            raise UserError(
                f"{path} is of another resolution than its window (zoom_offset {band_set.zoom}); "
                "labels must be of the window's."
            )
        mask = raster(window, self._label, band_set, 0)
        mask = mask[..., band_set.bands.index(self._task.label.band)]
        if self._task.kind == "value_maps":
            return number_mask(path, mask, self._task.ignore)
        return class_mask(path, mask, len(self._task.classes or ()), self._task.ignore)

    def _files(self, window: Window) -> list[Path]:
        return [
            raster_path(window, layer, band_set, step)
            for layer in self._layers.values()
            for step in range(self._steps)
            for band_set in layer.band_sets
        ]

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 over each window's files and dates."""
        each = [self._files(window) for window in self._windows]
        read = partial(_digest)
        found = digest_files(
            [path for paths in each for path in paths], read, self._cache, progress
        )
        many = len(each[0])
        return [
            fingerprint(
                [*found[many * i : many * (i + 1)], str(self._dates(window)), str(window.size)]
            )
            for i, window in enumerate(self._windows)
        ]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, windows, labels, sizes, dates and pixels."""
        bands = [f"{name} {' '.join(bands)}" for name, bands in sorted(self._bands.items())]
        facts = (fact for each in zip(self.ids, self.digests(), strict=True) for fact in each)
        said = (READER, self._task.kind, str(self._shape), *bands, *self.card.classes)
        return fingerprint([*said, pixel_digest(self.labels), *facts])

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """As windows say, or seeded: of whole blocks where the file asks for them."""
        said = said_splits(self._windows, self._task, self._file)
        if said is not None:
            parts = np.array(said)
            return {name: np.flatnonzero(parts == name) for name in SPLITS}
        same, split = tuple(self.digests()), self._task.split
        if isinstance(split, ByPlace):
            same = joined(blocks(self._windows, split), same)
        elif self._task.kind == "classes":
            return stratified_split(self.labels, seed, self._task.fractions, groups=same)
        return three_of_groups(same, self._task.fractions, seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, H, W, T, D]`` float32, as stored."""
        windows = [self._windows[row] for row in rows]
        images = {
            name: np.stack([self._image(window, name) for window in windows])
            for name in self._layers
        }
        dates = np.array([self._dates(window) for window in windows], dtype=np.int64)
        return Batch(images, dates)

    def _image(self, window: Window, name: str) -> npt.NDArray[np.float32]:
        layer = self._layers[name]
        steps = []
        for step in self._order(window, layer):
            read = [raster(window, layer, band_set, step) for band_set in layer.band_sets]
            whole = np.concatenate([x.astype(np.float32) for x in read], axis=2)
            steps.append(whole[..., list(self._bands[name].values())])
        image = np.stack(steps, axis=2)
        if not np.isfinite(image).all():
            raise UserError(
                f"{window.folder}: layer {layer.name} holds NaN or infinity; leave the window out, "
                "or materialize it again."
            )
        return brought(image, self._shape)

    def _order(self, window: Window, layer: Layer) -> list[int]:
        """Item groups by their dates: rslearn orders them by how well they match."""
        stored = dates_of(window, layer.name, self._steps)
        if stored is None:  # what has no dates goes by the layer that has some
            stored = self._dates(window)
        return sorted(range(self._steps), key=lambda step: (*stored[step][::-1], step))

    def _dates(self, window: Window) -> list[Date]:
        """Of the first layer that has some, in order."""
        for layer in self._layers.values():
            found = dates_of(window, layer.name, self._steps)
            if found is None:
                continue
            if len(set(found)) < len(found):
                raise UserError(
                    f"{window.folder}: two item groups of layer {layer.name} are of the same day; "
                    "every time step needs its own."
                )
            return sorted(found, key=lambda date: date[::-1])
        raise UserError(
            f"{window.folder} says of no layer when its {self._steps} item groups were taken: "
            "items.json has no time ranges, and metadata.json none that would do."
        )

    def _split_words(self) -> str:
        split, (train, val, test) = self._task.split, self._task.fractions
        shares = f"seeded, {train:.0%} train / {val:.0%} val / {test:.0%} test"
        if split.by == "option":
            return f"as option {split.key} of each window says"
        if split.by == "group":
            return "windows' groups"
        if split.by == "location":
            return f"{shares}; blocks of {split.cell:g} m stay in one split"
        if self._task.kind == "classes":
            return split_rule(self._task.fractions)
        return f"{shares}; samples with identical pixels stay in one split"


def _digest(path: Path) -> str:
    return pixel_digest(read_tiff(path))


def _bands(name: str, layer: Layer) -> dict[str, int]:
    """True names of the bands that a modality has, each with its place among the layer's."""
    known = {band.upper(): band for band in (*modality(name).band_names, *_KNOWN_BESIDE)}
    found = {
        known[band.upper()]: place
        for place, band in enumerate(layer.bands)
        if band.upper() in known
    }
    if not found:
        raise UserError(
            f'Layer "{layer.name}" has no band of {name}: it holds {", ".join(layer.bands)}, which '
            f"should be some of {', '.join(modality(name).band_names)}."
        )
    return found
