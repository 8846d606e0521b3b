"""Attention pooling against torch's own attention, and one head at a time by autograd and AdamW."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from harness.metrics import metric
from harness.probes.attention import (
    AttentionSettings,
    Heads,
    TokenInputs,
    run_attention,
    train_heads,
)
from harness.probes.base import Labels
from harness.probes.linear import Training, initial_linear, learning_rate_factors, minibatches
from models.errors import UserError

N, GRID, DIM, CLASSES = 60, 3, 8, 3
VIEW = ("pretraining", "mean")
SPLITS = {"train": np.arange(30)[::-1].copy(), "val": np.arange(30, 40), "test": np.arange(40, 60)}
CPU = torch.device("cpu")


def targets_of_test() -> np.ndarray:
    """Classes of the test split, the first thing that the inputs draw."""
    every = torch.randint(0, CLASSES, (N,), generator=torch.Generator().manual_seed(0))
    return every[torch.from_numpy(SPLITS["test"])].numpy()


def make_inputs(kind: str = "classes") -> TokenInputs:
    """One patch of each sample, marked by the first feature, tells its class; the rest is noise."""
    g = torch.Generator().manual_seed(0)
    classes = torch.randint(0, CLASSES, (N,), generator=g)
    codes = torch.randn(CLASSES, DIM - 1, generator=g)
    tokens = torch.randn(N, GRID * GRID, DIM, generator=g)
    place = torch.randint(0, GRID * GRID, (N,), generator=g)
    tokens[:, :, 0] = 0
    tokens[torch.arange(N), place, 0] = 8
    tokens[torch.arange(N), place, 1:] = 2 * codes[classes]
    several = torch.stack([classes == 0, classes != 2], dim=1).to(torch.uint8)
    targets = {"classes": classes, "labels": several, "values": classes.double() * 5 + 2}[kind]
    outputs = {"classes": CLASSES, "labels": 2, "values": 1}[kind]
    noise = torch.randn(N, GRID, GRID, DIM, generator=g).half().numpy()
    views = {VIEW: tokens.view(N, GRID, GRID, DIM).half().numpy(), ("dataset", "mean"): noise}
    labels = Labels(*(targets[torch.from_numpy(SPLITS[s])] for s in ("train", "val")))
    return TokenInputs(views, labels, SPLITS, outputs, kind)


class Plain(nn.Module):
    """torch.nn.MultiheadAttention with one query, of which nothing but the query is learned."""

    def __init__(self, outputs: int, seed: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, 1, bias=False, batch_first=True)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.eye(DIM).repeat(3, 1))
            self.attention.out_proj.weight.copy_(torch.eye(DIM))
        self.attention.requires_grad_(False)
        self.query = nn.Parameter(torch.zeros(1, DIM))
        self.norm = nn.BatchNorm1d(DIM)
        self.head = nn.Linear(DIM, outputs)
        weight, bias = initial_linear(DIM, outputs, seed)
        self.head.weight.data.copy_(weight)
        self.head.bias.data.copy_(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled, _ = self.attention(self.query.expand(len(x), 1, -1), x, x)
        return self.head(self.norm(pooled[:, 0]))


def plain_outputs(inputs: TokenInputs, settings: AttentionSettings, rate: float, seed: int):
    train, test = (
        torch.from_numpy(inputs.views[VIEW][SPLITS[s]].astype(np.float32)).flatten(1, 2)
        for s in ("train", "test")
    )
    mean, deviation = train.flatten(0, 1).mean(0), train.flatten(0, 1).std(0, correction=0)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    y = inputs.labels.train
    if inputs.kind == "values":
        y = ((y - y.mean()) / y.std(correction=0)).float()[:, None]
    losses = {
        "classes": nn.functional.cross_entropy,
        "labels": lambda a, b: nn.functional.binary_cross_entropy_with_logits(a, b.float()),
        "values": nn.functional.mse_loss,
    }
    model = Plain(inputs.outputs, seed)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, weight_decay=settings.weight_decay)
    batches = minibatches(len(train), settings.training, seed)
    for batch, factor in zip(batches, learning_rate_factors(len(batches), 0.1), strict=True):
        optimiser.param_groups[0]["lr"] = rate * factor
        optimiser.zero_grad()
        losses[inputs.kind](model(train[batch]), y[batch]).backward()
        optimiser.step()
    return model.eval()(test).detach()


@pytest.mark.parametrize("kind", ["classes", "labels", "values"])
def test_every_learning_rate_equals_torchs_own_attention(kind) -> None:
    inputs = make_inputs(kind)
    settings = AttentionSettings(Training(epochs=5, batch_size=7), rates=(1e-3, 3e-2))
    found = train_heads(inputs, VIEW, settings, 3, CPU).outputs(inputs, VIEW, "test")
    for index, rate in enumerate(settings.rates):
        expected = plain_outputs(inputs, settings, rate, seed=3)
        torch.testing.assert_close(found[index], expected, rtol=2e-3, atol=2e-3)


def test_it_looks_at_the_patch_that_tells_and_the_view_with_the_signal_wins() -> None:
    inputs = make_inputs()
    settings = AttentionSettings(Training(epochs=30, batch_size=8))
    found = run_attention(inputs, settings, seed=0)
    assert (found.chosen["normalisation"], found.chosen["pooling"]) == VIEW
    assert len(found.trials) == 2 * 8
    assert found.val_score == max(trial.val_score for trial in found.trials)
    accuracy = metric("accuracy").value(targets_of_test(), found.predictions.numpy())
    assert accuracy > 0.9
    rate = float(found.chosen["learning_rate"])
    heads = train_heads(inputs, VIEW, replace(settings, rates=(rate,)), 0, CPU)
    tokens = inputs.tokens(VIEW, SPLITS["test"])
    shares = heads.shares(heads.standardise(tokens))[:, 0]
    marked = shares[tokens[:, :, 0] > 4]
    assert marked.mean() > 3 / 9  # three times its share
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # which changes no byte
    again = run_attention(inputs, settings, seed=0)
    torch.set_num_threads(threads)
    assert torch.equal(found.probabilities, again.probabilities)


def test_before_any_training_it_is_the_mean() -> None:
    inputs = make_inputs()
    heads = Heads(inputs, VIEW, AttentionSettings(rates=(0.1,)), 0, CPU)
    shares = heads.shares(heads.standardise(inputs.tokens(VIEW, SPLITS["val"])))
    torch.testing.assert_close(shares, torch.full((10, 1, 9), 1 / 9))


def test_an_empty_split_is_one_sentence() -> None:
    inputs = make_inputs()
    with pytest.raises(UserError, match="The val split has 0 samples; attention pooling needs"):
        replace(inputs, splits={**SPLITS, "val": np.arange(0)})
