"""Encoders on this device: samples per second, and how near they come to its matrix products.

The harness's own path is timed (`harness.embed`): stored integers are normalised, copied to the
device, encoded, pooled and copied back. Beside it the encoder alone, on images that are there
already, and the reference package on the same. MACs are counted by fvcore, attention included; the
ceiling is measured in the same run. Weights are random, which changes no speed.

    nox -s bench -- gpu
    nox -s bench -- gpu --sizes nano --patch-sizes 8 --seconds 0.2      (a trial, on any machine)

On a CPU it shows that it works and judges nothing: goals are a GPU's.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.ceiling import Ceiling, ceiling, seconds_of, shapes_of, tera
from harness.costs import cost_of, with_channels
from harness.embed import batch_size, embed_into
from harness.inputs import InputRule, apply_rule
from harness.precision import products_in, true_float32
from models.families import design_of, encoder_code
from models.registry import Variant, load_registry
from models.tokens import InputShape

S2, SIDE = "sentinel2_l2a", 64
GOAL_RATE, GOAL_SHARE = 10_000, 0.6
DISTINCT = 1024  # samples in memory, read over and over
MOST_ROWS = 1 << 17  # tokens of a product that is timed by itself


@dataclass(frozen=True)
class Stored:
    """Noise as a data set keeps it, ``count`` samples. Implements `harness.embed.Samples`."""

    pixels: npt.NDArray[np.uint16]
    count: int

    def __len__(self) -> int:
        return self.count

    def images(self, modality: str, start: int, stop: int) -> npt.NDArray[Any]:
        """``[B, 64, 64, 1, 12]``; a view, as of a mapped file, where that is possible."""
        first = start % len(self.pixels)
        if first + stop - start <= len(self.pixels):
            return self.pixels[first : first + stop - start]
        return self.pixels[np.arange(start, stop) % len(self.pixels)]

    def timestamps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The 15th of July 2021."""
        return np.tile(np.array([[15, 6, 2021]], dtype=np.int64), (stop - start, 1, 1))


@dataclass(frozen=True)
class Subject:
    """One variant at one patch size, with all that its rows need."""

    variant: Variant
    patch_size: int
    encoder: nn.Module
    rules: dict[str, InputRule]
    tokens: int
    macs: int
    device: torch.device

    @property
    def own_batch(self) -> int:
        """Samples that the harness encodes together here."""
        return batch_size(self.tokens, self.variant.dim, self.device)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    subject: Subject
    precision: str
    best: float
    batch: int
    own: float
    alone: float
    ceiling: Ceiling

    def share(self, rate: float) -> float:
        """Of the ceiling, at so many samples per second."""
        return rate * self.subject.macs / self.ceiling.macs_per_second

    def markdown(self) -> str:
        """As a table row."""
        cells = (
            self.subject.variant.name,
            str(self.subject.patch_size),
            self.precision,
            f"{self.best:,.2f} ({self.batch})",
            f"{self.own:,.2f} ({self.subject.own_batch})",
            f"{self.subject.macs / 1e9:.3f}",
            tera(self.best * self.subject.macs),
            f"{self.share(self.best):.1%}",
            f"{self.alone:,.2f}",
            f"{self.share(self.alone):.1%}",
        )
        return f"| {' | '.join(cells)} |"


HEADINGS = (
    *("variant", "patch size", "precision", "samples/s (best batch)", "at the harness's own batch"),
    *("GMAC a sample", "that is", "of the ceiling", "encoder alone, samples/s", "of the ceiling"),
)


def main() -> None:
    """Parse the arguments, measure, print."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = _arguments(device)
    compiled = "; encoders compiled, which the harness's are not" if asked.compile else ""
    print(_machine(device) + compiled, flush=True)
    with true_float32():
        ceilings = {p: _ceiling(asked, p, device) for p in asked.precisions.split(",")}
        for precision, found in ceilings.items():
            print(f"Matrix products in {precision}: {found.words}.")
        print(f"Attention in bfloat16 by the flash kernel: {_flash(device)}.")
        print(f"\n| {' | '.join(HEADINGS)} |\n| --- | ---: | --- {'| ---: ' * 7}|", flush=True)
        rows = []
        for subject in _subjects(asked, device):
            for precision, found in ceilings.items():
                rows.append(_measure(subject, precision, found, asked))
                print(rows[-1].markdown(), flush=True)
        print(*_ratios(rows), sep="\n")
        if not asked.no_reference:
            print(*_beside_reference(rows, asked.seconds), sep="\n", flush=True)
    print(*_goals(rows, device), sep="\n")


def _arguments(device: torch.device) -> argparse.Namespace:
    """On a CPU the defaults are a trial's: the whole table would take it hours."""
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="nano,tiny,base,large" if gpu else "nano")
    parser.add_argument("--versions", default="v1,v1.1,v1.2")
    parser.add_argument("--patch-sizes", default="4,8")
    parser.add_argument("--precisions", default="bfloat16,float32")
    parser.add_argument("--batches", help="to choose from; default: 1/16 to 4 times the harness's")
    parser.add_argument("--seconds", type=float, default=1.0 if gpu else 0.5, help="per figure")
    parser.add_argument("--side", type=int, default=8192 if gpu else 1024, help="of the square")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument(
        "--compile", action="store_true", help="encoders by torch.compile; the harness does not"
    )
    return parser.parse_args()


