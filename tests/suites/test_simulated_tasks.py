"""The simulated tasks: solvable, not trivial, and true to the ground they show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score

from models.errors import UserError
from suites.datasets.catalogue import resolve
from suites.datasets.simulated_tasks import COVERS, TASKS, SimulatedTask
from suites.datasets.spectra import BANDS

Images = npt.NDArray[np.float32]
RED, NEAR_INFRARED, SHORT_WAVE = (BANDS.index(name) for name in ("B04", "B08", "B11"))


def images_of(name: str, count: int = 100) -> tuple[SimulatedTask, Images]:
    data = SimulatedTask(name, count)
    return data, data.read(range(count)).images["sentinel2_l2a"]


def greenness(images: Images) -> Images:
    near, red = images[..., NEAR_INFRARED], images[..., RED]
    index: Images = (near - red) / (near + red)
    return index


def test_covers_have_the_spectra_of_what_they_are() -> None:
    data, images = images_of("simulated-cover")
    pixels, cover = images[:, :, :, 0], data.labels
    mean = {name: pixels[cover == place].mean(axis=0) for place, name in enumerate(COVERS)}
    green = {name: float(greenness(spectrum)) for name, spectrum in mean.items()}
    assert min(green["trees"], green["crops"]) > 0.4 > max(green["built"], green["bare soil"])
    assert mean["water"][SHORT_WAVE] < 0.4 * min(
        mean[name][SHORT_WAVE] for name in COVERS if name != "water"
    )


def test_labels_numbers_and_maps_tell_of_the_same_ground() -> None:
    cover, labels, trees = (
        SimulatedTask(name, 100)
        for name in ("simulated-cover", "simulated-labels", "simulated-trees")
    )
    shares = np.stack([(cover.labels == c).mean(axis=(1, 2)) for c in range(len(COVERS))], axis=1)
    place = list(COVERS).index("trees")
    assert np.corrcoef(shares[:, place], trees.labels)[0, 1] > 0.97
    tree_map = SimulatedTask("simulated-tree-map", 100).labels
    np.testing.assert_allclose(tree_map.mean(axis=(1, 2), dtype=float), trees.labels, rtol=1e-5)
    assert (labels.labels[shares > 0.3] == 1).all()  # a cover of 30% is one of more than 10%
    assert 0.1 < labels.labels.mean() < 0.7
    for other in (labels, trees):
        pixels = [data.read([17]).images["sentinel2_l2a"] for data in (cover, other)]
        np.testing.assert_array_equal(*pixels)


def test_felled_stands_lose_their_green_and_others_do_not() -> None:
    data, images = images_of("simulated-felling")
    lost = greenness(images[:, :, :, 0]) - greenness(images[:, :, :, 1])
    felled = data.labels == 1
    assert 0.1 < felled.mean() < 0.4
    assert lost[felled].mean() > 0.1 > abs(lost[~felled].mean())
    assert (images[:, :, :, 0] != images[:, :, :, 1]).mean() > 0.9  # another day, another sky


def test_a_year_tells_crops_apart_and_a_month_does_not() -> None:
    data, images = images_of("simulated-crops", 600)
    year = images.reshape(600, 12, len(BANDS))

    def accuracy(features: npt.NDArray[np.float32]) -> float:
        forest = RandomForestClassifier(100, random_state=0).fit(features[:300], data.labels[:300])
        return float(accuracy_score(data.labels[300:], forest.predict(features[300:])))

    whole, july = accuracy(year.reshape(600, -1)), accuracy(year[:, 6])
    assert 0.75 < whole < 0.99
    assert july < whole - 0.1


@pytest.mark.parametrize("name", TASKS)
def test_same_bytes_for_the_same_size_and_seed(name: str) -> None:
    one, other, larger = (SimulatedTask(name, size) for size in (100, 100, 120))
    assert one.fingerprint == other.fingerprint != larger.fingerprint
    assert SimulatedTask(name, 100, seed=1).fingerprint != one.fingerprint
    both = [data.read([99, 3]).images["sentinel2_l2a"] for data in (one, larger)]
    np.testing.assert_array_equal(*both)
    np.testing.assert_array_equal(larger.labels[:100], one.labels)
    rows = np.concatenate(list(one.splits(0).values()))
    assert sorted(rows.tolist()) == list(range(100))
    assert one.card.origin == "simulated"
    assert "SIMULATED" in one.card.title
    with pytest.raises(UserError, match=f"{name} cannot have size 20; allowed: 100 to"):
        resolve(name, None, {"size": 20})
