"""The shared block against torch's own transformer layer, and its two linear paths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from models import transformer
from models.transformer import Activation, Block, CrossAttention, linear


def torch_layer(block: Block, dim: int, heads: int) -> nn.TransformerEncoderLayer:
    """Torch's pre-norm layer with the same weights: an implementation that is not ours."""
    layer = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight",
        "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj.weight": "attn.proj.weight",
        "self_attn.out_proj.bias": "attn.proj.bias",
        "linear1.weight": "mlp.fc1.weight",
        "linear1.bias": "mlp.fc1.bias",
        "linear2.weight": "mlp.fc2.weight",
        "linear2.bias": "mlp.fc2.bias",
        **{f"norm{i}.{kind}": f"norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")},
    }
    own = block.state_dict()
    layer.load_state_dict({theirs: own[ours] for theirs, ours in names.items()})
    return layer


@pytest.mark.parametrize("hidden_keys", [0, 3])
def test_block_equals_torchs_layer_with_and_without_hidden_keys(hidden_keys: int) -> None:
    torch.manual_seed(0)
    block = Block(48, 6)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, 11, 48)
    visible = torch.arange(11).expand(3, 11) < 11 - hidden_keys
    expected = torch_layer(block, 48, 6)(x, src_key_padding_mask=~visible)
    bias = visible[:, None, None] if hidden_keys else None
    with torch.no_grad():
        fast = block(x, bias)
    real = 11 - hidden_keys
    torch.testing.assert_close(block(x, bias)[:, :real], expected[:, :real], rtol=0, atol=1e-4)
    torch.testing.assert_close(fast[:, :real], expected[:, :real], rtol=0, atol=1e-4)


def test_an_additive_bias_reaches_the_scores() -> None:
    torch.manual_seed(0)
    block = Block(48, 6)
    x, bias = torch.randn(3, 11, 48), torch.randn(1, 6, 11, 11)
    expected = torch_layer(block, 48, 6)(x, src_mask=bias.expand(3, -1, -1, -1).flatten(0, 1))
    torch.testing.assert_close(block(x, bias), expected, rtol=0, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(block(x, bias), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_cross_attention_equals_torchs(qkv_bias: bool) -> None:
    torch.manual_seed(0)
    ours = CrossAttention(48, 6, qkv_bias)
    x, context, bias = torch.randn(3, 5, 48), torch.randn(3, 7, 48), torch.randn(1, 6, 5, 7)
    theirs = nn.MultiheadAttention(48, 6, batch_first=True)
    in_bias = torch.cat((ours.q.bias, ours.kv.bias)) if qkv_bias else torch.zeros(3 * 48)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat((ours.q.weight, ours.kv.weight)),
            "in_proj_bias": in_bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    mask = bias.expand(3, -1, -1, -1).flatten(0, 1)
    expected, _ = theirs(x, context, context, attn_mask=mask)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x, context, bias), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="5 heads do not divide"):
        CrossAttention(48, 5)


def test_rotation_reaches_queries_and_keys_but_not_values() -> None:
    torch.manual_seed(0)
    block = Block(32, 2, qkv_bias=False)
    x = torch.randn(1, 5, 32)
    turn = torch.linalg.qr(torch.randn(16, 16)).Q  # one rotation for both leaves q k^T alone
    torch.testing.assert_close(block(x, rotate=lambda t: t @ turn), block(x), rtol=0, atol=1e-5)
    seen: list[tuple[int, ...]] = []
    block(x, rotate=lambda t: (seen.append(tuple(t.shape)), t)[1])
    assert seen == [(1, 5, 2, 2, 16)]  # tokens, queries and keys, heads, features


@pytest.mark.parametrize("activation", ["none", "gelu", "relu"])
@pytest.mark.parametrize("shape", [(7, 24), (2, 3, 24), (1, 1, 24)])
def test_the_fast_linear_path_equals_float64(
    activation: Activation, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40)
    x = torch.randn(shape) * 3
    y = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    exact = {"none": y, "gelu": F.gelu(y), "relu": F.relu(y)}[activation]
    with torch.no_grad():
        fast = linear(x, layer, activation)
    torch.testing.assert_close(fast.double(), exact.detach(), rtol=0, atol=5e-6)


def test_without_onednn_or_with_gradients_the_plain_path_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Linear(8, 8)
    x = torch.randn(3, 8)
    assert linear(x, layer, "gelu").grad_fn is not None
    with torch.no_grad():
        fast = linear(x, layer, "gelu")
        monkeypatch.setattr(transformer, "_ONEDNN_LINEAR", None)
        torch.testing.assert_close(linear(x, layer, "gelu"), fast, rtol=0, atol=1e-6)
        half = layer.bfloat16()
        assert linear(x.bfloat16(), half).dtype is torch.bfloat16


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide"):
        Block(48, 5)


def test_drop_path_leaves_out_branches_in_training_only_and_keeps_their_expectation() -> None:
    torch.manual_seed(0)
    block = Block(16, 2)
    one = torch.randn(1, 5, 16)
    plain = block(one)
    block.drop_path = 0.25
    torch.testing.assert_close(block.eval()(one), plain)
    samples = 6000
    with torch.no_grad():
        found = block.train()(one.expand(samples, -1, -1))
        first = one + block.attn(block.norm1(one)) / 0.75
        whole = first + block.mlp(block.norm2(first)) / 0.75
        second = one + block.mlp(block.norm2(one)) / 0.75
    outcomes = {"neither": one, "attention": first, "both": whole, "mlp": second}
    chance = {"neither": 1 / 16, "attention": 3 / 16, "both": 9 / 16, "mlp": 3 / 16}
    for name, expected in outcomes.items():
        same = (found - expected).abs().amax(dim=(1, 2)) < 1e-4
        assert float(same.float().mean()) == pytest.approx(chance[name], abs=0.02)
    # A branch is there three times in four, and a third stronger: the same on average.
    branch = block._kept(torch.ones(20000, 1, 1)).mean()
    assert float(branch) == pytest.approx(1, abs=0.02)
