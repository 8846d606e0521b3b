"""The baselines as encoders: images in, tokens out, and nothing in them is ever trained.

Random weights are drawn from the seed and the band's name, so that neither the order of the
bands nor the presence of others changes what a band contributes. It must not know where the
tokens go.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.baseline.design import FILTER_SIDE
from models.families import Channels
from models.initialisation import normal
from models.registry import Variant
from models.tokens import MAX_PATCH_SIZE, InputShape, patch_grid


class Statistics(nn.Module):
    """Mean and standard deviation of every band over all pixels and steps: one token."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels = dict(channels)

    def forward(self, images: Mapping[str, Tensor], patch_size: int) -> dict[str, Tensor]:
        """``[B, H, W, T, D]`` per modality to one entry ``[B, 1, 1, 1, 1, 2 D]``."""
        found = []
        for name in self.channels:
            pixels = _z_scores(images[name]).flatten(1, 3)
            mean = pixels.mean(dim=1)
            centred = (pixels - mean[:, None]).transpose(1, 2)
            squares = torch.matmul(centred[:, :, None], centred[..., None]).flatten(1)
            found += [mean, (squares / pixels.shape[1]).sqrt()]
        return {"statistics": torch.cat(found, dim=1)[:, None, None, None, None]}


class Projection(nn.Module):
    """Each patch of raw pixels through one random matrix: distances survive, nothing is learned.

    W. Johnson and J. Lindenstrauss, 1984. Smaller patches use a corner of the matrix.
    """

    def __init__(self, channels: Channels, features: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterDict(
            {
                name: nn.Parameter(
                    torch.zeros(len(bands), features, MAX_PATCH_SIZE, MAX_PATCH_SIZE),
                    requires_grad=False,
                )
                for name, bands in channels.items()
            }
        )
        self.channels = dict(channels)

    def draw(self, seed: int) -> None:
        """Standard normal entries, band by band."""
        _draw_by_band(self.kernels, self.channels, f"{seed}:projection")

    def forward(self, images: Mapping[str, Tensor], patch_size: int) -> dict[str, Tensor]:
        """``[B, H, W, T, D]`` to ``[B, H/p, W/p, T, 1, features]`` per modality."""
        return {name: self._tokens(name, images[name], patch_size) for name in self.channels}

    def _tokens(self, name: str, images: Tensor, patch_size: int) -> Tensor:
        batch, height, width, steps, bands = images.shape
        rows, columns = patch_grid(InputShape(height, width, steps, name), patch_size)
        kernel: Tensor = self.kernels[name][:, :, :patch_size, :patch_size]
        matrix = kernel.permute(2, 3, 0, 1).reshape(-1, kernel.shape[1])
        x = _z_scores(images).view(batch, rows, patch_size, columns, patch_size, steps, bands)
        x = x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, matrix.shape[0])
        tokens: Tensor = torch.mm(x, matrix) * float(matrix.shape[0] ** -0.5)
        return tokens.view(batch, rows, columns, steps, 1, -1)


class Convolutions(nn.Module):
    """Random 3 x 3 filters, rectified both ways and averaged over each patch.

    Random convolutional features as in MOSAIKS (Rolf et al. 2021, Nature Communications 12),
    with Gaussian filters; averaged over the image they are its features there.
    """

    def __init__(self, channels: Channels, features: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterDict(
            {
                name: nn.Parameter(
                    torch.zeros(len(bands), features // 2, FILTER_SIDE, FILTER_SIDE),
                    requires_grad=False,
                )
                for name, bands in channels.items()
            }
        )
        self.channels = dict(channels)

    def draw(self, seed: int) -> None:
        """Standard normal entries, band by band."""
        _draw_by_band(self.kernels, self.channels, f"{seed}:convolutions")

    def forward(self, images: Mapping[str, Tensor], patch_size: int) -> dict[str, Tensor]:
        """``[B, H, W, T, D]`` to ``[B, H/p, W/p, T, 1, features]`` per modality."""
        return {name: self._tokens(name, images[name], patch_size) for name in self.channels}

    def _tokens(self, name: str, images: Tensor, patch_size: int) -> Tensor:
        batch, height, width, steps, bands = images.shape
        rows, columns = patch_grid(InputShape(height, width, steps, name), patch_size)
        x = _z_scores(images).permute(0, 3, 4, 1, 2).reshape(-1, bands, height, width)
        x = F.pad(x, [FILTER_SIDE // 2] * 4, mode="replicate")
        kernel = self.kernels[name].transpose(0, 1) * (bands * FILTER_SIDE**2) ** -0.5
        # One image's answers at a time stay in a core's own cache; a batch of them does not, and
        # then writing and reading them takes longer than the convolution.
        few = torch.split(x, 1 if x.device.type == "cpu" else len(x))
        grid = (rows, patch_size, columns, patch_size)
        features = torch.cat([_rectified(F.conv2d(one, kernel), grid) for one in few])
        features = features.view(batch, steps, -1, rows, columns)
        return features.permute(0, 3, 4, 1, 2)[:, :, :, :, None]


def _rectified(answers: Tensor, grid: tuple[int, int, int, int]) -> Tensor:
    """Answers ``[B, F, H, W]``, rectified both ways and averaged: ``[B, 2 F, H/p, W/p]``.

    The answers are overwritten.
    """

    def averaged(part: Tensor) -> Tensor:
        return part.view(*part.shape[:2], *grid).mean(dim=(3, 5))

    return torch.cat((averaged(answers.relu()), averaged(answers.neg_().relu_())), dim=1)


def _z_scores(images: Tensor) -> Tensor:
    """Two standard deviations either side of the mean came as 0 and 1; back to mean 0, std 1.

    Features around zero are what cosine similarity can tell apart.
    """
    return (images - 0.5) * 4


def _draw_by_band(kernels: nn.ParameterDict, channels: Channels, key: str) -> None:
    for name, bands in channels.items():
        for i, band in enumerate(bands):
            normal(kernels[name][i], 1.0, f"{key}:{name}:{band}")


class BaselineEncoder(nn.Module):
    """A baseline behind the interface of every encoder."""

    def __init__(self, inner: Statistics | Projection | Convolutions) -> None:
        super().__init__()
        self.patch_embedding = inner

    def forward(
        self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int
    ) -> dict[str, Tensor]:
        """Tokens of a batch; the date is not looked at."""
        tokens: dict[str, Tensor] = self.patch_embedding(images, patch_size)
        return tokens


def build(variant: Variant, channels: Channels) -> BaselineEncoder:
    """The baseline that the variant's option ``kind`` names, for images of these channels."""
    kind = variant.options["kind"]
    if kind == "statistics":
        return BaselineEncoder(Statistics(channels))
    if kind == "projection":
        return BaselineEncoder(Projection(channels, variant.dim))
    return BaselineEncoder(Convolutions(channels, variant.dim))


def init_random(encoder: nn.Module, seed: int) -> nn.Module:
    """Draw the random matrices from ``seed``; statistics have none."""
    assert isinstance(encoder, BaselineEncoder)
    if not isinstance(encoder.patch_embedding, Statistics):
        encoder.patch_embedding.draw(seed)
    return encoder
