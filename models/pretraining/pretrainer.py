"""Encoder, predictor and targets together: from two views of a batch to the loss.

Latent masked image modelling: the encoder sees some tokens, the predictor predicts others in
the space of a frozen random projection; the pooled encodings of two views of a sample must
recognise each other. It must not know files, schedules or how a step is applied.

Source: OlmoEarth's pretraining (arXiv 2511.13655, section 3); see docs/pretraining.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.initialisation import normal, xavier
from models.olmoearth.config import OlmoEarthConfig
from models.olmoearth.encoder import OlmoEarthEncoder, init_random
from models.pretraining.masking import DECODE, ENCODE
from models.pretraining.objectives import (
    can_discriminate,
    instance_contrast,
    patch_discrimination,
)
from models.pretraining.predictor import Predictor
from models.pretraining.targets import RandomProjection
from models.visible import in_parts, to_front

Images = Mapping[str, Tensor]
Roles = Mapping[str, Tensor]


@dataclass(frozen=True)
class View:
    """One masked look at a batch of samples, patches of the embedding's own side p.

    ``images``: normalised, ``[B, H, W, T, D]`` per modality; ``seen``: the same after band
    dropout, what the encoder is given; ``roles``: ``[B, H/p, W/p, T, G]`` per modality.
    """

    images: Images
    seen: Images
    timestamps: Tensor
    roles: Roles


@dataclass(frozen=True)
class Losses:
    """The terms of one step, and the pooled encodings ``[B, dim]`` for diagnostics."""

    total: Tensor
    discrimination: Tensor
    contrast: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Objective:
    """Weights and temperatures of the loss."""

    temperature: float = 0.1
    near_duplicate: float | None = None
    contrast_weight: float = 0.1
    contrast_temperature: float = 0.1


class Pretrainer(nn.Module):
    """All that trains, and the frozen targets.

    ``gather`` collects rows of other processes that work on the same batch: an instance is told
    apart from all others of the batch, wherever they are.
    """

    def __init__(
        self,
        config: OlmoEarthConfig,
        objective: Objective,
        decoder_depth: int,
        seed: int,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
        centred_targets: bool = False,
    ) -> None:
        super().__init__()
        self.gather = gather
        self.objective = objective
        self.encoder = OlmoEarthEncoder(config)
        groups = {name: len(g) for name, g in config.scheme.groups.items()}
        self.predictor = Predictor(groups, config.dim, config.dim, decoder_depth, config.heads)
        self.head = nn.Linear(config.dim, config.dim)
        self.targets = RandomProjection(config, seed, centred_targets)
        init_random(self.encoder, seed)
        _init_rest(self, seed)

    def forward(self, views: tuple[View, View], spacing: float) -> Losses:
        """The loss of one batch, seen twice.

        ``spacing``: distance of the patches in units of 10 m, however many pixels they have.
        """
        found = [self._view(view, spacing) for view in views]
        discrimination = (found[0][0] + found[1][0]) / 2
        pooled = found[0][1]
        a, b = (self.gather(self.head(each)) for _, each in found)
        contrast = instance_contrast(a, b, self.objective.contrast_temperature)
        total = discrimination + self.objective.contrast_weight * contrast
        return Losses(total, discrimination, contrast, pooled.detach())

    def _view(self, view: View, spacing: float) -> tuple[Tensor, Tensor]:
        patch_size = self.encoder.config.max_patch_size
        masks = {
            name: roles.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)
            for name, roles in view.roles.items()
        }
        grids = self.encoder(
            view.seen, view.timestamps, patch_size, masks, spacing * 10 / patch_size
        )
        roles = torch.cat([r.flatten(1) for r in view.roles.values()], dim=1)
        tokens = torch.cat([g.flatten(1, 4) for g in grids.values()], dim=1)
        places = self.predictor.encodings(
            {name: g.shape for name, g in grids.items()}, view.timestamps, spacing
        )
        encoded, real, at = _gather(roles == ENCODE, tokens, places)
        pooled = _mean(encoded, real)
        losses = []
        first = 0
        # One softmax per modality: its predictions and its targets.
        for name, role in view.roles.items():
            chosen = role.flatten(1) == DECODE
            own_places = places[:, first : first + chosen.shape[1]]
            first += chosen.shape[1]
            weight = self._weight(chosen)
            if not bool(chosen.any()):
                continue
            targets = self.targets(name, view.images[name], patch_size).flatten(1, 4)
            wanted, asked, predicted_at = _gather(chosen, targets, own_places)
            predictions = self._predictions(encoded, real, at, asked, predicted_at)
            loss = patch_discrimination(
                predictions,
                wanted,
                asked,
                self.objective.temperature,
                self.objective.near_duplicate,
            )
            losses.append(loss * weight)
        return torch.stack(losses).sum(), pooled

    def _predictions(
        self, encoded: Tensor, real: Tensor, at: Tensor, asked: Tensor, predicted_at: Tensor
    ) -> Tensor:
        """``[B, M, dim]`` for the places asked for; what pads a sample may be anything."""
        seen, wanted = real.sum(dim=1), asked.sum(dim=1)

        def predicted(rows: Tensor) -> Tensor:
            n, m = int(seen[rows].max()), int(wanted[rows].max())
            known = real[rows, :n]
            bias = None if bool(known.all()) else known[:, None, None]
            places = predicted_at[rows, :m]
            predictions = self.predictor(encoded[rows, :n], at[rows, :n], places, bias)
            return nn.functional.pad(predictions, (0, 0, 0, asked.shape[1] - m))

        return in_parts(predicted, wanted)

    def _weight(self, chosen: Tensor) -> Tensor:
        """What makes the mean of the processes' means that over all samples; 1 for one process.

        Not every sample has something to discriminate in every modality, and one process may
        have more of those that do.
        """
        here = can_discriminate(chosen)[:, None].float()
        every = self.gather(here)
        processes = len(every) // len(here)
        return processes * here.sum() / every.sum().clamp(min=1)


def _gather(chosen: Tensor, *sequences: Tensor) -> tuple[Tensor, ...]:
    """The chosen tokens moved to the front: first sequence, which are real, the others."""
    order, real = to_front(chosen)
    taken = [
        x.expand(len(chosen), -1, -1).gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
        for x in sequences
    ]
    return taken[0], real, *taken[1:]


def _mean(tokens: Tensor, real: Tensor) -> Tensor:
    kept = tokens * real[..., None].to(tokens)
    return kept.sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)


@torch.no_grad()
def _init_rest(model: Pretrainer, seed: int) -> None:
    for part in ("predictor", "head"):
        module = getattr(model, part)
        for name, layer in module.named_modules(prefix=part):
            if isinstance(layer, nn.Linear):
                fused = 2 if name.endswith(".kv") else 1
                xavier(layer, name, seed, fused=fused)
    normal(model.predictor.query, 0.02, f"{seed}:predictor.query")
