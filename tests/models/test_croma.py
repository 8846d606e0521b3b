"""CROMA against its authors' outputs, published sizes, and what a user may get wrong."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.macs import build_on_meta, count_macs
from models.croma.alibi import alibi
from models.croma.checkpoint import load
from models.croma.design import CromaDesign
from models.croma.encoder import POOLED, CromaConfig, CromaEncoder, build, init_random
from models.errors import UserError
from models.families import design_of
from models.registry import Variant, load_registry
from models.tokens import InputShape, TokenScheme
from models.weights import read_checkpoint

TOLERANCE = 1e-5
S2, S1 = "sentinel2_l2a", "sentinel1"
SCHEMES = ("optical", "radar", "joint")
CASES = ("normal_40", "unit_24", "faint_24")
ENCODINGS = {
    "optical": "optical_encodings",
    "radar": "SAR_encodings",
    "joint": "joint_encodings",
}
NO_TIME = torch.zeros(1, 1, 3, dtype=torch.long)


def variant(scheme: str, size: str = "base") -> Variant:
    return load_registry().variant(f"croma-v1-{size}:{scheme}")


def small(scheme: str, dim: int = 64) -> CromaEncoder:
    """The fixtures' architecture."""
    return CromaEncoder(CromaConfig(dim, 4, 16, variant(scheme).scheme)).eval()


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, Tensor]]:
    folder = os.environ.get("TOKENRANK_TEST_REFERENCE")
    if folder is None:
        pytest.skip("needs croma_small under TOKENRANK_TEST_REFERENCE")
    names = ("weights", "cases")
    return {n: load_file(Path(folder) / "croma_small" / f"{n}.safetensors") for n in names}


def images_of(cases: dict[str, Tensor], case: str, scheme: TokenScheme) -> dict[str, Tensor]:
    stored = {S2: f"{case}/in/optical_images", S1: f"{case}/in/SAR_images"}
    return {name: cases[stored[name]].permute(0, 2, 3, 1)[:, :, :, None] for name in scheme.groups}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_encodings_and_poolings_equal_the_authors(
    reference: dict[str, dict[str, Tensor]], scheme: str, case: str
) -> None:
    encoder, cases = small(scheme), reference["cases"]
    load(encoder, reference["weights"])
    images = images_of(cases, case, encoder.config.scheme)
    with torch.inference_mode():
        fast = encoder.encode(images)
        pooled = encoder.pool(fast)
        (tokens,) = encoder(images, NO_TIME, 8).values()
    slow = encoder.encode(images)  # the path that training takes
    assert set(fast) == ({scheme} if scheme != "joint" else set(SCHEMES))
    for part, encoding in fast.items():
        expected = cases[f"{case}/out/{ENCODINGS[part]}"]
        assert float((encoding - expected).abs().max()) <= TOLERANCE
        assert float((slow[part].detach() - expected).abs().max()) <= TOLERANCE
        expected = cases[f"{case}/out/{POOLED[part]}"]
        assert float((pooled[POOLED[part]] - expected).abs().max()) <= TOLERANCE
    batch, side = tokens.shape[0], images[next(iter(images))].shape[1] // 8
    assert tokens.shape == (batch, side, side, 1, 1, 64)
    assert torch.equal(tokens.reshape(batch, side * side, 64), fast[scheme])


@pytest.mark.parametrize("case", CASES)
def test_patches_are_flattened_and_embedded_as_the_authors_do(
    reference: dict[str, dict[str, Tensor]], case: str
) -> None:
    encoder, cases = small("joint"), reference["cases"]
    load(encoder, reference["weights"])
    for name, images in images_of(cases, case, encoder.config.scheme).items():
        stored = "optical_embedded" if name == S2 else "SAR_embedded"
        difference = encoder.patch_embedding(name, images) - cases[f"{case}/out/{stored}"]
        assert float(difference.detach().abs().max()) <= TOLERANCE


def test_distance_penalty_equals_the_authors_tables(
    reference: dict[str, dict[str, Tensor]],
) -> None:
    cases = reference["cases"]
    tables = {name: table for name, table in cases.items() if name.startswith("alibi/")}
    assert len(tables) == 4
    for name, table in tables.items():
        heads, side = (int(part.strip("headsgri")) for part in name.split("/")[1].split("_"))
        assert float((bias(side, side, heads) - table).abs().max()) <= TOLERANCE
    for case, side in zip(CASES, (5, 3, 3), strict=True):
        own = bias(side, side, 16)
        assert float((own - cases[f"{case}/out/attn_bias"]).abs().max()) <= TOLERANCE


def bias(rows: int, columns: int, heads: int) -> Tensor:
    return alibi(rows, columns, heads, torch.device("cpu"))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 5), (4, 3)])
