"""CropHarvest: whether a crop grows at a pixel, from a year of Sentinel-1 and Sentinel-2.

Labels from all over the world with the twelve months that end before a season, and the tests that
published evaluations report. Source: G. Tseng, I. Zvonkov, C. Nakalembe and H. Kerner (NeurIPS
Datasets and Benchmarks 2021). It must know nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.cropharvest_arrays import (
    BANDS,
    CHANNELS,
    INDEX,
    STEPS,
    Sample,
    array_names,
    read_arrays,
    read_test_labels,
)
from suites.datasets.cropharvest_labels import LABELS, TASKS, Labels, classes_of, read_labels
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.splits import few_labels, three_of_groups

READER = "cropharvest-1"
FOLDERS = ("cropharvest", "cropharvest_data")
ARRAYS = Path("features") / "arrays"
TESTS = "test_features"
STEP_DAYS = 30
LAST_DAY = (2, 1)
"""Month and day at which the months of a test region end, in the year that its file names."""
VALIDATION = 0.2
FRACTIONS = (0.5, 0.2, 0.3)
NOTES = (
    "Twelve steps of 30 days end at the sample's export date (mostly 1 February); the first day of "
    "each is given. Optical steps are the least cloudy pixels of Sentinel-2 L1C, radar is in dB.",
    "The arrays carry no dates, so that their order is taken as documented.",
    "B01 and B10 are not among the bands; months without data were filled by the publisher.",
    "Negatives are taken once each (no crop is repeated to balance the classes).",
    "Tested on files in the documented format, not on the published ones; the channels' order and "
    "units agree with an image that the publisher exported.",
)


def find_folder(data_dir: Path) -> Path | None:
    """Where the labels and arrays lie under a data directory, or ``None``."""
    for folder in (*(data_dir / name for name in FOLDERS), data_dir):
        if (folder / ARRAYS).is_dir():
            return folder
    return None


class CropHarvest:
    """One task of CropHarvest. Implements `suites.datasets.base.Dataset`.

    ``task`` is one of `TASKS`: crops of Togo, maize in Kenya, coffee in Brazil with their published
    tests, or crops of the whole world. No pixel is read at once. Raises `UserError` for a missing
    or damaged file, an array of another shape, a class that is neither 0 nor 1, a sample of the
    test among those for training, mixed units, a time step that is there twice.
    """

    def __init__(self, folder: Path, *, task: str = "togo", cache_dir: Path | None = None) -> None:
        if task not in TASKS:
            raise UserError(f'Unknown task "{task}" of cropharvest: {did_you_mean(task, TASKS)}.')
        self._folder, self._task = folder, TASKS[task]
        labels = read_labels(folder / LABELS, array_names(folder / ARRAYS))
        self._without_array = labels.without_array
        training = [
            Sample(s.name, folder / ARRAYS / f"{s.name}.h5", None, label, s.end, s.lat, s.lon)
            for s, label in classes_of(labels.samples, self._task, folder / LABELS).items()
        ]
        self._samples = (*training, *self._tests(labels))
        self._cache = DigestCache.of(cache_dir, folder, READER)

    def _tests(self, labels: Labels) -> list[Sample]:
        """The labelled pixels of the published test; only their labels are read."""
        if self._task.test is None:
            return []
        paths = sorted((self._folder / TESTS).glob(f"{self._task.test}*.h5"))
        found = []
        for path in paths:
            end = self._end_of_test(path, labels)
            known = read_test_labels(path)
            rows = np.flatnonzero(known >= 0)
            found += [Sample(f"{path.stem}/{r}", path, int(r), int(known[r]), end) for r in rows]
        if not found:
            raise UserError(
                f"{self._folder / TESTS} holds no labelled test of {self._task.title} "
                f"({self._task.test}*.h5); fetch the data set again."
            )
        return found

    def _end_of_test(self, path: Path, labels: Labels) -> date:
        ends = labels.ends.get(path.stem, frozenset())
        year = path.stem.split("_")[2:3]  # country, crop, year, region
        if len(ends) == 1:
            return next(iter(ends))
        if not ends and year and year[0].isdigit() and len(year[0]) == 4:
            return date(int(year[0]), *LAST_DAY)
        raise UserError(
            f"{path}: its date cannot be told, neither from its name nor from one export_end_date "
            f"of {path.stem} in {LABELS}; fetch the data set again."
        )

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of this task."""
        if self._task.test is None:
            rule = "seeded, {:.0%} train / {:.0%} val / {:.0%} test; ".format(*FRACTIONS)
            rule += (
                "a block of 1 x 1 degree stays in one split; samples of published tests left out"
            )
        else:
            rule = (
                f"published test ({self._task.test}); of the training samples {VALIDATION:.0%} "
                "validate, seeded and stratified by class, as no validation is published"
            )
        left_out = f"{self._without_array} labels without an array are left out."
        return DatasetCard(
            name="cropharvest",
            title=f"CropHarvest, {self._task.title}",
            origin="real",
            licence="CC BY-SA 4.0",
            home="https://github.com/nasaharvest/cropharvest",
            level="L1C",
            classes=self._task.classes,
            bands=BANDS,
            height=1,
            width=1,
            steps=STEPS,
            units_per_dn=1.0,
            split_rule=rule,
            notes=(*NOTES, *([left_out] if self._without_array else [])),
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``index_source`` of training samples, then ``file/row`` of tests."""
        return tuple(sample.name for sample in self._samples)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """1 where the crop grows, ``[N]``."""
        return np.array([sample.label for sample in self._samples], dtype=np.int64)

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published test and a seeded validation part; without a test, blocks dealt out."""
        if self._task.test is None:
            return three_of_groups(self._blocks, FRACTIONS, seed)
        is_test = np.array([sample.row is not None for sample in self._samples])
        others = np.flatnonzero(~is_test)
        val = few_labels(self.labels, "classes", others, VALIDATION, seed)
        return {"train": np.setdiff1d(others, val), "val": val, "test": np.flatnonzero(is_test)}

    @cached_property
    def _blocks(self) -> list[str]:
        return [f"{math.floor(s.lat)} {math.floor(s.lon)}" for s in self._samples]

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each sample's channels; reads and checks every file that changed."""
        of_path: dict[Path, list[Sample]] = {}
        for sample in self._samples:
            of_path.setdefault(sample.path, []).append(sample)

        def digest(path: Path) -> str:
            return " ".join(pixel_digest(series) for series in read_arrays(of_path[path]))

        found = digest_files(list(of_path), digest, self._cache, progress)
        return [digest for joined in found for digest in joined.split()]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over channels, classes, samples, labels, dates, places and pixels."""
        facts = [READER, *CHANNELS, *self._task.classes]
        for sample, digest in zip(self._samples, self.digests(), strict=True):
            facts += [sample.name, str(sample.label), sample.end.isoformat(), digest]
        return fingerprint([*facts, *(self._blocks if self._task.test is None else ())])

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 1, 1, 12, D]`` of both sensors, and the first day of each step."""
        chosen = [self._samples[row] for row in rows]
        series = np.stack([found for sample in chosen for found in read_arrays([sample])])
        pixels = series.astype(np.float32)[:, None, None]
        dates = np.array([_first_days(sample.end) for sample in chosen], dtype=np.int64)
        return Batch({name: pixels[..., places] for name, places in INDEX.items()}, dates)


def _first_days(end: date) -> list[tuple[int, int, int]]:
    """Day, month (0-based) and year at which each step begins."""
    starts = (end - timedelta(days=STEP_DAYS * (STEPS - step)) for step in range(STEPS))
    return [(start.day, start.month - 1, start.year) for start in starts]
