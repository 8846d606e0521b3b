"""SatMAE against its authors' outputs, published sizes, and what a user may get wrong."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.macs import build_on_meta, count_macs
from models.errors import UserError
from models.families import design_of
from models.registry import Variant, load_registry
from models.satmae.checkpoint import load
from models.satmae.design import MODALITY, Options, group_positions
from models.satmae.encoder import SatMaeConfig, SatMaeEncoder, build, config_of, init_random
from models.satmae.positions import position_table, resized
from models.tokens import InputShape, TokenScheme
from models.weights import read_checkpoint

TOLERANCE = 1e-5
NO_TIME = torch.zeros(1, 1, 3, dtype=torch.long)
VERSIONS = ("pretrain", "finetune")


def variant(version: str, size: str = "base") -> Variant:
    return load_registry().variant(f"satmae-{version}-{size}")


def small(version: str, dim: int = 96) -> SatMaeEncoder:
    """The fixtures' architecture."""
    pooled = version == "finetune"
    options = Options(channel_code=32, native_side=32, global_pool=pooled)
    return SatMaeEncoder(SatMaeConfig(dim, 2, 3, variant(version).scheme, options)).eval()


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, Tensor]]:
    folder = os.environ.get("TOKENRANK_TEST_REFERENCE")
    if folder is None:
        pytest.skip("needs satmae_small under TOKENRANK_TEST_REFERENCE")
    names = ("weights", "cases")
    return {n: load_file(Path(folder) / "satmae_small" / f"{n}.safetensors") for n in names}


def stages(encoder: SatMaeEncoder, images: Tensor) -> dict[str, Tensor]:
    """What the fixtures store, from our encoder."""
    x = encoder.embed(images)
    found = {"tokens_in": x}
    for number, block in enumerate(encoder.blocks, start=1):
        x = block(x)
        found[f"tokens_block{number}"] = x
    found["tokens_out"] = x
    found["features"] = encoder.features({MODALITY: images})
    return found


@pytest.mark.parametrize(
    ("version", "case"),
    [
        ("pretrain", "cls_32"),
        ("finetune", "gap_32"),
        ("finetune", "gap_unit_32"),
        ("finetune", "gap_48"),
    ],
)
def test_tokens_and_features_equal_the_authors(
    reference: dict[str, dict[str, Tensor]], version: str, case: str
) -> None:
    encoder, cases = small(version), reference["cases"]
    load(encoder, reference["weights"])
    images = cases[f"{case}/in/x"].permute(0, 2, 3, 1)[:, :, :, None]
    with torch.inference_mode():
        fast = stages(encoder, images)
        tokens = encoder({MODALITY: images}, NO_TIME, 8)[MODALITY]
    slow = stages(encoder, images)  # the path that training takes
    stored = {n.rpartition("/")[2]: t for n, t in cases.items() if n.startswith(f"{case}/out/")}
    table = stored.pop("pos_embed", None)
    if table is not None:
        side = round((table.shape[1] - 1) ** 0.5)
        found = resized(encoder.positions, side, side)
        assert float((found - table[0, 1:]).abs().max()) <= TOLERANCE
    for name, expected in stored.items():
        assert float((fast[name] - expected).abs().max()) <= TOLERANCE
        assert float((slow[name].detach() - expected).abs().max()) <= TOLERANCE
    # As the harness sees them: pooled, then normed; or normed, then pooled.
    pooled = tokens.flatten(1, 4).mean(dim=1)
    out = fast["tokens_out"][:, 1:]
    if version == "finetune":
        assert encoder.after_pooling is not None
        expected = stored["features"]
        assert float((encoder.after_pooling(pooled).detach() - expected).abs().max()) <= TOLERANCE
    else:
        weights = reference["weights"]
        normed = F.layer_norm(out, (96,), weights["norm.weight"], weights["norm.bias"], 1e-6)
        assert float((pooled - normed.mean(dim=1).detach()).abs().max()) <= TOLERANCE
    # Group after group in the sequence, group innermost in the tokens.
    if version == "finetune":
        batch, rows, columns = tokens.shape[:3]
        by_group = out.view(batch, 3, rows, columns, 96)
        assert torch.equal(tokens[:, 1, 2, 0, 1], by_group[:, 1, 1, 2])


def test_codes_by_formula_equal_the_authors(reference: dict[str, dict[str, Tensor]]) -> None:
    encoder, weights = small("pretrain"), reference["weights"]
    torch.testing.assert_close(encoder.positions, weights["pos_embed"][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        encoder.channel_codes, weights["channel_embed"][0], rtol=0, atol=1e-6
    )


def test_the_position_table_serves_rectangles() -> None:
    table = position_table(12, 64)
    wide = resized(table, 6, 12).view(6, 12, 64)
    square = resized(table, 12, 12).view(12, 12, 64)
    # The column half varies along columns only, which are as they were.
    torch.testing.assert_close(wide[..., :32], square[:6, :, :32], rtol=0, atol=1e-5)
    assert torch.equal(resized(table, 12, 12), table[1:])
    encoder = init_random(small("pretrain"), 0)
    with torch.inference_mode():
        tokens = encoder({MODALITY: torch.rand(2, 16, 40, 1, 10)}, NO_TIME, 8)[MODALITY]
    assert tokens.shape == (2, 2, 5, 1, 3, 96)


def test_groups_are_the_authors_indices_into_ten_bands() -> None:
    needs = design_of(variant("pretrain")).needs
    channels = needs.modalities[MODALITY].channels
    assert " ".join(channels) == "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12"
    scheme = variant("pretrain").scheme
    assert group_positions(scheme) == ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9))


