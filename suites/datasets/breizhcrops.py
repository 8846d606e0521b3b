"""BreizhCrops: which crop grows on a field of Brittany, from a year of Sentinel-2.

Each sample is the mean spectrum of one field at each acquisition of 2017, brought to twelve
monthly means as the field evaluates it. Source: M. Rußwurm, C. Pelletier, M. Zollner, S. Lefèvre
and M. Körner (ISPRS Archives 2020); files as its package stores them. It must know nothing of
models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets.arrays import open_hdf5, stored_in
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.breizhcrops_index import CLASSES, REGIONS, YEAR, read_index
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.digital_numbers import check_digital_numbers

READER = "breizhcrops-1"
FOLDERS = ("breizhcrops", "breizhcrops_dataset")
MONTHS = 12
DATE = "doa"
COLUMNS = {
    "L1C": (
        "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
        "QA10", "QA20", "QA60", DATE,
    ),
    "L2A": (
        DATE, "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12",
        "CLD", "EDG", "SAT",
    ),
}  # fmt: skip
"""Of each level's arrays, in stored order; dates are nanoseconds since 1970."""
BANDS = {
    level: tuple(name for name in columns if name.startswith("B"))
    for level, columns in COLUMNS.items()
}
_OPTICAL = {
    level: [columns.index(band) for band in BANDS[level]] for level, columns in COLUMNS.items()
}
_DAY = 24 * 3600 * 10**9
_FIRST_DAY = int(np.datetime64(f"{YEAR}-01-01", "D").astype(int))
_DAYS = 365
NOTES = (
    "Each value is the mean of a field's pixels; the acquisitions of a month are averaged (clouds "
    "included, as published evaluations do), the first of each month given.",
    "Months without an acquisition are filled in between the months before and after.",
    "Fields without an acquisition or of a crop outside the nine classes are left out.",
    "Tested on files in the documented format, not on the published ones.",
)


def find_folder(data_dir: Path) -> Path | None:
    """Where the files of one level at least lie under a data directory, or ``None``."""
    for folder in (*(data_dir / name for name in FOLDERS), data_dir):
        if any((folder / str(YEAR) / level).is_dir() for level in COLUMNS):
            return folder
    return None


