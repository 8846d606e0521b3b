"""Throughput of CROMA and SatMAE beside other implementations: same weights, same inputs.

Their authors' code is on no package registry. Where torchgeo (CROMA) or timm (SatMAE's blocks;
the rest is ours) is installed, it stands beside ours; else a plain implementation written
here, with attention spelt out as matrix products and a softmax, as the authors' code has it.
The table says which. Each gets the batch size that suits it best; then their runs alternate
and medians are compared. Ours runs as the harness runs it, one batch per core.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from harness.cores import on_each_core
from models.croma import checkpoint as croma_checkpoint
from models.croma.encoder import CromaEncoder
from models.families import design_of, encoder_code
from models.registry import load_registry
from models.satmae.encoder import NORM_EPS, SatMaeEncoder

VARIANTS = (
    "croma-v1-base",
    "croma-v1-base:radar",
    "croma-v1-base:joint",
    "satmae-pretrain-base",
)
Images = dict[str, Tensor]
Encode = Callable[[Images], Tensor]
PER_RUN = 2 * torch.get_num_threads()  # batches of ours that are timed together


@dataclass(frozen=True)
class Other:
    """An implementation beside ours, tokens in our layout, and what the table calls it."""

    name: str
    encode: Encode


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--sides", default="64,native", help="image sides, pixels")
    parser.add_argument("--batches", default="1,2,4,8", help="batch sizes to choose from")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row, search apart")
    parser.add_argument("--plain", action="store_true", help="even where a package is installed")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, T = 1, patch 8\n")
    print("| variant | pixels | beside | samples/s (batch) | ours (batch) | ratio | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    batches = [int(batch) for batch in arguments.batches.split(",")]
    for name in arguments.variants.split(","):
        native = design_of(load_registry().variant(name)).needs.native_side
        for given in arguments.sides.split(","):
            side = int(native or 64) if given == "native" else int(given)
            print(_row(name, side, batches, arguments.seconds, arguments.plain), flush=True)


def _row(name: str, side: int, batches: list[int], seconds: float, plain: bool) -> str:
    variant = load_registry().variant(name)
    code, needs = encoder_code(variant), design_of(variant).needs
    encoder = code.init_random(code.build(variant, {}), 0).eval()
    other = _other(encoder, side, plain)

    def images(batch: int) -> Images:
        generator = torch.Generator().manual_seed(batch)
        return {
            m: torch.rand(batch, side, side, 1, len(need.channels), generator=generator)
            for m, need in needs.modalities.items()
        }

    stamps = torch.zeros(1, 1, 3, dtype=torch.int64)

    def ours(given: Images) -> Tensor:
        with torch.inference_mode():
            tokens: Tensor = next(iter(encoder(given, stamps, 8).values()))
            return tokens

    def run_other(batch: int) -> Callable[[], object]:
        return partial(other.encode, images(batch))

    def run_ours(batch: int) -> Callable[[], object]:
        return lambda: list(on_each_core(ours, [images(batch)] * PER_RUN))

    with torch.inference_mode():
        given = images(1)
        difference = float((other.encode(given) - ours(given)).abs().max())
        best = [_best_batch(run, batches, seconds) for run in (run_other, run_ours)]
        rates = _alternating(run_other(best[0]), run_ours(best[1]), seconds)
    theirs, own = rates[0] * best[0], rates[1] * best[1] * PER_RUN
    return (
        f"| {name} | {side} | {other.name} | {theirs:.2f} ({best[0]}) | {own:.2f} ({best[1]}) "
        f"| {own / theirs:.2f}x | {difference:.0e} |"
    )


def _other(encoder: nn.Module, side: int, plain: bool) -> Other:
    if isinstance(encoder, CromaEncoder):
        found = None if plain else _torchgeo(encoder, side)
        return found or Other("plain", partial(_plain_croma, encoder))
    assert isinstance(encoder, SatMaeEncoder)
    found = None if plain else _timm(encoder)
    return found or Other("plain", partial(_satmae, encoder, partial(_blocks, encoder.blocks)))


def _torchgeo(encoder: CromaEncoder, side: int) -> Other | None:
    """CROMA of torchgeo; its weights, whose names are the authors', are loaded into ours."""
    try:
        module = importlib.import_module("torchgeo.models.croma")
    except ImportError:
        return None
    torch.manual_seed(0)
    names = {"optical": "optical", "radar": "sar"}
    model = module.CROMA([names[part] for part in encoder.encoders], image_size=side).eval()
    state = {name: t for name, t in model.state_dict().items() if name != "attn_bias"}
    croma_checkpoint.load(encoder, state)
    wanted = "joint" if encoder.joint is not None else next(iter(encoder.encoders))
    key = f"{names.get(wanted, wanted)}_encodings"
    fields = {"sentinel2_l2a": "x_optical", "sentinel1": "x_sar"}

    def encode(images: Images) -> Tensor:
        first = {fields[m]: x[:, :, :, 0].permute(0, 3, 1, 2) for m, x in images.items()}
        return _on_grid(model(**first)[key], side)

    return Other(f"torchgeo {_version('torchgeo')}", encode)


