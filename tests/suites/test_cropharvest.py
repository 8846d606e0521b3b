"""CropHarvest: steps and channels by name, published tests kept apart, what is broken is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from models.errors import UserError
from suites.datasets import cropharvest, cropharvest_arrays
from suites.datasets.catalogue import resolve
from suites.datasets.cropharvest import CropHarvest, find_folder

STORED = [
    *("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"),
    *("temperature_2m", "total_precipitation", "elevation", "slope", "NDVI"),
]
PLACES = {"togo": (8.5, 1.0), "kenya": (0.5, 35.0), "lem-brazil": (-12.5, -45.0)}
CROPS = {"togo": None, "kenya": "maize", "lem-brazil": "coffee"}


def pixels(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.uniform(100, 6000, (*shape, 12, 18))
    values[..., :2] = rng.normal(-14, 3, (*shape, 12, 2))
    return values


def row(source: str, index: int, **changes: Any) -> dict[str, Any]:
    lat, lon = PLACES[source]
    is_crop = int(index % 2 == 0)
    label = CROPS[source] if index % 4 == 0 else "cassava" if index % 4 == 2 else None
    return {
        "harvest_date": None,
        "label": label,
        "classification_label": None,
        "index": index,
        "is_crop": is_crop,
        "lat": lat + index / 100,
        "lon": lon,
        "dataset": source,
        "export_end_date": "2020-02-01T00:00:00",
        "is_test": False,
        **changes,
    }


@pytest.fixture
def root(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "cropharvest"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 samples a country, a crop of unknown name in Kenya, labels without an array, tests."""
    root, rng = tmp_path_factory.mktemp("once") / "cropharvest", np.random.default_rng(0)
    (root / "features" / "arrays").mkdir(parents=True)
    (root / "test_features").mkdir()
    rows = [row(source, index) for source in PLACES for index in range(20)]
    rows += [row("kenya", 20, label=None), row("kenya", 21, export_end_date="2019-02-01")]
    for found in rows:
        name = f"{found['index']}_{found['dataset']}"
        with h5py.File(root / "features" / "arrays" / f"{name}.h5", "w") as file:
            file["array"] = pixels(rng)
            file.attrs.update(label_lat=found["lat"], label_lon=found["lon"], dataset=name[2:])
    rows.append(row("togo", 99))
    rows += [{**row("togo", i), "dataset": "togo-eval", "is_test": True} for i in range(8)]
    features = [{"type": "Feature", "properties": found, "geometry": None} for found in rows]
    (root / "labels.geojson").write_text(json.dumps({"features": features}))
    known = {
        "togo-eval": rng.integers(0, 2, 8).astype(bool),
        "Kenya_maize_2020_0_0": np.array([-1, 1, -1, 0, 1]),
        "Kenya_maize_2020_1_0": np.array([0, -1]),
        "Brazil_coffee_2020_0_0": np.array([1, 0, -1]),
        "Brazil_coffee_2021_0_0": np.array([0, 1, 1]),
    }
    for name, labels in known.items():
        with h5py.File(root / "test_features" / f"{name}.h5", "w") as file:
            file["x"], file["y"] = pixels(rng, len(labels)), labels
            file["lats"] = file["lons"] = np.zeros(len(labels))
    return root


def test_reads_both_sensors_by_name_and_months_to_the_export_date(root: Path) -> None:
    data = resolve("cropharvest", root.parent, {"task": "brazil"})
    assert find_folder(root.parent) == find_folder(root) == root
    rows = [data.ids.index("7_lem-brazil"), data.ids.index("Brazil_coffee_2021_0_0/2")]
    batch = data.read(rows)
    with h5py.File(root / "features" / "arrays" / "7_lem-brazil.h5") as file:
        own = file["array"][...]
    with h5py.File(root / "test_features" / "Brazil_coffee_2021_0_0.h5") as file:
        of_test = file["x"][2]
    for place, stored in enumerate((own, of_test)):
        for modality, bands in data.card.bands.items():
            images = batch.images[modality][place, 0, 0]
            assert images.shape == (12, len(bands))
            for d, band in enumerate(bands):
                name = band.replace("B0", "B")
                np.testing.assert_allclose(images[:, d], stored[:, STORED.index(name)], rtol=1e-6)
    assert batch.timestamps[0, :, 1].tolist() == [*range(1, 12), 0]  # February to January
    for place, end in enumerate((date(2020, 2, 1), date(2021, 2, 1))):
        days = [date(y, m + 1, d) for d, m, y in batch.timestamps[place].tolist()]
        assert days[-1] + timedelta(days=30) == end
        assert {b - a for a, b in pairwise(days)} == {timedelta(days=30)}


