"""BreizhCrops: monthly means in order, published regions, and what is broken is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from models.errors import UserError
from suites.datasets import breizhcrops
from suites.datasets.breizhcrops import BANDS, BreizhCrops, find_folder
from suites.datasets.catalogue import resolve
from suites.datasets.splits import find_duplicates

CODES = {0: "ORH", 1: "BTH", 2: "CZH", 3: "MIS", 4: "TRN", 5: "VRG", 6: "NOX", 7: "PPH", 8: "PTR"}
NAMES = ["barley", "wheat", "rapeseed", "corn", "sunflower", "orchards", "nuts"]
NAMES += ["permanent meadows", "temporary meadows"]
STORED = {  # as the package writes its columns
    "L1C": [
        *("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"),
        *("QA10", "QA20", "QA60", "doa"),
    ],
    "L2A": [
        *("doa", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
        *("CLD", "EDG", "SAT"),
    ],
}
FIELDS = 10


def series(rng: np.random.Generator, level: str, dates: pd.DatetimeIndex) -> np.ndarray:
    values = rng.uniform(200, 9000, (len(dates), len(STORED[level])))
    values[:, STORED[level].index("doa")] = dates.as_unit("ns").astype(np.int64)
    return values


def key_of(level: str, region: str, field: int) -> str:
    return f"data/2017/{level}/{region}/csv/{field}.csv"


@pytest.fixture
def root(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "breizhcrops"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four regions, ten fields each; one is of no class, one has no observation."""
    root, rng = tmp_path_factory.mktemp("once") / "breizhcrops", np.random.default_rng(0)
    pairs = [(number, NAMES[number], code) for number, code in CODES.items()]
    mapping = pd.DataFrame([*pairs, (3, "corn", "MIE")], columns=["id", "classname", "code"])
    for level in STORED:
        (root / "2017" / level).mkdir(parents=True)
        for number, region in enumerate(("frh01", "frh02", "frh03", "frh04")):
            rows = []
            with h5py.File(root / "2017" / level / f"{region}.h5", "w") as file:
                for i in range(FIELDS + 2):
                    field = 1000 * number + i
                    dates = pd.date_range("2017-01-03", "2017-12-29", freq=f"{5 + i}D")
                    code = "ZZZ" if i == FIELDS else CODES[(i + number) % 9]
                    key = key_of(level, region, field)
                    many = 0 if i == FIELDS + 1 else len(dates)
                    rows.append((512.0, field, code, f"/{key}", i + 1, many))
                    if many:
                        file[key] = series(rng, level, dates)
            columns = ["meanQA60", "id", "CODE_CULTU", "path", "idx", "sequencelength"]
            pd.DataFrame(rows, columns=columns).to_csv(root / "2017" / level / f"{region}.csv")
    mapping.to_csv(root / "classmapping.csv")
    return root


def change_field(root: Path, change: Callable[[np.ndarray], np.ndarray], field: int = 2) -> None:
    key = key_of("L1C", "frh01", field)
    with h5py.File(root / "2017" / "L1C" / "frh01.h5", "r+") as file:
        values = change(file[key][...])
        del file[key]
        file[key] = values


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_months_are_means_and_gaps_are_filled_in(root: Path, level: str) -> None:
    data = resolve("breizhcrops", root.parent, {"level": level})
    assert find_folder(root.parent) == find_folder(root) == root
    assert (data.card.level, len(data.card.classes)) == (level, 9)
    rows = [data.ids.index("frh04/3009"), data.ids.index("frh02/1004")]
    batch = data.read(rows)
    images = batch.images["sentinel2_l2a"]
    assert images.shape == (2, 1, 1, 12, len(BANDS[level]))
    assert batch.timestamps[1].tolist() == [[1, month, 2017] for month in range(12)]
    for place, (region, field) in enumerate((("frh04", 3009), ("frh02", 1004))):
        with h5py.File(root / "2017" / level / f"{region}.h5") as file:
            table = pd.DataFrame(file[key_of(level, region, field)][...], columns=STORED[level])
        month = pd.to_datetime(table["doa"]).dt.month
        means = table.groupby(month).mean().reindex(range(1, 13))
        means = means.interpolate().bfill()  # pandas' own filling in
        for d, band in enumerate(data.card.bands["sentinel2_l2a"]):
            stored = means["B8A" if band == "B8A" else f"B{int(band[1:])}"]
            np.testing.assert_allclose(images[place, 0, 0, :, d], stored, rtol=1e-6)


