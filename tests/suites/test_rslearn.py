"""An rslearn data set as a task: windows, steps, resolutions, labels; what is broken is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from harness.plan import Places, make_plan
from harness.suite import load_suite
from models.errors import UserError
from suites.datasets.catalogue import kind_of, resolve

SIDE, WINDOWS = 8, 12
FINE, COARSE = (
    ("B02", "B03", "B04", "B08"),
    ("B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09"),
)
CONFIG = {
    "layers": {
        "sentinel2": {
            "type": "raster",
            "band_sets": [
                {"dtype": "uint16", "bands": FINE},
                {"dtype": "uint16", "bands": COARSE, "zoom_offset": -1},
            ],
        },
        "cover": {"type": "raster", "band_sets": [{"dtype": "uint8", "bands": ["cover"]}]},
        "label": {"type": "vector"},
    }
}
TASK = """\
name: mangroves
rslearn: data
layers: {sentinel2_l2a: sentinel2}
label: {layer: label, property: kind}
"""


def pixels(window: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([window, step])
    return (
        rng.integers(1, 5000, (len(FINE), SIDE, SIDE)).astype(np.uint16),
        rng.integers(1, 5000, (len(COARSE), SIDE // 2, SIDE // 2)).astype(np.uint16),
    )


def write_raster(folder: Path, bands: tuple[str, ...], image: np.ndarray, planar: bool) -> None:
    """As rasterio does by default (bands last), or band by band."""
    (folder / "_".join(bands)).mkdir(parents=True)
    path = folder / "_".join(bands) / "geotiff.tif"
    if planar:
        tifffile.imwrite(path, image, photometric="minisblack")
    else:
        tifffile.imwrite(path, np.moveaxis(image, 0, -1), photometric="minisblack")
    (folder / "completed").touch()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twelve windows of two item groups each, the later date first."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "config.json").write_text(json.dumps(CONFIG))
    for i in range(WINDOWS):
        window = root / "windows" / "default" / f"w{i:02d}"
        for step in range(2):
            layer = window / "layers" / ("sentinel2.1" if step else "sentinel2")
            for bands, image in zip((FINE, COARSE), pixels(i, step), strict=True):
                write_raster(layer, bands, image, planar=i % 2 == 0)
        cover = np.full((1, SIDE, SIDE), i % 3, dtype=np.uint8)
        write_raster(window / "layers" / "cover", ("cover",), cover, planar=True)
        label = window / "layers" / "label"
        label.mkdir()
        features = [{"type": "Feature", "properties": {"kind": "ab"[i % 2], "age": i}}]
        (label / "data.geojson").write_text(json.dumps({"features": features}))
        (label / "completed").touch()
        write_metadata(window, i)
        asked = [
            [f"2020-{m:02d}-01T00:00:00+00:00", f"2020-{m:02d}-21T00:00:00+00:00"] for m in (7, 3)
        ]
        items = {
            "layer_name": "sentinel2",
            "serialized_item_groups": [[], []],
            "group_time_ranges": asked,
        }
        (window / "items.json").write_text(json.dumps([items]))
    path = tmp_path / "mangroves.yaml"
    path.write_text(TASK)
    return path


def write_metadata(window: Path, i: int, **changed: Any) -> None:
    said = {
        "projection": {"crs": "EPSG:32612", "x_resolution": 10, "y_resolution": -10},
        "bounds": [100 * i, -50, 100 * i + SIDE, -50 + SIDE],
        "time_range": ["2020-01-01T00:00:00+00:00", "2020-12-31T00:00:00+00:00"],
        "options": {"split": ("train", "val", "test")[i % 3]},
        **changed,
    }
    (window / "metadata.json").write_text(json.dumps(said))


def first(file: Path) -> Path:
    return file.parent / "data" / "windows" / "default" / "w00"


def rewritten(file: Path, old: str, new: str) -> Path:
    file.write_text(file.read_text().replace(old, new))
    return file


def test_steps_come_by_date_and_coarse_bands_lie_on_the_windows_pixels(file: Path) -> None:
    data = resolve(str(file), None)
    assert kind_of(str(file)) == "classes"
    assert (data.card.steps, data.card.height, data.card.width) == (2, SIDE, SIDE)
    assert data.card.bands == {"sentinel2_l2a": FINE + COARSE}
    for row in (4, 5):  # bands first, bands last
        batch = data.read([row])
        assert batch.timestamps[0].tolist() == [[11, 2, 2020], [11, 6, 2020]]
        image = batch.images["sentinel2_l2a"][0]
        for place, step in enumerate((1, 0)):  # the second item group is the earlier one
            fine, coarse = pixels(row, step)
            np.testing.assert_array_equal(image[:, :, place, :4], np.moveaxis(fine, 0, -1))
            repeated = coarse.repeat(2, axis=1).repeat(2, axis=2)
            np.testing.assert_array_equal(image[:, :, place, 4:], np.moveaxis(repeated, 0, -1))
    assert data.card.classes == ("a", "b")
    assert data.labels.tolist() == [0, 1] * 6
    assert data.splits(0)["val"].tolist() == [1, 4, 7, 10]


def test_numbers_maps_options_and_drawn_splits(file: Path) -> None:
    numbers = rewritten(file, "property: kind}", "property: age}\nkind: values\nsplit: {by: seed}")
    data = resolve(str(numbers), None)
    assert data.labels.tolist() == list(range(WINDOWS))
    parts = data.splits(3)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(WINDOWS))
    file.write_text(
        TASK.replace("layer: label, property: kind", "layer: cover, band: cover")
        + "kind: maps\nclasses: [water, land]\nignore: 2\nside: 6\n"
        + "split: {by: location, cell: 2500}\n"
    )
    maps = resolve(str(file), None)
    assert maps.labels.shape == (WINDOWS, 6, 6)
    assert [int(each[0, 0]) for each in maps.labels[:3]] == [0, 1, -1]
    split_of = {row: name for name, rows in maps.splits(0).items() for row in rows.tolist()}
    for row in range(0, WINDOWS, 5):  # windows are 1,000 m apart: those of a block stay together
        block = [r for r in range(WINDOWS) if (1000 * r + 40) // 2500 == (1000 * row + 40) // 2500]
        assert len({split_of[r] for r in block}) == 1
    file.write_text(TASK.replace("layer: label, property: kind", "option: split"))
    assert resolve(str(file), None).card.classes == ("test", "train", "val")


def test_incomplete_and_unlabelled_windows_are_left_out_and_counted(file: Path) -> None:
    (first(file) / "layers/sentinel2/completed").unlink()
    (first(file).parent / "w01/layers/label/data.geojson").write_text('{"features": []}')
    data = resolve(str(file), None)
    assert len(data.ids) == WINDOWS - 2
    notes = " ".join(data.card.notes)
    assert "1 windows have no label" in notes
    assert "1 windows lack item groups" in notes


def test_pixels_dates_and_labels_are_in_the_fingerprint(file: Path) -> None:
    before = resolve(str(file), None).fingerprint
    assert resolve(str(file), None).fingerprint == before
    write_raster_again = first(file) / "layers/sentinel2" / "_".join(FINE) / "geotiff.tif"
    changed = pixels(0, 0)[0] + 1
    tifffile.imwrite(write_raster_again, changed, photometric="minisblack")
    assert resolve(str(file), None).fingerprint != before


def test_a_suite_runs_on_it(file: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "name: mine\ntitle: Mine\nvariants: [olmoearth-v1.1-nano]\nbaselines: []\n"
        "tasks: [{name: m, dataset: mangroves.yaml, probe: {kind: knn}}]\n"
    )
    plan = make_plan(load_suite(suite), Places(None, None, tmp_path / "cache"))
    assert [cell.given.shapes[0].steps for cell in plan.cells] == [2]
    assert not plan.missing


def no_items(file: Path) -> None:
    (first(file) / "items.json").unlink()


def same_day(file: Path) -> None:
    path = first(file) / "items.json"
    path.write_text(path.read_text().replace("2020-07", "2020-03"))


def outside(file: Path) -> None:
    shutil.move(first(file), file.parent / "elsewhere")
    first(file).symlink_to(file.parent / "elsewhere")


def smaller_map(file: Path) -> None:
    path = first(file) / "layers/cover/cover/geotiff.tif"
    tifffile.imwrite(path, np.zeros((1, SIDE - 1, SIDE), dtype=np.uint8))
    file.write_text(
        TASK.replace("layer: label, property: kind", "layer: cover, band: cover")
        + "kind: maps\nclasses: [water, land, ice]\n"
    )


def other_class(file: Path) -> None:
    rewritten(file, "property: kind}", "property: kind}\nclasses: [a, c]")


def two_values(file: Path) -> None:
    path = first(file) / "layers/label/data.geojson"
    said = [{"properties": {"kind": kind}} for kind in ("a", "b")]
    path.write_text(json.dumps({"features": said}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f.parent / "data/config.json").unlink(), "config.json is missing"),
        (lambda f: (f.parent / "data/config.json").write_text("{}"), "no configuration of an"),
        (
            lambda f: rewritten(f, "a: sentinel2}", "a: sentinel}"),
            'no layer "sentinel": ',
        ),
        (lambda f: rewritten(f, "sentinel2_l2a:", "sentinel1:"), "has no band of sentinel1"),
        (lambda f: rewritten(f, "a: sentinel2}", "a: label}"), "is a vector layer, but a raster"),
        (lambda f: rewritten(f, "property: kind", "property: kid"), 'no property "kid":.*kind'),
        (other_class, 'class "b" is not in the list'),
        (two_values, '2 values of "kind"'),
        (smaller_map, r"shape \(1, 7, 8\), but its window asks for \(1, 8, 8\)"),
        (no_items, "says of no layer when"),
        (same_day, "of the same day"),
        (outside, "leads outside of the data set"),
        (lambda f: write_metadata(first(f), 0, options={"split": "dev"}), "is dev; allowed: train"),
        (lambda f: write_metadata(first(f), 0, bounds=[0, 0, 9, 8]), "differ in size"),
        (lambda f: write_metadata(first(f), 0, bounds=[1]), "no metadata of an rslearn window"),
        (lambda f: shutil.rmtree(f.parent / "data/windows/default"), "holds no windows"),
        (
            lambda f: [
                p.unlink() for p in f.parent.glob("data/windows/*/*/layers/label/completed")
            ],
            "of 12 windows .* 12 have no label .* nothing is left",
        ),
        (
            lambda f: (first(f) / "layers/sentinel2.1/completed").unlink(),
            "from 1 to 2 item groups",
        ),
        (
            lambda f: (first(f) / "layers/sentinel2" / "_".join(FINE) / "geotiff.tif").unlink(),
            "geotiff.tif is missing|cannot be read: No such file",
        ),
    ],
)
def test_what_is_broken_is_named(file: Path, harm: Callable[[Path], Any], said: str) -> None:
    harm(file)
    with pytest.raises(UserError, match=said):
        read_all(file)


def read_all(file: Path) -> None:
    data = resolve(str(file), None)
    _ = data.card, data.labels, data.splits(0)
    data.read(range(len(data.ids)))
