"""A task in an `rslearn` data set: layers as modalities, item groups as time steps, labels, splits.

Read from the files as allenai/rslearn documents them (docs/DatasetFormat.md), without that package.
It must know nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.config_file import Document
from models.errors import UserError
from suites.datasets.base import IGNORED, MAP_KINDS, SPLITS, Batch, DatasetCard
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.rslearn_config import read_config
from suites.datasets.rslearn_file import read_task
from suites.datasets.rslearn_images import source_of
from suites.datasets.rslearn_labels import (
    class_mask,
    encoded,
    mask_band,
    mask_of,
    number_mask,
    said_of,
)
from suites.datasets.rslearn_rasters import read_stored
from suites.datasets.rslearn_splits import parts_of, split_words, together
from suites.datasets.rslearn_steps import Series
from suites.datasets.rslearn_windows import Window, completed, windows_of
from suites.datasets.sides import brought
from suites.datasets.splits import joined, stratified_split, three_of_groups

READER = "rslearn-1"


@dataclass(frozen=True)
class Sample:
    """A usable window: its time steps by modality, and what its label layer says of it."""

    window: Window
    series: Mapping[str, Series]
    said: tuple[Any, ...]


class Rslearn:
    """The task of one file. Implements `suites.datasets.base.Dataset`.

    Windows without all their layers, or without a label, are left out, and the card says how many.
    Raises `UserError` for a mistake in the file, for what the data set does not hold, for windows
    of different sizes or numbers of time steps where the file does not settle them, and when no
    window is left.
    """

    def __init__(self, file: Path, *, cache_dir: Path | None = None) -> None:
        self._task, document = read_task(file)
        self._root = file.parent / self._task.rslearn
        self._config = read_config(self._root)
        self._sources = [source_of(name, self._config, self._task) for name in self._task.layers]
        self._notes: list[str] = []
        self._samples = self._of_one_length(self._usable(), document)
        self._shape = self._one_size(document)
        windows = [sample.window for sample in self._samples]
        self._parts = parts_of(windows, self._task)
        self._together = together(windows, self._task)
        self._cache = DigestCache.of(cache_dir, self._root, READER)
        self._classes, self._values = self._encoded()

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these samples, as the files say."""
        task = self._task
        return DatasetCard(
            name=task.name,
            title=task.title or task.name,
            origin="real",
            licence="the user's own data",
            home="",
            level=task.level,
            classes=self._classes,
            bands={source.modality: source.bands for source in self._sources},
            height=self._shape[0],
            width=self._shape[1],
            steps=len(self._dates(self._samples[0])),
            units_per_dn=task.units_per_dn,
            split_rule=split_words(task),
            notes=tuple(self._notes),
            kind=task.kind,
            unit=task.unit,
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``group/name`` of each window."""
        return tuple(sample.window.id for sample in self._samples)

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """By kind (`suites.datasets.base.Dataset.labels`)."""
        task = self._task
        if task.kind not in MAP_KINDS:
            return self._values
        band = mask_band(self._config, task)
        of_numbers = task.kind == "value_maps"
        nobody = np.nan if of_numbers else IGNORED
        kept = np.float32 if of_numbers else np.int16
        maps = np.full((len(self._samples), *self._shape), nobody, dtype=kept)
        for place, sample in enumerate(self._samples):
            path, stored = mask_of(sample.window, band, self._root)
            mask: npt.NDArray[Any] = (
                number_mask(path, stored, task.ignore)
                if of_numbers
                else class_mask(path, stored, len(self._classes), task.ignore)
            )
            maps[place] = brought(mask, self._shape, nobody)
        return maps

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 over each window's rasters, as they are stored."""
        files = [
            [
                path
                for source in self._sources
                for path in source.files(sample.window, sample.series[source.modality], self._root)
            ]
            for sample in self._samples
        ]
        flat = [path for each in files for path in each]
        found = iter(
            digest_files(flat, lambda path: pixel_digest(read_stored(path)), self._cache, progress)
        )
        return [fingerprint([next(found) for _ in each]) for each in files]

    @cached_property
    def _digests(self) -> Sequence[str]:
        return self.digests()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, classes, ids, labels, dates, sizes, and pixels."""
        task = self._task
        bands = [f"{source.modality} {' '.join(source.bands)}" for source in self._sources]
        facts = (
            fact
            for sample, digest in zip(self._samples, self._digests, strict=True)
            for fact in (
                sample.window.id,
                digest,
                str(sample.window.bounds),
                str([sample.series[source.modality].chosen for source in self._sources]),
                pixel_digest(self._dates(sample)),
            )
        )
        return fingerprint(
            [
                *(READER, task.kind, str(self._shape), task.radar, *bands, *self._classes),
                pixel_digest(self.labels),
                *facts,
            ]
        )

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """As the windows say, or seeded, of whole blocks where the file asks for them."""
        if self._parts is not None:
            parts = np.array(self._parts)
            return {name: np.flatnonzero(parts == name) for name in SPLITS}
        task, groups = self._task, self._together
        if groups is None and task.kind == "classes":
            return stratified_split(self._values, seed, task.fractions, groups=self._digests)
        groups = joined(groups, self._digests) if groups else tuple(self._digests)
        return three_of_groups(groups, task.fractions, seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, H, W, T, D]`` float32, values as stored; of radar decibels."""
        samples = [self._samples[row] for row in rows]
        return Batch(
            {
                source.modality: np.stack(
                    [
                        brought(
                            source.read(
                                each.window, each.series[source.modality], self._config, self._task
                            ),
                            self._shape,
                        )
                        for each in samples
                    ]
                )
                for source in self._sources
            },
            np.stack([self._dates(each) for each in samples]),
        )

    def _dates(self, sample: Sample) -> npt.NDArray[np.int64]:
        """Those of the modality that the file names first."""
        return sample.series[self._sources[0].modality].dates

    def _usable(self) -> list[Sample]:
        """The windows that have a label, and all layers."""
        windows = windows_of(self._root, self._task.groups)
        found, incomplete, unlabelled = [], [], []
        for window, said in zip(windows, self._said(windows), strict=True):
            if said is None:
                unlabelled.append(window.id)
                continue
            series = {
                source.modality: each
                for source in self._sources
                if (each := source.series(window, self._config, self._task)) is not None
            }
            if len(series) < len(self._sources):
                incomplete.append(window.id)
            else:
                found.append(Sample(window, series, said))
        left_out = [
            *_told(unlabelled, "have no label"),
            *_told(incomplete, "do not have all their layers completed"),
        ]
        if not found:
            raise UserError(
                f"No window of {self._root} is usable: of {len(windows)}, {'; '.join(left_out)}."
            )
        self._notes += [f"Windows: {each}; they are left out." for each in left_out]
        return found

    def _said(self, windows: Sequence[Window]) -> Sequence[tuple[Any, ...] | None]:
        if self._task.kind in MAP_KINDS:
            layer = mask_band(self._config, self._task).layer
            return [() if completed(window, layer) else None for window in windows]
        said = said_of(windows, self._config, self._task)
        self._notes += [
            f"Windows: {each}; the first is taken, as rslearn does."
            for each in _told(said.several, "have features of different labels")
        ]
        return said.values

    def _encoded(self) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        """Classes and labels; of maps the labels are read later."""
        task = self._task
        if task.kind not in MAP_KINDS:
            windows = [sample.window for sample in self._samples]
            return encoded(windows, [each.said for each in self._samples], task, self._config)
        if task.kind == "value_maps":
            return (), np.zeros(0)
        classes = task.classes or mask_band(self._config, task).classes
        if not classes:
            raise UserError(
                f'{self._config.path} does not name the classes of layer "{task.label.layer}"; '
                "list them in the task's file (classes:, from 0)."
            )
        return tuple(classes), np.zeros(0)

    def _of_one_length(self, samples: list[Sample], document: Document) -> tuple[Sample, ...]:
        """The samples with as many time steps as the file says, or as all have."""
        wanted = self._task.steps
        lengths = [_lengths(sample) for sample in samples]
        if wanted is None:
            if len(lengths) != sum(n == lengths[0] for n in lengths) or len(set(lengths[0])) > 1:
                told = "; ".join(
                    f"{source.modality} {_range([each[i] for each in lengths])}"
                    for i, source in enumerate(self._sources)
                )
                raise document.error(
                    ("layers",),
                    f"Its windows differ in time steps ({told}); every sample needs the same "
                    "number: give steps: N (windows with fewer are left out), or list item groups.",
                )
            kept = samples
        else:
            kept = [s for s, n in zip(samples, lengths, strict=True) if min(n) >= wanted]
            short = [s.window.id for s, n in zip(samples, lengths, strict=True) if min(n) < wanted]
            if not kept:
                raise document.error(
                    ("steps",),
                    f"No window has {wanted} time steps; the longest has {max(map(min, lengths))}.",
                )
            left_out = _told(short, f"have fewer than {wanted} time steps")
            self._notes += [f"Windows: {each}; they are left out." for each in left_out]
            if any(max(_lengths(sample)) > wanted for sample in kept):
                self._notes.append(f"The first {wanted} time steps of each window are given.")
            kept = [
                replace(s, series={name: _first(each, wanted) for name, each in s.series.items()})
                for s in kept
            ]
        self._note_dates(kept)
        return tuple(kept)

    def _note_dates(self, samples: Sequence[Sample]) -> None:
        first = self._sources[0].modality
        assumed = [s.window.id for s in samples if s.series[first].is_assumed]
        self._notes += [
            f"Windows: {each}; their time steps are spread evenly over the window's time range (1 "
            "July 2020 where there is none)."
            for each in _told(assumed, "do not say when each image was taken")
        ]
        if len(self._sources) > 1:
            self._notes.append(f"The dates are those of {first}.")

    def _one_size(self, document: Document) -> tuple[int, int]:
        side = self._task.side
        sizes = sorted({sample.window.size for sample in self._samples})
        if side is not None:
            self._notes.append(
                f"Windows are cut around their middle, or mirrored, to {side} pixels a side."
            )
            return side, side
        if len(sizes) > 1:
            told = ", ".join(f"{h} x {w}" for h, w in sizes[:3])
            raise document.error(
                ("rslearn",),
                f"Its windows differ in size ({told}{', ...' * (len(sizes) > 3)}); give side: N to "
                "bring them to N x N pixels.",
            )
        return sizes[0]


def _told(names: Sequence[str], what: str) -> list[str]:
    """One clause that counts and names windows; none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return [f"{len(names):,} {what} ({', '.join(names[:5])}{more})"]


def _lengths(sample: Sample) -> tuple[int, ...]:
    return tuple(len(each.chosen) for each in sample.series.values())


def _range(numbers: Sequence[int]) -> str:
    found = Counter(numbers)
    return ", ".join(f"{n} in {found[n]:,} windows" for n in sorted(found)[:4])


def _first(series: Series, steps: int) -> Series:
    return replace(series, chosen=series.chosen[:steps], dates=series.dates[:steps])
