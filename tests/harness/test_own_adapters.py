"""Models of timm and torchgeo as variants.

timm is a development dependency and tested for real. torchgeo is too heavy for that: its
adapter is tested against a stand-in with the interface of torchgeo 0.8 (`get_weight`,
`get_model`, weights with `meta` and `transforms`), built on timm as torchgeo's models are.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.costs import cost_of
from harness.macs import count_macs
from harness.model_input import InputPolicy, resolve
from models.errors import UserError
from models.families import design_of
from models.own.encoder import build
from models.registry import Variant, load_registry
from models.tokens import InputShape
from suites.datasets.simulated import Simulated


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENRANK_CACHE", str(tmp_path))


@pytest.fixture(scope="session")
def timm() -> Any:
    """The real timm.

    A torchvision that is built for another torch lacks two operators that it looks for on
    import; they are named first, and timm's models use neither.
    """
    if "torchvision" not in sys.modules:
        _name_missing_operators()
    return pytest.importorskip("timm", exc_type=ImportError, reason="timm is not installed")


def _name_missing_operators() -> None:
    try:
        import torchvision  # noqa: F401, PLC0415
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou) -> Tensor")
        _LIBRARIES.append(library)  # it undefines them when it is collected


_LIBRARIES: list[torch.library.Library] = []


def variant(name: str) -> Variant:
    return load_registry().variant(name)


def given(side: int, bands: tuple[str, ...] = ("B04", "B03", "B02")) -> tuple[InputShape, ...]:
    return (InputShape(side, side, 1, "sentinel2_l2a", bands),)


@pytest.mark.parametrize(
    ("name", "side", "tokens", "macs"),
    [
        # Published figures at 224 x 224: 1.8, 0.06 and 1.3 GMACs with their classifiers.
        ("timm:resnet18", 224, 49, 1.82e9),
        ("timm:mobilenetv3_small_100", 224, 49, 0.055e9),
        ("timm:vit_tiny_patch16_224", 224, 196, 1.26e9),
    ],
)
def test_a_timm_model_costs_what_is_published_of_it(
    timm: Any, name: str, side: int, tokens: int, macs: float
) -> None:
    design = design_of(variant(name))
    layout = design.layout(given(side), 8)
    assert layout.tokens == tokens
    assert [(k.rows * k.columns, k.bands) for k in layout.kinds] == [
        (tokens, ("B04", "B03", "B02"))
    ]
    assert design.macs(given(side), 8).total == pytest.approx(macs, rel=0.02)


def test_a_timm_model_is_fed_as_in_its_pretraining(timm: Any) -> None:
    made = variant("timm:resnet18")
    found = resolve(made.name, design_of(made), Simulated(100).card, InputPolicy(), 8)
    rule = found.modalities[0].needs
    assert rule.channels == ("B04", "B03", "B02")
    assert rule.shift is not None
    assert rule.divisor is not None
    # B04 = 1500 is half of white; torchvision's and timm's ImageNet statistics for red
    z = ((1500 - rule.shift[0]) / rule.divisor[0] - 0.5) * 4
    assert z == pytest.approx((0.5 - 0.485) / 0.229)


def test_its_tokens_are_timms_features_without_class_tokens(timm: Any) -> None:
    encoder = build(variant("timm:vit_tiny_patch16_224,img_size=32"), {}).eval()
    image = torch.rand(2, 32, 32, 1, 3)
    with torch.inference_mode():
        tokens = encoder({"sentinel2_l2a": image}, torch.zeros(2, 1, 3, dtype=torch.long), 8)
        network = encoder.model.network
        direct = network.forward_features((image[:, :, :, 0].permute(0, 3, 1, 2) - 0.5) * 4)
    assert torch.allclose(tokens["tokens"].flatten(1, -2), direct[:, 1:], atol=1e-5)


def test_a_fixed_size_is_refused_unless_the_protocol_resizes(timm: Any) -> None:
    made = variant("timm:vit_tiny_patch16_224")
    design, card = design_of(made), Simulated(100).card
    with pytest.raises(UserError, match=r"takes images of 224 x 224 pixels, not 64 x 64"):
        resolve(made.name, design, card, InputPolicy(), 8)
    assert resolve(made.name, design, card, InputPolicy(resize="native"), 8).shapes == given(224)


def test_pretrained_weights_are_official_with_their_origin_and_licence(
    timm: Any, tmp_path: Path
) -> None:
    from models.adapters.timm import TimmModel  # noqa: PLC0415

    state = timm.create_model("resnet10t", num_classes=7).state_dict()
    torch.save(state, tmp_path / "w.pth")
    overlay = {"file": str(tmp_path / "w.pth"), "num_classes": 7, "license": "mit", "tag": "mine"}
    found = TimmModel("resnet10t", pretrained=True, pretrained_cfg_overlay=overlay)
    assert torch.equal(found.network.conv1[0].weight, state["conv1.0.weight"])
    assert found.weights.startswith("mine of resnet10t, by timm")
    assert found.licence == "mit"
    assert not hasattr(TimmModel("resnet10t"), "weights")


def test_an_unknown_timm_model_is_answered_with_the_closest(timm: Any) -> None:
    with pytest.raises(UserError, match=r'timm has no model "resnet81"; closest: .*resnet'):
        variant("timm:resnet81")


@pytest.mark.parametrize("library", ["timm", "torchgeo"])
def test_what_is_not_installed_is_named_with_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(UserError, match=rf'pip install "tokenrank\[{library}\]"'):
        variant(f"{library}:resnet18")


# --- torchgeo ------------------------------------------------------------------------------


class Normalize(nn.Module):
    """As torchvision's and kornia's: ``mean`` and ``std``, one or one per channel."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std


