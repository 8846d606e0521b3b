"""What is predicted: a frozen random projection of each patch, which never trains.

One linear layer per band group over the pixels of a patch (enlarged to the embedding's own
side, as the encoder sees it), drawn once from a seed. No band is ever dropped from a target.
It must not know masks or losses.

Source: OlmoEarth, section on latent MIM with frozen random targets.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.initialisation import torch_default
from models.olmoearth.config import OlmoEarthConfig
from models.olmoearth.patches import PatchEmbedding


class RandomProjection(nn.Module):
    """Targets ``[B, H/p, W/p, T, G, dim]`` of one modality's images ``[B, H, W, T, D]``.

    Linear in the pixels whatever the encoder's own embedding is (no per-pixel layer), so that
    every recipe of a token scheme predicts the same thing.

    ``centred``: a patch that is 0.5 throughout, what normalisation makes of a band's mean, has the
    target zero. Else that mean is most of every target, all point nearly the same way, and a
    softmax over their cosines can hardly tell them apart.
    """

    def __init__(self, config: OlmoEarthConfig, seed: int, centred: bool = False) -> None:
        super().__init__()
        self.projection = PatchEmbedding(replace(config, pixel_hidden=None))
        for name, module in self.projection.named_modules():
            if isinstance(module, nn.Linear):
                torch_default(module, f"targets.{name}", seed)
                module.bias.data = module.weight.data.sum(dim=1) * (-0.5 if centred else 0.0)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, name: str, images: Tensor, patch_size: int) -> Tensor:
        """One modality's targets."""
        targets: Tensor = self.projection(name, images, patch_size)
        return targets
