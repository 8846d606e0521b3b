"""What an encoder costs, by arithmetic: multiply-accumulates (MACs) in closed form.

An independent second opinion on `harness.macs`, which traces the real module: the two must
agree exactly. Counts linear layers and the two attention products; not layer norms,
activations, encodings or the image resize, which hold no matrix product. It must not
import torch: a table of costs should be instant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from models.tokens import InputShape, TokenScheme, patch_grid, token_count


class TransformerShape(Protocol):
    """The numbers of a configuration that decide its cost (`OlmoEarthConfig` has them)."""

    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def depth(self) -> int: ...  # noqa: D102
    @property
    def scheme(self) -> TokenScheme: ...  # noqa: D102
    @property
    def mlp_ratio(self) -> float: ...  # noqa: D102
    @property
    def pixel_hidden(self) -> int | None: ...  # noqa: D102
    @property
    def max_patch_size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class MacCount:
    """MACs of one sample's forward pass, split by where they are spent."""

    patch_embedding: int
    linear: int
    attention: int

    def __add__(self, other: MacCount) -> MacCount:
        """Spent one after the other."""
        return MacCount(
            self.patch_embedding + other.patch_embedding,
            self.linear + other.linear,
            self.attention + other.attention,
        )

    @property
    def total(self) -> int:
        """All of them."""
        return self.patch_embedding + self.linear + self.attention

    @property
    def attention_blind(self) -> int:
        """What a counter reports that never sees attention's two matrix products.

        The published OlmoEarth v1 and v1.1 figures used such a counter (it hooks modules,
        and these products belong to none). The undercount of a plain transformer is
        ``1 + N / (6 dim)``. Only for comparison with those figures.
        """
        return self.patch_embedding + self.linear


@dataclass(frozen=True)
class TaskShape:
    """One input of the published cost axis: time steps, image size, how many tasks have it."""

    steps: int
    height: int
    width: int
    weight: int

    @property
    def patch_size(self) -> int:
        """4 pixels, or the image side if that is smaller."""
        return min(4, self.height, self.width)

    def inputs(self, modality: str = "sentinel2_l2a") -> tuple[InputShape, ...]:
        """As the input shape of one modality."""
        return (InputShape(self.height, self.width, self.steps, modality),)


PUBLISHED_TASK_SHAPES = tuple(
    TaskShape(*row)
    for row in (
        (1, 120, 120, 1),
        (1, 32, 32, 1),
        (1, 64, 64, 2),
        (12, 1, 1, 2),
        (6, 1, 1, 1),
        (1, 256, 256, 2),
        (12, 64, 64, 1),
        (1, 80, 80, 1),
        (12, 4, 4, 1),
        (12, 32, 32, 1),
    )
)
"""The 13 task inputs whose mean MACs are the family's published x-axis (10 distinct)."""


def transformer_macs(tokens: int, dim: int, depth: int, mlp_ratio: float) -> MacCount:
    """MACs of ``depth`` blocks over one sequence of ``tokens``.

    Per block and token: ``(4 + 2 mlp_ratio) dim^2`` in linear layers (query, key, value,
    output; the two of the MLP) and ``2 N dim`` in attention (scores and weighted values).
    """
    per_token = 4 * dim**2 + 2 * dim * int(dim * mlp_ratio)
    return MacCount(
        patch_embedding=0,
        linear=depth * tokens * per_token,
        attention=depth * 2 * tokens**2 * dim,
    )


def closed_form_macs(
    config: TransformerShape, shapes: Sequence[InputShape], patch_size: int
) -> MacCount:
    """MACs of one sample with these inputs.

    Those of `transformer_macs`, and per token of a group of C bands ``side^2 C dim`` to embed
    a patch, which is enlarged to the embedding's own side first; with a per-pixel layer of
    width h instead ``side^2 (C h + h dim)``.
    """
    tokens = token_count(config.scheme, shapes, patch_size)
    embedding = sum(_patch_macs(config, shape, patch_size) for shape in shapes)
    blocks = transformer_macs(tokens, config.dim, config.depth, config.mlp_ratio)
    return replace(blocks, patch_embedding=embedding)


def _patch_macs(config: TransformerShape, shape: InputShape, patch_size: int) -> int:
    rows, columns = patch_grid(shape, patch_size)
    pixels = config.max_patch_size**2
    per_place = 0
    for group in config.scheme.of(shape.modality):
        if config.pixel_hidden:
            per_place += pixels * config.pixel_hidden * (len(group) + config.dim)
        else:
            per_place += pixels * len(group) * config.dim
    return rows * columns * shape.steps * per_place


def published_axis(macs_of: Callable[[Sequence[InputShape], int], MacCount]) -> MacAxis:
    """Mean MACs over `PUBLISHED_TASK_SHAPES`, weighted by how many tasks have each shape.

    ``macs_of(shapes, patch_size)`` counts one input; e.g.
    ``published_axis(partial(closed_form_macs, config))``.
    """
    counts = [(macs_of(t.inputs(), t.patch_size), t.weight) for t in PUBLISHED_TASK_SHAPES]
    weight = sum(w for _, w in counts)
    return MacAxis(
        total=sum(count.total * w for count, w in counts) / weight,
        attention_blind=sum(count.attention_blind * w for count, w in counts) / weight,
    )


@dataclass(frozen=True)
class MacAxis:
    """A variant's place on the cost axis: mean MACs, and what the blind counter would say."""

    total: float
    attention_blind: float
