"""Traced MACs against the closed form, and against the products that inference performs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.macs import MacCounter, count_macs
from models.cost import PUBLISHED_TASK_SHAPES, MacCount, closed_form_macs
from models.olmoearth.config import OlmoEarthConfig, Positions
from models.olmoearth.encoder import OlmoEarthEncoder, init_random
from models.sensors import MODALITIES, modality
from models.tokens import InputShape, TokenScheme, token_scheme

SIZES = {
    "pico": (32, 2, 4),
    "nano": (128, 4, 8),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
COMES_IN = {
    "v1": ("nano", "tiny", "base", "large"),
    "v1.1": ("nano", "tiny", "base"),
    "v1.2": ("nano", "tiny", "small", "base"),
}
VARIANTS = [(version, size) for version, sizes in COMES_IN.items() for size in sizes]
# A single image, and a series: what other shapes do does not depend on a model's width and depth.
UNLIKE = [task for task in PUBLISHED_TASK_SHAPES if task.height in (4, 80)]


def scheme(kind: str) -> TokenScheme:
    names = {name: m.band_names for name, m in MODALITIES.items()}
    s2, landsat = names["sentinel2_l2a"], names["landsat"]
    groups: dict[str, list[Sequence[str]]] = {
        "resolution": [s2[:4], s2[4:10], s2[10:]],
        "single": [s2],
        "per-band": [[band] for band in s2],
    }[kind]
    split = [landsat] if kind == "single" else [landsat[:1], landsat[1:]]
    return token_scheme(
        kind, {"sentinel2_l2a": groups, "sentinel1": [names["sentinel1"]], "landsat": split}
    )


def config_of(version: str, size: str, kind: str | None = None) -> OlmoEarthConfig:
    own = "resolution" if version == "v1" else "single"
    hidden = None if version == "v1" else {"nano": 12}.get(size, 64)
    positions: Positions = "rotary" if version == "v1.2" else "additive"
    return OlmoEarthConfig(
        *SIZES[size], scheme(kind or own), pixel_hidden=hidden, positions=positions
    )


@pytest.mark.parametrize(("version", "size"), VARIANTS)
def test_traced_equals_closed_form_for_every_variant_at_published_shapes(
    version: str, size: str
) -> None:
    config = config_of(version, size)
    counter = MacCounter(lambda: OlmoEarthEncoder(config))
    for task in PUBLISHED_TASK_SHAPES if size == "nano" else UNLIKE:
        traced = counter.count(task.inputs(), task.patch_size)
        assert traced == closed_form_macs(config, task.inputs(), task.patch_size)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    version=st.sampled_from(list(COMES_IN)),
    kind=st.sampled_from(["resolution", "single", "per-band"]),
    names=st.lists(st.sampled_from(list(MODALITIES)), min_size=1, max_size=3, unique=True),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    p=st.integers(1, 8),
    steps=st.integers(1, 12),
)
def test_traced_equals_closed_form_for_any_scheme_and_input(
    version: str,
    kind: str,
    names: list[str],
    grid: tuple[int, int],
    p: int,
    steps: int,
) -> None:
    config = config_of(version, "pico", kind)
    shapes = [InputShape(grid[0] * p, grid[1] * p, steps, name) for name in names]
    assert count_macs(lambda: OlmoEarthEncoder(config), shapes, p) == closed_form_macs(
        config, shapes, p
    )


@pytest.mark.parametrize("version", COMES_IN)
def test_the_inference_path_performs_exactly_the_products_that_tracing_counts(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Inference may run linear layers in oneDNN, which the trace does not: count what really
    # reaches the two kernels, on real tensors.
    from models import transformer  # noqa: PLC0415
    from models.olmoearth import patches  # noqa: PLC0415

    config = config_of(version, "nano")
    shapes = [InputShape(16, 8, 2, name) for name in MODALITIES]
    counted = count_macs(lambda: OlmoEarthEncoder(config), shapes, 4)
    spent = {"linear": 0, "attention": 0}
    true_linear, true_attention = transformer.linear, nn.functional.scaled_dot_product_attention

    def counted_linear(x: Tensor, layer: nn.Linear, *rest: str) -> Tensor:
        spent["linear"] += x.numel() * layer.out_features
        return true_linear(x, layer, *rest)  # type: ignore[arg-type]

    def counted_attention(q: Tensor, k: Tensor, v: Tensor, **rest: Tensor) -> Tensor:
        spent["attention"] += q.numel() * k.shape[-2] + q[..., 0].numel() * v[0, 0].numel()
        return true_attention(q, k, v, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(transformer, "linear", counted_linear)
    monkeypatch.setattr(patches, "linear", counted_linear)
    monkeypatch.setattr(transformer.F, "scaled_dot_product_attention", counted_attention)
    images = {
        s.modality: torch.rand(1, s.height, s.width, s.steps, len(modality(s.modality).bands))
        for s in shapes
    }
    with torch.inference_mode():
        encoder = init_random(OlmoEarthEncoder(config), seed=0)
        encoder(images, torch.zeros(1, 2, 3, dtype=torch.long), 4)
    assert spent["attention"] == counted.attention
    assert spent["linear"] == counted.linear + counted.patch_embedding


class Explicit(nn.Module):
    """An encoder whose attention is written out, as other families may do it."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(12 * 16, 8)
        self.operation = operation

    def forward(
        self, images: dict[str, Tensor], _timestamps: Tensor, _patch_size: int
    ) -> dict[str, Tensor]:
        x = self.patch_embedding(images["sentinel2_l2a"].view(1, 16, 12 * 16))
        if self.operation == "products":
            scores = torch.baddbmm(x.new_zeros(1), x, x.transpose(1, 2)).softmax(-1)
            return {"x": torch.bmm(scores, x)}
        return {"x": torch.linalg.inv(x[:, :8])}


def test_explicit_products_are_counted() -> None:
    count = count_macs(lambda: Explicit("products"), [InputShape(16, 16)], 4)
    assert count == MacCount(patch_embedding=16 * 8 * 12 * 16, linear=2 * 16 * 16 * 8, attention=0)


def test_an_operator_that_nobody_vouches_for_is_an_error_that_names_it() -> None:
    with pytest.raises(RuntimeError, match=r"aten::linalg_inv"):
        count_macs(lambda: Explicit("inverse"), [InputShape(16, 16)], 4)
