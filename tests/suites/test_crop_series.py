"""Crop series: months in order, gaps filled in between, places kept together, bad tables named."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.errors import UserError
from suites.datasets.crop_series import COLUMNS, FILE, NO_DATA, CropSeries, find_folder

SAMPLES = 100
BANDS = [column for columns in COLUMNS.values() for column in columns.values()]


@pytest.fixture
def table() -> pl.DataFrame:
    """100 samples at 25 places: 40 of crop 1110, 45 of 4100, 5 rare ones and 10 without a crop."""
    rng = np.random.default_rng(0)
    crops = [1110] * 40 + [4100] * 45 + [7] * 5 + [0] * 10
    rows = []
    for sample, crop in enumerate(crops):
        for month in range(-1, 15):  # longer than the year, as they are
            first = datetime(2016 + (month + 12) // 12, month % 12 + 1, 1)
            values = {
                band: int(v)
                for band, v in zip(BANDS, rng.integers(100, 9000, len(BANDS)), strict=True)
            }
            rows.append(
                {
                    "sample_id": f"s{sample:03d}",
                    "h3_l5_cell": f"cell{sample % 25}",
                    "CROPTYPE_LABEL": crop,
                    "timestamp": first
                    - timedelta(hours=1 if month % 12 in (0, 1, 2, 10, 11) else 2),
                    **values,
                }
            )
    return pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=0)  # rows come in any order


def write(folder: Path, table: pl.DataFrame) -> Path:
    (folder / FILE).parent.mkdir(exist_ok=True)
    table.write_parquet(folder / FILE)
    return folder


def month_of(table: pl.DataFrame, sample: str, month: int) -> pl.Expr:
    time = (pl.col("timestamp") + pl.duration(hours=2)).dt
    return (pl.col("sample_id") == sample) & (time.year() == 2017) & (time.month() == month)


def test_reads_twelve_months_of_one_year_in_order(tmp_path: Path, table: pl.DataFrame) -> None:
    folder = write(tmp_path, table)
    assert find_folder(tmp_path) == folder
    data = CropSeries(folder)
    assert data.card.classes == ("crop 1110", "crop 4100")
    assert np.bincount(data.labels).tolist() == [40, 45]
    row = data.ids.index("s050")
    batch = data.read([row])
    optical = batch.images["sentinel2_l2a"]
    assert optical.shape == (1, 1, 1, 12, 9)
    assert batch.timestamps[0].tolist() == [[1, month, 2017] for month in range(12)]
    for month in (1, 7, 12):
        stored = table.filter(month_of(table, "s050", month))
        assert optical[0, 0, 0, month - 1, 0] == stored["S2-L2A-B02"][0]
        decibel = 20 * np.log10(stored["S1-SIGMA0-VH"][0]) - 83
        assert batch.images["sentinel1"][0, 0, 0, month - 1, 1] == pytest.approx(decibel, rel=1e-6)


def test_a_month_without_data_is_filled_between_its_neighbours(
    tmp_path: Path, table: pl.DataFrame
) -> None:
    gaps = month_of(table, "s001", 4) | month_of(table, "s001", 5) | month_of(table, "s001", 12)
    holed = table.with_columns(
        pl.when(gaps).then(NO_DATA).otherwise(pl.col("S2-L2A-B08")).alias("S2-L2A-B08")
    ).filter(~month_of(table, "s001", 1))  # and one month is not there at all
    data = CropSeries(write(tmp_path, holed))
    b08 = data.card.bands["sentinel2_l2a"].index("B08")
    series = data.read([data.ids.index("s001")]).images["sentinel2_l2a"][0, 0, 0, :, b08]
    march, june, feb, november = series[2], series[5], series[1], series[10]
    assert series[3] == pytest.approx(march + (june - march) / 3)
    assert series[4] == pytest.approx(march + 2 * (june - march) / 3)
    assert series[0] == feb  # nothing before it
    assert series[11] == november


def test_a_place_stays_in_one_split(tmp_path: Path, table: pl.DataFrame) -> None:
    data = CropSeries(write(tmp_path, table))
    for seed in range(4):
        split = data.splits(seed)
        assert sorted(np.concatenate(list(split.values()))) == list(range(85))
        places = [{int(data.ids[r][1:]) % 25 for r in rows} for rows in split.values()]
        assert sum(len(p) for p in places) == len(set.union(*places)) == 25
        assert 17 <= len(split["test"]) <= 34


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: pl.concat([t, t.head(1)]), "twice"),
        (lambda t: t.drop("S2-L2A-B11"), "is not a readable table"),
        (lambda t: t.filter(pl.col("CROPTYPE_LABEL") == 7), "no crop with 30 samples or more"),
        (
            lambda t: t.with_columns(
                pl.when(pl.col("sample_id") == "s003")
                .then(NO_DATA)
                .otherwise(pl.col("S2-L2A-B05"))
                .alias("S2-L2A-B05")
            ),
            "sample s003 has no S2-L2A-B05 in any month",
        ),
        (
            lambda t: t.with_columns(
                pl.when(month_of(t, "s002", 3))
                .then(4100)
                .otherwise(pl.col("CROPTYPE_LABEL"))
                .alias("CROPTYPE_LABEL")
            ),
            "gives sample s002 more than one CROPTYPE_LABEL",
        ),
        (
            lambda t: t.with_columns(
                pl.when(month_of(t, "s002", 3))
                .then(pl.lit("elsewhere"))
                .otherwise(pl.col("h3_l5_cell").cast(pl.String))
                .alias("h3_l5_cell")
            ),
            "gives sample s002 more than one h3_l5_cell",
        ),
        (
            lambda t: t.with_columns(
                pl.when(month_of(t, "s002", 3)).then(pl.col(c) / 1e4).otherwise(pl.col(c)).alias(c)
                for c in t.columns
                if c.startswith("S2-")
            ),
            "sample s002 holds reflectance in time step",
        ),
    ],
    ids=[
        *("repeated month", "missing band", "rare crops only", "empty band", "two crops"),
        *("two places", "mixed units"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, table: pl.DataFrame, change, said: str) -> None:
    changed = change(table.filter((pl.col("timestamp") + pl.duration(hours=2)).dt.year() == 2017))
    with pytest.raises(UserError, match=said):
        CropSeries(write(tmp_path, changed))
