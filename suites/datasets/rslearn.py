"""A task in an `rslearn` data set: layers as modalities, item groups as time steps, labels, splits.

Read from the files as allenai/rslearn documents them (docs/DatasetFormat.md), without that package.
It must know nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.base import IGNORED, MAP_KINDS, SPLITS, Batch, DatasetCard
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.findings import Finding
from suites.datasets.own import brought
from suites.datasets.own_masks import class_mask, number_mask
from suites.datasets.rslearn_config import read_config
from suites.datasets.rslearn_file import read_rslearn
from suites.datasets.rslearn_images import source_of
from suites.datasets.rslearn_labels import encoded, mask_band, mask_of
from suites.datasets.rslearn_rasters import read_stored
from suites.datasets.rslearn_samples import Sample, samples_of
from suites.datasets.rslearn_splits import parts_of, split_words, together
from suites.datasets.splits import joined, stratified_split, three_of_groups

READER = "rslearn-1"


class Rslearn:
    """The task of one file. Implements `suites.datasets.base.Dataset`.

    Windows without all their layers, or without a label, are left out, and the card says how many.
    Raises `UserError` for a mistake in the file, for what the data set does not hold, for windows
    of different sizes or numbers of time steps where the file does not settle them, and when no
    window is left. ``findings``: what was left out, and taken for granted.
    """

    def __init__(self, file: Path, *, cache_dir: Path | None = None) -> None:
        self._task, document = read_rslearn(file)
        self._root = file.parent / self._task.rslearn
        self._config = read_config(self._root)
        self._sources = [source_of(name, self._config, self._task) for name in self._task.layers]
        chosen = samples_of(self._root, self._config, self._task, self._sources, document)
        self._samples, self._shape = chosen.samples, chosen.shape
        self.findings: Sequence[Finding] = chosen.findings
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
            licence=task.licence,
            home="",
            level=task.level,
            classes=self._classes,
            bands={source.modality: source.bands for source in self._sources},
            height=self._shape[0],
            width=self._shape[1],
            steps=len(self._dates(self._samples[0])),
            units_per_dn=task.units_per_dn,
            split_rule=split_words(task),
            notes=tuple(finding.sentence for finding in self.findings),
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
            digest_files(
                flat, lambda path: pixel_digest(read_stored(path).pixels), self._cache, progress
            )
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
                *(READER, task.kind, str(self._shape), task.radar, str(task.units_per_dn)),
                *(*bands, *self._classes),
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
