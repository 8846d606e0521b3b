"""The kNN probe against scikit-learn, and against what must not score: collapse and order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import normalize

from harness.metrics import metric, metrics_of
from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs
from harness.probes.knn import (
    OLMOEARTH_KNN,
    TORCHGEO_BENCH_KNN,
    KnnSettings,
    knn_votes,
    run_knn,
)
from models.errors import UserError


def cloud(n: int, seed: int, dim: int = 10, classes: int = 4, shift: float = 0.0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=g)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    return centres[y] + 1.2 * torch.randn(n, dim, generator=g) + shift, y


def accuracy(labels: torch.Tensor, votes: torch.Tensor) -> float:
    return metric("accuracy").value(labels.numpy(), votes.argmax(dim=1).numpy())


@pytest.mark.parametrize("shift", [0.0, 300.0])
@pytest.mark.parametrize("settings", [OLMOEARTH_KNN, TORCHGEO_BENCH_KNN, KnnSettings(k=500)])
def test_votes_are_scikit_learns(settings, shift):
    """In float64 there; far from the origin too, where float32 distances lose their digits."""
    if settings.metric == "cosine" and shift:
        settings = KnnSettings(k=7, weights="uniform")  # cosines are all near 1: same 7 required
    train, y = cloud(400, seed=1, shift=shift)
    queries, _ = cloud(150, seed=2, shift=shift)
    a, b = train.double().numpy(), queries.double().numpy()
    weights = "uniform"
    if settings.metric == "cosine":
        a, b = normalize(a), normalize(b)
        if settings.weights == "exp":  # for unit vectors, cosine = 1 - d^2 / 2

            def weights(d):
                return np.exp((1 - d**2 / 2) / settings.temperature)

    oracle = KNeighborsClassifier(
        n_neighbors=min(settings.k, 400), algorithm="brute", weights=weights
    ).fit(a, y.numpy())
    got = knn_votes(train, y, queries, 4, settings)
    same = np.isclose(got.numpy(), oracle.predict_proba(b), atol=1e-4).all(axis=1)
    assert same.mean() >= (1.0 if not shift else 0.98)


def test_neighbours_of_labels_vote_on_each_and_of_numbers_are_averaged():
    """One binary kNN per label; kernel regression: both as scikit-learn has them."""
    train, y = cloud(300, seed=3)
    queries, _ = cloud(80, seed=4)
    labels = torch.stack([y != 1, y >= 2, y == 9], dim=1).to(torch.uint8)  # nobody has the last
    numbers = 20 + 3.0 * y.double() + torch.rand(300, generator=torch.Generator().manual_seed(5))
    a, b = normalize(train.double().numpy()), normalize(queries.double().numpy())

    def weights(d):
        return np.exp((1 - d**2 / 2) / OLMOEARTH_KNN.temperature)

    asked = {"n_neighbors": 20, "algorithm": "brute", "weights": weights}
    for kind, targets, outputs in (("labels", labels, 3), ("values", numbers, 1)):
        split = EmbeddedSplit(train, queries, queries)
        inputs = ProbeInputs(
            {("pretraining", "mean"): split},
            Labels(targets, targets[:80]),
            outputs,
            kind,
        )
        select_by = metrics_of(kind)[0]
        found = run_knn(inputs, KnnSettings(select_by=select_by))
        if kind == "values":
            expected = KNeighborsRegressor(**asked).fit(a, targets.numpy()).predict(b)
            np.testing.assert_allclose(found.predictions.numpy(), expected, atol=1e-4)
            assert found.probabilities is None
        else:
            for column in range(3):
                model = KNeighborsClassifier(**asked).fit(a, targets[:, column].numpy())
                expected = model.predict(b)
                same = (found.predictions[:, column].numpy() == expected).mean()
                assert same > 0.98  # a vote of exactly a half may fall either way
        assert found.val_score == metric(select_by).value(
            targets[:80].numpy(), found.predictions.numpy()
        )
        if kind == "labels":  # read off the votes themselves
            ranked = run_knn(inputs, KnnSettings(select_by="micro_map"))
            expected = average_precision_score(
                targets[:80].numpy(), found.probabilities.numpy(), average="micro"
            )
            assert ranked.val_score == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("settings", [OLMOEARTH_KNN, TORCHGEO_BENCH_KNN])
def test_blocks_change_nothing(settings):
    train, y = cloud(333, seed=1)
    queries, _ = cloud(101, seed=2)
    whole = knn_votes(train, y, queries, 4, settings)
    pieces = knn_votes(train, y, queries, 4, settings, query_block=17, train_block=40)
    torch.testing.assert_close(whole, pieces, atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [OLMOEARTH_KNN, TORCHGEO_BENCH_KNN])
@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
@pytest.mark.parametrize("value", [0.0, 0.3, 123.456])
def test_constant_embeddings_score_chance_in_any_row_order(settings, order, value):
    """All neighbours tie, so rows must not decide: the vote is the training frequencies."""
    counts = torch.tensor([30, 50, 20])
    y = torch.repeat_interleave(torch.arange(3), counts)
    if order == "reversed":
        y = y.flip(0)
    if order == "shuffled":
        y = y[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    train, queries = torch.full((100, 77), value), torch.full((60, 77), value)
    votes = knn_votes(train, y, queries, 3, settings, train_block=33, query_block=7)
    torch.testing.assert_close(votes, (counts / 100).expand(60, 3))
    labels = torch.arange(3).repeat_interleave(20)
    assert accuracy(labels, votes) == pytest.approx(1 / 3)


def test_collapse_onto_a_few_points_scores_what_those_points_tell():
    """Two distinct embeddings for four classes cannot tell more than two classes apart."""
    y = torch.arange(4).repeat_interleave(50)
    points = torch.nn.functional.normalize(torch.randn(2, 16), dim=1)
    rows = points[(y >= 2).long()]
    assert accuracy(y, knn_votes(rows, y, rows, 4, OLMOEARTH_KNN)) == pytest.approx(0.5)


def test_ties_at_the_last_place_share_it():
    """With k = 2, the nearest votes in full, three equals share the second place."""
    train = torch.tensor([[0.0], [1.0], [1.0], [-1.0], [5.0]])
    y = torch.tensor([0, 1, 2, 2, 1])
    settings = KnnSettings(k=2, metric="l2", weights="uniform")
    votes = knn_votes(train, y, torch.tensor([[0.0]]), 3, settings)
    torch.testing.assert_close(votes, torch.tensor([[3 / 6, 1 / 6, 2 / 6]]))


def test_a_tiny_temperature_does_not_overflow():
    train, y = cloud(50, seed=1)
    for distance in ("cosine", "l2"):
        votes = knn_votes(train, y, train, 4, KnnSettings(temperature=1e-4, metric=distance))
        assert torch.isfinite(votes).all()
        assert accuracy(y, votes) == 1.0  # only the sample itself has weight left


def test_the_view_is_chosen_on_validation_ties_to_the_first():
    labels = Labels(*(cloud(80, seed=s)[1] for s in (1, 2)))
    good = EmbeddedSplit(*(cloud(80, seed=s)[0] for s in (1, 2, 3)))
    noise = EmbeddedSplit(*(torch.randn(80, 10) for _ in range(3)))
    views = {("pretraining", "mean"): noise, ("pretraining", "max"): good}
    result = run_knn(ProbeInputs(views, labels, 4), OLMOEARTH_KNN)
    assert result.chosen == {"normalisation": "pretraining", "pooling": "max"}
    assert result.val_score == max(trial.val_score for trial in result.trials)
    expected = knn_votes(good.train, labels.train, good.test, 4, OLMOEARTH_KNN)
    assert torch.equal(result.probabilities, expected)
    assert torch.equal(result.predictions, expected.argmax(dim=1))
    equal = {("pretraining", "max"): good, ("pretraining", "mean"): good}
    assert run_knn(ProbeInputs(equal, labels, 4), OLMOEARTH_KNN).chosen["pooling"] == "max"


def test_settings_outside_the_protocol_are_refused():
    for wrong in ({"k": 0}, {"temperature": 0.0}, {"metric": "cos"}, {"weights": "rank"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            KnnSettings(**wrong)
