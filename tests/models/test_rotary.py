"""OlmoEarth v1.2's rotary positions, against the reference and against rotation matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.errors import UserError
from models.families import design_of
from models.olmoearth import rotary
from models.olmoearth.checkpoint import load_reference_state_dict
from models.olmoearth.config import config_of
from models.olmoearth.encoder import OlmoEarthEncoder, init_random, parameter_count
from models.registry import load_registry

SIZES = ("nano", "tiny", "small", "base")
IMAGES = {"sentinel2_l2a": (2, 16, 8, 3, 12), "sentinel1": (2, 16, 8, 3, 2)}
STAMPS = torch.tensor(
    [[[3, 0, 2019], [17, 5, 2019], [28, 11, 2020]], [[9, 2, 2024], [9, 2, 2024], [1, 8, 2025]]]
)


def images() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in IMAGES.items()}


def encoder_of(name: str = "olmoearth-v1.2-nano", seed: int = 0) -> OlmoEarthEncoder:
    encoder = OlmoEarthEncoder(config_of(load_registry().variant(name)))
    init_random(encoder, seed)
    return encoder.eval()


def encode(encoder: OlmoEarthEncoder, stamps: Tensor = STAMPS) -> Tensor:
    with torch.no_grad():
        tokens = encoder(images(), stamps, 4)
    return torch.cat([t.flatten(1, 4) for t in tokens.values()], dim=1)


def reference_encoder(size: str = "nano", version: str = "v1.2") -> nn.Module:
    package = pytest.importorskip(
        "olmoearth_pretrain_minimal", reason="the reference package is a development dependency"
    )
    model: nn.Module = package.OlmoEarthPretrain_v1(
        model_size=size, model_version=version, drop_path=0.0
    ).encoder
    return model.eval()


def published(encoder: nn.Module) -> dict[str, Tensor]:
    return {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}


def test_a_rotation_is_the_two_by_two_matrix_of_its_angle() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(2, 5, 2, 3, 8, generator=generator)
    angles = torch.rand(1, 5, 1, 3, 4, generator=generator) * 300
    cosine, sine = angles.double().cos(), angles.double().sin()
    matrix = torch.stack((cosine, -sine, sine, cosine), dim=-1).view(1, 5, 1, 3, 4, 2, 2)
    expected = (matrix @ pairs.double().view(2, 5, 2, 3, 4, 2, 1)).flatten(-3)
    turns = torch.complex(cosine, sine)
    with torch.enable_grad():
        kept = rotary.rotate(pairs, turns.to(torch.complex64))
    half = rotary.rotate(pairs.bfloat16(), turns.to(torch.complex64))
    with torch.no_grad():
        in_place = rotary.rotate(pairs.clone(), turns.to(torch.complex64))
    torch.testing.assert_close(kept.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(in_place, kept)
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=0.02, atol=0.02)


def test_only_differences_of_dates_count() -> None:
    encoder = encoder_of()
    years = torch.tensor([0, 0, 4])
    tokens = encode(encoder)
    # Float32 angles grow with the years, hence the tolerance; the month is a token's own.
    torch.testing.assert_close(encode(encoder, STAMPS - 3 * years), tokens, rtol=0, atol=2e-5)
    other = STAMPS.clone()
    other[:, 1, 0] += 10
    assert float((encode(encoder, other) - tokens).abs().max()) > 1e-3


def test_samples_of_other_dates_in_a_batch_do_not_matter() -> None:
    encoder = encoder_of()
    together = encode(encoder)
    for i in range(2):
        alone = encode(encoder, STAMPS[i : i + 1].expand(2, -1, -1))
        torch.testing.assert_close(alone[i], together[i], rtol=0, atol=2e-6)


SAME = STAMPS[:1].expand(2, -1, -1)  # dates that all share, so that tables are kept


@pytest.mark.parametrize(
    "change",
    [
        lambda e: init_random(e, 1),
        lambda e: e.load_state_dict(encoder_of(seed=1).state_dict()),
        lambda e: e.bfloat16().float(),
        lambda e: nn.init.ones_(e.rotary.frequencies[2]),
    ],
    ids=["random", "loaded", "rounded", "one block"],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_tables_follow_the_frequencies(
    change: Callable[[Any], object], mode: Callable[[], Any]
) -> None:
    encoder = encoder_of()
    before = encode(encoder, SAME)
    with mode():
        encode(encoder, SAME)
        change(encoder)
        changed = encode(encoder, SAME)
    fresh = encoder_of()
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(changed, encode(fresh, SAME))
    assert not torch.equal(changed, before)


def test_tables_are_made_once_and_serve_training_with_frozen_frequencies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    true = rotary._turns

    def counted(*arguments: Any) -> Tensor:
        made.append(arguments)
        return true(*arguments)

    monkeypatch.setattr(rotary, "_turns", counted)
    encoder = encoder_of()
    with torch.inference_mode():
        for _ in range(3):
            encode(encoder, SAME)
    assert len(made) == 4  # blocks
    for frequencies in encoder.rotary.frequencies:  # type: ignore[union-attr]
        frequencies.requires_grad_(False)
    encoder(images(), SAME, 4)["sentinel1"].sum().backward()
    assert len(made) == 4
    monkeypatch.setattr(rotary, "KEPT_BYTES", 10)
    small = encoder_of()
    assert torch.equal(encode(small, SAME), encode(encoder, SAME))


@pytest.mark.parametrize("stamps", [STAMPS, SAME], ids=["dates of its own", "shared dates"])
def test_frequencies_learn_as_the_references_do(stamps: Tensor) -> None:
    datatypes = pytest.importorskip(
        "olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes",
        reason="the reference package is a development dependency",
    )
    torch.manual_seed(0)
    theirs = reference_encoder()
    ours = encoder_of()
    load_reference_state_dict(ours, published(theirs))
    given = {name: image[:, :8] for name, image in images().items()}  # as wide as high
    masks = {f"{name}_mask": torch.zeros(*i.shape[:4], 1) for name, i in given.items()}
    sample = datatypes.MaskedOlmoEarthSample(timestamps=stamps, **given, **masks)
    out = theirs(sample, patch_size=4)["tokens_and_masks"]
    weights = torch.randn(128, generator=torch.Generator().manual_seed(1))
    (out.sentinel2_l2a @ weights).sin().sum().backward()
    (ours(given, stamps, 4)["sentinel2_l2a"] @ weights).sin().sum().backward()
    for block, mine in zip(theirs.blocks, ours.rotary.frequencies, strict=True):  # type: ignore
        expected = block.attn.rope_mixed_freqs.grad
        scale = float(expected.abs().max())
        torch.testing.assert_close(mine.grad, expected, rtol=0, atol=1e-4 * scale)


def test_initial_frequencies_have_the_references_spectrum_and_seeded_directions() -> None:
    theirs = reference_encoder()
    own, again, other = encoder_of(), encoder_of(), encoder_of(seed=1)
    for block in range(4):
        expected = theirs.blocks[block].attn.rope_mixed_freqs  # type: ignore[index, union-attr]
        mine = own.rotary.frequencies[block]  # type: ignore[union-attr]
        torch.testing.assert_close(mine.norm(dim=0), expected.norm(dim=0), rtol=1e-5, atol=0)
        for frequencies in (expected, mine):  # two directions at right angles in each head
            first, second = (frequencies / frequencies.norm(dim=0)).split(4, dim=-1)
            torch.testing.assert_close(first[..., :1].expand_as(first), first, rtol=0, atol=1e-5)
            product = (first[..., 0] * second[..., 0]).sum(dim=0)
            torch.testing.assert_close(product, torch.zeros(8), rtol=0, atol=1e-5)
        assert torch.equal(mine, again.rotary.frequencies[block])  # type: ignore[union-attr]
        assert not torch.equal(mine, other.rotary.frequencies[block])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("theirs", "ours", "change", "sentence"),
    [
        ("v1.1", "v1.2", None, "holds no rotary frequencies.*choose olmoearth-v1.1"),
        ("v1.2", "v1.1", None, "is OlmoEarth v1.2's.*choose olmoearth-v1.2"),
        ("v1.2", "v1", None, "is OlmoEarth v1.2's.*choose olmoearth-v1.2"),
        ("v1", "v1.2", None, "holds no rotary frequencies"),
        (
            "v1.2",
            "v1.2",
            lambda s: s.pop("encoder.blocks.2.attn.rope_mixed_freqs"),
            r"lacks.*blocks\.2\.attn\.rope_mixed_freqs",
        ),
        (
            "v1.2",
            "v1.2",
            lambda s: s.update({"encoder.blocks.1.attn.rope_mixed_freqs": torch.zeros(2, 8, 8)}),
            r'"encoder\.blocks\.1\.attn\.rope_mixed_freqs" has shape \[2, 8, 8\] where \[3, 8, 8\]',
        ),
        (  # v1.3 is v1.2 with a pooler of its own
            "v1.2",
            "v1.2",
            lambda s: s.update({"encoder.attention_pooler.queries": torch.zeros(1)}),
            "unknown tensor.*attention_pooler.*v1, v1.1 and v1.2",
        ),
    ],
)
def test_checkpoints_of_another_version_are_refused_in_one_sentence(
    theirs: str, ours: str, change: Callable[[dict[str, Tensor]], object] | None, sentence: str
) -> None:
    state = published(reference_encoder(version=theirs))
    if change is not None:
        change(state)
    encoder = encoder_of(f"olmoearth-{ours}-nano")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError, match=sentence) as error:
        load_reference_state_dict(encoder, state)
    assert str(error.value).count(". ") == 0
    assert all(torch.equal(t, before[name]) for name, t in encoder.state_dict().items())


@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts_are_the_references_less_what_only_pretraining_uses(size: str) -> None:
    with torch.device("meta"):
        theirs = dict(reference_encoder(size).named_parameters())
    config = config_of(load_registry().variant(f"olmoearth-v1.2-{size}"))
    unused = {
        name: parameter.numel()
        for name, parameter in theirs.items()
        if name.startswith("project_and_aggregate")
        or "month_embed" in name
        or (
            name.startswith(("patch_embeddings", "composite_encodings"))
            and not any(f".{read}" in name for read in config.scheme.groups)
        )
    }
    total = sum(parameter.numel() for parameter in theirs.values())
    assert parameter_count(config) == total - sum(unused.values())
    if size == "small":
        assert total / 1e6 == pytest.approx(35.6, abs=0.05)  # the published figure


def test_the_registry_offers_v1_2_where_weights_are_published() -> None:
    registry = load_registry()
    hubs = {}
    for size in SIZES:
        variant = registry.variant(f"olmoearth-v1.2-{size}")
        assert variant.official is not None
        assert variant.official.licence == registry.families["olmoearth"].licence
        hubs[size] = variant.official.hub
    assert hubs == {size: f"allenai/OlmoEarth-v1_2-{size.capitalize()}" for size in SIZES}
    for absent in ("olmoearth-v1.2-large", "olmoearth-v1.1-small", "olmoearth-v1-small"):
        with pytest.raises(UserError, match="has no size"):
            registry.variant(absent)
    # Equal in all else, they must not share a content key.
    v1_1, v1_2 = (registry.variant(f"olmoearth-{v}-nano").architecture for v in ("v1.1", "v1.2"))
    assert v1_1 != v1_2


USERS = """\
family: olmoearth
sizes:
  pico: {dim: 64, depth: 2, heads: 4}
versions:
  mine: {scheme: single, sizes: [pico], options: {positions: rotary}}
"""


def test_a_users_own_variant_may_be_rotary(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(USERS)
    variant = load_registry([file]).variant("olmoearth-mine-pico")
    design_of(variant)
    assert OlmoEarthEncoder(config_of(variant)).rotary is not None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("positions: rotary", "positions: rotery", '"rotery"; allowed: additive, rotary'),
        ("positions: rotary", "position: rotary", 'option "position".*did you mean "positions"'),
        ("dim: 64", "dim: 40", "10 features per head.*multiple of 4"),
    ],
)
def test_options_that_make_no_encoder_are_refused_before_anything_runs(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(USERS.replace(old, new))
    with pytest.raises(UserError, match=sentence):
        design_of(load_registry([file]).variant("olmoearth-mine-pico"))