def test_needs_are_fmow_sentinels_statistics_in_8_bits() -> None:
    needs = design_of(variant("finetune")).needs
    own = needs.modalities[MODALITY]
    assert own.shift is not None
    assert own.divisor is not None
    # B11 by hand: mean 1732.16362238, std 1310.36996126.
    assert own.shift[8] == pytest.approx(1732.16362238 - 2 * 1310.36996126)
    assert own.divisor[8] == pytest.approx(4 * 1310.36996126)
    assert (own.clip, own.levels, needs.level, needs.native_side) == (True, 255, "L1C", 96)
    assert (needs.patch_sizes, needs.max_steps, needs.square) == ((8,), 1, False)


@lru_cache(maxsize=4)
def on_meta(version: str, size: str) -> nn.Module:
    return build_on_meta(lambda: build(variant(version, size), {}))


@pytest.mark.parametrize(("size", "parameters"), [("base", 85_625_856), ("large", 303_083_264)])
def test_a_variant_has_the_published_parameters(size: str, parameters: int) -> None:
    for version in VERSIONS:
        state = on_meta(version, size).state_dict()
        assert sum(tensor.numel() for tensor in state.values()) == parameters
        assert state["positions"].shape == (145, 512 if size == "base" else 768)


def shape_of(height: int, width: int) -> list[InputShape]:
    channels = design_of(variant("pretrain")).needs.modalities[MODALITY].channels
    return [InputShape(height, width, bands=channels)]


@pytest.mark.parametrize(
    ("version", "size", "grid"),
    [
        ("pretrain", "base", (12, 12)),
        ("finetune", "base", (8, 8)),
        ("finetune", "base", (1, 5)),
        ("pretrain", "large", (32, 16)),
    ],
)
def test_traced_macs_equal_the_closed_form(version: str, size: str, grid: tuple[int, int]) -> None:
    shapes = shape_of(grid[0] * 8, grid[1] * 8)
    counted = count_macs(on_meta(version, size), shapes, 8)
    assert counted == design_of(variant(version, size)).macs(shapes, 8)


def test_433_tokens_at_96_pixels_and_their_macs_by_hand() -> None:
    design = design_of(variant("pretrain"))
    layout = design.layout(shape_of(96, 96), 8)
    assert (layout.tokens, layout.groups) == (433, 3)
    assert [kind.count for kind in layout.kinds] == [1, 144, 144, 144]
    count = design.macs(shape_of(96, 96), 8)
    assert count.linear == 12 * 433 * 12 * 768**2
    assert count.attention == 12 * 2 * 433**2 * 768
    assert count.patch_embedding == 144 * 64 * 10 * 768


def test_random_weights_follow_the_seed_and_start_as_pretraining_did() -> None:
    first, again, other = (init_random(small("finetune"), s).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["class_token"], other["class_token"])
    weight = first["blocks.1.attn.qkv.weight"]
    assert float(weight.abs().max()) == pytest.approx((6 / (96 + 288)) ** 0.5, rel=1e-2)
    assert not first["blocks.1.attn.qkv.bias"].any()
    assert first["patch_embedding.groups.2.bias"].any()
    assert 0.015 < float(first["class_token"].std()) < 0.025


def published(encoder: SatMaeEncoder) -> dict[str, Tensor]:
    """An encoder's weights as the authors' files name them."""
    from models.satmae.checkpoint import _source  # noqa: PLC0415

    state: dict[str, Tensor] = {}
    for name, tensor in encoder.state_dict().items():
        (key,) = _source(name, encoder).names
        if name.startswith("patch_embedding") and name.endswith("weight"):
            tensor = tensor.view(len(tensor), 8, 8, -1).permute(0, 3, 1, 2)  # noqa: PLW2901
        state[key] = tensor[None] if name in ("positions", "channel_codes") else tensor
    return {name: tensor.clone() for name, tensor in state.items()}


