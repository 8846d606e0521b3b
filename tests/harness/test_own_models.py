"""A user's own class in a suite: counted, keyed, ranked, and held to its contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.costs import cost_curve, cost_of
from harness.encoders import build_encoder
from harness.plan import Places, Plan, make_plan
from harness.suite import load_suite
from models.cost import MacCount
from models.errors import UserError
from models.families import design_of
from models.registry import Variant, load_registry
from models.tokens import InputShape
from tests.harness.conftest import Ended

HEAD = "import torch\nfrom torch import nn\n\n\n"
COLOUR = (
    HEAD
    + '''\
class Colour(nn.Module):
    """Mean colour of every patch, through one layer."""

    name = "colour"
    bands = ["B04", "B03", "B02"]
    statistics = {"B02": (100, 10), "B03": (200, 20), "B04": (300, 30)}

    def __init__(self, width=8):
        super().__init__()
        self.mix = nn.Linear(3, width)

    def forward(self, images, timestamps, patch_size):
        x = images["sentinel2_l2a"].mean(dim=3)
        x = x.unflatten(1, (-1, patch_size)).unflatten(3, (-1, patch_size)).mean(dim=(2, 4))
        return self.mix(x).flatten(1, 2)
'''
)
SUITE = """\
name: own
title: A model of one's own
protocol: {{patch_size: 8, bootstrap: 100}}
variants:
{variants}
baselines: [baseline-statistics-mean_std]
tasks:
  - name: knn
    dataset: simulated
    data: {{size: 100}}
    probe: {{kind: knn, k: 5}}
"""
SHAPE = (InputShape(32, 32),)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Notes of the test's own; modules that it imported are forgotten after it."""
    monkeypatch.setenv("TOKENRANK_CACHE", str(tmp_path / "notes"))
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def variant_of(folder: Path, text: str, name: str = "net.py:Net") -> Variant:
    (folder / "net.py").write_text(text)
    return load_registry().variant(name, {}, folder)


def plan_of(folder: Path, *variants: str) -> Plan:
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(variants="\n".join(f"  - {v}" for v in variants)))
    return make_plan(load_suite(path), Places(None, None, folder / "cache"))


def keys_of(plan: Plan, variant: str) -> list[str]:
    return [cell.key for cell in plan.cells if cell.variant.name == variant]


# --- MACs and tokens -----------------------------------------------------------------------

VIT = (
    HEAD
    + """\
class Net(nn.Module):
    bands = ["B04", "B03", "B02"]

    def __init__(self, convolution=False, late=False):
        super().__init__()
        self.late = late
        self.patch_embedding = nn.Conv2d(3, 32, 8, 8) if convolution else nn.Linear(192, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 128, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, images, timestamps, patch_size):
        x = images["sentinel2_l2a"][:, :, :, 0]
        if isinstance(self.patch_embedding, nn.Conv2d):
            x = self.patch_embedding(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        else:
            x = x.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3)
            x = self.patch_embedding(x.flatten(3).flatten(1, 2))
        if self.late:  # a tensor made on the CPU, whatever the model is on
            x = x + torch.arange(x.shape[1], dtype=torch.float32)[:, None]
        return self.blocks(x)
"""
)


@pytest.mark.parametrize("options", ["", ",convolution=true", ",late=true"])
def test_torchs_own_transformer_layers_are_counted_attention_included(
    tmp_path: Path, options: str
) -> None:
    variant = variant_of(tmp_path, VIT, f"net.py:Net{options}")
    tokens, dim = 16, 32
    expected = MacCount(
        patch_embedding=tokens * 192 * dim,
        linear=2 * tokens * 12 * dim**2,
        attention=2 * 2 * tokens**2 * dim,
    )
    design = design_of(variant)
    assert design.macs(SHAPE, 8) == expected
    cost = cost_of(variant, design_given(variant), 8, None)
    assert (cost.tokens, cost.macs) == (tokens, expected.total)
    assert cost.params == sum(p.numel() for p in build(variant).parameters())


CNN = (
    HEAD
    + """\
class Net(nn.Module):
    bands = ["B04", "B03"]

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Hardswish(),
            nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1, groups=4), nn.GroupNorm(4, 16),
            nn.SiLU(), nn.AdaptiveAvgPool2d(2),
        )

    def forward(self, images, timestamps, patch_size):
        x = images["sentinel2_l2a"][:, :, :, 0].permute(0, 3, 1, 2)
        return self.body(x).permute(0, 2, 3, 1)[:, :, :, None, None]
"""
)