def _machine(device: torch.device) -> str:
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Sentinel-2 "
        f"{SIDE} x {SIDE}, T = 1, random weights; float32 without TF32"
    )


def _ceiling(asked: argparse.Namespace, precision: str, device: torch.device) -> Ceiling:
    """Of a large square and of every block that is measured."""
    sizes = load_registry().families["olmoearth"].sizes
    widths = {sizes[name].dim for name in asked.sizes.split(",")}
    shapes = [(asked.side, asked.side, asked.side)]
    for width in sorted(widths):
        shapes += shapes_of(width, MOST_ROWS if device.type == "cuda" else asked.side)
    return ceiling(shapes, precision, device, asked.seconds)


def _flash(device: torch.device) -> str:
    """Whether it takes heads of the sizes' widths in bfloat16."""
    found = []
    for width in (16, 64):  # nano's, all others'
        q = torch.zeros(1, 2, 256, width, device=device, dtype=torch.bfloat16)
        try:
            with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
                nn.functional.scaled_dot_product_attention(q, q, q)
            found.append(f"heads of {width}")
        except RuntimeError:
            found.append(f"not for heads of {width}")
    return ", ".join(found)


def _subjects(asked: argparse.Namespace, device: torch.device) -> Iterator[Subject]:
    registry = load_registry()
    for size in asked.sizes.split(","):
        for version in asked.versions.split(","):
            if size not in registry.families["olmoearth"].versions[version].sizes:
                continue
            variant = registry.variant(f"olmoearth-{version}-{size}")
            encoder = encoder_code(variant).build(variant, {})
            encoder_code(variant).init_random(encoder, 0)
            encoder.to(device).eval()
            compiled: Any = torch.compile(encoder) if asked.compile else encoder
            for patch_size in map(int, asked.patch_sizes.split(",")):
                yield _subject(variant, patch_size, compiled, device)


def _subject(
    variant: Variant, patch_size: int, encoder: nn.Module, device: torch.device
) -> Subject:
    design = design_of(variant)
    shapes = with_channels(design, [InputShape(SIDE, SIDE, 1, S2)])
    needs = design.needs.modalities[S2]
    positions = tuple((i,) for i in range(len(needs.channels)))
    rule = InputRule(positions, np.array(needs.shift), np.array(needs.divisor))
    return Subject(
        variant=variant,
        patch_size=patch_size,
        encoder=encoder,
        rules={S2: rule},
        tokens=design.layout(shapes, patch_size).tokens,
        macs=cost_of(variant, shapes, patch_size, None).macs,
        device=device,
    )


