"""The batched linear probe against plain torch: one nn.Module at a time, trained by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs
from harness.probes.linear import (
    Training,
    Trial,
    initial_linear,
    learning_rate_factors,
    minibatches,
    train_heads,
)
from models.errors import UserError
from suites.datasets.base import TargetKind

VIEWS = [(n, p) for n in ("pretraining", "dataset") for p in ("mean", "max")]


def make_inputs(
    n: int = 103, dim: int = 12, classes: int = 4, seed: int = 0, kind: TargetKind = "classes"
) -> ProbeInputs:
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n + 60,), generator=g)
    centres = torch.randn(classes, dim, generator=g)
    views = {}
    for view in VIEWS:
        x = centres[y] + 1.5 * torch.randn(len(y), dim, generator=g)
        x = x * torch.rand(dim, generator=g) * 20 + 5  # scales differ, as embeddings' do
        views[view] = EmbeddedSplit(x[:n], x[n : n + 30], x[n + 30 :])
    if kind == "labels":  # of each class whether it is this one or the next
        y = torch.stack([(y == c) | (y == c - 1) for c in range(classes)], dim=1).to(torch.uint8)
    if kind == "values":
        y = 40 + 7 * y.double() + torch.randn(len(y), generator=g)
    outputs = 1 if kind == "values" else classes
    return ProbeInputs(views, Labels(y[:n], y[n : n + 30]), outputs, kind)


LOSSES = {
    "classes": nn.functional.cross_entropy,
    "labels": lambda logits, y: nn.functional.binary_cross_entropy_with_logits(logits, y.float()),
    "values": lambda found, y: nn.functional.mse_loss(found[:, 0], y),
}


def targets_of(inputs: ProbeInputs) -> torch.Tensor:
    """Of numbers, in deviations from the mean of the training split."""
    y = inputs.labels.train
    return ((y - y.mean()) / y.std(correction=0)).float() if inputs.kind == "values" else y


def train_plainly(inputs: ProbeInputs, trial: Trial, training: Training, seed: int) -> nn.Module:
    """The oracle: torch's own modules, autograd, optimiser and schedules."""
    model = nn.Sequential(nn.BatchNorm1d(inputs.dim), nn.Linear(inputs.dim, inputs.outputs))
    weight, bias = initial_linear(inputs.dim, inputs.outputs, seed)
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(bias)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=trial.learning_rate, weight_decay=trial.weight_decay
    )
    batches = minibatches(len(inputs.labels.train), training, seed)
    assert training.warmup == 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(batches))
    rows = inputs.views[trial.view].train
    for batch in batches:
        optimizer.zero_grad()
        loss = LOSSES[inputs.kind](model(rows[batch]), targets_of(inputs)[batch])
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


TRIALS = [
    Trial(1e-4, 1.0, "pretraining", "mean"),
    Trial(1e-2, 0.01, "dataset", "max"),
    Trial(5e-1, 1e-4, "pretraining", "mean"),
    Trial(5e-2, 0.3, "dataset", "mean"),
    Trial(1e-3, 0.01, "pretraining", "max"),
    Trial(1e-2, 0.01, "dataset", "mean"),
]


@pytest.mark.parametrize("kind", LOSSES)
def test_each_trial_of_a_batch_equals_plain_torch(kind):
    inputs = make_inputs(kind=kind)
    training = Training(epochs=6, batch_size=16, warmup=0.0)
    heads = train_heads(inputs, TRIALS, training, seed=3)
    for index, trial in enumerate(TRIALS):
        rows = inputs.views[trial.view].test
        model = train_plainly(inputs, trial, training, seed=3)
        expected = model(rows).detach()
        difference = (heads.logits(index, rows) - expected).abs().max() / expected.abs().max()
        assert difference < 2e-4, trial


def test_a_trial_does_not_depend_on_its_company():
    inputs = make_inputs()
    training = Training(epochs=6, batch_size=16)
    together = train_heads(inputs, TRIALS, training, seed=1)
    for index, trial in enumerate(TRIALS):
        rows = inputs.views[trial.view].val
        alone = train_heads(inputs, [trial], training, seed=1).logits(0, rows)
        torch.testing.assert_close(together.logits(index, rows), alone, rtol=1e-3, atol=1e-3)


def test_the_seed_decides_everything():
    inputs = make_inputs()
    training = Training(epochs=3)
    first, again, other = (train_heads(inputs, TRIALS, training, seed) for seed in (5, 5, 6))
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    assert not torch.equal(first.weight, other.weight)


def test_schedule_warms_up_then_anneals_like_torch():
    factors = learning_rate_factors(200, warmup=0.1)
    assert factors[:20] == [step / 20 for step in range(20)]
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=180)
    for factor in factors[20:]:
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("n", [2, 31, 32, 33, 65])
def test_every_epoch_sees_every_row_once_and_no_batch_is_a_single_row(n):
    batches = minibatches(n, Training(epochs=2, batch_size=32), seed=0)
    assert min(len(batch) for batch in batches) > 1
    assert sorted(torch.cat(batches).tolist()) == sorted(list(range(n)) * 2)


def test_constant_embeddings_stay_finite_and_score_the_majority():
    labels = torch.tensor([0] * 20 + [1] * 40 + [2] * 20)
    split = EmbeddedSplit(*(torch.full((80, 8), 3.7) for _ in range(3)))
    inputs = ProbeInputs({("pretraining", "mean"): split}, Labels(labels, labels), 3)
    heads = train_heads(inputs, [Trial(0.5, 0.01, "pretraining", "mean")], Training(epochs=5), 0)
    predictions = heads.logits(0, split.test).argmax(dim=1)
    assert (predictions == labels).float().mean() <= 0.5


def test_memory_mapped_rows_give_the_same_bits(tmp_path):
    inputs = make_inputs()
    views = {}
    for number, (view, split) in enumerate(inputs.views.items()):
        own = tmp_path / f"{number}.bin"
        own.write_bytes(split.train.numpy().tobytes())
        mapped = torch.from_file(str(own), False, split.train.numel()).view_as(split.train)
        views[view] = EmbeddedSplit(mapped, split.val, split.test)
    mapped_inputs = ProbeInputs(views, inputs.labels, inputs.outputs)
    training = Training(epochs=2)
    expected = train_heads(inputs, TRIALS, training, 0)
    assert torch.equal(train_heads(mapped_inputs, TRIALS, training, 0).weight, expected.weight)


def test_nan_embeddings_are_refused_by_name():
    inputs = make_inputs()
    split = inputs.views["dataset", "max"]
    train = split.train.clone()
    train[7, 3] = float("nan")
    views = {**inputs.views, ("dataset", "max"): EmbeddedSplit(train, split.val, split.test)}
    with pytest.raises(UserError, match=r"Row 7 of the train embeddings \(dataset .* max"):
        ProbeInputs(views, inputs.labels, inputs.outputs)


def test_the_number_of_cores_changes_nothing_and_is_left_as_it_was():
    inputs = make_inputs()
    trials = TRIALS * 4  # more than one group
    before = torch.get_num_threads()
    weights = []
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            weights.append(train_heads(inputs, trials, Training(epochs=2), seed=0).weight)
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*weights)
