"""A task of one's own: what the file says is what is delivered, and every mistake is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
import yaml

from models.errors import UserError
from models.sensors import SENTINEL2_L2A
from suites.datasets import catalogue
from suites.datasets.cut import Cut
from suites.datasets.label_findings import label_findings
from suites.datasets.own import Own
from tests.miniatures import write_geotiff

COUNT = 24
NAMES = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


def pixels(number: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).integers(1, 6000, (side, side, 12)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write_geotiff(tmp_path / "images" / f"field_{number:02d}.tif", pixels(number), NAMES)
    return tmp_path


def table(**columns: Any) -> pl.DataFrame:
    rows = {
        "id": [f"field_{number:02d}" for number in range(COUNT)],
        "label": ["oats", "maize", "rye"] * 8,
        **columns,
    }
    return pl.DataFrame(rows)


def task(folder: Path, frame: pl.DataFrame | None = None, **settings: Any) -> Own:
    (table() if frame is None else frame).write_csv(folder / "labels.csv")
    said = {"name": "fields", "chips": "images", "labels": "labels.csv", **settings}
    file = folder / "task.yaml"
    file.write_text(yaml.safe_dump(said))
    found = catalogue.resolve(str(file), None, cache_dir=folder / "cache")
    assert isinstance(found, Own)
    return found


def test_six_lines_make_a_task(folder: Path) -> None:
    data = task(folder)
    assert data.card.classes == ("maize", "oats", "rye")
    assert (data.card.height, data.card.width, data.card.steps) == (16, 16, 1)
    row = data.ids.index("field_07")
    assert data.card.classes[data.labels[row]] == "maize"
    images = data.read([row, 0]).images["sentinel2_l2a"][:, :, :, 0]
    for band in ("B02", "B8A", "B12"):  # by name, whatever the stored order
        np.testing.assert_array_equal(
            images[0, :, :, SENTINEL2_L2A.index(band)], pixels(7)[..., NAMES.index(band)]
        )
    split = data.splits(0)
    assert sorted(np.concatenate(list(split.values()))) == list(range(COUNT))
    for rows in split.values():
        assert set(data.labels[rows]) == {0, 1, 2}


def test_labels_numbers_and_parquet(folder: Path) -> None:
    frame = table(wet=[0, 1] * 12, steep=[1, 1, 0, 0] * 6, tons=[float(n) for n in range(COUNT)])
    several = task(folder, frame, kind="labels", label=["wet", "steep"])
    assert several.card.classes == ("wet", "steep")
    np.testing.assert_array_equal(several.labels, frame.select("wet", "steep").to_numpy())
    frame.write_parquet(folder / "labels.parquet")
    number = task(folder, frame, kind="values", label="tons", unit="t/ha", labels="labels.parquet")
    np.testing.assert_array_equal(number.labels, np.arange(COUNT))
    assert (number.card.unit, number.card.classes) == ("t/ha", ())
    assert several.fingerprint != number.fingerprint


def test_masks_with_a_value_that_is_not_asked_about(folder: Path) -> None:
    (folder / "masks").mkdir()
    masks = np.random.default_rng(0).integers(0, 2, (COUNT, 16, 16)).astype(np.uint8)
    masks[:, 0] = 255
    for number, mask in enumerate(masks):
        tifffile.imwrite(folder / "masks" / f"field_{number:02d}.tif", mask)
    settings = {"kind": "maps", "masks": "masks", "classes": ["bare", "green"]}
    data = task(folder, **settings, ignore=255)
    np.testing.assert_array_equal(data.labels, np.where(masks == 255, -1, masks.astype(int)))
    with pytest.raises(UserError, match=r"holds 255, but the task has classes 0 to 1.*ignore"):
        _ = task(folder, **settings).labels
    cut = task(folder, **settings, ignore=255, side=8)
    np.testing.assert_array_equal(cut.labels, masks[:, 4:12, 4:12])
    np.testing.assert_array_equal(
        cut.read([3]).images["sentinel2_l2a"][0, :, :, 0, 0], pixels(3)[4:12, 4:12, 1]
    )
    larger = task(folder, **settings, ignore=255, side=20)
    assert (larger.labels[:, :2] == -1).all()
    image = larger.read([3]).images["sentinel2_l2a"][0, :, :, 0, 0]
    np.testing.assert_array_equal(image[1, 2:18], image[2, 2:18])  # mirrored
    tifffile.imwrite(folder / "masks" / "field_05.tif", masks[0, :15])
    with pytest.raises(UserError, match=r"field_05.tif has shape \(15, 16\), but its chip has 16"):
        _ = task(folder, **settings, ignore=255).labels
    tifffile.imwrite(folder / "masks" / "field_05.tif", np.full((16, 16), 0.7, np.float32))
    with pytest.raises(UserError, match=r"field_05.tif holds 0.7 in row 0, column 0;"):
        _ = task(folder, **settings, ignore=255).labels


def write_marked(folder: Path, masks: np.ndarray, no_data: float) -> None:
    """GeoTIFFs with the tag in which GDAL keeps the value of no data, as text."""
    (folder / "masks").mkdir(exist_ok=True)
    for number, mask in enumerate(masks):
        tag = (42113, "s", 0, f"{no_data:.17g}", True)
        tifffile.imwrite(folder / "masks" / f"field_{number:02d}.tif", mask, extratags=[tag])


MAPS = {"kind": "maps", "masks": "masks", "classes": ["bare", "green"]}


def test_pixels_that_a_mask_marks_as_no_data_are_not_asked_about(folder: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (COUNT, 16, 16)).astype(np.uint8)
    masks[:, 0], masks[:, 1] = 254, 255
    write_marked(folder, masks, 254)
    expected = np.where(masks > 1, -1, masks.astype(int))
    np.testing.assert_array_equal(task(folder, **MAPS, ignore=255).labels, expected)
    heights = np.random.default_rng(0).normal(8, 2, (COUNT, 16, 16)).astype(np.float32)
    heights[:, 0], heights[:, 1] = -3.4e38, 0
    write_marked(folder, heights, -3.4e38)
    expected = np.where(heights < -1e38, np.nan, heights)
    np.testing.assert_array_equal(task(folder, **NUMBERS).labels, expected)


def test_a_marked_class_is_refused_and_a_marked_zero_kept_and_told(folder: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (COUNT, 16, 16)).astype(np.uint8)
    write_marked(folder, masks, 1)
    with pytest.raises(UserError, match=r"field_00.tif marks 1 as no data.*ignore: 1 to leave"):
        _ = task(folder, **MAPS).labels
    np.testing.assert_array_equal(task(folder, **MAPS, ignore=1).labels, -masks.astype(int))
    write_marked(folder, masks, 0)  # the default of many writers
    data = task(folder, **MAPS)
    np.testing.assert_array_equal(data.labels, masks)
    (found,) = data.findings
    assert (found.level, found.sentence[:46]) == (
        "warning", "Masks that mark 0 as no data and hold it: 24; "
    )  # fmt: skip
    assert not task(folder, **MAPS, ignore=0).findings


def test_classes_in_a_mask_of_reals_are_whole_numbers_or_nan(folder: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (COUNT, 16, 16)).astype(np.float32)
    masks[:, 3] = np.nan
    write_numbers(folder, masks)
    np.testing.assert_array_equal(task(folder, **MAPS).labels, np.where(np.isnan(masks), -1, masks))
    masks[5, 9, 2] = 0.5
    write_numbers(folder, masks)
    with pytest.raises(UserError, match=r"field_05.npy holds 0.5 in row 9, column 2; .* whole"):
        _ = task(folder, **MAPS).labels


def write_numbers(folder: Path, masks: np.ndarray) -> None:
    (folder / "masks").mkdir(exist_ok=True)
    for number, mask in enumerate(masks):
        place = folder / "masks" / f"field_{number:02d}"
        if number % 2:
            np.save(place.with_suffix(".npy"), mask)
        else:
            tifffile.imwrite(place.with_suffix(".tif"), mask)


NUMBERS = {"kind": "value_maps", "masks": "masks", "unit": "t/ha"}


def test_masks_of_numbers_are_kept_with_nan_where_nobody_is_asked(folder: Path) -> None:
    masks = np.random.default_rng(0).normal(8, 2, (COUNT, 16, 16)).astype(np.float32)
    masks[:, 0], masks[:, 1] = np.nan, -3.4e38  # no float32: the file holds the nearest
    write_numbers(folder, masks)
    data = task(folder, **NUMBERS, ignore=-3.4e38)
    expected = masks.copy()
    expected[:, 1] = np.nan
    np.testing.assert_array_equal(data.labels, expected)
    assert data.labels.dtype == np.float32
    assert (data.card.kind, data.card.unit, data.card.classes) == ("value_maps", "t/ha", ())
    larger = task(folder, **NUMBERS, ignore=-3.4e38, side=20).labels
    assert np.isnan(larger[:, :4]).all()
    assert np.isnan(larger[:, :, :2]).all()
    np.testing.assert_array_equal(larger[:, 2:18, 2:18], expected)
    cut = Cut(task(folder, **NUMBERS, ignore=-3.4e38), 8, None)
    np.testing.assert_array_equal(cut.labels, expected[:, 4:12, 4:12])
    # Heights in whole centimetres are numbers too.
    write_numbers(folder, np.full((COUNT, 16, 16), 700, dtype=np.uint16))
    assert (task(folder, **NUMBERS, ignore=-1).labels == 700).all()
    masks[3, 5, 6] = np.inf
    write_numbers(folder, masks)
    with pytest.raises(UserError, match=r"field_03.npy holds inf in row 5, column 6; .* ignore"):
        _ = task(folder, **NUMBERS).labels


def test_what_is_odd_in_masks_of_numbers_is_found(folder: Path) -> None:
    masks = np.random.default_rng(0).normal(8, 2, (COUNT, 16, 16)).astype(np.float32)
    masks[:, :4] = np.nan
    masks[2], masks[5], masks[7, 9, 9] = np.nan, 0, -9999
    write_numbers(folder, masks)
    parts = ["test", "val", *["train"] * 20, "val", "test"]
    fold = {"split": {"by": "column", "column": "fold"}}
    found = list(label_findings(task(folder, table(fold=parts), **NUMBERS, **fold)))
    sentences = [f"{f.level}: {f.sentence}" for f in found]
    rows = masks[2:22].astype(np.float64)
    assert sentences[:3] == [
        "warning: Maps without any number, where nobody is asked: 1.",
        "warning: Maps that hold one single number everywhere (a code for no data?): 1.",
        "warning: Numbers more than 8 deviations from the mean (mixed units, or a code for no "
        "data?): 1, in maps: 1.",
    ]
    assert f"mean {np.nanmean(rows):.4g}, deviation {np.nanstd(rows):.4g}; 27.1%" in sentences[3]
    masks[0], masks[-1] = np.nan, np.nan
    write_numbers(folder, masks)
    (found,) = label_findings(task(folder, table(fold=parts), **NUMBERS, **fold))
    assert (found.level, found.sentence) == ("error", "No pixel of the test split holds a number.")


def test_splits_by_column_by_location_and_by_what_belongs_together(folder: Path) -> None:
    parts = ["train", "valid", "test"] * 8
    data = task(folder, table(fold=parts), split={"by": "column", "column": "fold"})
    assert data.splits(0)["val"].tolist() == list(range(1, COUNT, 3))
    # Six blocks of a tenth of a degree, four neighbours in each.
    lon = [10.02 + 0.1 * (n // 4) + 0.01 * (n % 4) for n in range(COUNT)]
    data = task(folder, table(lon=lon, lat=[45.0] * COUNT), split={"by": "location"})
    for seed in range(3):
        blocks = [{row // 4 for row in rows} for rows in data.splits(seed).values()]
        assert sum(map(len, blocks)) == len(set.union(*blocks)) == 6
    farms = [n % 6 for n in range(COUNT)]
    data = task(folder, table(farm=farms), split={"by": "seed", "together": "farm"})
    kept = [{int(row) % 6 for row in rows} for rows in data.splits(1).values()]
    assert sum(map(len, kept)) == len(set.union(*kept)) == 6
    assert "what shares farm stays in one split" in data.card.split_rule


def test_two_groups_make_no_three_splits(folder: Path) -> None:
    two = table(farm=[n % 2 for n in range(COUNT)])
    data = task(folder, two, split={"by": "seed", "together": "farm"})
    with pytest.raises(UserError, match=r"makes 2 groups of all samples; train, val and test need"):
        data.splits(0)


def footprint(lon: float, lat: float) -> dict[str, Any]:
    corners = [(-0.9, -0.1), (0.9, -0.1), (0.9, 0.1), (-0.9, 0.1), (-0.9, -0.1)]
    return {"type": "Polygon", "coordinates": [[[lon + x, lat + y] for x, y in corners]]}


def test_geojson_points_and_footprints_bring_their_place(folder: Path) -> None:
    features = [
        {
            "type": "Feature",
            "geometry": footprint(8.0 + n, 50.0)
            if n % 3
            else {"type": "Point", "coordinates": [8.0 + n, 50.0]},
            "properties": {
                "id": f"images/field_{n:02d}.tif".removeprefix("images/"),
                "label": "ab"[n % 2],
            },
        }
        for n in range(COUNT)
    ]
    (folder / "places.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )
    data = task(folder, labels="places.geojson", split={"by": "location", "cell": 2})
    pairs = [{(8 + int(row)) // 2 for row in rows} for rows in data.splits(0).values()]
    assert sum(map(len, pairs)) == len(set.union(*pairs))


def renamed(column: str, row: int, value: object) -> pl.DataFrame:
    frame = table(value=[float(n) for n in range(COUNT)], flag=[0] * COUNT, fold=["train"] * COUNT)
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values))


@pytest.mark.parametrize(
    ("frame", "settings", "said"),
    [
        (renamed("id", 3, "field_99"), {}, r'there is no chip "field_99" \(row 4\) in '),
        (renamed("id", 3, "field_02"), {}, 'row 4 names chip "field_02" a second time'),
        (renamed("label", 3, None), {}, 'column "label" is empty in row 4'),
        (table(), {"label": "lable"}, 'has no column "lable": did you mean "label"'),
        (table(), {"classes": ["oats", "rye"]}, 'class "maize" of field_01 is not in the list'),
        (table(label=["oats"] * COUNT), {}, 'holds "oats" only; a task needs two'),
        (table(), {"chips": "imges"}, r"task.yaml:1: There is no folder .*imges; correct"),
        (table(), {"kind": "values"}, 'column "label" holds text, not numbers'),
        (renamed("flag", 2, 3), {"kind": "labels", "label": ["flag"]}, "holds 3 for field_02"),
        (
            renamed("fold", 5, "exam"),
            {"split": {"by": "column", "column": "fold"}},
            '"exam" for field_05',
        ),
        (
            renamed("fold", 5, "val"),
            {"split": {"by": "column", "column": "fold"}},
            "no row of test",
        ),
        (table(), {"split": {"by": "location"}}, 'has no column "lon"'),
        (table(), {"labels": "other.csv"}, "other.csv is missing"),
        (table(), {"labels": "task.yaml"}, "task.yaml is no table"),
        (table(), {"kind": "maps"}, 'Maps need "masks"'),
        (table(), {"kind": "value_maps"}, 'Maps of numbers need "masks"'),
        (table(), {**NUMBERS, "classes": ["a", "b"]}, 'Numbers have no "classes"'),
        (
            table(),
            {"kind": "maps", "masks": "images", "classes": ["a", "b"], "ignore": 0.5},
            "a whole",
        ),
        (table(), {"ignore": 3}, "for kind: maps or value_maps, not classes"),
        (table(), {"label": ["label"]}, '"label" of kind classes must be one column'),
        (table(), {"fractions": [0.5, 0.5, 0.5]}, "1 in all"),
        (table(), {"name": "My fields"}, 'small letters, .* not "My fields"; write my-fields'),
        (table(), {"sidee": 8}, 'task.yaml:.*unknown key "sidee": did you mean "side"'),
    ],
)
def test_every_mistake_is_named(
    folder: Path, frame: pl.DataFrame, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        task(folder, frame, **settings)


def test_chips_of_different_sizes_need_a_side(folder: Path) -> None:
    write_geotiff(folder / "images" / "field_03.tif", pixels(3, 24), NAMES)
    with pytest.raises(UserError, match=r"differ in size \(16 x 16, 24 x 24\); give side"):
        task(folder)
    data = task(folder, side=16)
    np.testing.assert_array_equal(
        data.read([3]).images["sentinel2_l2a"][0, :, :, 0, 0], pixels(3, 24)[4:20, 4:20, 1]
    )


def test_a_row_of_a_chip_that_cannot_be_used_is_told_why(folder: Path) -> None:
    names = [*NAMES[:11], "SWIR2"]
    write_geotiff(folder / "images" / "field_03.tif", pixels(3), names)
    said = (
        r'chip "field_03" \(row 4\) cannot be used, because it lacks B12 .*"SWIR2", which names no'
    )
    with pytest.raises(UserError, match=said):
        task(folder)


def test_masks_among_the_chips_are_not_taken_for_chips(folder: Path) -> None:
    (folder / "images" / "masks").mkdir()
    for number in range(COUNT):
        mask = np.full((16, 16), number % 2, np.uint8)
        tifffile.imwrite(folder / "images" / "masks" / f"field_{number:02d}.tif", mask)
    settings = {**MAPS, "masks": "images/masks"}
    with pytest.raises(UserError, match=r'would be read as chips; .*ignore: \["masks/\*"\] into'):
        task(folder, **settings)
    (folder / "images" / "chips.yaml").write_text('ignore: ["masks/*"]\n')
    assert task(folder, **settings).labels.mean() == 0.5


def test_a_csv_is_read_as_people_write_it(folder: Path) -> None:
    rows = [f"field_{n:02d} ,{['oats', ' rye'][n % 2]},{n % 3 > 0}" for n in range(COUNT)]
    text = "\r\n".join(["id, label,wet", *rows]) + "\r\n"
    task(folder)
    file, place = folder / "task.yaml", folder / "labels.csv"
    place.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert catalogue.resolve(str(file), None, cache_dir=folder).card.classes == ("oats", "rye")
    said = {"name": "fields", "chips": "images", "labels": "labels.csv"}
    file.write_text(yaml.safe_dump({**said, "kind": "labels", "label": ["wet"]}))
    labels = catalogue.resolve(str(file), None, cache_dir=folder).labels
    assert labels[:, 0].tolist() == [0, 1, 1] * 8  # True and False, as pandas writes them
    for mark, told in ((";", "semicolons"), ("\t", "tabs")):
        place.write_text(text.replace(",", mark))
        with pytest.raises(UserError, match=f"labels.csv is separated by {told}; save it with"):
            catalogue.resolve(str(file), None, cache_dir=folder)
    place.write_bytes(text.replace("rye", "bl\u00e9").encode("latin-1"))
    with pytest.raises(UserError, match=r"labels.csv is not a readable table .* UTF-8"):
        catalogue.resolve(str(file), None, cache_dir=folder)