def _measure(subject: Subject, precision: str, found: Ceiling, asked: argparse.Namespace) -> Row:
    own = subject.own_batch
    given = asked.batches.split(",") if asked.batches else (own // 16, own // 4, 4 * own)
    rates = {}
    for batch in sorted({own, *(max(1, int(each)) for each in given)}):
        try:
            rates[batch] = _embedded(subject, precision, batch, asked.seconds)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    best = max(rates, key=lambda batch: rates[batch])
    alone = _alone(subject, precision, best, asked.seconds)
    return Row(subject, precision, rates[best], best, rates.get(own, 0.0), alone, found)


@lru_cache(maxsize=1)
def _pixels() -> npt.NDArray[np.uint16]:
    draw = np.random.default_rng(0)
    return draw.integers(0, 10_000, (DISTINCT, SIDE, SIDE, 1, 12), dtype=np.uint16)


def _embedded(subject: Subject, precision: Any, batch: int, seconds: float) -> float:
    """Samples per second of `harness.embed`, the best of three, after a pass that warms up."""

    def rate(count: int) -> float:
        arrays = {"mean": np.empty((count, subject.variant.dim), dtype=np.float32)}
        started = time.perf_counter()
        embed_into(
            arrays,
            subject.encoder,
            Stored(_pixels(), count),
            subject.rules,
            subject.patch_size,
            batch,
            subject.device,
            precision=precision,
        )
        return count / (time.perf_counter() - started)

    at_once = 4 if subject.device.type == "cuda" else torch.get_num_threads()
    rate(batch * at_once)
    once = rate(batch * at_once)
    rounds = max(1, round(seconds * once / (batch * at_once)))
    return max(rate(rounds * batch * at_once) for _ in range(3))


def _resident(subject: Subject, batch: int) -> tuple[Tensor, Tensor]:
    """A batch of images and dates that is on the device already."""
    stored = Stored(_pixels(), batch)
    images = torch.from_numpy(apply_rule(stored.images(S2, 0, batch), subject.rules[S2]))
    return images.to(subject.device), torch.from_numpy(stored.timestamps(0, batch)).to(
        subject.device
    )


def _alone(subject: Subject, precision: Any, batch: int, seconds: float) -> float:
    images, dates = _resident(subject, batch)

    def encode() -> object:
        with products_in(precision, subject.device):
            return subject.encoder({S2: images}, dates, subject.patch_size)

    return batch / seconds_of(encode, subject.device, seconds)


def _ratios(rows: list[Row]) -> Iterator[str]:
    """How many times as fast v1.1 and v1.2 are as v1, and what their MACs would say."""
    by_name = {(r.subject.variant.name, r.subject.patch_size, r.precision): r for r in rows}
    lines = []
    for (name, patch_size, precision), row in by_name.items():
        variant = row.subject.variant
        first = by_name.get((f"olmoearth-v1-{variant.size}", patch_size, precision))
        if first is not None and first is not row:
            macs = first.subject.macs / row.subject.macs
            rate = row.best / first.best
            lines.append(f"| {name} | {patch_size} | {precision} | {rate:.2f}x | {macs:.2f}x |")
    if lines:
        yield "\n| against v1 | patch size | precision | samples/s | fewer MACs |"
        yield "| --- | ---: | --- | ---: | ---: |"
        yield from lines


def _beside_reference(rows: list[Row], seconds: float) -> Iterator[str]:
    """The encoder alone beside the reference package's, on the same images, in its best batch."""
    yield "\n| variant | patch size | precision | reference, samples/s | ours | ratio |"
    yield "| --- | ---: | --- | ---: | ---: | ---: |"
    for row in rows:
        cells = (row.subject.variant.name, str(row.subject.patch_size), row.precision)
        try:
            theirs = _reference(row, seconds)
        except Exception as error:  # another package's; it says why
            reason = f"does not run: {type(error).__name__}: {' '.join(str(error).split())[:80]}"
            yield f"| {' | '.join(cells)} | {reason} | {row.alone:,.2f} | |"
            continue
        ratio = f"{row.alone / theirs:.2f}x"
        yield f"| {' | '.join(cells)} | {theirs:,.2f} | {row.alone:,.2f} | {ratio} |"


def _reference(row: Row, seconds: float) -> float:
    """Samples per second of its mask-free path, the best batch of ours and a quarter of it."""
    import olmoearth_pretrain_minimal as package  # noqa: PLC0415  (a development dependency)
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import (  # noqa: PLC0415
        MaskedOlmoEarthSample,
    )

    subject = row.subject
    variant, device = subject.variant, subject.device
    model = package.OlmoEarthPretrain_v1(model_size=variant.size, model_version=variant.version)
    encoder = model.model.eval().encoder.to(device)
    groups = len(variant.scheme.of(S2))

    def rate(batch: int) -> float:
        images, dates = _resident(subject, batch)
        mask = torch.zeros(*images.shape[:4], groups, device=device)
        given = MaskedOlmoEarthSample(
            timestamps=dates, sentinel2_l2a=images, sentinel2_l2a_mask=mask
        )

        def encode() -> object:
            with products_in(row.precision, device):  # type: ignore[arg-type]
                return encoder(given, patch_size=subject.patch_size, fast_pass=True)

        return batch / seconds_of(encode, device, seconds)

    return max(rate(batch) for batch in {row.batch, max(1, row.batch // 4)})


def _goals(rows: list[Row], device: torch.device) -> Iterator[str]:
    yield ""
    if device.type != "cuda":
        yield "No GPU: the goals (docs/benchmarks.md) are not judged."
        return
    for row in rows:
        variant = row.subject.variant
        if row.precision != "bfloat16" or row.subject.patch_size != 4:
            continue
        what = f"{variant.name}, patch size 4, bfloat16"
        if (variant.version, variant.size) == ("v1.1", "nano"):
            reached = "reached" if row.best >= GOAL_RATE else "missed"
            yield f"{what}: {row.best:,.0f} samples/s, goal {GOAL_RATE:,}: {reached}."
        if variant.size == "base" and variant.version in ("v1", "v1.1"):
            share = row.share(row.best)
            reached = "reached" if share >= GOAL_SHARE else "missed"
            yield f"{what}: {share:.1%} of the ceiling, goal {GOAL_SHARE:.0%}: {reached}."


if __name__ == "__main__":
    main()