@pytest.mark.parametrize(
    ("task", "source", "training", "positive", "tests"),
    [
        ("togo", "togo", 20, 10, 8),
        ("kenya", "kenya", 21, 5, 4),  # a crop of unknown name is neither
        ("brazil", "lem-brazil", 20, 5, 5),
    ],
)
def test_published_tests_are_kept_and_the_rest_validates_by_class(
    root: Path, task: str, source: str, training: int, positive: int, tests: int
) -> None:
    data = CropHarvest(root, task=task)
    for seed in range(3):
        split = data.splits(seed)
        assert sorted(np.concatenate(list(split.values()))) == list(range(training + tests))
        assert len(split["test"]) == tests
        others = np.concatenate([split["train"], split["val"]])
        assert {data.ids[r].split("_")[1] for r in others} == {source}
        assert np.bincount(data.labels[others]).tolist() == [training - positive, positive]
        share = np.bincount(data.labels[split["val"]])
        assert share.tolist() == [round(0.2 * (training - positive)), round(0.2 * positive)]
    assert not np.array_equal(data.splits(0)["val"], data.splits(1)["val"])
    assert "seeded" in data.card.split_rule
    assert "9 labels without an array" in " ".join(data.card.notes)


def test_labels_of_tests_are_those_of_the_file(root: Path) -> None:
    data = CropHarvest(root, task="kenya")
    test = data.splits(0)["test"]
    assert [data.ids[r] for r in test] == [
        *(f"Kenya_maize_2020_0_0/{i}" for i in (1, 3, 4)),
        "Kenya_maize_2020_1_0/0",
    ]
    assert data.labels[test].tolist() == [1, 0, 1, 0]


def test_the_world_is_split_in_blocks_without_the_published_tests(root: Path) -> None:
    data = CropHarvest(root, task="crop")
    assert len(data.ids) == 62
    assert not any("togo-eval" in name for name in data.ids)
    split = data.splits(0)
    assert sorted(np.concatenate(list(split.values()))) == list(range(62))
    sources = [{data.ids[row].split("_")[1] for row in rows} for rows in split.values()]
    assert sum(len(s) for s in sources) == 3  # each country lies in one block here


def test_labels_are_read_without_pixels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    true = cropharvest_arrays.open_hdf5
    monkeypatch.setattr(
        cropharvest_arrays, "open_hdf5", lambda path: opened.append(path.name) or true(path)
    )
    monkeypatch.setattr(cropharvest, "read_arrays", lambda _: pytest.fail("pixels were read"))
    data = CropHarvest(root)
    assert len(data.ids) == len(data.labels) == 28
    assert opened == ["togo-eval.h5"]  # for its labels


