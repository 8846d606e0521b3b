"""The images of `rslearn` windows: which layers and bands a modality is made of, and their pixels.

Bands are found by name, whatever band set they lie in. It must know nothing of labels or splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from models.sensors import MODALITIES
from suites.chips.names import canonical_name
from suites.datasets.rslearn_config import BandSet, Config, Layer, check_formats
from suites.datasets.rslearn_file import RslearnTask
from suites.datasets.rslearn_rasters import FILE, chosen_bands, read_band_set
from suites.datasets.rslearn_steps import Series, series_of
from suites.datasets.rslearn_windows import Window, completed, inside

_LEAST_POWER = 1e-6  # -60 dB, as rslearn has it: no surface is as dark


@dataclass(frozen=True)
class Source:
    """What a modality is read from.

    ``item_groups``: a layer and the number of one of its item groups, or None for all.
    ``stored``: the bands as the layers name them; ``bands``: the same, as `models.sensors` does.
    """

    modality: str
    item_groups: tuple[tuple[Layer, int | None], ...]
    stored: tuple[str, ...]
    bands: tuple[str, ...]

    def layers(self) -> tuple[str, ...]:
        """Names of the layers, each once."""
        return tuple(dict.fromkeys(layer.name for layer, _ in self.item_groups))

    def series(self, window: Window, config: Config, task: RslearnTask) -> Series | None:
        """The window's time steps, None where an item group that is asked for is not complete."""
        found: list[tuple[str, BandSet, int]] = []
        for layer, number in self.item_groups:
            complete = completed(window, layer.name)
            if not complete or (number is not None and number not in complete):
                return None
            band_set = chosen_bands(self.stored, layer.band_sets)[0][0]
            numbers = complete if number is None else (number,)
            found += [(layer.name, band_set, each) for each in numbers]
        return series_of(window, found, is_packed=config.packed, order=task.order)

    def files(self, window: Window, series: Series, root: Path) -> Iterator[Path]:
        """All rasters that are read for some time steps, in order."""
        layers = {layer.name: layer for layer, _ in self.item_groups}
        for piece in series.pieces:
            folder = window.item_group(piece.layer, piece.group)
            for band_set, _, _ in chosen_bands(self.stored, layers[piece.layer].band_sets):
                yield inside(folder / band_set.folder / FILE, root)

    def read(
        self, window: Window, series: Series, config: Config, task: RslearnTask
    ) -> npt.NDArray[np.float32]:
        """``[H, W, T, D]``, values as stored; of radar in decibels.

        Raises `UserError` for a file that is broken or does not fit its window, for values that
        are no numbers, and for radar in another unit than the task says.
        """
        layers = {layer.name: layer for layer, _ in self.item_groups}
        parts = []
        for piece in series.pieces:
            folder = window.item_group(piece.layer, piece.group)
            part = np.zeros((*window.size, piece.steps, len(self.bands)), dtype=np.float32)
            for band_set, mine, places in chosen_bands(self.stored, layers[piece.layer].band_sets):
                path = inside(folder / band_set.folder / FILE, config.path.parent)
                pixels = read_band_set(path, window, band_set, piece.held)[..., mine]
                if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
                    raise UserError(f"{path} holds values that are not numbers (NaN or infinite).")
                part[..., places] = pixels[:, :, piece.first : piece.first + piece.steps]
            parts.append(part)
        image = np.concatenate(parts, axis=2)[:, :, list(series.chosen)]
        return image if MODALITIES[self.modality].is_optical else _decibels(image, window, task)


def source_of(modality: str, config: Config, task: RslearnTask) -> Source:
    """What a modality is read from, as the file says.

    Raises `UserError` for a layer that is not there or no raster, and for bands that the modality,
    or one of the layers, does not have.
    """
    said = task.layers[modality]
    groups = [_item_group(each, config) for each in ([said] if isinstance(said, str) else said)]
    if isinstance(said, str) and "." not in said:
        groups = [(groups[0][0], None)]
    if not groups:
        raise UserError(f'{config.path}: "layers" names no item group for {modality}.')
    stored = tuple(task.bands.get(modality) or groups[0][0].bands)
    for layer, _ in groups:
        check_formats(config, layer)
        for band in stored:
            if band not in layer.bands:
                hint = did_you_mean(band, layer.bands)
                raise UserError(
                    f'{config.path}: layer "{layer.name}" has no band "{band}": {hint}.'
                )
    return Source(
        modality, tuple(groups), stored, _canonical(modality, stored, groups[0][0], config)
    )


def _item_group(said: str, config: Config) -> tuple[Layer, int | None]:
    name, _, number = said.partition(".")
    if number and not number.isdecimal():
        raise UserError(
            f'{config.path}: "{said}" names no item group; write a layer, or a layer and a number '
            f"({name}.1)."
        )
    return config.layer(name, "raster"), int(number or 0)


def _canonical(
    modality: str, stored: Sequence[str], layer: Layer, config: Config
) -> tuple[str, ...]:
    names = []
    for band in stored:
        name = canonical_name(modality, band)
        if name is None:
            has = ", ".join(MODALITIES[modality].band_names)
            raise UserError(
                f'{config.path}: band "{band}" of layer "{layer.name}" is no band of {modality} '
                f"({has}); list the bands to read under bands: {{{modality}: [...]}}."
            )
        if name in names:
            raise UserError(
                f'{config.path}: layer "{layer.name}" names {name} of {modality} twice.'
            )
        names.append(name)
    return tuple(names)


def _decibels(
    image: npt.NDArray[np.float32], window: Window, task: RslearnTask
) -> npt.NDArray[np.float32]:
    if task.radar == "power":
        if image.min() < 0:
            raise UserError(
                f"{window.folder}: its radar values go down to {image.min():.3g}, which no power "
                "does; remove radar: power."
            )
        return (10 * np.log10(np.maximum(image, _LEAST_POWER))).astype(np.float32)
    if image.min() >= 0 and image.max() > 0:
        raise UserError(
            f"{window.folder}: its radar values are all 0 or above ({image.min():.3g} to "
            f"{image.max():.3g}), as power is and decibels are not; write radar: power."
        )
    return image
