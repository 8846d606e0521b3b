"""Crops: which shapes, which windows of which chips, how turned; and what a batch makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import UserError
from models.pretraining.batches import Batch, BatchMaker, Share, ahead
from models.pretraining.chips import Chip
from models.pretraining.crops import CropShape, crop_shapes, look, rows_of, stream
from models.pretraining.loop import of_modalities
from models.pretraining.masking import ENCODE
from models.pretraining.normalising import statistics_of
from models.pretraining.recipe import Crops, Recipe, Setting, Views
from models.tokens import TokenScheme, token_scheme
from tests.models.pretraining import small
from tests.models.pretraining.small import S1, S2, MemoryChips

NO_COLOUR = Views(flips=True)
VV_VH = token_scheme("two", {"sentinel1": [["VV"], ["VH"]]})


def numbered(sizes: Sequence[tuple[int, int, int]]) -> MemoryChips:
    """Pixels that say where they are: row number of the chip, row, column, date, band."""
    made = []
    for number, (height, width, steps) in enumerate(sizes):
        image = np.zeros((height, width, steps, 2), dtype=np.float32)
        for y, x, t, d in product(range(height), range(width), range(steps), range(2)):
            image[y, x, t, d] = 1e5 * number + 1000 * y + 20 * x + 2 * t + d
        dates = np.array([[number + 1, t, 2020] for t in range(steps)])
        made.append(Chip({S1: image}, dates))
    return MemoryChips(made)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("budget", [4, 24, 500])
def test_shapes_fit_chips_and_budget(steps: int, budget: int) -> None:
    chips = small.chips((S1,), side=20, steps=(1, steps))
    crops = Crops(patch_sizes=[2, 5, 8], sides=[1, 2, 3, 4], least_pixels=4, token_budget=budget)
    expected = [
        CropShape(p, side)
        for p in (2, 5, 8)
        for side in (1, 2, 3, 4)
        if p * side <= 20 and p * side >= 4
        # Two groups, at the most dates; at the fewest, something is left to predict of each.
        if side * side * steps * 2 <= budget and side > 1
    ]
    if expected:
        assert list(crop_shapes(crops, chips, VV_VH)) == expected
    else:
        with pytest.raises(UserError, match=f"No crop fits.*20 pixels.*{steps} time.*{budget} tok"):
            crop_shapes(crops, chips, VV_VH)


def test_one_patch_needs_two_dates() -> None:
    crops = Crops(patch_sizes=[4], sides=[1])
    assert crop_shapes(crops, small.chips((S1,), steps=2), VV_VH) == (CropShape(4, 1),)
    with pytest.raises(UserError, match="one token a band group"):
        crop_shapes(crops, small.chips((S1,), steps=(1, 2)), VV_VH)


def test_a_crop_is_a_window_of_its_chip_in_one_of_eight_positions() -> None:
    chips = numbered([(6, 6, 1), (5, 7, 1)])
    rows = [0, 1] * 400
    seen = look(chips, rows, CropShape(2, 2), NO_COLOUR, stream("p"), stream("f"))
    windows = set()
    for place, row in enumerate(rows):
        image = seen.images[S1][place, :, :, 0]
        assert (image[..., 1] == image[..., 0] + 1).all()
        value = image[..., 0] - 1e5 * row
        ys, xs = (value // 1000).astype(int), (value % 1000 // 20).astype(int)
        top, left = int(ys.min()), int(xs.min())
        ys, xs = ys - top, xs - left
        # The eight symmetries of the square, written out: rows or columns first, each either way.
        grid = np.arange(4)
        axes = [(grid, grid), (grid, grid[::-1]), (grid[::-1], grid), (grid[::-1], grid[::-1])]
        found = [
            (number, turned)
            for number, (a, b) in enumerate(axes)
            for turned in (False, True)
            if (ys == (b[None, :] if turned else a[:, None])).all()
            and (xs == (a[:, None] if turned else b[None, :])).all()
        ]
        assert len(found) == 1
        windows.add((row, top, left, found[0]))
        assert seen.timestamps[place].tolist() == [[row + 1, 0, 2020]]
    positions = {(row, top, left) for row, top, left, _ in windows}
    assert positions == {(0, y, x) for y in range(3) for x in range(3)} | {
        (1, y, x) for y in range(2) for x in range(4)
    }
    assert len({turn for *_, turn in windows}) == 8
    still = look(chips, rows, CropShape(2, 2), Views(flips=False), stream("p"), stream("f"))
    assert (np.diff(still.images[S1][..., 0, 0], axis=1) == 1000).all()


def test_dates_are_as_many_as_the_shortest_has_in_order() -> None:
    chips = numbered([(4, 4, 2), (4, 4, 5)])
    rows = [1, 0, 1] * 60
    seen = look(chips, rows, CropShape(4, 1), NO_COLOUR, stream("p"), stream("f"))
    assert seen.images[S1].shape == (180, 4, 4, 2, 2)
    chosen = set()
    for place, row in enumerate(rows):
        dates = seen.timestamps[place][:, 1].tolist()
        assert dates == sorted(set(dates))
        images = seen.images[S1][place]
        assert ((images[..., 0] % 20 // 2) == np.array(dates)).all()
        chosen.add((row, *dates))
    pairs = {(1, a, b) for a in range(5) for b in range(a + 1, 5)}
    assert chosen == {(0, 0, 1)} | pairs


@pytest.mark.parametrize(("brightness", "gain"), [(0.2, 0.0), (0.0, 0.2), (0.2, 0.1)])
def test_factors_are_per_sample_and_per_band(brightness: float, gain: float) -> None:
    chips = small.chips((S2, S1), count=6, steps=2)
    views = Views(flips=False, brightness=brightness, band_gain=gain)
    rows, shape = list(range(6)) * 60, CropShape(8, 1)
    plain = look(chips, rows, shape, Views(flips=False), stream("p"), stream("f"))
    coloured = look(chips, rows, shape, views, stream("p"), stream("f"))
    # Radar is in dB, of which a factor makes nothing that a radar would see.
    np.testing.assert_array_equal(coloured.images[S1], plain.images[S1])
    for name, image in [(S2, plain.images[S2])]:
        ratio = coloured.images[name] / image
        factor = ratio[:, 0, 0, 0]  # [B, D]: the same in every pixel and on every date
        np.testing.assert_allclose(ratio, np.broadcast_to(
            factor[:, None, None, None], ratio.shape), rtol=1e-4)  # fmt: skip
        logs = np.log(factor)
        if not gain:
            np.testing.assert_allclose(logs, logs[:, :1].repeat(logs.shape[1], 1), atol=1e-5)
        assert logs.std() == pytest.approx(np.hypot(brightness, gain), rel=0.25)
        assert abs(logs.mean()) < 0.05


def test_epochs_are_permutations_one_after_another() -> None:
    batches = [rows_of(step, 5, 7, seed=3) for step in range(14)]
    rows = np.concatenate(batches).reshape(10, 7)
    assert (np.sort(rows, axis=1) == np.arange(7)).all()
    assert len({tuple(epoch) for epoch in rows}) > 5
    assert (np.concatenate([rows_of(0, 16, 7, seed=3)]) == np.concatenate(batches)[:16]).all()
    assert (rows_of(0, 5, 7, seed=4) != batches[0]).any()


def maker(
    recipe: Recipe, setting: Setting, chips: MemoryChips, share: Share = small.ALONE.share
) -> BatchMaker:
    names = tuple(chips.bands)
    every: dict[str, Any] = {
        S2: token_scheme("a", {S2: [chips.bands[S2]]}).groups[S2],
        S1: token_scheme("b", {S1: [["VV", "VH"]]}).groups[S1],
    }
    scheme = of_modalities(TokenScheme("small", every), names)
    statistics = statistics_of(setting.normalisation, chips, names)
    return BatchMaker(recipe, setting, scheme, chips, statistics, 5, share)


def tensors(batch: Batch) -> list[torch.Tensor]:
    found = []
    for view in batch.views:
        for part in (view.images, view.seen, view.roles):
            found += list(part.values())
        found.append(view.timestamps)
    return found


@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_share_what_one_would_see(accumulate: int) -> None:
    chips = small.chips((S2, S1), steps=(2, 3))
    setting = small.setting(batch=8, accumulate=accumulate, views={"brightness": 0.1})
    recipe = small.recipe(**small.V11)
    for part in range(accumulate):
        whole = tensors(maker(recipe, setting, chips).make(3, part))
        shares = [
            tensors(maker(recipe, setting, chips, Share(rank, 2)).make(3, part)) for rank in (0, 1)
        ]
        for one, a, b in zip(whole, *shares, strict=True):
            assert torch.equal(one, torch.cat([a, b]))


def test_a_process_reads_its_own_chips_only(monkeypatch: pytest.MonkeyPatch) -> None:
    chips, read = small.chips(count=8), list[int]()
    plain = type(chips).chip

    def counted(self: Any, row: int) -> Any:
        read.append(row)
        return plain(self, row)

    monkeypatch.setattr(type(chips), "chip", counted)
    maker(small.recipe(), small.setting(batch=8), chips, Share(1, 2)).make(0, 0)
    assert read == 2 * rows_of(0, 8, 8, 5)[4:].tolist()  # two views


def test_parts_are_the_batch() -> None:
    chips = small.chips(count=8)
    for row, chip in enumerate(chips.chips):
        chip.timestamps[:, 0] = row
    setting = small.setting(batch=8, accumulate=2)
    made = maker(small.recipe(), setting, chips)
    seen = [made.make(0, part).views[0].timestamps[:, 0, 0] for part in (0, 1)]
    assert torch.cat(seen).tolist() == rows_of(0, 8, 8, 5).tolist()


def test_band_dropout_reaches_what_is_seen_and_nothing_else() -> None:
    chips = small.chips((S2, S1))
    setting = small.setting(batch=12)
    with_it, without = (
        maker(small.recipe(masking="random-and-time", band_dropout=rate), setting, chips)
        for rate in (0.9, None)
    )
    dropped = 0
    for step in range(4):
        for a, b in zip(with_it.make(step, 0).views, without.make(step, 0).views, strict=True):
            for name in a.images:
                assert torch.equal(a.images[name], b.images[name])
                assert torch.equal(a.roles[name], b.roles[name])
                assert torch.equal(b.seen[name], b.images[name])
                if name == S1:  # optical sensors only
                    assert torch.equal(a.seen[name], a.images[name])
                    continue
                zero = (a.seen[name] == 0).all(dim=(1, 2, 3))
                kept = ~zero[:, None, None, None].expand_as(a.seen[name])
                assert torch.equal(a.seen[name][kept], a.images[name][kept])
                assert not zero.all(dim=1).any()
                dropped += int(zero.sum())
    assert dropped > 50


def test_a_step_has_one_rate_of_band_dropout_for_both_views() -> None:
    recipe, setting = small.recipe(masking="random-and-time", band_dropout=0.2), small.setting
    made = maker(recipe, setting(batch=512), small.chips(count=16))
    rates = torch.tensor(
        [
            [float((view.seen[S2] == 0).all(dim=(1, 2, 3)).float().mean()) for view in batch.views]
            for batch in (made.make(step, 0) for step in range(24))
        ]
    )
    assert float((rates[:, 0] - rates[:, 1]).abs().max()) < 0.025
    assert float(rates.max()) < 0.21
    assert float(rates.mean()) == pytest.approx(0.1, abs=0.03)  # U(0, 0.2)
    assert float(rates.max() - rates.min()) > 0.12


@pytest.mark.parametrize("crop", ["own", "shared"])
def test_views_share_a_crop_or_have_each_its_own(crop: str) -> None:
    chips = small.chips(count=8)
    setting = small.setting(batch=8, views={"crop": crop})
    a, b = maker(small.recipe(), setting, chips).make(0, 0).views
    assert torch.equal(a.images[S2], b.images[S2]) == (crop == "shared")
    assert not torch.equal(a.roles[S2], b.roles[S2])
    assert torch.equal(a.timestamps, b.timestamps)


@pytest.mark.parametrize("whose", ["family", "chips"])
def test_images_are_normalised_crops(whose: str) -> None:
    chips = small.chips(count=4, side=16)
    setting = small.setting(normalisation=whose, views={"flips": False},
                            crops={"patch_sizes": [8], "sides": [2]})  # fmt: skip
    made = maker(small.recipe(), setting, chips)
    statistics = made.statistics[S2]
    if whose == "chips":
        every = np.concatenate([chip.images[S2].reshape(-1, 12) for chip in chips.chips])
        np.testing.assert_allclose(statistics.mean, every.mean(0, dtype=np.float64))
        np.testing.assert_allclose(statistics.std, every.std(0, dtype=np.float64), rtol=1e-6)
    low, wide = statistics.mean - 2 * statistics.std, 4 * statistics.std
    found = made.make(0, 0).views[0].images[S2]
    for place, row in enumerate(rows_of(0, 4, 4, 5)):
        expected = (chips.chips[row].images[S2] - low) / wide
        np.testing.assert_allclose(found[place], expected, atol=1e-4)


def test_smaller_patches_are_enlarged_and_keep_their_distance() -> None:
    chips = small.chips(count=4, side=8, steps=2)
    setting = small.setting(crops={"patch_sizes": [4], "sides": [2]}, views={"flips": False})
    batch = maker(small.recipe(), setting, chips).make(0, 0)
    view = batch.views[0]
    assert batch.spacing == 4
    assert view.images[S2].shape == (4, 16, 16, 2, 12)
    assert view.roles[S2].shape == (4, 2, 2, 2, 1)
    assert bool((view.roles[S2] == ENCODE).flatten(1).any(dim=1).all())
    statistics = statistics_of("family", chips, (S2,))[S2]
    image = chips.chips[int(rows_of(0, 4, 4, 5)[0])].images[S2][:, :, 1, 3]
    one = torch.tensor((image - statistics.mean[3]) / (4 * statistics.std[3]) + 0.5)
    expected = torch.nn.functional.interpolate(
        one[None, None].float(), size=(16, 16), mode="bicubic", antialias=True
    )[0, 0]
    torch.testing.assert_close(view.images[S2][0, :, :, 1, 3], expected, rtol=0, atol=1e-4)


def test_batches_ahead_are_those_asked_for() -> None:
    made = maker(small.recipe(), small.setting(batch=4, accumulate=2), small.chips())
    for workers in (1, 3):
        for step, parts in enumerate(ahead(made, 2, 6, workers), start=2):
            for part, batch in enumerate(parts):
                for a, b in zip(tensors(batch), tensors(made.make(step, part)), strict=True):
                    assert torch.equal(a, b)
        assert step == 5
    assert list(ahead(made, 6, 6)) == []