def test_distance_penalty_by_hand_on_rectangles(rows: int, columns: int) -> None:
    found = bias(rows, columns, 16)
    places = [(r, c) for r in range(rows) for c in range(columns)]
    for head in (0, 7, 15):
        for i, a in enumerate(places):
            for j, b in enumerate(places):
                expected = -(2 ** (-(head + 1) / 2)) * math.dist(a, b)
                assert float(found[0, head, i, j]) == pytest.approx(expected, abs=1e-6)


def test_a_rectangle_is_encoded_by_place_not_by_shape() -> None:
    # Turned by 90 degrees, patch for patch: distances are the same, so tokens turn along.
    encoder = init_random(small("optical"), 0)
    images = torch.rand(1, 16, 40, 1, 12)
    patches = images.view(1, 2, 8, 5, 8, 1, 12)
    turned = patches.permute(0, 3, 2, 1, 4, 5, 6).reshape(1, 40, 16, 1, 12)
    with torch.inference_mode():
        tokens = encoder({S2: images}, NO_TIME, 8)[S2]
        other = encoder({S2: turned}, NO_TIME, 8)[S2]
    torch.testing.assert_close(tokens, other.transpose(1, 2), rtol=0, atol=TOLERANCE)


@lru_cache(maxsize=6)
def on_meta(scheme: str, size: str) -> nn.Module:
    return build_on_meta(lambda: build(variant(scheme, size), {}))


@pytest.mark.parametrize(
    ("size", "optical", "radar", "joint", "pooling"),
    [
        ("base", 85_618_944, 42_614_016, 56_684_544, 4_723_968),
        ("large", 303_025_152, 151_251_968, 201_488_384, 8_395_776),
    ],
)
def test_a_variant_has_the_published_parameters_of_the_parts_it_uses(
    size: str, optical: int, radar: int, joint: int, pooling: int
) -> None:
    counts = {s: sum(p.numel() for p in on_meta(s, size).parameters()) for s in SCHEMES}
    assert counts["optical"] == optical + pooling
    assert counts["radar"] == radar + pooling
    assert counts["joint"] == optical + radar + joint + 2 * pooling


def shapes_of(scheme: str, height: int, width: int) -> list[InputShape]:
    names = {"optical": [S2], "radar": [S1], "joint": [S1, S2]}[scheme]
    return [InputShape(height, width, 1, name) for name in names]


@pytest.mark.parametrize(
    ("scheme", "size", "grid"),
    [
        *((scheme, "base", grid) for scheme in SCHEMES for grid in ((15, 15), (8, 8), (1, 3))),
        ("joint", "large", (32, 32)),
    ],
)
def test_traced_macs_equal_the_closed_form(scheme: str, size: str, grid: tuple[int, int]) -> None:
    shapes = shapes_of(scheme, grid[0] * 8, grid[1] * 8)
    counted = count_macs(on_meta(scheme, size), shapes, 8)
    assert counted == design_of(variant(scheme, size)).macs(shapes, 8)


def test_macs_of_the_joint_base_by_hand() -> None:
    # 225 patches: 12 + 6 blocks, then 6 with a second attention; 14 bands of 64 pixels.
    n, d = 225, 768
    count = design_of(variant("joint")).macs(shapes_of("joint", 120, 120), 8)
    assert count.linear == n * d * d * (12 * 18 + 16 * 6)
    assert count.attention == 2 * n * n * d * (18 + 2 * 6)
    assert count.patch_embedding == n * 64 * 14 * d


def test_layout_tells_the_sequences_apart() -> None:
    joint = design_of(variant("joint")).layout(shapes_of("joint", 120, 96), 8)
    assert [(k.sequence, k.count) for k in joint.kinds] == [
        ("optical", 180),
        ("radar", 180),
        ("joint", 180),
    ]
    assert joint.groups == 1
    optical = design_of(variant("optical")).layout(shapes_of("optical", 120, 96), 8)
    assert (optical.tokens, optical.groups) == (180, 1)
    assert " ".join(optical.kinds[0].bands) == "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"


def test_random_weights_follow_the_seed_and_parts_are_shared_between_schemes() -> None:
    states = {s: init_random(small(s), 3).state_dict() for s in SCHEMES}
    other = init_random(small("joint"), 4).state_dict()
    for scheme in ("optical", "radar"):
        for name, tensor in states[scheme].items():
            assert torch.equal(tensor, states["joint"][name])
    assert not torch.equal(
        other["joint.blocks.1.cross.kv.weight"],
        states["joint"]["joint.blocks.1.cross.kv.weight"],
    )
    weight = states["joint"]["encoders.optical.blocks.0.mlp.fc2.weight"]
    assert float(weight.abs().max()) == pytest.approx(1 / 16, rel=1e-2)  # 1 / sqrt(256)


def published(encoder: CromaEncoder) -> dict[str, Tensor]:
    """An encoder's weights as the authors' files name them."""
    from models.croma.checkpoint import _source  # noqa: PLC0415

    state: dict[str, Tensor] = {}
    for name, tensor in encoder.state_dict().items():
        source = _source(name)
        for each, part in zip(source.names, tensor.chunk(len(source.names)), strict=True):
            if source.layout is not None:
                pixels = part.view(len(part), 8, 8, -1)
                part = pixels.permute(0, 3, 1, 2).flatten(1)  # noqa: PLW2901
            state[each] = part.clone()
    return state


