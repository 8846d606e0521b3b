"""Canadian crops: which crop grows at a pixel, from twelve months of two sensors.

Time series of single pixels, as WorldCereal keeps them: a Parquet table with a row per sample and
month. Source: WorldCereal's reference data (K. Van Tricht et al. 2023), from Canada's annual crop
inventory. It must know nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import UserError
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.digests import Progress, fingerprint, pixel_digest
from suites.datasets.digital_numbers import check_digital_numbers
from suites.datasets.splits import three_of_groups

READER = "crop-series-1"
FILE = Path("crop_series") / "canada_2017.parquet"
YEAR, MONTHS = 2017, 12
NO_DATA = 65535
FEWEST = 30
"""Samples that a crop needs to be a class: of fewer, a split holds next to none."""
NO_CROP = 0
COLUMNS = {
    "sentinel2_l2a": {
        band: f"S2-L2A-{band}"
        for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
    },
    "sentinel1": {"VV": "S1-SIGMA0-VV", "VH": "S1-SIGMA0-VH"},
}
PLACE, SAMPLE, CROP, TIME = "h3_l5_cell", "sample_id", "CROPTYPE_LABEL", "timestamp"
FRACTIONS = (0.5, 0.2, 0.3)
NOTES = (
    "Classes are WorldCereal's crop codes with 30 samples or more; pixels without a crop and rarer "
    "crops are left out.",
    "Months without data are filled in between the months before and after, band by band; series "
    "are January to December 2017, the first of each month assumed.",
    "Radar: digital numbers to dB by 20 log10(DN) - 83, as WorldCereal stores it.",
    "B01, B8A and B09 are not among the bands.",
)


@dataclass(frozen=True)
class Series:
    """All samples: ``images`` ``[N, T, D]`` per modality, bands as in `COLUMNS`."""

    ids: tuple[str, ...]
    crops: npt.NDArray[np.int64]
    places: tuple[str, ...]
    images: Mapping[str, npt.NDArray[np.float32]]


def find_folder(data_dir: Path) -> Path | None:
    """Where the table lies under a data directory, or ``None``."""
    itself = data_dir.parent if data_dir.name == FILE.parent.name else data_dir
    return itself if (itself / FILE).is_file() else None


def read_series(path: Path) -> Series:
    """The table, checked; a sample is dropped for no reason but its crop (`NOTES`).

    Raises `UserError` for a file that is no such table, a month that is there twice, a sample
    with two crops or places, one that has no data in a band all year, and mixed units.
    """
    table = _table(path)
    # Months are stamped with their first midnight in central Europe, in universal time.
    month = (pl.col(TIME) + pl.duration(hours=2)).dt
    table = table.filter(month.year() == YEAR).with_columns(month.month().alias("month") - 1)
    repeated = table.filter(table.select(SAMPLE, "month").is_duplicated())
    if len(repeated):
        raise UserError(
            f"{path} holds month {repeated['month'][0] + 1} of sample {repeated[SAMPLE][0]} twice."
        )
    crops = table.group_by(SAMPLE).agg(
        pl.col(CROP).first(),
        pl.col(PLACE).first(),
        *(pl.col(column).n_unique().alias(f"many {column}") for column in (CROP, PLACE)),
    )
    for column in (CROP, PLACE):
        several = crops.filter(pl.col(f"many {column}") > 1)
        if len(several):
            name = several[SAMPLE].sort()[0]
            raise UserError(f"{path} gives sample {name} more than one {column}.")
    counts = crops[CROP].value_counts().filter(pl.col("count") >= FEWEST)
    kept = crops.filter(pl.col(CROP).is_in(counts[CROP].implode()) & (pl.col(CROP) != NO_CROP))
    kept = kept.sort(SAMPLE)
    if not len(kept):
        raise UserError(f"{path} holds no crop with {FEWEST} samples or more in {YEAR}.")
    ids = tuple(kept[SAMPLE].to_list())
    return Series(
        ids,
        kept[CROP].cast(pl.Int64).to_numpy(),
        tuple(kept[PLACE].cast(pl.String).to_list()),
        {
            name: _filled(table, ids, tuple(columns.values()), name == "sentinel1", path)
            for name, columns in COLUMNS.items()
        },
    )


def _table(path: Path) -> pl.DataFrame:
    bands = [column for columns in COLUMNS.values() for column in columns.values()]
    wanted = [SAMPLE, PLACE, CROP, TIME, *bands]
    try:
        return pl.read_parquet(path, columns=wanted)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; fetch the data set again.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is not a readable table with the columns {', '.join(wanted[:4])} and bands "
            f"({reason}); fetch the data set again."
        ) from None


def _filled(
    table: pl.DataFrame, ids: tuple[str, ...], columns: tuple[str, ...], is_radar: bool, path: Path
) -> npt.NDArray[np.float32]:
    """Bands ``[N, 12, D]``: no data filled in between its neighbours in time."""
    rows = table.filter(pl.col(SAMPLE).is_in(list(ids)))
    at = rows[SAMPLE].cast(pl.Enum(list(ids))).to_physical().to_numpy(), rows["month"].to_numpy()
    found = np.full((len(ids), MONTHS, len(columns)), np.nan)
    found[at] = rows.select(columns).to_numpy()
    found[found == NO_DATA] = np.nan
    if is_radar:
        with np.errstate(divide="ignore"):
            found = 20 * np.log10(found) - 83
        found[~np.isfinite(found)] = np.nan
    months = np.arange(MONTHS)
    for sample, band in np.argwhere(np.isnan(found).any(axis=1)):
        series = found[sample, :, band]
        there = ~np.isnan(series)
        if not there.any():
            raise UserError(
                f"{path}: sample {ids[sample]} has no {columns[band]} in any month of {YEAR}; "
                "remove it."
            )
        series[~there] = np.interp(months[~there], months[there], series[there])
    if not is_radar:
        for name, sample in zip(ids, found, strict=True):
            check_digital_numbers(sample, f"{path}: sample {name}")
    return found.astype(np.float32)


class CropSeries:
    """The series of one file. Implements `suites.datasets.base.Dataset`."""

    def __init__(self, folder: Path) -> None:
        self._series = read_series(folder / FILE)
        codes = sorted(set(self._series.crops.tolist()))
        self._classes = tuple(f"crop {code}" for code in codes)
        self._labels = np.searchsorted(codes, self._series.crops).astype(np.int64)

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these samples."""
        return DatasetCard(
            name="crop-series",
            title="Canadian crops, pixel time series of 2017",
            origin="real",
            licence="WorldCereal and AAFC (Canada); see the sources",
            home="https://esa-worldcereal.org",
            level="L2A",
            classes=self._classes,
            bands={name: tuple(columns) for name, columns in COLUMNS.items()},
            height=1,
            width=1,
            steps=MONTHS,
            units_per_dn=1.0,
            split_rule=(
                "seeded, {:.0%} train / {:.0%} val / {:.0%} test; ".format(*FRACTIONS)
                + "what lies in one hexagon (H3, level 5, about 9 km) stays in one split"
            ),
            notes=NOTES,
        )

    @property
    def ids(self) -> Sequence[str]:
        """Sample ids, sorted."""
        return self._series.ids

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of each sample, ``[N]``."""
        return self._labels

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bands, ids, crops, places and values."""
        series = self._series
        facts = zip(series.ids, series.crops, series.places, self.digests(), strict=True)
        bands = [column for columns in COLUMNS.values() for column in columns.values()]
        return fingerprint([READER, *bands, *(str(fact) for row in facts for fact in row)])

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each sample's series."""
        images = self._series.images.values()
        found = ["".join(pixel_digest(x[row]) for x in images) for row in range(len(self.ids))]
        if progress is not None:
            progress(len(found), len(found))
        return found

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """Hexagons are dealt to train, val and test, each whole."""
        return three_of_groups(self._series.places, FRACTIONS, seed)

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 1, 1, 12, D]`` float32."""
        chosen = list(rows)
        dates = np.stack(
            [np.ones(MONTHS), np.arange(MONTHS), np.full(MONTHS, YEAR)], axis=-1
        ).astype(np.int64)
        return Batch(
            {name: x[chosen][:, None, None] for name, x in self._series.images.items()},
            np.tile(dates, (len(chosen), 1, 1)),
        )
