"""Published files: every tensor has its place, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.errors import UserError
from models.galileo.checkpoint import load
from models.galileo.encoder import GalileoConfig, GalileoEncoder, build, init_random
from models.registry import load_registry
from models.weights import read_checkpoint

SIZES = {"nano": (128, 4), "tiny": (192, 12), "base": (768, 12)}
OPTICAL = {"S2_RGB": 3, "S2_Red_Edge": 3, "S2_NIR_10m": 1, "S2_NIR_20m": 1, "S2_SWIR": 2}
SPACE_TIME = {"S1": 2, **OPTICAL, "NDVI": 1}
SPACE, TIME = {"SRTM": 2, "DW": 9, "WC": 5}, {"ERA5": 2, "TC": 3, "VIIRS": 1}
STATIC = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}


def published(dim: int, depth: int) -> dict[str, Tensor]:
    """A state dict in the published layout, written down here a second time."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (24, dim // 4),
        "month_embed.weight": (12, dim // 4),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    for kind, groups in (("s_t", SPACE_TIME), ("sp", SPACE), ("t", TIME), ("st", STATIC)):
        shapes[f"{kind}_channel_embed"] = (len(groups), dim // 4)
    for kind, groups in (("space_time", SPACE_TIME), ("space", SPACE)):
        for group, channels in groups.items():
            shapes[f"{kind}_embed.{group}.proj.weight"] = (dim, channels, 8, 8)
            shapes[f"{kind}_embed.{group}.proj.bias"] = (dim,)
    for kind, groups in (("time", TIME), ("static", STATIC)):
        for group, channels in groups.items():
            shapes[f"{kind}_embed.{group}.weight"] = (dim, channels)
            shapes[f"{kind}_embed.{group}.bias"] = (dim,)
    layers = {f"attn.{part}": (dim, dim) for part in ("q", "k", "v", "proj")}
    layers |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
    for block in range(depth):
        for layer, shape in layers.items():
            shapes[f"blocks.{block}.{layer}.weight"] = shape
            shapes[f"blocks.{block}.{layer}.bias"] = shape[:1]
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{block}.{norm}.weight"] = (dim,)
            shapes[f"blocks.{block}.{norm}.bias"] = (dim,)
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}


def encoder_of(variant: str) -> GalileoEncoder:
    return build(load_registry().variant(variant), {})


@pytest.mark.parametrize(
    ("size", "in_blocks", "trainable", "everything"),
    [  # the authors' figures; the published sizes (0.8 M, 5.3 M, 85 M) are those of the blocks
        ("nano", 793_088, 1_036_704, 1_037_856),
        ("tiny", 5_338_368, 5_703_792, 5_705_520),
        ("base", 85_054_464, 86_516_160, 86_523_072),
    ],
)
def test_every_published_size_loads_whole(
    size: str, in_blocks: int, trainable: int, everything: int
) -> None:
    state = published(*SIZES[size])
    assert sum(tensor.numel() for tensor in state.values()) == everything
    encoder = encoder_of(f"galileo-v1-{size}")
    load(encoder, state)
    assert sum(p.numel() for p in encoder.blocks.parameters()) == in_blocks
    assert sum(p.numel() for p in encoder.parameters()) == trainable
    ours = {float(v) for tensor in encoder.state_dict().values() for v in tensor.unique()}
    assert ours == {float(tensor.flatten()[0]) for tensor in state.values()}


def test_each_tensor_stands_where_the_publisher_meant_it() -> None:
    generator = torch.Generator().manual_seed(0)
    state = {n: torch.randn(t.shape, generator=generator) for n, t in published(32, 1).items()}
    encoder = GalileoEncoder(GalileoConfig(32, 1, 4, encoder_of("galileo-v1-nano").config.shown))
    load(encoder, state)
    images = torch.randn(1, 16, 16, 1, 10, generator=generator)
    with torch.no_grad():
        tokens = encoder.patch_embedding(encoder.sources["sentinel2_l2a"], images, 8)
        qkv = encoder.blocks[0].attn.qkv.weight
    start = 0
    for i, (group, channels) in enumerate(OPTICAL.items()):
        kernel, bias = (state[f"space_time_embed.{group}.proj.{x}"] for x in ("weight", "bias"))
        picture = images[:, :, :, 0, start : start + channels].permute(0, 3, 1, 2)
        expected = F.conv2d(picture, kernel, bias, stride=8).permute(0, 2, 3, 1)
        torch.testing.assert_close(tokens[:, 0, :, :, i], expected, rtol=0, atol=1e-4)
        assert torch.equal(
            encoder.patch_embedding.group(group).channel, state["s_t_channel_embed"][1 + i]
        )
        start += channels
    assert torch.equal(qkv, torch.cat([state[f"blocks.0.attn.{x}.weight"] for x in "qkv"]))


def test_names_with_a_backbone_in_them_load_too() -> None:
    state = published(*SIZES["nano"])
    wrapped = {n.replace("blocks.", "backbone.blocks.", 1): t for n, t in state.items()}
    wrapped = {n.replace("_embed.S", "_embed.backbone.S"): t for n, t in wrapped.items()}
    plain, other = encoder_of("galileo-v1-nano"), encoder_of("galileo-v1-nano")
    load(plain, state)
    load(other, {n.replace("backbone.blocks", "blocks.backbone", 1): t for n, t in wrapped.items()})
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in plain.state_dict().items())