def test_a_convolutional_network_is_counted(tmp_path: Path) -> None:
    design = design_of(variant_of(tmp_path, CNN))
    assert design.macs(SHAPE, 8).total == 16 * 16 * 8 * 2 * 9 + 8 * 8 * 16 * (8 // 4) * 9
    layout = design.layout(SHAPE, 8)
    assert [(k.rows, k.columns, k.steps, k.bands) for k in layout.kinds] == [
        (2, 2, 1, ("B04", "B03"))
    ]


def test_attention_by_einsum_is_counted_exactly(tmp_path: Path) -> None:
    # 37 x 37 tokens' products have more digits than a rounded count keeps.
    text = CNN[: CNN.index("    def __init__")] + (
        "    def forward(self, images, timestamps, patch_size):\n"
        '        x = images["sentinel2_l2a"].flatten(1, 3).unflatten(2, (2, 1))\n'
        '        a = torch.einsum("b n h d, b m h d -> b h n m", x, x).softmax(-1)\n'
        '        return torch.einsum("bhnm,bmhd->bnhd", a, x).flatten(2)\n'
    )
    design = design_of(variant_of(tmp_path, text))
    assert design.macs((InputShape(37, 37),), 1).total == 2 * (37 * 37) ** 2 * 2


def test_what_cannot_be_counted_is_refused_or_declared(tmp_path: Path) -> None:
    gru = CNN[: CNN.index("    def __init__")] + (
        "    def __init__(self):\n        super().__init__()\n        self.g = nn.GRU(2, 8)\n\n"
        "    def forward(self, images, timestamps, patch_size):\n"
        '        return self.g(images["sentinel2_l2a"].flatten(1, 3))[0]\n'
    )
    with pytest.raises(UserError, match=r"no handler for aten::gru .* or give it a method macs"):
        design_of(variant_of(tmp_path, gru)).macs(SHAPE, 8)
    declared = f"{gru}\n    def macs(self, shapes, patch_size):\n        return 7\n"
    variant = variant_of(tmp_path, declared)
    assert design_of(variant).macs(SHAPE, 8).total == 7
    assert variant.notes == ("MACs of Net are what its class declares; nobody counted them.",)


def test_curves_leave_out_sizes_that_the_class_does_not_take(tmp_path: Path) -> None:
    text = COLOUR.replace("    name = ", "    sides = [32, 64]\n    max_steps = 2\n    name = ")
    variant = variant_of(tmp_path, text, "net.py:Colour")
    points = [(p.axis, p.value, p.macs.total) for p in cost_curve(variant, SHAPE, 8)]
    assert points == [("side", 32, 384), ("side", 64, 1536), ("steps", 1, 384), ("steps", 2, 384)]


# --- inputs and weights --------------------------------------------------------------------


def design_given(variant: Variant) -> tuple[InputShape, ...]:
    bands = design_of(variant).needs.modalities["sentinel2_l2a"].channels
    return (InputShape(32, 32, 1, "sentinel2_l2a", bands),)


def build(variant: Variant, seed: int = 0) -> nn.Module:
    from harness.weights import Weights  # noqa: PLC0415

    return build_encoder(variant, Weights("random", seed=seed), {})


def test_the_class_is_given_z_scores_by_its_own_statistics(tmp_path: Path) -> None:
    variant = variant_of(tmp_path, COLOUR, "net.py:Colour")
    needs = design_of(variant).needs.modalities["sentinel2_l2a"]
    assert needs.shift is not None
    assert needs.divisor is not None
    assert needs.channels == ("B04", "B03", "B02")
    pixel = torch.tensor([330.0, 180.0, 100.0])  # +1, -1 and 0 deviations
    image = (pixel - torch.tensor(needs.shift)) / torch.tensor(needs.divisor)
    encoder = build(variant)
    given = image.expand(1, 8, 8, 1, 3)
    with torch.inference_mode():
        tokens = encoder({"sentinel2_l2a": given}, torch.zeros(1, 1, 3, dtype=torch.long), 8)
        expected = encoder.get_submodule("model.mix")(torch.tensor([1.0, -1.0, 0.0]))
    assert torch.allclose(tokens["tokens"].flatten(), expected, atol=1e-5)


def test_random_weights_follow_the_seed_and_leave_torchs_state_alone(tmp_path: Path) -> None:
    variant = variant_of(tmp_path, COLOUR, "net.py:Colour")
    state = torch.get_rng_state()
    first, again, other = (build(variant, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    assert torch.equal(first["model.mix.weight"], nn.Linear(3, 8).weight)
    assert torch.equal(first["model.mix.weight"], again["model.mix.weight"])
    assert not torch.equal(first["model.mix.weight"], other["model.mix.weight"])


def test_torchs_settings_stay_as_they_were_for_other_variants(tmp_path: Path) -> None:
    spoiling = (
        "torch.set_default_dtype(torch.float64)\ntorch.set_float32_matmul_precision('medium')"
    )
    inside = "super().__init__()\n        torch.set_default_dtype(torch.float64)"
    text = COLOUR.replace("from torch import nn", f"from torch import nn\n{spoiling}")
    try:
        build(variant_of(tmp_path, text.replace("super().__init__()", inside), "net.py:Colour"), 0)
        assert torch.get_default_dtype() is torch.float32
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


def test_a_weights_file_is_official_and_must_fit(
    tmp_path: Path, tokenrank: Callable[..., Ended]
) -> None:
    (tmp_path / "net.py").write_text(COLOUR)
    state = nn.Linear(3, 8).state_dict()
    torch.save({f"mix.{name}": value for name, value in state.items()}, tmp_path / "w.pth")
    torch.save({"mix.weight": state["weight"]}, tmp_path / "short.pth")
    plan = plan_of(tmp_path, "{variant: 'net.py:Colour', weights: w.pth}")
    cell = plan.cells[0]
    assert (cell.weights.tier, cell.variant.licence) == ("official", "the user's own")
    encoder = build_encoder(cell.variant, cell.weights, {})
    assert torch.equal(encoder.state_dict()["model.mix.weight"], state["weight"])
    # Untrained, the same class takes part beside it, as for every family.
    path = tmp_path / "suite.yaml"
    path.write_text(path.read_text().replace("mean_std]", "mean_std, random]"))
    beside = [(e.variant.name, e.tier) for e in load_suite(path).entrants]
    assert ("colour", "random") in beside
    path.write_text(SUITE.format(variants="  - net.py:Colour"))
    said = tokenrank(
        *("run", tmp_path / "suite.yaml", "--store", tmp_path / "store"),
        *("--tier", "official", "--weights", f"colour={tmp_path / 'short.pth'}"),
    )
    assert said.code == 2
    assert 'short.pth does not suit colour: it lacks tensor "mix.bias"' in said.err


BROUGHT = COLOUR.replace(
    "        self.mix = nn.Linear(3, width)\n",
    "        self.mix = nn.Linear(3, width)\n"
    "        nn.init.constant_(self.mix.bias, 0)\n"
    "        self.mix.weight.data = torch.linspace(0, 1, 3 * width).view(width, 3)\n",
)


def test_weights_that_the_class_brings_must_be_named_and_are_known_by_their_hash(
    tmp_path: Path,
) -> None:
    (tmp_path / "net.py").write_text(BROUGHT)
    with pytest.raises(UserError, match="weights that do not follow from a seed; say where"):
        plan_of(tmp_path, "net.py:Colour")
    named = BROUGHT.replace("    name =", '    weights = "a ramp, by hand"\n    name =')
    (tmp_path / "net.py").write_text(named)
    cell = plan_of(tmp_path, "net.py:Colour").cells[0]
    assert cell.weights.tier == "official"
    assert cell.weights.sha256 is not None
    assert cell.weights.source == "a ramp, by hand"
    assert "a ramp, by hand" in cell.variant.notes[0]
    build_encoder(cell.variant, cell.weights, {})
    with pytest.raises(UserError, match=r"suite\.yaml:5: .*cannot run with random ones"):
        plan_of(tmp_path, "{variant: 'net.py:Colour', tier: random}")


# --- keys ----------------------------------------------------------------------------------


def test_a_cell_is_another_when_code_or_options_are_and_the_same_when_moved(
    tmp_path: Path,
) -> None:
    text = COLOUR.replace("nn.Linear(3, width)", "make(width)").replace(
        HEAD, "from helper import make\nfrom torch import nn\n\n\n"
    )
    helper = "from torch import nn\n\n\ndef make(width):\n    return nn.Linear(3, width)\n"
    folder, moved = tmp_path / "a", tmp_path / "b"
    for place in (folder, moved):
        place.mkdir()
        (place / "net.py").write_text(text)
        (place / "helper.py").write_text(helper)
    before = plan_of(folder, "net.py:Colour", "{variant: 'net.py:Colour', options: {width: 9}}")
    (plain,), (wide,) = (keys_of(before, name) for name in ("colour", "colour:width-9"))
    assert plain != wide
    assert keys_of(plan_of(moved, "net.py:Colour"), "colour") == [plain]
    (folder / "helper.py").write_text(helper.replace("(3, width)", "(3, width, bias=False)"))
    edited = plan_of(folder, "net.py:Colour")
    assert keys_of(edited, "colour") != [plain]
    cell = edited.cells[0]
    assert "model.mix.bias" not in build_encoder(cell.variant, cell.weights, {}).state_dict()


def test_a_finished_suite_is_shown_without_torch(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(COLOUR)
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.format(variants="  - net.py:Colour\n  - net.py:Colour,width=16"))
    script = (
        "import sys\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from harness.commands.measure import RunOptions, measure\n"
        "suite, store = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "found = measure(Console(quiet=True), suite, 'x', RunOptions(None, store, None))\n"
        "print(found.results.scores.sort('variant')['macs'].to_list(), 'torch' in sys.modules)\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script, str(path), str(tmp_path / "store")],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for _ in range(2)
    ]  # fmt: skip
    # 64 tokens x 3 x width; the statistics' squares of 64 x 64 pixels x 12 bands
    macs = [64 * 64 * 12.0, 64 * 3 * 8.0, 64 * 3 * 16.0]
    assert said == [f"{macs} True", f"{macs} False"]


# --- what breaks the contract --------------------------------------------------------------

FORWARD = '        return self.mix(images["sentinel2_l2a"].flatten(1, 3))\n'
BODY = COLOUR[: COLOUR.index('        x = images["sent')].replace("Colour", "Net")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("class Net(nn.Module)", "class Other(nn.Module)", 'has no class "Net": allowed: Other'),
        ("class Net(nn.Module)", "class Net(object)", "is no torch.nn.Module"),
        ("import torch\n", "import torchh\n", "net cannot be imported: ModuleNotFoundError"),
        ("width=8", "width", "needs width; give it as an option"),
        ("nn.Linear(3, width)", "nn.Linear(3, -1)", "cannot be made: RuntimeError at"),
        ("images, timestamps, patch_size)", "images)", "must take (images, timestamps, patch_siz"),
        ("nn.Linear(3, width)", "nn.Linear(4, width)", "cannot encode: RuntimeError at"),
        (FORWARD, '        return images["sentinel1"]\n', "cannot encode: KeyError at"),
        (FORWARD, "        return None\n", "returns NoneType; it must return tokens"),
        (FORWARD, FORWARD[:-1] + ".int()\n", 'returns torch.int32 as "tokens"'),
        (FORWARD, FORWARD[:-1] + "[0]\n", "for 2 samples; allowed: [B, h, w, T, G, dim]"),
        (
            FORWARD,
            '        x = images["sentinel2_l2a"][:, 0, 0, 0]\n'
            '        return {"a": x, "b": x[:, :2]}\n',
            "returns tokens of widths 2, 3",
        ),
    ],
)
def test_a_broken_class_is_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = BODY + FORWARD
    assert old in text
    with pytest.raises(UserError) as caught:
        design_of(variant_of(tmp_path, text.replace(old, new))).layout(SHAPE, 8)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ("        return x / (x - x)\n", 'returns "tokens" with NaN or infinity'),
        ("        return x - x.mean(dim=0)\n", "comes alone than among others"),
        ("        return x + torch.rand_like(x)\n", "or from one call to the next"),
    ],
)
def test_tokens_that_no_score_may_rest_on_are_refused(
    tmp_path: Path, last: str, sentence: str
) -> None:
    text = BODY + FORWARD.replace("return", "x =") + last
    encoder = build(variant_of(tmp_path, text))
    images = {"sentinel2_l2a": torch.rand(3, 8, 8, 1, 3)}
    with torch.inference_mode(), pytest.raises(UserError, match=sentence):
        encoder(images, torch.zeros(3, 1, 3, dtype=torch.long), 8)


def test_two_files_of_one_name_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    variant_of(tmp_path / "a", COLOUR, "net.py:Colour")
    with pytest.raises(UserError, match=r"b/net\.py cannot be imported as net: .*a/net\.py has"):
        variant_of(tmp_path / "b", COLOUR.replace("width=8", "width=9"), "net.py:Colour")
    (tmp_path / "harness.py").write_text(COLOUR)
    with pytest.raises(UserError, match="cannot be imported as harness"):
        load_registry().variant("harness.py:Colour", {}, tmp_path)


def test_a_registrys_name_is_not_taken(tmp_path: Path) -> None:
    taken = COLOUR.replace('"colour"', '"olmoearth-v1-nano"')
    with pytest.raises(UserError, match="calls itself olmoearth-v1-nano"):
        variant_of(tmp_path, taken, "net.py:Colour")


def test_an_unknown_option_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='has no option "widht": did you mean "width"'):
        variant_of(tmp_path, COLOUR, "net.py:Colour,widht=3")