class BreizhCrops:
    """All fields of one level. Implements `suites.datasets.base.Dataset`.

    ``level`` is ``"L1C"`` (as published evaluations take) or ``"L2A"``. Only the index is read at
    once. Raises `UserError` for a missing or damaged file, a class outside the nine, a field in two
    splits; when it is read, for a series of another shape, of two observations on a day, of dates
    outside 2017, or in mixed units.
    """

    def __init__(self, folder: Path, *, level: str = "L1C", cache_dir: Path | None = None) -> None:
        if level not in COLUMNS:
            raise UserError(
                f'Unknown level "{level}" of breizhcrops: {did_you_mean(level, COLUMNS)}.'
            )
        self._level = level
        self._folder = folder / str(YEAR) / level
        self._index = read_index(folder, level)
        listed = fingerprint([READER, *self._index["key"]])
        self._cache = DigestCache.of(cache_dir, self._folder, listed)

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these fields."""
        return DatasetCard(
            name="breizhcrops",
            title="BreizhCrops, fields of Brittany in 2017",
            origin="real",
            licence="see the source (labels: RPG, IGN; Copernicus Sentinel data)",
            home="https://github.com/dl4sits/BreizhCrops",
            level=self._level,
            classes=CLASSES,
            bands={"sentinel2_l2a": BANDS[self._level]},
            height=1,
            width=1,
            steps=MONTHS,
            units_per_dn=1.0,
            split_rule="published regions: FRH01 and FRH02 train, FRH03 val, FRH04 test",
            notes=NOTES,
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``region/field``, in the order of the published index."""
        names = zip(self._index["region"], self._index["id"], strict=True)
        return tuple(f"{region}/{field}" for region, field in names)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each field, ``[N]``; from the index alone."""
        return self._index["label"].to_numpy().astype(np.int64)

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published regions; the seed changes nothing."""
        region = self._index["region"].to_numpy()
        return {name: np.flatnonzero(np.isin(region, of)) for name, of in REGIONS.items()}

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each field's monthly series; reads and checks every region that changed."""
        regions = [region for of in REGIONS.values() for region in of]
        paths = [self._folder / f"{region}.h5" for region in regions]
        found = digest_files(paths, self._digest_region, self._cache, progress)
        return [digest for joined in found for digest in joined.split()]

    def _digest_region(self, path: Path) -> str:
        rows = np.flatnonzero(self._index["region"].to_numpy() == path.stem)
        return " ".join(pixel_digest(series) for series in self._series(path, rows.tolist()))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over level, bands, classes, fields, labels and series."""
        facts = zip(self.ids, self.labels, self.digests(), strict=True)
        head = [READER, self._level, *BANDS[self._level], *CLASSES]
        return fingerprint([*head, *(str(fact) for row in facts for fact in row)])

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 1, 1, 12, D]`` and the first of each month."""
        images = np.empty((len(rows), 1, 1, MONTHS, len(BANDS[self._level])), dtype=np.float32)
        region = self._index["region"].to_numpy()[list(rows)]
        for name in np.unique(region):  # each file is opened once
            places = np.flatnonzero(region == name)
            path = self._folder / f"{name}.h5"
            images[places, 0, 0] = list(self._series(path, [rows[int(place)] for place in places]))
        dates = np.stack(
            [np.ones(MONTHS), np.arange(MONTHS), np.full(MONTHS, YEAR)], axis=-1
        ).astype(np.int64)
        return Batch({"sentinel2_l2a": images}, np.tile(dates, (len(rows), 1, 1)))

    def _series(self, path: Path, rows: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Monthly means ``[12, D]`` of fields of one file, one at a time."""
        keys, fields = self._index["key"], self._index["id"]
        with open_hdf5(path) as file:
            for row in rows:
                stored = stored_in(file, keys[row], path)[...]
                yield monthly_means(stored, self._level, f"{path}: field {fields[row]}")


def monthly_means(
    stored: npt.NDArray[np.generic], level: str, what: str
) -> npt.NDArray[np.float32]:
    """A field's observations ``[T, columns]`` in any order as twelve monthly means ``[12, D]``.

    A month without any is filled in between its neighbours, at the ends like the nearest.
    """
    columns = COLUMNS[level]
    if stored.ndim != 2 or not len(stored) or stored.shape[1] != len(columns):
        raise UserError(
            f"{what} has shape {stored.shape}, expected dates x {len(columns)} columns of {level}; "
            "fetch the data set again."
        )
    values = stored.astype(np.float64)
    days = _days_of_year(values[:, columns.index(DATE)], what)
    order = np.argsort(days, kind="stable")  # the sum's last bits depend on it
    optical = values[order][:, _OPTICAL[level]]
    check_digital_numbers(optical, what)
    there, starts, counts = np.unique(_months(days[order]), return_index=True, return_counts=True)
    means = np.add.reduceat(optical, starts, axis=0) / counts[:, None]
    if len(there) < MONTHS:
        every = np.arange(MONTHS)
        means = np.stack([np.interp(every, there, band) for band in means.T], axis=-1)
    return means.astype(np.float32)


def _days_of_year(stamps: npt.NDArray[np.float64], what: str) -> npt.NDArray[np.int64]:
    """0 for 1 January; each day once, and none of another year."""
    if not np.isfinite(stamps).all():
        raise UserError(f"{what} lacks a date; fetch the data set again.")
    days = np.floor(stamps / _DAY) - _FIRST_DAY
    if days.min() < 0 or days.max() >= _DAYS:
        raise UserError(
            f"{what} has dates outside {YEAR} (they are nanoseconds since 1970); fetch the data "
            "set again."
        )
    found = np.sort(days.astype(np.int64))
    repeated = found[1:][found[1:] == found[:-1]]
    if len(repeated):
        twice = np.datetime64(f"{YEAR}-01-01") + int(repeated[0])
        raise UserError(f"{what} has two observations of {twice}; keep one of them.")
    return days.astype(np.int64)


def _months(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    dates = np.datetime64(f"{YEAR}-01-01") + days
    return dates.astype("datetime64[M]").astype(np.int64) % MONTHS