Change = Callable[[dict[str, Tensor]], Any]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("blocks.2.attn.k.bias"), 'lacks tensor "blocks.2.attn.k.bias"'),
        (lambda s: s.pop("time_embed.TC.weight"), 'lacks tensor "time_embed.TC.weight"'),
        (lambda s: s.update({"cls_token": torch.zeros(1)}), '"cls_token".*no place'),
        (
            lambda s: s.update({"norm.weight": torch.zeros(9)}),
            r'"norm.weight" has shape \[9\] where \[128\]',
        ),
        (lambda s: s.update(published(*SIZES["tiny"])), r'"pos_embed".*\[24, 48\].*\[24, 32\]'),
        (
            lambda s: (s.clear(), s.update({"encoder.norm.bias": torch.zeros(128)})),
            '"encoder.norm.bias".*no place.*Galileo',
        ),
        (lambda s: s.clear(), 'lacks tensor "pos_embed"'),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_copied(change: Change, words: str) -> None:
    state = published(*SIZES["nano"])
    change(state)
    encoder = encoder_of("galileo-v1-nano")
    init_random(encoder, 0)
    before = {n: t.clone() for n, t in encoder.state_dict().items()}
    with pytest.raises(UserError, match=words):
        load(encoder, state)
    assert all(torch.equal(t, before[n]) for n, t in encoder.state_dict().items())


def test_weights_of_another_token_scheme_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "family: galileo\nschemes: {two: {sentinel2_l2a: [[B02, B03, B04, B08], "
        "[B05, B06, B07, B8A, B11, B12]], ignored: {sentinel2_l2a: [B01, B09]}}}\n"
    )
    encoder = build(load_registry([file]).variant("galileo-v1-nano:two"), {})
    with pytest.raises(UserError, match=r"space_time_embed|s_t_channel_embed"):
        load(encoder, published(*SIZES["nano"]))


def test_the_published_file_is_read_unchanged_and_a_cut_one_is_refused(
    reference: Any, tmp_path: Path
) -> None:
    file = reference.folder / "encoder.pt"
    checkpoint = read_checkpoint(reference.folder / "config.json", file, "reference")
    settings = checkpoint.config["model"]["encoder"]
    variant = load_registry().variant("galileo-v1-nano")
    names = ("embedding_size", "depth", "num_heads", "mlp_ratio", "max_sequence_length")
    assert [settings[n] for n in names] == [128, variant.depth, variant.heads, 4, 24]
    load(encoder_of("galileo-v1-nano"), checkpoint.state_dict)
    with pytest.raises(UserError, match="pos_embed"):
        load(encoder_of("galileo-v1-tiny"), checkpoint.state_dict)
    cut = tmp_path / "encoder.pt"
    cut.write_bytes(file.read_bytes()[:-100_000])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(None, cut, "cut")
