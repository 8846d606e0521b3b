"""PASTIS-R: monthly means by date, quarters, published folds; what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import UserError
from suites.datasets.pastis import Pastis, find_folder

PATCHES = {"10003": 5, "20001": 1, "20002": 4}


def dates(count: int, days: int) -> dict[str, int]:
    """From September 2018 on, every so many days; keys are texts, and come in any order."""
    start = np.datetime64("2018-09-03")
    listed = {str(i): int(str(start + i * days).replace("-", "")) for i in range(count)}
    return dict(sorted(listed.items(), key=lambda item: item[0], reverse=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "PASTIS-R"
    for part in ("DATA_S2", "DATA_S1A", "ANNOTATIONS"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    features = []
    for name, fold in PATCHES.items():
        s2 = rng.integers(-5, 6000, (40, 10, 128, 128)).astype(np.int16)
        s1 = rng.normal(-12, 3, (70, 3, 128, 128)).astype(np.float32)
        np.save(root / "DATA_S2" / f"S2_{name}.npy", s2)
        np.save(root / "DATA_S1A" / f"S1A_{name}.npy", s1)
        target = rng.integers(0, 20, (3, 128, 128)).astype(np.uint8)
        np.save(root / "ANNOTATIONS" / f"TARGET_{name}.npy", target)
        features.append(
            {
                "properties": {
                    "ID_PATCH": int(name),
                    "Fold": fold,
                    "dates-S2": dates(40, 10),
                    "dates-S1A": dates(70, 6),
                }
            }
        )
    (root / "metadata.geojson").write_text(json.dumps({"features": features}))
    return root


def by_month(listed: dict[str, int], year: int, month: int) -> list[int]:
    return [int(i) for i, d in listed.items() if d // 100 == year * 100 + month]


def test_months_are_means_and_quarters_are_cut(folder: Path) -> None:
    assert find_folder(folder.parent) == find_folder(folder) == folder
    data = Pastis(folder)
    row = data.ids.index("20002/64-0")
    batch = data.read([row])
    assert batch.timestamps[0, 0].tolist() == [1, 8, 2018]
    assert batch.timestamps[0, 11].tolist() == [1, 7, 2019]
    s2 = np.load(folder / "DATA_S2" / "S2_20002.npy").astype(float)
    s1 = np.load(folder / "DATA_S1A" / "S1A_20002.npy").astype(float)
    optical, radar = batch.images["sentinel2_l2a"], batch.images["sentinel1"]
    assert optical.shape == (1, 64, 64, 12, 10)
    for step, (year, month) in ((0, (2018, 9)), (3, (2018, 12)), (11, (2019, 8))):
        of_month = s2[by_month(dates(40, 10), year, month)].mean(axis=0)
        expected = np.rint(of_month).clip(0)[:, 64:, :64].transpose(1, 2, 0)
        np.testing.assert_array_equal(optical[0, :, :, step], expected)
        of_month = s1[by_month(dates(70, 6), year, month), :2].mean(axis=0)
        np.testing.assert_allclose(
            radar[0, :, :, step], of_month[:, 64:, :64].transpose(1, 2, 0), rtol=1e-5
        )
    target = np.load(folder / "ANNOTATIONS" / "TARGET_20002.npy")[0, 64:, :64].astype(int)
    np.testing.assert_array_equal(data.labels[row], np.where(target == 19, -1, target))


def test_published_folds(folder: Path) -> None:
    data = Pastis(folder)
    for name, patch in (("train", "20001"), ("val", "20002"), ("test", "10003")):
        assert {data.ids[row].split("/")[0] for row in data.splits(7)[name]} == {patch}
        assert len(data.splits(7)[name]) == 4


def _edit(folder: Path, change: Any) -> None:
    path = folder / "metadata.geojson"
    content = json.loads(path.read_text())
    change(content["features"][0]["properties"])
    path.write_text(json.dumps(content))


def _first_two(folder: Path, second: Any) -> None:
    path = folder / "DATA_S2" / "S2_10003.npy"
    s2 = np.load(path).astype(np.float32)
    s2[1] = second(s2)
    np.save(path, s2)


def _image_twice(folder: Path) -> None:
    _first_two(folder, lambda s2: s2[0])
    _edit(folder, lambda p: p["dates-S2"].update({"1": 20180903}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: _edit(f, lambda p: p["dates-S2"].popitem()), "but 39 dates"),
        (lambda f: _edit(f, lambda p: p.pop("Fold")), "is no metadata of PASTIS-R"),
        (lambda f: (f / "DATA_S1A" / "S1A_10003.npy").unlink(), "S1A_10003.npy is missing"),
        (
            lambda f: (f / "DATA_S2" / "S2_10003.npy").write_bytes(b"x"),
            "not a readable NumPy array",
        ),
        (
            lambda f: np.save(f / "ANNOTATIONS" / "TARGET_10003.npy", np.full((3, 128, 128), 20)),
            "classes outside 0 to 19",
        ),
        (
            lambda f: _edit(
                f, lambda p: p.update({"dates-S2": {str(i): 20180901 for i in range(40)}})
            ),
            "has images in 1 months, expected 12",
        ),
        (lambda f: _edit(f, lambda p: p.update(Fold=6)), "patch 10003 into fold 6"),
        (lambda f: _edit(f, lambda p: p.update(Fold=1)), r"no patch of the test split \(fold 5\)"),
        (lambda f: _edit(f, lambda p: p["dates-S2"].update({"0": 20181301})), "is no metadata of"),
        (
            lambda f: np.save(f / "DATA_S2" / "S2_10003.npy", np.ones((40, 10, 64, 128))),
            "and 128 x 128 pixels are expected",
        ),
        (lambda f: _first_two(f, lambda s2: s2[0] / 1e4), "reflectance in time step 2"),
        (_image_twice, "S2_10003.npy holds the image of 20180903 twice"),
    ],
)
def test_what_is_broken_is_named(folder: Path, harm: Any, said: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=said):
        _read_all(folder)


def _read_all(folder: Path) -> None:
    data = Pastis(folder)
    _ = data.labels
    data.read(range(len(data.ids)))
