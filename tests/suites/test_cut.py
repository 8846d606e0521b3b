"""Cut images and series, and few labels: what is left is what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from models.errors import UserError
from suites.datasets.base import Batch
from suites.datasets.cut import Cut
from suites.datasets.simulated import Simulated
from suites.datasets.splits import duplicates_among, few_labels, joined, split_of_groups


class Series:
    """Ten series of five steps with a map each."""

    card = replace(Simulated(size=100).card, height=9, width=8, steps=5, kind="maps", name="series")
    ids = tuple(str(i) for i in range(10))
    labels = np.arange(10 * 9 * 8).reshape(10, 9, 8)
    fingerprint = "0" * 64

    def splits(self, seed: int) -> Mapping[str, np.ndarray]:
        return {"train": np.arange(4), "val": np.arange(4, 7), "test": np.arange(7, 10)}

    def read(self, rows: Sequence[int]) -> Batch:
        images = np.arange(10 * 9 * 8 * 5 * 2, dtype=np.float32).reshape(10, 9, 8, 5, 2)
        dates = np.tile(np.stack([np.ones(5), np.arange(5), np.full(5, 2020)], axis=-1), (10, 1, 1))
        return Batch({"sentinel2_l2a": images[list(rows)]}, dates[list(rows)].astype(np.int64))


def test_the_middle_of_images_and_maps_and_evenly_spread_steps() -> None:
    whole, cut = Series(), Cut(Series(), side=4, steps=3)
    assert (cut.card.height, cut.card.width, cut.card.steps) == (4, 4, 3)
    batch, all_ = cut.read([2]), whole.read([2])
    np.testing.assert_array_equal(
        batch.images["sentinel2_l2a"], all_.images["sentinel2_l2a"][:, 2:6, 2:6][:, :, :, [0, 2, 4]]
    )
    assert batch.timestamps[0, :, 1].tolist() == [0, 2, 4]
    np.testing.assert_array_equal(cut.labels, whole.labels[:, 2:6, 2:6])
    assert any("middle 4 x 4 pixels of 9 x 8" in note for note in cut.card.notes)
    assert any("1, 3, 5 of 5" in note for note in cut.card.notes)
    assert Cut(Series(), None, 1).read([0]).timestamps[0, :, 1].tolist() == [4]
    prints = {
        Cut(Series(), side, steps).fingerprint for side in (4, 8, None) for steps in (2, None)
    }
    assert len(prints) == 6


def test_twins_whose_maps_are_asked_about_alike_do_not_contradict_each_other() -> None:
    maps = np.full((3, 2, 2), np.nan)
    maps[:, 0] = 1.0
    maps[2, 0, 0] = 2.0
    assert duplicates_among("aab", "xyz", maps, {}).conflicting == ()
    assert duplicates_among("aaa", "xyz", maps, {}).conflicting == (("x", "y", "z"),)


def test_more_than_there_is_cannot_be_cut() -> None:
    with pytest.raises(UserError, match="series has 8 pixels a side; 9 cannot be cut out of it"):
        Cut(Series(), 9, None)
    with pytest.raises(UserError, match="series has 5 time steps; 6 cannot"):
        Cut(Series(), None, 6)


def test_few_labels_keep_every_class_and_larger_shares_hold_smaller_ones() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 5])
    rows = np.arange(0, 95)
    before: set[int] = set()
    for fraction in (0.02, 0.1, 0.5, 1.0):
        found = few_labels(labels, "classes", rows, fraction, seed=3)
        counts = np.bincount(labels[found], minlength=3)
        assert counts.tolist() == [max(1, round(fraction * n)) for n in (60, 30, 5)]
        assert before <= set(found.tolist())
        before = set(found.tolist())
    first, other = (few_labels(labels, "classes", rows, 0.1, seed=s) for s in (0, 1))
    assert not np.array_equal(first, other)
    numbers = few_labels(np.random.default_rng(0).random(95), "values", rows[:50], 0.1, seed=0)
    assert len(numbers) == 5
    assert set(numbers) <= set(range(50))


def test_groups_are_dealt_whole_and_a_giant_does_not_become_the_test_set() -> None:
    groups = ["giant"] * 80 + [f"small {n // 2}" for n in range(20)]
    for seed in range(20):
        first, second = split_of_groups(groups, 0.2, seed)
        assert sorted([*first, *second]) == list(range(100))
        names = {groups[row] for row in first} & {groups[row] for row in second}
        assert not names
        assert 1 <= len(second) <= 30
    with pytest.raises(UserError, match="belong to one group"):
        split_of_groups(["a", "a"], 0.5, 0)


def test_what_belongs_together_by_either_name_stays_together() -> None:
    farms = ["a", "a", "b", "c", "d"]
    pixels = ["1", "2", "2", "3", "4"]  # the second of farm a is the same image as farm b's
    found = joined(farms, pixels)
    assert len(set(found[:3])) == 1
    assert len(set(found)) == 3