def test_a_month_without_acquisitions_lies_between_its_neighbours(root: Path) -> None:
    def only(months: list[int]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda v: v[np.isin(pd.to_datetime(v[:, -1]).month, months)]

    before = BreizhCrops(root).read([2]).images["sentinel2_l2a"][0, 0, 0]
    change_field(root, only([2, 3, 6, 7]))
    after = BreizhCrops(root).read([2]).images["sentinel2_l2a"][0, 0, 0]
    np.testing.assert_allclose(after[3], before[2] + (before[5] - before[2]) / 3, rtol=1e-6)
    np.testing.assert_array_equal(after[[0, 11]], before[[1, 6]])


def test_published_regions_and_nine_classes(root: Path) -> None:
    data = BreizhCrops(root)
    assert len(data.ids) == 4 * FIELDS  # of no class, or without an observation: left out
    for name, regions in (("train", {"frh01", "frh02"}), ("val", {"frh03"}), ("test", {"frh04"})):
        rows = data.splits(3)[name]
        assert {data.ids[row].split("/")[0] for row in rows} == regions
        assert len(rows) == FIELDS * len(regions)
    assert data.labels[:FIELDS].tolist() == [*range(9), 0]
    assert data.card.classes[data.labels[data.ids.index("frh02/1002")]] == "corn"


def test_labels_and_ids_are_read_without_pixels(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breizhcrops, "open_hdf5", lambda _path: pytest.fail("pixels were read"))
    data = BreizhCrops(root)
    assert len(data.ids) == len(data.labels) == sum(len(r) for r in data.splits(0).values())


def test_order_on_disk_changes_nothing_and_values_do(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = BreizhCrops(root, cache_dir=cache).fingerprint
    change_field(root, lambda values: values[::-1])
    assert BreizhCrops(root, cache_dir=cache).fingerprint == first
    change_field(root, lambda values: values + np.eye(*values.shape))
    assert BreizhCrops(root, cache_dir=cache).fingerprint != first
    with h5py.File(root / "2017" / "L1C" / "frh04.h5", "r+") as file:
        copied, key = file[key_of("L1C", "frh04", 3005)][...], key_of("L1C", "frh01", 0)
    with h5py.File(root / "2017" / "L1C" / "frh01.h5", "r+") as file:
        del file[key]
        file[key] = copied
    twins = find_duplicates(BreizhCrops(root, cache_dir=cache))
    assert twins.straddling == (("frh01/0", "frh04/3005"),)


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: (r / "2017/L1C/frh03.csv").unlink(), "frh03.csv is missing"),
        (lambda r: (r / "2017/L1C/frh04.h5").unlink(), "frh04.h5 is missing"),
        (lambda r: (r / "classmapping.csv").unlink(), "classmapping.csv is missing"),
        (lambda r: edit(r, "classmapping.csv", "nuts", "vines"), 'class 6 "vines".*none of the'),
        (lambda r: edit(r, "classmapping.csv", "BTH", "ORH"), "crop code ORH twice"),
        (lambda r: edit(r, "2017/L1C/frh01.csv", ",CODE_CULTU", ",code"), 'no column "CODE_CULTU"'),
        (lambda r: edit(r, "2017/L1C/frh02.csv", ",1003,", ",1004,"), "lists field 1004 twice"),
        (lambda r: edit(r, "2017/L1C/frh03.csv", ",2003,", ",1003,"), "train and val overlap"),
    ],
    ids=["index", "series", "mapping", "class", "code", "column", "twice", "overlap"],
)
def test_a_bad_table_is_named(root: Path, change: Callable[[Path], None], said: str) -> None:
    change(root)
    with pytest.raises(UserError, match=said):
        BreizhCrops(root)


def test_an_index_that_gives_another_class_is_named(root: Path) -> None:
    path = root / "2017" / "L1C" / "frh02.csv"
    table = pd.read_csv(path, index_col=0)
    table["classid"] = 8
    table.to_csv(path)
    with pytest.raises(UserError, match=r"gives field 1000 class 8, but classmapping.csv"):
        BreizhCrops(root)


def step_scaled(values: np.ndarray) -> np.ndarray:
    values[4, :13] /= 1e4
    return values


def year_later(values: np.ndarray) -> np.ndarray:
    values[-1, -1] += 365 * 86400e9
    return values


def with_nan(values: np.ndarray) -> np.ndarray:
    values[1, 3] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (step_scaled, "field 2 holds reflectance in time step 5"),
        (lambda values: values[:, :14], r"field 2 has shape \(52, 14\), expected dates x 17"),
        (lambda values: values[:0], r"field 2 has shape \(0, 17\)"),
        (lambda values: np.concatenate([values, values[:1]]), "two observations of 2017-01-03"),
        (year_later, "field 2 has dates outside 2017"),
        (with_nan, "field 2 holds NaN"),
        (lambda values: values.astype("S8"), "values, not numbers"),
    ],
    ids=["mixed units", "columns", "empty", "repeated", "year", "NaN", "text"],
)
def test_a_bad_series_is_named(
    root: Path, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    change_field(root, change)
    with pytest.raises(UserError, match=said):
        BreizhCrops(root).read([1, 2])


def test_a_damaged_or_wrong_file_is_named(root: Path) -> None:
    path = root / "2017" / "L1C" / "frh01.h5"
    with h5py.File(path, "r+") as file:
        del file[key_of("L1C", "frh01", 5)]
    with pytest.raises(UserError, match=r"frh01.h5 has no array .*5.csv"):
        BreizhCrops(root).digests()
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UserError, match=r"frh01.h5 is not a readable HDF5 file"):
        BreizhCrops(root).read([0])
    with pytest.raises(UserError, match=r'Unknown level "L1".*did you mean "L1C"'):
        BreizhCrops(root, level="L1")
