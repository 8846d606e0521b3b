"""A task of the user's own: a folder of chips, a table of labels or masks, and how to split it.

Chips are read as for pretraining (`suites.chips`): any of its formats, bands by name. It must know
nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.config_file import Document
from models.errors import UserError
from suites.chips import open_chips
from suites.chips.sidecar import SIDECAR, read_layout
from suites.datasets.base import IGNORED, MAP_KINDS, SPLITS, Batch, DatasetCard
from suites.datasets.digests import Progress, fingerprint, pixel_digest
from suites.datasets.findings import Finding
from suites.datasets.own_file import ByColumn, ByLocation, OwnTask, read_own
from suites.datasets.own_labels import labelled
from suites.datasets.own_masks import Mask, class_mask, marks_zeros, number_mask, read_mask
from suites.datasets.splits import joined, split_rule, stratified_split, three_of_groups

READER = "own-1"


class Own:
    """The task of one file. Implements `suites.datasets.base.Dataset`.

    Raises `UserError` for a mistake in the file or the table, for labels without chips, and for
    chips of different sizes where no ``side`` is given.
    """

    def __init__(self, file: Path, *, cache_dir: Path) -> None:
        self._task, document = read_own(file)
        self._file = file
        _check_folders(file, self._task, document)
        self._chips = open_chips(file.parent / self._task.chips, cache_dir=cache_dir)
        self._table = labelled(file, self._task, self._chips.ids, self._chips.skipped)
        self._rows = [row for row, _ in self._table.chips]
        sizes = self._chips.sizes[self._rows]
        self._steps = int(sizes[0, 2])
        if (sizes[:, 2] != self._steps).any():
            raise document.error(
                ("chips",),
                f"Its chips have from {sizes[:, 2].min()} to {sizes[:, 2].max()} time steps; every "
                "sample of a task needs the same number.",
            )
        self._shape = (self._task.side,) * 2 if self._task.side else _one_size(sizes, document)

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these samples, as the file and the chips say."""
        task, chips = self._task, self._chips.card
        notes = list(chips.notes)
        unlabelled = len(self._chips) - len(self._rows)
        if unlabelled:
            notes.append(f"{unlabelled:,} chips have no label and are left out.")
        if task.side:
            notes.append(
                f"Chips are cut around their middle, or mirrored, to {task.side} pixels a side."
            )
        return DatasetCard(
            name=task.name,
            title=task.title or task.name,
            origin=chips.origin,
            licence=chips.licence,
            home="",
            level=task.level,
            classes=self._table.classes,
            bands=chips.bands,
            height=self._shape[0],
            width=self._shape[1],
            steps=self._steps,
            units_per_dn=1.0,
            split_rule=self._split_words(),
            notes=tuple(notes),
            kind=task.kind,
            unit=task.unit,
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """The chips' files, as the table names them."""
        return tuple(name for _, name in self._table.chips)

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """By kind (`suites.datasets.base.Dataset.labels`)."""
        task = self._task
        if task.kind not in MAP_KINDS:
            return self._table.values
        assert task.masks is not None
        of_numbers = task.kind == "value_maps"
        nobody = np.nan if of_numbers else IGNORED
        kept = np.float32 if of_numbers else np.int16
        maps = np.full((len(self.ids), *self._shape), nobody, dtype=kept)
        for place, each in enumerate(self._masks()):
            facts = (each.path, each.pixels)
            mask: npt.NDArray[Any] = (
                number_mask(*facts, task.ignore, each.no_data)
                if of_numbers
                else class_mask(*facts, len(self._table.classes), task.ignore, each.no_data)
            )
            maps[place] = brought(mask[..., None], self._shape, nobody)[..., 0]
        return maps

    def _masks(self) -> Iterator[Mask]:
        assert self._task.masks is not None
        folder = self._file.parent / self._task.masks
        for row in self._rows:
            height, width, _ = self._chips.sizes[row]
            yield read_mask(folder, self._chips.ids[row], (int(height), int(width)))

    @property
    def findings(self) -> Sequence[Finding]:
        """What the audit is to say of masks that mark 0 as no data, which is asked about."""
        task = self._task
        if task.kind not in MAP_KINDS or task.ignore == 0:
            return ()
        try:
            marked = sum(map(marks_zeros, self._masks()))
        except UserError:  # said of the labels
            return ()
        if not marked:
            return ()
        kept = "a number" if task.kind == "value_maps" else f'class "{self._table.classes[0]}"'
        sentence = (
            f"Masks that mark 0 as no data and hold it: {marked:,}; it is asked about, as {kept}. "
            "Give ignore: 0 to leave it out."
        )
        return (Finding("classes", "warning", sentence),)

    @cached_property
    def _digests(self) -> list[str]:
        return [self._chips.digests[row] for row in self._rows]

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each chip's pixels and dates."""
        if progress is not None:
            progress(len(self._digests), len(self._digests))
        return self._digests

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, classes, ids, labels, sizes, and pixels."""
        bands = [f"{name} {' '.join(bands)}" for name, bands in sorted(self._chips.bands.items())]
        facts = zip(self.ids, self._digests, strict=True)
        return fingerprint(
            [
                *(READER, self._task.kind, str(self._shape), *bands, *self._table.classes),
                pixel_digest(self.labels),
                *(fact for each in facts for fact in each),
            ]
        )

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """As the file says: a column's, or seeded, of whole blocks where it asks for them."""
        if self._table.split is not None:
            parts = np.array(self._table.split)
            return {name: np.flatnonzero(parts == name) for name in SPLITS}
        task = self._task
        groups = self._table.groups
        if groups is None and task.kind == "classes":
            return stratified_split(self._table.values, seed, task.fractions, groups=self._digests)
        groups = joined(groups, self._digests) if groups else tuple(self._digests)
        return three_of_groups(groups, task.fractions, seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, H, W, T, D]`` float32 digital numbers."""
        chips = [self._chips.chip(self._rows[row]) for row in rows]
        return Batch(
            {
                name: np.stack(
                    [brought(c.images[name], self._shape).astype(np.float32) for c in chips]
                )
                for name in self._chips.bands
            },
            np.stack([chip.timestamps for chip in chips]),
        )

    def _split_words(self) -> str:
        split, (train, val, test) = self._task.split, self._task.fractions
        shares = f"seeded, {train:.0%} train / {val:.0%} val / {test:.0%} test"
        if isinstance(split, ByColumn):
            return f"as column {split.column} says"
        if isinstance(split, ByLocation):
            return f"{shares}; blocks of {split.cell:g} degrees stay in one split"
        if split.together:
            return f"{shares}; what shares {split.together} stays in one split"
        if self._task.kind == "classes":
            return split_rule(self._task.fractions)
        return f"{shares}; samples with identical pixels stay in one split"


def _check_folders(file: Path, task: OwnTask, document: Document) -> None:
    """Raise `UserError` where the folders of chips and masks are not there, or one in the other."""
    chips = file.parent / task.chips
    if not chips.exists():
        raise document.error(("chips",), f"There is no folder {chips}; correct the path.")
    if task.masks is None:
        return
    masks = file.parent / task.masks
    if not masks.is_dir():
        raise document.error(("masks",), f"There is no folder {masks}; correct the path.")
    if not masks.resolve().is_relative_to(chips.resolve()):
        return
    within = masks.resolve().relative_to(chips.resolve()).as_posix()
    if not any(fnmatch(f"{within}/mask.tif", pattern) for pattern in read_layout(chips).ignore):
        raise document.error(
            ("masks",),
            f"The masks in {masks} would be read as chips; move them out of {chips}, or write "
            f'ignore: ["{within}/*"] into {chips / SIDECAR}.',
        )


def _one_size(sizes: npt.NDArray[np.int64], document: Document) -> tuple[int, int]:
    found = sorted({(int(h), int(w)) for h, w, _ in sizes})
    if len(found) > 1:
        told = ", ".join(f"{h} x {w}" for h, w in found[:3])
        raise document.error(
            ("chips",),
            f"Its chips differ in size ({told}{', ...' * (len(found) > 3)}); give side: N to bring "
            "them to N x N pixels.",
        )
    return found[0]


def brought(
    image: npt.NDArray[Any], shape: tuple[int, ...], fill: float | None = None
) -> npt.NDArray[Any]:
    """The middle of an image ``[H, W, ...]``; where it is too small, mirrored, or filled."""
    for axis, wanted in enumerate(shape):
        spare = image.shape[axis] - wanted
        if spare > 0:
            image = np.take(image, np.arange(spare // 2, spare // 2 + wanted), axis=axis)
        elif spare < 0:
            pad = [(0, 0)] * image.ndim
            pad[axis] = (-spare // 2, -spare - -spare // 2)
            if fill is None:
                image = np.pad(image, pad, mode="symmetric")
            else:
                image = np.pad(image, pad, constant_values=fill)
    return image