def _timm(encoder: SatMaeEncoder) -> Other | None:
    """Our tokens through timm's blocks, which are the authors' own choice."""
    try:
        module: Any = importlib.import_module("timm.models.vision_transformer")
    except ImportError:
        return None
    norm = partial(nn.LayerNorm, eps=NORM_EPS)
    dim, heads = encoder.config.dim, encoder.config.heads
    blocks = nn.Sequential(
        *(module.Block(dim, heads, qkv_bias=True, norm_layer=norm) for _ in encoder.blocks)
    )
    blocks.load_state_dict(encoder.blocks.state_dict())  # the names are the same
    blocks.eval()
    return Other(f"timm {_version('timm')} blocks", partial(_satmae, encoder, blocks))


def _version(package: str) -> str:
    return metadata.version(package)


def _satmae(encoder: SatMaeEncoder, blocks: Callable[[Tensor], Tensor], images: Images) -> Tensor:
    (image,) = images.values()
    x = blocks(encoder.embed(image))[:, 1:]
    x = x if encoder.norm is None else encoder.norm(x)
    side = image.shape[1] // 8
    return x.view(len(x), -1, side, side, 1, x.shape[-1]).permute(0, 2, 3, 4, 1, 5)


def _plain_croma(encoder: CromaEncoder, images: Images) -> Tensor:
    side = next(iter(images.values())).shape[1]
    places = torch.cartesian_prod(torch.arange(side // 8.0), torch.arange(side // 8.0))
    slope = 2.0 ** (-torch.arange(1, 17) / 2)  # 16 heads
    bias = -slope[:, None, None] * torch.cdist(places, places)
    found: dict[str, Tensor] = {}
    for name, part in encoder.sensors.items():
        layers: Any = encoder.encoders[part]
        # Channels first, as others hold images; the weights are of our order of a patch's pixels.
        x = images[name][:, :, :, 0]
        x = x.unfold(1, 8, 8).unfold(2, 8, 8).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(1, 2)
        embedding: Any = encoder.patch_embedding.sensors[name]
        found[part] = layers.norm(_blocks(layers.blocks, embedding(x), bias))
    if encoder.joint is None:
        (x,) = found.values()
        return _on_grid(x, side)
    x = found["radar"]
    joint: Any = encoder.joint
    for block in joint.blocks:
        x = x + _self_attention(block.attn, block.norm1(x), bias)
        x = x + _cross_attention(block, x, found["optical"], bias)
        x = x + _mlp(block, x)
    return _on_grid(joint.norm(x), side)


def _on_grid(x: Tensor, side: int) -> Tensor:
    return x.view(len(x), side // 8, side // 8, 1, 1, -1)


def _blocks(blocks: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Pre-norm blocks with our weights, written as one would from a paper."""
    for block in blocks:
        x = x + _self_attention(block.attn, block.norm1(x), bias)
        x = x + _mlp(block, x)
    return x


def _mlp(block: Any, x: Tensor) -> Tensor:
    result: Tensor = block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
    return result


def _self_attention(layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    return _softmax_attention(layer, q, k, v, bias)


def _cross_attention(block: Any, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
    k, v = block.cross.kv(block.norm_cross(context)).chunk(2, dim=-1)
    return _softmax_attention(block.cross, block.cross.q(block.norm_cross(x)), k, v, bias)


def _softmax_attention(layer: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v = (t.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for t in (q, k, v))  # type: ignore[no-untyped-call]
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    weights = (scores if bias is None else scores + bias).softmax(dim=-1)
    result: Tensor = layer.proj((weights @ v).transpose(1, 2).flatten(2))
    return result


def _best_batch(
    run_of: Callable[[int], Callable[[], object]], batches: list[int], seconds: float
) -> int:
    """The batch size with the most samples per second, searched upwards for ``seconds`` at most."""
    best, best_rate = batches[0], 0.0
    end = time.perf_counter() + seconds
    for batch in batches:
        run = run_of(batch)
        run()
        rate = batch / min(_timed(run) for _ in range(2))
        if rate > best_rate:
            best, best_rate = batch, rate
        if time.perf_counter() > end or rate < 0.8 * best_rate:
            break
    return best


def _alternating(
    theirs: Callable[[], object], ours: Callable[[], object], seconds: float
) -> tuple[float, float]:
    """Runs per second of each: whatever else the machine does falls on both."""
    spent: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent[1]) < 3:
        spent[0].append(_timed(theirs))
        spent[1].append(_timed(ours))
    return 1 / statistics.median(spent[0]), 1 / statistics.median(spent[1])


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
