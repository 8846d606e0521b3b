"""The segmentation probe against plain torch: one head at a time, trained by autograd and AdamW."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score, root_mean_squared_error
from torch import nn

from harness.metrics import metric
from harness.probes.base import Withheld
from harness.probes.linear import (
    Training,
    initial_linear,
    learning_rate_factors,
    minibatches,
)
from harness.probes.segmentation import MapInputs, MapSettings, run_segmentation, train_heads
from models.errors import UserError

N, GRID, PATCH, DIM, CLASSES = 24, 3, 4, 6, 3
VIEW = ("pretraining", "mean")
SPLITS = {"train": np.arange(12), "val": np.arange(12, 16), "test": np.arange(16, 24)}


def make_inputs(signal: float = 3.0) -> MapInputs:
    """Left and right half of each patch are of one class each, told by its embedding."""
    g = torch.Generator().manual_seed(0)
    halves = torch.randint(0, CLASSES, (N, GRID, GRID, 2), generator=g)
    codes = torch.randn(2, CLASSES, DIM, generator=g)
    features = signal * (codes[0][halves[..., 0]] + codes[1][halves[..., 1]])
    features = 5 + features + torch.randn(features.shape, generator=g)
    maps = halves.repeat_interleave(PATCH // 2, dim=3)
    maps = maps.reshape(N, GRID, GRID * PATCH).repeat_interleave(PATCH, dim=1)
    maps[torch.rand(maps.shape, generator=g) < 0.1] = -1
    views = {
        VIEW: features.half().numpy(),
        ("dataset", "mean"): torch.randn(features.shape, generator=g).half().numpy(),
    }
    return MapInputs(views, maps.numpy(), SPLITS, CLASSES)


def make_numbers() -> MapInputs:
    """The classes of `make_inputs` as temperatures, NaN where nobody is asked."""
    classes = make_inputs()
    asked = classes.maps != -1
    noise = np.random.default_rng(0).normal(0, 0.5, asked.shape)
    values = np.where(asked, 290 + 8 * classes.maps + noise, np.nan).astype(np.float32)
    return MapInputs(classes.views, values, SPLITS, 0, "value_maps")


def cross_entropy(logits: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, maps, ignore_index=-1)


def squared_error(outputs: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
    asked = ~scaled.isnan()
    return nn.functional.mse_loss(outputs[:, 0][asked], scaled[asked])


def plain_logits(
    inputs: MapInputs,
    settings: MapSettings,
    rate: float,
    seed: int,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    """Test outputs ``[n, outputs, H, W]`` of one head: torch's own layers, autograd, AdamW.

    ``targets`` are numbers, in deviations; without them, classes.
    """
    maps = torch.from_numpy(inputs.maps) if targets is None else targets
    loss = cross_entropy if targets is None else squared_error
    features = torch.from_numpy(inputs.views[VIEW].astype(np.float32))
    flat = features[SPLITS["train"]].reshape(-1, DIM)
    scaled = (features - flat.mean(0)) / flat.std(0, correction=0)
    outputs = max(1, inputs.classes) * (PATCH**2 if settings.head == "linear" else 1)
    layer = nn.Linear(DIM, outputs)
    weight, bias = initial_linear(DIM, outputs, seed)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)

    def logits(x: torch.Tensor) -> torch.Tensor:
        y = layer(x).permute(0, 3, 1, 2)
        if settings.head == "bilinear":
            return nn.functional.interpolate(y, scale_factor=PATCH, mode="bilinear")
        return nn.functional.pixel_shuffle(y, PATCH)

    optimiser = torch.optim.AdamW(layer.parameters(), weight_decay=settings.weight_decay)
    training = Training(settings.epochs, settings.batch_size)
    batches = minibatches(12, training, seed)
    for batch, factor in zip(batches, learning_rate_factors(len(batches), 0.1), strict=True):
        optimiser.param_groups[0]["lr"] = rate * factor
        optimiser.zero_grad()
        loss(logits(scaled[batch]), maps[batch]).backward()
        optimiser.step()
    return logits(scaled[SPLITS["test"]]).detach()


@pytest.mark.parametrize("head", ["linear", "bilinear"])
def test_every_learning_rate_equals_plain_torch(head) -> None:
    inputs = make_inputs()
    settings = MapSettings(head, epochs=5, batch_size=5, rates=(1e-3, 3e-2))
    heads = train_heads(inputs, VIEW, settings, 3, torch.device("cpu"))
    test = torch.from_numpy(inputs.views[VIEW][SPLITS["test"]].astype(np.float32))
    found = heads.logits(test).detach()
    for index, rate in enumerate(settings.rates):
        expected = plain_logits(inputs, settings, rate, seed=3)
        classes = heads.predictions(test)[index]
        assert (classes == expected.argmax(dim=1)).float().mean() > 0.995
        if head == "linear":  # patch by patch
            expected = nn.functional.pixel_unshuffle(expected, PATCH).permute(0, 2, 3, 1)
        torch.testing.assert_close(
            found[:, index].flatten(), expected.flatten(), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("head", ["linear", "bilinear"])
def test_numbers_are_learned_in_deviations_as_plain_torch_does(head) -> None:
    inputs = make_numbers()
    train = inputs.maps[SPLITS["train"]].astype(np.float64)
    mean, deviation = np.nanmean(train), np.nanstd(train)
    scaled = torch.from_numpy(((inputs.maps - mean) / deviation).astype(np.float32))
    settings = MapSettings(head, epochs=5, batch_size=5, rates=(1e-3, 3e-2), select_by="pixel_rmse")
    heads = train_heads(inputs, VIEW, settings, 3, torch.device("cpu"))
    test = torch.from_numpy(inputs.views[VIEW][SPLITS["test"]].astype(np.float32))
    for index, rate in enumerate(settings.rates):
        expected = plain_logits(inputs, settings, rate, 3, scaled)[:, 0] * deviation + mean
        torch.testing.assert_close(
            heads.predictions(test)[index], expected.float(), rtol=0, atol=0.01
        )


@pytest.mark.parametrize("name", ["pixel_rmse", "pixel_r2"])
def test_numbers_are_chosen_by_the_whole_validation_split_and_come_back_in_their_unit(
    name, monkeypatch
) -> None:
    """Read image by image, scored as scikit-learn scores all pixels at once."""
    monkeypatch.setattr("harness.probes.segmentation._LOGITS_AT_ONCE", 1)
    inputs = make_numbers()
    swapped = {**SPLITS, "test": SPLITS["val"]}
    inputs = MapInputs(inputs.views, inputs.maps, swapped, 0, "value_maps")
    settings = MapSettings(epochs=60, batch_size=4, select_by=name)
    found = run_segmentation(inputs, settings, seed=0)
    truth = inputs.maps[SPLITS["val"]]
    asked = ~np.isnan(truth)
    pair = truth[asked].astype(np.float64), found.predictions.numpy()[asked].astype(np.float64)
    expected = {"pixel_rmse": root_mean_squared_error, "pixel_r2": r2_score}[name](*pair)
    assert found.val_score == pytest.approx(expected, abs=1e-6)
    values = [trial.val_score for trial in found.trials]
    assert found.val_score == (min(values) if name == "pixel_rmse" else max(values))
    assert (found.chosen["normalisation"], found.chosen["pooling"]) == VIEW
    assert r2_score(*pair) > 0.75


def test_the_view_with_the_signal_wins_and_pixels_are_told_apart_within_a_patch() -> None:
    inputs = make_inputs()
    settings = MapSettings(epochs=60, batch_size=4)
    found = run_segmentation(inputs, settings, seed=0)
    assert (found.chosen["normalisation"], found.chosen["pooling"]) == VIEW
    assert len(found.trials) == 2 * 8
    assert found.val_score == max(trial.val_score for trial in found.trials)
    score = metric("miou").value(inputs.maps[SPLITS["test"]], found.predictions.numpy())
    assert score > 0.8
    again = run_segmentation(inputs, settings, seed=0)
    assert torch.equal(found.predictions, again.predictions)


def test_patches_are_read_from_disk_and_images_need_not_be_whole_patches(tmp_path: Path) -> None:
    inputs = make_inputs()
    path = tmp_path / "features.npy"
    np.save(path, inputs.views[VIEW])
    views = {VIEW: np.load(path, mmap_mode="r")}
    settings = MapSettings(epochs=3, batch_size=4)
    mapped = run_segmentation(MapInputs(views, inputs.maps, SPLITS, CLASSES), settings, seed=0)
    held = MapInputs({VIEW: inputs.views[VIEW]}, inputs.maps, SPLITS, CLASSES)
    assert torch.equal(mapped.predictions, run_segmentation(held, settings, seed=0).predictions)
    # An image of 11 pixels that was enlarged to three patches of four.
    smaller = MapInputs(views, inputs.maps[:, :11, :11], SPLITS, CLASSES)
    assert run_segmentation(smaller, settings, seed=0).predictions.shape == (8, 11, 11)
    numbers = MapInputs(views, make_numbers().maps[:, :11, :11], SPLITS, 0, "value_maps")
    settings = MapSettings(epochs=3, batch_size=4, select_by="pixel_mae")
    found = run_segmentation(numbers, settings, seed=0).predictions
    assert found.shape == (8, 11, 11)
    assert bool(torch.isfinite(found).all())


def test_a_split_without_a_pixel_that_counts_is_refused() -> None:
    inputs = make_inputs()
    maps = inputs.maps.copy()
    maps[SPLITS["val"]] = -1
    with pytest.raises(UserError, match="The val split has no pixel with a class"):
        MapInputs(inputs.views, maps, SPLITS, CLASSES)
    numbers = np.where(maps == -1, np.nan, maps).astype(np.float32)
    with pytest.raises(UserError, match="The val split has no pixel with a number"):
        MapInputs(inputs.views, numbers, SPLITS, 0, "value_maps")


def test_a_probe_that_asks_for_targets_of_the_test_split_is_refused() -> None:
    inputs = make_inputs()
    withheld = Withheld(np.asarray(inputs.maps), SPLITS)
    np.testing.assert_array_equal(withheld[SPLITS["val"]], inputs.maps[SPLITS["val"]])
    for rows in (SPLITS["test"], int(SPLITS["test"][0]), slice(None)):
        with pytest.raises(ValueError, match="outside its train and val splits"):
            withheld[rows]
    closed = MapInputs(inputs.views, withheld, SPLITS, CLASSES)
    settings = MapSettings(epochs=2, batch_size=4)
    both = [run_segmentation(each, settings, seed=0) for each in (inputs, closed)]
    assert torch.equal(both[0].predictions, both[1].predictions)