class Trunk(nn.Module):
    """A model with timm's interface."""

    num_features = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 8, 8)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv(x)
        return found


def weights(transforms: nn.Module, bands: list[str]) -> types.SimpleNamespace:
    meta = {
        "model": "trunk",
        "in_chans": len(bands),
        "bands": bands,
        "publication": "P",
        "repo": "R",
    }
    state = {"conv.weight": torch.ones(4, len(bands), 8, 8), "conv.bias": torch.arange(4.0)}
    return types.SimpleNamespace(meta=meta, transforms=transforms, state=state)


ALL = [f"B{n}" for n in range(1, 9)] + ["B8a", "B9", "B10", "B11", "B12"]
KNOWN = {
    "W.SENTINEL2_ALL": weights(nn.Sequential(Normalize([0], [10000])), ALL),
    "W.SENTINEL2_TWICE": weights(
        nn.Sequential(Normalize([100, 200], [1000, 2000]), Normalize([0.5], [2])), ["B4", "B3"]
    ),
    "W.SENTINEL2_8BIT": weights(nn.Sequential(Normalize([0], [255])), ["B4", "B3", "B2"]),
    "W.SENTINEL1_GRD": weights(nn.Sequential(Normalize([-12.6, -20.3], [5, 6])), ["VV", "VH"]),
    "W.LANDSAT_TOA": weights(nn.Sequential(Normalize([0], [10000])), ["B1", "B2", "B3"]),
}


@pytest.fixture
def torchgeo(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_weight(name: str) -> Any:
        if name not in KNOWN:
            raise ValueError(name)
        return KNOWN[name]

    def get_model(_name: str, weights: Any = None, in_chans: int = 0) -> nn.Module:
        made = Trunk(weights.meta["in_chans"] if weights else in_chans)
        if weights:
            made.load_state_dict(weights.state)
        return made

    package, library = types.ModuleType("torchgeo"), types.ModuleType("torchgeo.models")
    library.get_weight, library.get_model = get_weight, get_model  # type: ignore[attr-defined]
    package.models = library  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchgeo", package)
    monkeypatch.setitem(sys.modules, "torchgeo.models", library)


def test_torchgeos_bands_and_normalisation_come_from_the_weights(torchgeo: None) -> None:
    made = variant("torchgeo:W.SENTINEL2_ALL")
    found = resolve(made.name, design_of(made), Simulated(100).card, InputPolicy(), 8)
    assert found.channels["sentinel2_l2a"] == (
        *(f"B0{n}" for n in range(1, 9)), "B8A", "B09", "B10", "B11", "B12",
    )  # fmt: skip
    assert made.brought is not None
    assert made.brought.startswith("W.SENTINEL2_ALL of torchgeo, P")
    assert float(build(made, {}).model.network.conv.bias.detach()[3]) == 3
    assert variant("torchgeo:W.SENTINEL2_ALL,pretrained=false").brought is None


def test_a_chain_of_normalisations_is_one(torchgeo: None) -> None:
    rule = design_of(variant("torchgeo:W.SENTINEL2_TWICE")).needs.modalities["sentinel2_l2a"]
    assert rule.shift is not None
    assert rule.divisor is not None
    z = [
        ((x - s) / d - 0.5) * 4
        for x, s, d in zip((1500, 1500), rule.shift, rule.divisor, strict=True)
    ]
    assert z == pytest.approx([((1500 - 100) / 1000 - 0.5) / 2, ((1500 - 200) / 2000 - 0.5) / 2])


def test_radar_weights_read_radar(torchgeo: None) -> None:
    made = variant("torchgeo:W.SENTINEL1_GRD")
    assert list(design_of(made).needs.modalities) == ["sentinel1"]
    shape = (InputShape(16, 16, 2, "sentinel1", ("VV", "VH")),)
    assert design_of(made).layout(shape, 8).tokens == 2 * 2 * 2
    assert cost_of(made, shape, 8, None).macs == count_macs(build(made, {}), shape, 8).total


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("W.SENTINEL2_8BIT", "has no normalisation for digital numbers"),
        ("W.LANDSAT_TOA", "which are no bands of Sentinel-2 or Sentinel-1"),
        ("W.NOTHING", 'torchgeo has no weights "W.NOTHING"'),
    ],
)
def test_weights_that_cannot_be_fed_rightly_are_refused(
    torchgeo: None, name: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        variant(f"torchgeo:{name}")