def test_a_file_of_five_state_dicts_serves_every_scheme(tmp_path: Path) -> None:
    trained = init_random(small("joint"), 1)
    assert isinstance(trained, CromaEncoder)
    nested: dict[str, dict[str, Tensor]] = {}
    for name, tensor in published(trained).items():
        part, _, rest = name.partition(".")
        nested.setdefault(part, {})[rest] = tensor
    assert len(nested) == 5
    torch.save(nested, tmp_path / "CROMA_base.pt")
    state = read_checkpoint(None, tmp_path / "CROMA_base.pt", "CROMA_base.pt").state_dict
    for scheme in SCHEMES:
        encoder = small(scheme)
        load(encoder, state)
        for name, tensor in encoder.state_dict().items():
            assert torch.equal(tensor, trained.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("truncated", r'lacks tensor "joint_encoder.layers.1.1.to_v.weight"; it is incomplete'),
        ("unknown", r'holds tensor "s2_encoder.cls_token", which this variant has no place for'),
        ("part", r'holds tensor "s3_encoder.weight", which this variant has no place for'),
        ("size", r'tensor "s2_encoder.linear_input.weight" has shape \[32, 768\]'),
        ("family", r"The checkpoint is not CROMA's: it has none of the parts s1_encoder"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_changes_nothing(
    change: str, sentence: str
) -> None:
    donor = init_random(small("joint", dim=32 if change == "size" else 64), 1)
    assert isinstance(donor, CromaEncoder)
    state = published(donor)
    if change == "truncated":
        del state["joint_encoder.layers.1.1.to_v.weight"]
    elif change == "unknown":
        state["s2_encoder.cls_token"] = torch.zeros(1)
    elif change == "part":
        state["s3_encoder.weight"] = torch.zeros(1)
    elif change == "family":
        state = {"model.cls_token": torch.zeros(1, 1, 64)}
    encoder = init_random(small("joint"), 2)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError, match=sentence):
        load(encoder, state)
    assert all(torch.equal(tensor, before[n]) for n, tensor in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("scheme", "shapes", "patch_size", "sentence"),
    [
        ("optical", {S2: (1, 16, 16, 1, 10)}, 8, r"expects \[B, H, W, T, 12\] with B01 B02"),
        ("optical", {S2: (1, 16, 16, 2, 12)}, 8, "at most 1 time step and the .* have 2"),
        ("optical", {S2: (1, 16, 16, 1, 12)}, 4, "cannot cut patches of 4 pixels; allowed: 8"),
        ("optical", {S2: (1, 20, 16, 1, 12)}, 8, "does not divide an image of 20 x 16"),
        ("optical", {S2: (1, 4, 4, 1, 12)}, 8, "4 x 4; give images of at least one patch"),
        ("optical", {S1: (1, 16, 16, 1, 2)}, 8, 'does not read modality "sentinel1"'),
        ("joint", {S2: (1, 16, 16, 1, 12)}, 8, "needs images of sentinel2_l2a and sentinel1"),
        (
            "joint",
            {S2: (1, 16, 16, 1, 12), S1: (1, 16, 24, 1, 2)},
            8,
            "one image size; these are sentinel2_l2a 16 x 16 and sentinel1 16 x 24",
        ),
    ],
)
def test_images_that_croma_cannot_take_are_refused(
    scheme: str, shapes: dict[str, tuple[int, ...]], patch_size: int, sentence: str
) -> None:
    images = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(UserError, match=sentence):
        small(scheme)(images, NO_TIME, patch_size)
    if shapes.get(S2, (0,))[-1] != 10:  # the plan refuses the same, before any image is read
        asked = [InputShape(s[1], s[2], s[3], name) for name, s in shapes.items()]
        with pytest.raises(UserError, match=sentence):
            design_of(variant(scheme)).macs(asked, patch_size)


def test_a_scheme_of_several_groups_is_refused() -> None:
    groups = {S2: (("B02", "B03"), ("B04",))}
    with pytest.raises(UserError, match='Token scheme "two" does not suit CROMA'):
        CromaEncoder(CromaConfig(64, 2, 16, TokenScheme("two", groups)))


def test_needs_are_the_data_sets_own_statistics_in_8_bits() -> None:
    design = design_of(variant("joint"))
    assert isinstance(design, CromaDesign)
    needs = design.needs
    assert needs.required == (S2, S1)
    assert (needs.patch_sizes, needs.max_steps, needs.native_side) == ((8,), 1, 120)
    for name, channels in (("sentinel1", "VV VH"),):
        assert " ".join(needs.modalities[name].channels) == channels
    assert all((m.shift, m.clip, m.levels) == (None, True, 255) for m in needs.modalities.values())