def test_the_fingerprint_holds_pixels_labels_and_dates(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    seen = [CropHarvest(root, cache_dir=cache).fingerprint for _ in range(2)]
    assert seen[0] == seen[1]
    change(root, "3_togo", lambda values: values + 1)
    seen.append(CropHarvest(root, cache_dir=cache).fingerprint)
    edit(root, 3, export_end_date="2021-02-01")
    seen.append(CropHarvest(root, cache_dir=cache).fingerprint)
    edit(root, 3, is_crop=1)
    seen.append(CropHarvest(root, cache_dir=cache).fingerprint)
    assert len(set(seen)) == 4


def edit(root: Path, number: int, **changes: Any) -> None:
    path = root / "labels.geojson"
    content = json.loads(path.read_text())
    content["features"][number]["properties"].update(changes)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda r: (r / "labels.geojson").unlink(), "labels.geojson is missing"),
        (lambda r: (r / "labels.geojson").write_text("{}"), "is no table of CropHarvest's labels"),
        (lambda r: (r / "test_features" / "togo-eval.h5").unlink(), "holds no labelled test"),
        (lambda r: edit(r, 3, is_crop=2), "is_crop of sample 3_togo is 2, not 0 or 1"),
        (lambda r: edit(r, 3, index=4), "lists sample 4_togo twice"),
        (
            lambda r: edit(r, 3, export_end_date="soon"),
            "export_end_date of sample 3_togo is 'soon'",
        ),
        (lambda r: edit(r, 3, lat=None), "lat of sample 3_togo is None"),
        (lambda r: [edit(r, i, is_test=True) for i in range(0, 20, 2)], '0 training .* of "crop"'),
        (lambda r: edit(r, -1, export_end_date="2019-02-01"), "its date cannot be told"),
        (lambda r: set_test(r, y=np.full(8, 3)), "togo-eval.h5 has class 3; allowed"),
        (lambda r: set_test(r, x=np.ones((8, 12, 17))), r"has pixels \(8, 12, 17\)"),
    ],
)
def test_bad_labels_are_named(root: Path, broken: Callable[[Path], object], said: str) -> None:
    broken(root)
    with pytest.raises(UserError, match=said):
        CropHarvest(root)


def set_test(root: Path, **arrays: np.ndarray) -> None:
    with h5py.File(root / "test_features" / "togo-eval.h5", "r+") as file:
        for name, array in arrays.items():
            del file[name]
            file[name] = array


def test_a_sample_of_the_test_among_those_for_training_is_refused(root: Path) -> None:
    edit(root, 25, lat=0.474, lon=34.23)  # in the published region, but not marked
    with pytest.raises(UserError, match=r"does not mark sample 5_kenya as test.*overlap"):
        CropHarvest(root, task="kenya")
    with h5py.File(root / "features" / "arrays" / "0_togo-eval.h5", "w") as file:
        file["array"] = np.ones((12, 18))
    edit(root, -8, is_test=False)
    with pytest.raises(UserError, match=r"does not mark sample 0_togo-eval as test.*overlap"):
        CropHarvest(root)
    with pytest.raises(UserError, match=r'Unknown task "Togo".*did you mean "togo"'):
        CropHarvest(root, task="Togo")


def change(root: Path, name: str, to: Callable[[np.ndarray], np.ndarray]) -> None:
    with h5py.File(root / "features" / "arrays" / f"{name}.h5", "r+") as file:
        values = to(file["array"][...])
        del file["array"]
        file["array"] = values


def scaled(values: np.ndarray) -> np.ndarray:
    values[6, 2:13] /= 1e4
    return values


def with_infinity(values: np.ndarray) -> np.ndarray:
    values[0, 0] = -np.inf
    return values


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (scaled, "3_togo.h5 holds reflectance in time step 7"),
        (lambda values: values[:, :17], r"has shape \(12, 17\), expected \(12, 18\)"),
        (lambda values: values[[*range(11), 3]], "holds a time step twice"),
        (with_infinity, "holds NaN or infinity"),
        (lambda values: values.astype("S8"), "values, not numbers"),
    ],
    ids=["mixed units", "shape", "repeated", "infinite", "text"],
)
def test_a_bad_array_is_named(
    root: Path, to: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    change(root, "3_togo", to)
    data = CropHarvest(root)
    with pytest.raises(UserError, match=said):
        data.read([data.ids.index("3_togo")])


def test_damage_and_mixed_releases_are_named(root: Path) -> None:
    path = root / "features" / "arrays" / "3_togo.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["label_lat"] = 9.9
    with pytest.raises(UserError, match=r"label_lat 9.9000, but the labels say 8.5300"):
        CropHarvest(root).digests()
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"3_togo.h5 is not a readable HDF5 file"):
        CropHarvest(root).digests()