def training_file(path: Path, model: dict[str, Tensor]) -> Path:
    """As the authors' training script saves it."""
    optimiser = torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    optimiser.param_groups[0]["params"][0].sum().backward()
    optimiser.step()
    torch.save(
        {
            "model": model,
            "optimizer": optimiser.state_dict(),
            "epoch": 199,
            "scaler": {"scale": 65536.0, "_growth_tracker": 7},
            "args": argparse.Namespace(input_size=96, model="mae_vit_base_patch16"),
        },
        path,
    )
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flat", [False, True])
def test_a_training_scripts_file_loads(version: str, flat: bool, tmp_path: Path) -> None:
    trained = init_random(small(version), 1)
    assert isinstance(trained, SatMaeEncoder)
    if version == "finetune":
        nn.init.normal_(trained.class_code)
        nn.init.normal_(trained.positions)  # which fine-tuning learns
    model = published(trained)
    if version == "pretrain":
        del model["channel_cls_embed"]
        model["mask_token"] = torch.zeros(1, 1, 48)
        model["decoder_blocks.0.norm1.weight"] = torch.zeros(48)
        model["decoder_pos_embed"] = torch.zeros(1, 17, 32)
    else:
        model["head.weight"], model["head.bias"] = torch.zeros(62, 96), torch.zeros(62)
    path = tmp_path / "weights.pth"
    if flat:
        torch.save(model, path)
    else:
        training_file(path, model)
    encoder = init_random(small(version), 2)
    load(encoder, read_checkpoint(None, path, "weights.pth").state_dict)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("truncated", r'lacks tensor "blocks.1.mlp.fc2.bias"; it is incomplete'),
        ("unknown", r'holds tensor "blocks.0.ls1.gamma", which this variant has no place for'),
        ("size", r'"cls_token" has shape \[192\], which is not that of SatMAE at this size'),
        ("version", "is of pretraining: .* choose the version pretrain"),
        ("family", "is not the multi-spectral SatMAE's"),
        ("rgb", r'"patch_embed.0.proj.weight"; it is incomplete, or not of this version'),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_changes_nothing(
    change: str, sentence: str
) -> None:
    donor = small(
        "pretrain" if change == "version" else "finetune", 192 if change == "size" else 96
    )
    state = published(donor)
    if change == "truncated":
        del state["blocks.1.mlp.fc2.bias"]
    elif change == "unknown":
        state["blocks.0.ls1.gamma"] = torch.zeros(1)
    elif change == "family":
        state = {"s2_encoder.linear_input.weight": torch.zeros(64, 768)}
    elif change == "rgb":  # one patch embedding, no groups
        state = {n: t for n, t in state.items() if not n.startswith("patch_embed.")}
        state["patch_embed.proj.weight"] = torch.zeros(96, 3, 16, 16)
    encoder = init_random(small("finetune"), 2)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError, match=sentence):
        load(encoder, {f"model.{name}": tensor for name, tensor in state.items()})
    assert all(torch.equal(tensor, before[n]) for n, tensor in encoder.state_dict().items())


def test_a_fine_tuned_checkpoint_is_not_a_pretraining_one() -> None:
    with pytest.raises(UserError, match=r"is a fine-tuned one: .* choose the version finetune"):
        load(small("pretrain"), published(small("finetune")))


@pytest.mark.parametrize(
    ("shape", "patch_size", "sentence"),
    [
        ((1, 16, 16, 1, 12), 8, r"expects \[B, H, W, T, 10\] with B02 B03"),
        ((1, 16, 16, 3, 10), 8, "at most 1 time step and the .* have 3"),
        ((1, 16, 16, 1, 10), 16, "cannot cut patches of 16 pixels; allowed: 8"),
        ((1, 16, 20, 1, 10), 8, "does not divide an image of 16 x 20"),
        ((1, 16, 4, 1, 10), 8, "16 x 4; give images of at least one patch"),
    ],
)
def test_images_that_satmae_cannot_take_are_refused(
    shape: tuple[int, ...], patch_size: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        small("pretrain")({MODALITY: torch.zeros(shape)}, NO_TIME, patch_size)
    if shape[-1] == 10:  # the plan refuses the same, before any image is read
        with pytest.raises(UserError, match=sentence):
            design_of(variant("pretrain")).macs(
                [InputShape(shape[1], shape[2], shape[3])], patch_size
            )


def test_what_a_registry_file_may_get_wrong() -> None:
    with pytest.raises(UserError, match="A channel code of 256 does not fit SatMAE tokens 192"):
        SatMaeConfig(192, 2, 3, variant("pretrain").scheme)
    radar = TokenScheme("radar", {"sentinel1": (("VV", "VH"),)})
    with pytest.raises(UserError, match='Token scheme "radar" does not suit SatMAE'):
        SatMaeEncoder(SatMaeConfig(768, 2, 12, radar))
    ndvi = TokenScheme("ndvi", {MODALITY: (("B02",), ("NDVI",))})
    with pytest.raises(UserError, match="no statistics of NDVI"):
        SatMaeEncoder(SatMaeConfig(768, 2, 12, ndvi))
    for options, sentence in (
        ({"chanel_code": 4}, r'option "chanel_code": .* has the options channel_code'),
        ({"native_side": 100}, 'option "native_side": .*multiple of 8'),
    ):
        given = variant("pretrain")
        wrong = Variant(**{**vars(given), "options": options})
        with pytest.raises(UserError, match=sentence):
            config_of(wrong)


def test_designs_need_no_tensor_library() -> None:
    # A table of costs of all variants must not wait for torch.
    code = (
        "import sys\n"
        "from models.families import design_of\n"
        "from models.registry import load_registry\n"
        "from models.tokens import InputShape\n"
        "for name in ('croma-v1-large', 'satmae-finetune-base'):\n"
        "    design_of(load_registry().variant(name)).macs([InputShape(96, 96)], 8)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
