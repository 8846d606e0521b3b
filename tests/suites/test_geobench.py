"""GEO-Bench samples: the correction of band names, published splits, pickles that do nothing."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from models.errors import UserError
from suites.datasets import eurosat, simulated
from suites.datasets.geobench import SPECS, GeoBench, read_sample
from suites.datasets.inert import Inert, read_pickle

Writer = Callable[[Path, np.ndarray, bytes], None]


def test_corrected_names_point_at_the_true_bands(geobench_folder: Path) -> None:
    """The published names put 8A where B09 is; each band is checked against its true pixels."""
    truth = simulated.tile(4, 1)
    for order, wrong in (("corrected", False), ("as-published", True)):
        data = GeoBench(geobench_folder, band_order=order)
        names = data.card.bands["sentinel2_l2a"]
        image = data.read([data.ids.index("id_4")]).images["sentinel2_l2a"][0, :, :, 0]
        held = {
            name: np.array_equal(image[:, :, i], truth[:, :, eurosat.BANDS.index(name)])
            for i, name in enumerate(names)
        }
        misplaced = {name for name, same in held.items() if not same}
        assert misplaced == ({"B8A", "B09", "B10", "B11", "B12"} if wrong else set())
        assert any("08A, 09, 10, 11, 12 hold B09, B10, B11, B12, B8A" in n for n in data.card.notes)


def test_labels_ids_and_published_split(geobench_folder: Path) -> None:
    data = GeoBench(geobench_folder)
    assert data.labels.tolist() == [i % 10 for i in range(30)]
    assert data.ids[:3] == ("id_0", "id_1", "id_2")
    assert data.splits(0)["val"].tolist() == list(range(10, 20))
    assert data.splits(0)["test"].tolist() == data.splits(9)["test"].tolist()
    small = GeoBench(geobench_folder, partition="0.01x_train")
    assert [small.ids[r] for r in small.splits(0)["train"]] == ["id_0", "id_1"]
    orders = {GeoBench(geobench_folder, band_order=o).fingerprint for o in ("corrected",) * 2}
    assert orders == {data.fingerprint}
    assert GeoBench(geobench_folder, band_order="as-published").fingerprint != data.fingerprint


def test_settings_that_do_not_exist(geobench_folder: Path) -> None:
    with pytest.raises(UserError, match=r"Allowed: 0\.01x_train, default"):
        GeoBench(geobench_folder, partition="0.1x_train")
    with pytest.raises(UserError, match="allowed: as-published, corrected"):
        GeoBench(geobench_folder, band_order="fixed")
    (geobench_folder / "id_7.hdf5").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the 30.*id_7"):
        GeoBench(geobench_folder)


class _Touch:
    """Pickles into a call: the classic payload."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_record_is_refused_and_not_run(
    geobench_folder: Path, sample_writer: Writer, tmp_path: Path, protocol: int
) -> None:
    trace = tmp_path / "executed"
    payload = {"label": 1, "extra": _Touch(f"touch {trace}")}
    path = geobench_folder / "id_3.hdf5"
    sample_writer(path, simulated.tile(3, 1), pickle.dumps(payload, protocol=protocol))
    with pytest.raises(UserError, match=r"id_3\.hdf5.*nothing was executed"):
        _ = GeoBench(geobench_folder).labels
    assert not trace.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'touch TRACE'\ntR.",
        b"(S'touch TRACE'\nios\nsystem\n.",
        b'c__builtin__\neval\n(S\'open("TRACE","w")\'\ntR.',
        b"\x80\x04\x8c\x08geobench\x94\x8c\x10dataset.__init__\x94\x93\x8c\x05TRACE\x85R.",
        b"\x80\x02\x82\x01.",
        b"Pfoo\n.",
    ],
)
def test_hand_made_pickles_do_nothing(stream: bytes, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    content = stream.replace(b"TRACE", str(trace).encode())
    try:
        value = read_pickle(content, "a file")
    except UserError:
        value = None
    assert value is None or isinstance(value, Inert)
    assert not trace.exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40_000])


def _drop_band(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["11 - SWIR"]


def _small_band(path: Path) -> None:
    _drop_band(path)
    with h5py.File(path, "a") as file:
        file["11 - SWIR"] = np.zeros((32, 32), np.int16)


def _not_numbers(path: Path) -> None:
    _drop_band(path)
    with h5py.File(path, "a") as file:
        file["11 - SWIR"] = np.full((64, 64), np.nan)


def _no_record(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["pickle"]


def _odd_label(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["pickle"] = repr(pickle.dumps({"label": 10}))


def _code_instead(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["pickle"] = "__import__('os').getcwd()"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, "truncated"),
        (_drop_band, '"11 - SWIR"'),
        (_small_band, "(32, 32)"),
        (_not_numbers, "not numbers"),
        (_no_record, "no metadata record"),
        (_odd_label, "label 10 is out of range"),
        (_code_instead, "not a pickled bytes literal"),
    ],
)
def test_broken_sample_is_named(
    geobench_folder: Path, damage: Callable[[Path], None], says: str
) -> None:
    victim = geobench_folder / "id_12.hdf5"
    damage(victim)
    with pytest.raises(UserError) as caught:
        _ = GeoBench(geobench_folder).labels
    assert str(victim) in str(caught.value)
    assert says in str(caught.value)


def test_real_sample(real_data: Path) -> None:
    path = real_data / "geobench_v1/classification_v1.0/m-eurosat/id_1905.hdf5"
    if not path.is_file():
        pytest.skip("the data folder holds no m-eurosat sample")
    spec = SPECS["m-eurosat"]
    sample = read_sample(path, spec)
    means = dict(zip(spec.corrected, sample.image.mean(axis=(0, 1)), strict=True))
    assert spec.classes[sample.label] == "Forest"
    assert means["B10"] < 20  # the cirrus band, published as "09 - Water vapour"
    assert means["B8A"] > means["B08"] > means["B11"] > means["B12"]  # a forest's spectrum
