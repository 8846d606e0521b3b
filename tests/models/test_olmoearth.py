"""The encoder against the reference package: same weights, same inputs, same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.errors import UserError
from models.olmoearth.checkpoint import load_reference_state_dict
from models.olmoearth.config import OlmoEarthConfig, Positions
from models.olmoearth.encoder import OlmoEarthEncoder, init_random, parameter_count
from models.sensors import LANDSAT, SENTINEL1, SENTINEL2_L2A, modality
from models.tokens import TokenScheme, token_scheme

reference = pytest.importorskip(
    "olmoearth_pretrain_minimal", reason="the reference package is a development dependency"
)
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.nn import (  # noqa: E402
    flexi_vit,
    latent_mim,
)
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.nn.tokenization import (  # noqa: E402
    ModalityTokenization,
    TokenizationConfig,
)
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import (  # noqa: E402
    MaskedOlmoEarthSample,
    MaskValue,
)

TOLERANCE = 1e-5
SIZES = {
    "nano": (128, 4, 8),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
S2, S1, LS = (m.band_names for m in (SENTINEL2_L2A, SENTINEL1, LANDSAT))


def scheme(s2: Any, landsat: Any) -> TokenScheme:
    return token_scheme("test", {"sentinel2_l2a": s2, "sentinel1": [S1], "landsat": landsat})


V1 = scheme([S2[:4], S2[4:10], S2[10:]], [LS[:1], LS[1:]])
SINGLE = scheme([S2], [LS])
SHUFFLED = scheme(  # groups whose bands are not neighbours, nor in order
    [("B12", "B02", "B8A"), ("B09",), ("B03", "B01", "B04", "B08", "B05", "B06", "B07", "B11")],
    [LS[::2], LS[1::2]],
)
PER_BAND = scheme([[b] for b in S2], [[b] for b in LS])


def config_of(size: str, version: str, groups: TokenScheme | None = None) -> OlmoEarthConfig:
    hidden = {"nano": 12}.get(size, 64) if version != "v1" else None
    own = V1 if version == "v1" else SINGLE
    positions: Positions = "rotary" if version == "v1.2" else "additive"
    return OlmoEarthConfig(
        *SIZES[size], scheme=groups or own, pixel_hidden=hidden, positions=positions
    )


def randomise(module: nn.Module, seed: int) -> None:
    """Weights with biases, norms and embeddings far from their defaults, so that errors show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "rope" in name:  # the reference's spectrum, 1 to 1/10,000, in other directions
                p.copy_(noise * p.norm(dim=0, keepdim=True))
            elif p.ndim > 1 and "embed" not in name.rsplit(".", 2)[-2] and "channel" not in name:
                p.copy_(noise / (p[0].numel() ** 0.5))
            elif "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.3 * noise)
            else:
                p.copy_(0.3 * noise)


