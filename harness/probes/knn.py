"""The k-nearest-neighbour probe: does an embedding put like beside like, untrained?

Reads embeddings in blocks, so memory is bounded however many samples there are. Must
not know tuning or training: the only choice it makes is the view, on validation.

Ties. Where several training samples are equally similar at the k-th place, picking any
k of them lets the order of the rows decide, and a collapsed embedding of a sorted data
set then scores whatever that order gives. Here the places that are left are *shared*
equally by all tied samples: the expected vote under random tie-breaking, without the
randomness. Constant embeddings so vote with the class frequencies of the training set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harness.metrics import metric as metric_named
from harness.probes.base import ProbeInputs, ProbeResult, TrialRecord
from models.errors import UserError

_ROUNDING = 8 * torch.finfo(torch.float32).eps  # squared distances this close are the same


@dataclass(frozen=True)
class KnnSettings:
    """Protocol of the kNN probe; the defaults are the OlmoEarth evaluation's.

    ``weights="exp"`` votes with exp(similarity / temperature), where similarity is the
    cosine, or minus the Euclidean distance; ``"uniform"`` gives each neighbour one vote
    and ignores the temperature. ``k`` above the number of training samples uses all.
    ``select_by`` names the score (`harness.metrics`) that chooses the view on validation.
    """

    k: int = 20
    temperature: float = 0.07
    metric: Literal["cosine", "l2"] = "cosine"
    weights: Literal["exp", "uniform"] = "exp"
    select_by: str = "accuracy"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"The kNN probe's k is {self.k}; it must be 1 or more.")
        if not self.temperature > 0:
            raise UserError(
                f"The kNN probe's temperature is {self.temperature:g}; it must be above 0."
            )
        for name, allowed in (("metric", ("cosine", "l2")), ("weights", ("exp", "uniform"))):
            if getattr(self, name) not in allowed:
                raise UserError(
                    f'The kNN probe\'s {name} is "{getattr(self, name)}"; '
                    f"allowed: {', '.join(allowed)}."
                )
        metric_named(self.select_by)


OLMOEARTH_KNN = KnnSettings()
"""k = 20, cosine, votes exp(similarity / 0.07) (olmoearth_pretrain, evals/knn.py)."""

TORCHGEO_BENCH_KNN = KnnSettings(k=5, metric="l2", weights="uniform")
"""k = 5, Euclidean on raw features, one vote each (torchgeo-bench, knn.py)."""


def run_knn(
    inputs: ProbeInputs, settings: KnnSettings, device: torch.device | str = "cpu"
) -> ProbeResult:
    """Choose the view on validation (ties: the first), then score it once on test."""
    labels, objective = inputs.labels, inputs.objective
    encoded = objective.encode(labels.train)
    chosen_metric = metric_named(settings.select_by)
    trials = []
    for number, ((normalisation, pooling), split) in enumerate(inputs.views.items()):
        votes = knn_means(split.train, encoded, split.val, settings, device=device)
        value = inputs.validated(chosen_metric, votes)
        params = {"normalisation": normalisation, "pooling": pooling}
        trials.append(TrialRecord(number, params, value))
    sign = 1 if chosen_metric.higher_is_better else -1
    best = max(trials, key=lambda trial: sign * trial.val_score)  # max keeps the first of equals
    split = inputs.views[str(best.params["normalisation"]), str(best.params["pooling"])]
    votes = knn_means(split.train, encoded, split.test, settings, device=device)
    return ProbeResult(
        objective.decode(votes),
        None if inputs.kind == "values" else votes,
        dict(best.params),
        best.val_score,
        tuple(trials),
    )


def knn_votes(
    train: Tensor,
    train_labels: Tensor,
    queries: Tensor,
    n_classes: int,
    settings: KnnSettings,
    *,
    device: torch.device | str = "cpu",
    query_block: int = 256,
    train_block: int = 4096,
) -> Tensor:
    """Share of the vote per class, float32 ``[n_queries, n_classes]`` on the CPU; rows sum to 1.

    ``train_labels`` int64 ``[n_train]``; the rest is as in `knn_means`.
    """
    classes = F.one_hot(train_labels, n_classes).to(torch.float32)
    return knn_means(
        *(train, classes, queries, settings),
        device=device,
        query_block=query_block,
        train_block=train_block,
    )


def knn_means(
    train: Tensor,
    targets: Tensor,
    queries: Tensor,
    settings: KnnSettings,
    *,
    device: torch.device | str = "cpu",
    query_block: int = 256,
    train_block: int = 4096,
) -> Tensor:
    """Mean of the neighbours' targets, by their votes: float32 ``[n_queries, C]`` on the CPU.

    Of classes (one-hot) that is the share of the vote, of labels each one's own, of numbers
    kernel regression over the k nearest. ``train`` ``[n_train, dim]``, ``targets`` ``[n_train,
    C]``, ``queries`` ``[n_queries, dim]``. At most ``query_block x train_block`` distances exist
    at once. A zero vector has no cosine; it is as far from every direction.
    """
    space = _Space(train, targets, settings, torch.device(device), train_block)
    blocks = [
        space.means(queries[start : start + query_block])
        for start in range(0, len(queries), query_block)
    ]
    return torch.cat(blocks).to(torch.float32).cpu()


class _Space:
    """The training samples, ready to be asked for neighbours block by block.

    Both metrics are one here: samples are placed in a space where near means similar, as
    they are for Euclidean distance, on the unit sphere for the cosine, because there
    ``cosine = 1 - distance^2 / 2``. The space is centred on the training samples:
    distances do not change when the origin moves, but float32 does. Far from the origin,
    where embeddings of half-trained encoders all lie together, ``|a|^2 + |b|^2 - 2ab``
    (and the cosine itself) loses the digits that tell neighbours apart.
    """

    def __init__(
        self,
        train: Tensor,
        targets: Tensor,
        settings: KnnSettings,
        device: torch.device,
        block: int,
    ) -> None:
        self.train, self.targets = train, targets
        self.settings, self.device, self.block = settings, device, block
        self.k = min(settings.k, len(train))
        self.origin = torch.zeros(train.shape[1], dtype=torch.float64, device=device)
        self.origin = sum(
            (self._place(train[i : i + block]).sum(dim=0) for i in range(0, len(train), block)),
            start=self.origin,
        ) / len(train)

    def means(self, queries: Tensor) -> Tensor:
        """Means for one block of queries, float64 ``[b, C]``."""
        points = self._place(queries).to(torch.float32)
        nearest, last = self._first_and_kth(points)
        slack = _ROUNDING * (points.square().sum(dim=1, keepdim=True) + last)
        # The last column is one for every sample: what it sums to is the weight in all.
        inside, tied = (
            torch.zeros(
                len(points), self.targets.shape[1] + 1, dtype=torch.float64, device=self.device
            )
            for _ in range(2)
        )
        n_inside = torch.zeros(len(points), 1, dtype=torch.float64, device=self.device)
        for distance, targets in self._distances(points):
            is_inside = distance < last - slack
            is_tied = (distance <= last + slack) & ~is_inside
            inside += self._weight(distance, nearest).mul_(is_inside) @ targets
            tied += is_tied.to(torch.float64) @ targets
            n_inside += is_inside.sum(dim=1, keepdim=True)
        # One weight for all tied samples: equal class counts then give exactly equal votes.
        share = self._weight(last, nearest) * (self.k - n_inside) / tied[:, -1:]
        votes = inside + tied * share
        return votes[:, :-1] / votes[:, -1:]

    def _place(self, rows: Tensor) -> Tensor:
        """Positions of some samples, float64 ``[n, dim]``, relative to the origin."""
        rows = rows.to(self.device).to(torch.float64)
        if self.settings.metric == "cosine":
            rows = F.normalize(rows, dim=1, eps=1e-8)
        return rows - self.origin

    def _distances(self, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each block of training samples: squared distances ``[b, m]``; targets, and a one."""
        norms = points.square().sum(dim=1, keepdim=True)
        for start in range(0, len(self.train), self.block):
            others = self._place(self.train[start : start + self.block]).to(torch.float32)
            both = norms + others.square().sum(dim=1)
            targets = self.targets[start : start + self.block].to(self.device, torch.float64)
            targets = F.pad(targets, (0, 1), value=1.0)
            yield torch.addmm(both, points, others.T, alpha=-2).clamp_(min=0), targets

    def _first_and_kth(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances of the nearest and of the k-th neighbour, each ``[b, 1]``."""
        top = torch.empty(len(points), 0, device=self.device)
        for distance, _ in self._distances(points):
            merged = torch.cat([top, distance], dim=1)
            top = merged.topk(min(self.k, merged.shape[1]), dim=1, largest=False).values
        return top[:, :1], top[:, -1:]

    def _weight(self, distance: Tensor, nearest: Tensor) -> Tensor:
        """Votes in units of the nearest neighbour's, float64: a ratio, so it cannot overflow."""
        if self.settings.weights == "uniform":
            return torch.ones_like(distance, dtype=torch.float64)
        distance, nearest = distance.to(torch.float64), nearest.to(torch.float64)
        if self.settings.metric == "cosine":
            gain = (nearest - distance) / 2
        else:
            gain = nearest.sqrt() - distance.sqrt()
        return (gain / self.settings.temperature).exp()