def build_reference(size: str, version: str, groups: TokenScheme | None) -> nn.Module:
    """The reference's encoder as its own class configures it, without decoder and target.

    Its initialisation is skipped: the weights are replaced at once.
    """

    def only_encoder(self: Any) -> Any:
        config = self.encoder_config
        if groups is not None:
            overrides = {
                name: ModalityTokenization([list(g) for g in groups.of(name)])
                for name in ("sentinel2_l2a", "landsat")
            }
            config = replace(config, tokenization_config=TokenizationConfig(overrides=overrides))
        return SimpleNamespace(encoder=config.build())

    def keep(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return tensor

    inits = mock.patch.multiple(nn.init, kaiming_uniform_=keep, xavier_uniform_=keep, uniform_=keep)
    with mock.patch.object(latent_mim.LatentMIMConfig, "build", only_encoder), inits:
        # A plain namespace cannot be a submodule: read it off before torch refuses it.
        model = reference.OlmoEarthPretrain_v1.__new__(reference.OlmoEarthPretrain_v1)
        model.__init__(model_size=size, model_version=version, drop_path=0.0)
    encoder: nn.Module = model.__dict__["model"].encoder
    return encoder.eval()


@lru_cache(maxsize=8)
def pair(
    size: str, version: str, groups_name: str | None = None
) -> tuple[nn.Module, OlmoEarthEncoder]:
    groups = {"shuffled": SHUFFLED, "per-band": PER_BAND, "single": SINGLE, None: None}[groups_name]
    theirs = build_reference(size, version, groups)
    randomise(theirs, seed=7)
    ours = OlmoEarthEncoder(config_of(size, version, groups)).eval()
    load_reference_state_dict(
        ours, {f"encoder.{name}": tensor for name, tensor in theirs.state_dict().items()}
    )
    return theirs, ours


@contextmanager
def any_grid(rows: int, columns: int) -> Iterator[None]:
    """Let the reference encode a non-square grid: its square encoding, cropped.

    It derives both sides from the number of rows and fails where they differ.
    """
    square = flexi_vit.get_2d_sincos_pos_encoding_with_resolution

    def cropped(grid_size: int, **arguments: Any) -> Tensor:
        side = max(rows, columns)
        encoding = square(grid_size=side, **arguments)
        grid = encoding.view(len(encoding), side, side, -1)[:, :rows, :columns]
        return grid.flatten(1, 2)

    with mock.patch.object(flexi_vit, "get_2d_sincos_pos_encoding_with_resolution", cropped):
        yield


def make_inputs(
    names: tuple[str, ...], batch: int, grid: tuple[int, int], p: int, steps: int, seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    g = torch.Generator().manual_seed(seed)
    height, width = grid[0] * p, grid[1] * p
    images = {
        n: torch.randn(batch, height, width, steps, len(modality(n).bands), generator=g)
        for n in names
    }
    months = torch.randint(0, 12, (batch, steps), generator=g)
    days = torch.randint(1, 29, (batch, steps), generator=g)
    years = torch.randint(2016, 2027, (batch, steps), generator=g)
    return images, torch.stack((days, months, years), dim=-1)


def run_reference(
    theirs: nn.Module,
    images: dict[str, Tensor],
    stamps: Tensor,
    p: int,
    masks: dict[str, Tensor],
    input_res: int = 10,
) -> dict[str, Tensor]:
    height, width = next(iter(images.values())).shape[1:3]
    fields = {**images, **{f"{n}_mask": m for n, m in masks.items()}}
    sample = MaskedOlmoEarthSample(timestamps=stamps, **fields)
    with torch.no_grad(), any_grid(height // p, width // p):
        out = theirs(sample, patch_size=p, input_res=input_res)["tokens_and_masks"]
    return {n: getattr(out, n) for n in images}


def make_masks(
    ours: OlmoEarthEncoder, images: dict[str, Tensor], p: int, seed: int, keep: float
) -> dict[str, Tensor]:
    """Mask values per patch, all four of the reference's, repeated over the patch's pixels."""
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for name, image in images.items():
        b, height, width, steps, _ = image.shape
        shape = (b, height // p, width // p, steps, len(ours.config.scheme.of(name)))
        hidden = torch.randint(1, 4, shape, generator=g)
        seen = torch.rand(shape, generator=g) < keep
        seen[:, 0, 0, 0, 0] = True
        values = torch.where(seen, MaskValue.ONLINE_ENCODER.value, hidden)
        masks[name] = values.repeat_interleave(p, dim=1).repeat_interleave(p, dim=2)
    return masks


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert {n: t.shape for n, t in a.items()} == {n: t.shape for n, t in b.items()}
    assert all(bool(torch.isfinite(t).all()) for t in a.values())
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def no_masks(ours: OlmoEarthEncoder, images: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: torch.zeros(*t.shape[:4], len(ours.config.scheme.of(n))) for n, t in images.items()}


MODALITIES = ("sentinel2_l2a", "sentinel1", "landsat")
subsets = st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=3, unique=True).map(tuple)


@pytest.mark.parametrize("version", ["v1", "v1.1", "v1.2"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    names=subsets,
    batch=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    p=st.integers(1, 8),
    steps=st.sampled_from([1, 2, 3, 12]),
    input_res=st.sampled_from([10, 20]),
    seed=st.integers(0, 1000),
)
def test_tokens_equal_the_reference_over_shapes_modalities_and_time_steps(
    version: str,
    names: tuple[str, ...],
    batch: int,
    grid: tuple[int, int],
    p: int,
    steps: int,
    input_res: int,
    seed: int,
) -> None:
    theirs, ours = pair("nano", version)
    images, stamps = make_inputs(names, batch, grid, p, steps, seed)
    expected = run_reference(theirs, images, stamps, p, no_masks(ours, images), input_res)
    with torch.no_grad():
        fast = ours(images, stamps, p, input_res=input_res)
    slow = {n: t.detach() for n, t in ours(images, stamps, p, input_res=input_res).items()}
    assert difference(fast, expected) <= TOLERANCE
    assert difference(slow, expected) <= TOLERANCE  # the path that training takes


@pytest.mark.parametrize("version", ["v1", "v1.1", "v1.2"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    names=subsets,
    batch=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    p=st.integers(1, 8),
    steps=st.integers(1, 4),
    keep=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_masked_tokens_equal_the_reference_sample_by_sample(
    version: str,
    names: tuple[str, ...],
    batch: int,
    grid: tuple[int, int],
    p: int,
    steps: int,
    keep: float,
    seed: int,
) -> None:
    # One sample at a time: in eval mode the reference attends to a batch's padding.
    theirs, ours = pair("nano", version)
    images, stamps = make_inputs(names, batch, grid, p, steps, seed)
    masks = make_masks(ours, images, p, seed, keep)
    with torch.no_grad():
        actual = ours(images, stamps, p, masks)
    for i in range(batch):
        one = slice(i, i + 1)
        expected = run_reference(
            theirs,
            {n: t[one] for n, t in images.items()},
            stamps[one],
            p,
            {n: m[one] for n, m in masks.items()},
        )
        assert difference({n: t[one] for n, t in actual.items()}, expected) <= TOLERANCE


def test_ragged_masks_in_a_batch_equal_the_reference_where_it_masks_its_padding() -> None:
    theirs, ours = pair("nano", "v1")
    images, stamps = make_inputs(MODALITIES, 4, (3, 3), 4, 2, seed=5)
    masks = make_masks(ours, images, 4, seed=5, keep=0.4)
    try:  # in training mode (drop path 0) the reference does hide padding from attention
        expected = run_reference(theirs.train(), images, stamps, 4, masks)
    finally:
        theirs.eval()
    with torch.no_grad():
        assert difference(ours(images, stamps, 4, masks), expected) <= TOLERANCE


def test_a_sample_with_nothing_visible_is_zero_and_disturbs_neither_others_nor_gradients() -> None:
    _, ours = pair("nano", "v1")
    images, stamps = make_inputs(("sentinel1",), 2, (2, 2), 4, 1, seed=1)
    masks = no_masks(ours, images)
    masks["sentinel1"][1] = MaskValue.MISSING.value
    out = ours(images, stamps, 4, masks)["sentinel1"]
    assert not out[1].any()
    alone = ours({"sentinel1": images["sentinel1"][:1]}, stamps[:1], 4)["sentinel1"]
    torch.testing.assert_close(out[:1], alone, rtol=0, atol=TOLERANCE)
    gradients = torch.autograd.grad(
        out.sum(), [p for p in ours.blocks.parameters() if p.requires_grad]
    )
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


@pytest.mark.parametrize(
    ("size", "version", "groups"),
    [
        ("tiny", "v1", None),
        ("tiny", "v1.1", None),
        ("base", "v1", None),
        ("base", "v1.1", None),
        ("large", "v1", None),
        ("tiny", "v1.2", None),
        ("small", "v1.2", None),
        ("base", "v1.2", None),
        ("nano", "v1.2", "per-band"),
        ("nano", "v1.2", "shuffled"),
        ("nano", "v1", "single"),
        ("nano", "v1", "shuffled"),
        ("nano", "v1.1", "shuffled"),
        ("nano", "v1.1", "per-band"),
        ("tiny", "v1", "per-band"),
    ],
)
def test_every_size_and_custom_schemes_equal_the_reference(
    size: str, version: str, groups: str | None
) -> None:
    pair.cache_clear()  # the larger pairs fill gigabytes
    theirs, ours = pair(size, version, groups)
    cases = [(MODALITIES, 1, (2, 3), 8, 2, 1.0), (("sentinel2_l2a",), 2, (4, 4), 4, 1, 0.5)]
    for names, batch, grid, p, steps, keep in cases[: 1 if size == "large" else 2]:
        images, stamps = make_inputs(names, batch, grid, p, steps, seed=3)
        masks = make_masks(ours, images, p, 3, keep) if keep < 1 else None
        with torch.no_grad():
            actual = ours(images, stamps, p, masks)
        for i in range(batch):
            one = slice(i, i + 1)
            single = {n: t[one] for n, t in images.items()}
            given_masks = {n: m[one] for n, m in (masks or no_masks(ours, images)).items()}
            expected = run_reference(theirs, single, stamps[one], p, given_masks)
            assert difference({n: t[one] for n, t in actual.items()}, expected) <= TOLERANCE


def full_model(version: str) -> nn.Module:
    model: nn.Module = reference.OlmoEarthPretrain_v1(model_size="nano", model_version=version)
    return model


@pytest.mark.parametrize("version", ["v1", "v1.1", "v1.2"])
def test_a_whole_checkpoint_loads_unchanged_and_parameter_counts_add_up(version: str) -> None:
    model = full_model(version).model
    config = config_of("nano", version)
    ours = OlmoEarthEncoder(config)
    load_reference_state_dict(ours, model.state_dict())

    theirs = dict(model.encoder.named_parameters())
    extra = sum(
        p.numel()
        for n, p in theirs.items()
        if "project_and_aggregate" in n
        or "month_embed" in n
        or (
            n.startswith(("patch_embeddings", "composite_encodings"))
            and not any(f".{m}" in n for m in MODALITIES)
        )
    )
    published = sum(p.numel() for p in theirs.values())
    assert parameter_count(config) == published - extra
    # FIELD's published figures: 1.36 M (v1) and 1.70 M (v1.1), decode-only embeddings included;
    # v1.2 adds three frequencies to every pair of features of every head and block.
    figures = {"v1": 1.36, "v1.1": 1.70, "v1.2": 1.70 + 4 * 3 * 64e-6}
    assert published / 1e6 == pytest.approx(figures[version], abs=0.006)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update({"encoder.mystery": torch.zeros(1)}), ["encoder.mystery", "unknown"]),
        (lambda s: s.pop("encoder.blocks.2.mlp.fc1.bias"), ["lacks", "blocks.2.mlp.fc1.bias"]),
        (lambda s: s.pop("encoder.blocks.1.attn.k.weight"), ["lacks", "blocks.1.attn.k.weight"]),
        (
            lambda s: s.update({"encoder.norm.weight": torch.zeros(9)}),
            ["encoder.norm.weight", "[9]", "[128]"],
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(change: Any, words: list[str]) -> None:
    theirs, _ = pair("nano", "v1")
    state = {f"encoder.{n}": t for n, t in theirs.state_dict().items()}
    change(state)
    ours = init_random(OlmoEarthEncoder(config_of("nano", "v1")), seed=0)
    before = {n: t.clone() for n, t in ours.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_reference_state_dict(ours, state)
    assert all(word in str(error.value) for word in words)
    assert all(torch.equal(t, before[n]) for n, t in ours.state_dict().items())


def test_a_checkpoint_of_another_scheme_names_the_tensor_and_both_shapes() -> None:
    theirs, _ = pair("nano", "v1")
    state = {f"encoder.{n}": t for n, t in theirs.state_dict().items()}
    with pytest.raises(UserError, match=r"sentinel2_l2a.*(\[|no place)"):
        load_reference_state_dict(OlmoEarthEncoder(config_of("nano", "v1", SINGLE)), state)


def test_random_weights_depend_on_the_seed_and_nothing_else() -> None:
    config = config_of("nano", "v1.1")
    torch.manual_seed(1)
    first = init_random(OlmoEarthEncoder(config), seed=3).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    encoder = OlmoEarthEncoder(config)
    torch.set_rng_state(state)
    again = init_random(encoder, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    other = init_random(OlmoEarthEncoder(config), seed=4).state_dict()
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
    # Xavier over each of query, key and value: std = sqrt(2 / (128 + 128)).
    assert float(first["blocks.0.attn.qkv.weight"].std()) == pytest.approx(128**-0.5, rel=0.02)


@pytest.mark.parametrize(
    ("images", "stamps", "p", "words"),
    [
        ({}, (1, 1, 3), 4, "no images"),
        ({"sentinel3": (1, 8, 8, 1, 12)}, (1, 1, 3), 4, "sentinel3.*Allowed"),
        ({"sentinel2_l2a": (1, 8, 8, 1, 13)}, (1, 1, 3), 4, "13"),
        ({"sentinel2_l2a": (1, 8, 8, 2, 12)}, (1, 1, 3), 4, "Timestamps"),
        ({"sentinel2_l2a": (1, 8, 8, 13, 12)}, (1, 13, 3), 4, "at most 12"),
        ({"sentinel2_l2a": (1, 9, 8, 1, 12)}, (1, 1, 3), 4, "does not divide"),
        ({"sentinel2_l2a": (1, 18, 9, 1, 12)}, (1, 1, 3), 9, "1 to 8"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_sentence(
    images: dict[str, tuple[int, ...]], stamps: tuple[int, ...], p: int, words: str
) -> None:
    _, ours = pair("nano", "v1")
    tensors = {n: torch.zeros(shape) for n, shape in images.items()}
    with pytest.raises(UserError, match=words):
        ours(tensors, torch.zeros(stamps, dtype=torch.long), p)


def test_a_hidden_value_that_is_not_a_number_reaches_nobody() -> None:
    # The second sample's hidden tokens pad it to the first one's length.
    encoder = init_random(OlmoEarthEncoder(config_of("nano", "v1")), 0).eval()
    images = torch.rand(2, 8, 8, 1, 12, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 8, 8, 1, 3)
    masks[1, :, :, :, 1:] = 1
    stamps = torch.tensor([[[15, 6, 2021]]]).repeat(2, 1, 1)
    with torch.inference_mode():
        clean = encoder({"sentinel2_l2a": images}, stamps, 4, {"sentinel2_l2a": masks})
        images[1, ..., 4:] = torch.nan  # every band of the hidden groups
        spoilt = encoder({"sentinel2_l2a": images}, stamps, 4, {"sentinel2_l2a": masks})
    assert torch.equal(clean["sentinel2_l2a"], spoilt["sentinel2_l2a"])
