"""Does the regression check turn red for a harm, and stay green for noise? Real ones, applied.

python -m benchmarks.mutations          the table of docs/regression-check.md

Each change is made to the running code (so content keys do not see it) in a process and a
store of its own; the baseline is made by the same machine's unchanged code just before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import harness.cell
import harness.embed
import harness.inputs
import models.olmoearth.encoder
import models.olmoearth.patches
import models.transformer
from harness.commands.check import Telling, check_command
from harness.commands.measure import RunOptions
from harness.regression import verdicts
from harness.store import Grid

SUITE = Path(__file__).parent.parent / "suites" / "regression.yaml"
Patch = pytest.MonkeyPatch
Change = Callable[[Patch], None]


# --- what is wrong with the bands -------------------------------------------------------


def bands_rolled(patch: Patch) -> None:
    """Every band stands in its neighbour's place."""
    _change_places(patch, lambda places: (*places[1:], places[0]))


def two_bands_swapped(patch: Patch) -> None:
    """B8A and B11 are exchanged, as in a misread file."""
    _change_places(patch, lambda p: (*p[:7], p[8], p[7], *p[9:]))


Places = tuple[tuple[int, ...], ...]


def _change_places(patch: Patch, change: Callable[[Places], Places]) -> None:
    true = harness.inputs._rule

    def misread(*arguments: Any) -> harness.inputs.InputRule:
        rule = true(*arguments)
        return replace(rule, positions=change(rule.positions))

    patch.setattr(harness.inputs, "_rule", misread)


def statistics_of_another_band(patch: Patch) -> None:
    """Each band is normalised with the next band's mean and deviation."""
    _change_statistics(patch, lambda mean, std: (np.roll(mean, 1), np.roll(std, 1)))


def mean_and_std_swapped(patch: Patch) -> None:
    """Mean and standard deviation have changed places."""
    _change_statistics(patch, lambda mean, std: (std, mean))


def _change_statistics(patch: Patch, change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    true = harness.inputs._statistics

    def other(*arguments: Any) -> tuple[Any, Any]:
        # Two deviations on either side of the mean become 0 and 1.
        shift, divisor = true(*arguments)
        mean, std = change(shift + divisor / 2, divisor / 4)
        return mean - 2 * std, 4 * std

    patch.setattr(harness.inputs, "_statistics", other)


# --- what is wrong with the encoder -----------------------------------------------------


def no_position(patch: Patch) -> None:
    """The encoding of the place in the image is zero."""
    _zeroed(patch, "space_encoding")


def no_month(patch: Patch) -> None:
    """The encoding of the month is zero."""
    _zeroed(patch, "month_table")


def no_time(patch: Patch) -> None:
    """The encoding of the time step is zero."""
    _zeroed(patch, "time_encoding")


def _zeroed(patch: Patch, name: str) -> None:
    true = getattr(models.olmoearth.encoder, name)
    patch.setattr(models.olmoearth.encoder, name, lambda *a, **k: torch.zeros_like(true(*a, **k)))


def weights_bfloat16(patch: Patch) -> None:
    """Weights rounded to bfloat16."""
    _rounded_weights(patch, torch.bfloat16)


def weights_float16(patch: Patch) -> None:
    """Weights rounded to float16."""
    _rounded_weights(patch, torch.float16)


def _rounded_weights(patch: Patch, kind: torch.dtype) -> None:
    true = harness.cell.build_encoder

    def rounded(*arguments: Any) -> nn.Module:
        encoder = true(*arguments)
        for parameter in encoder.parameters():
            parameter.data = parameter.data.to(kind).to(torch.float32)
        return encoder

    patch.setattr(harness.cell, "build_encoder", rounded)


def activations_bfloat16(patch: Patch) -> None:
    """The result of every linear layer rounded to bfloat16."""
    _changed_linear(patch, lambda y: y.to(torch.bfloat16).to(torch.float32))


def activations_float16(patch: Patch) -> None:
    """The result of every linear layer rounded to float16."""
    _changed_linear(patch, lambda y: y.to(torch.float16).to(torch.float32))


def _changed_linear(patch: Patch, change: Callable[[Tensor], Tensor]) -> None:
    true = models.transformer.linear
    for module in (models.transformer, models.olmoearth.patches):
        patch.setattr(module, "linear", lambda *a, **k: change(true(*a, **k)))


def gelu_by_tanh(patch: Patch) -> None:
    """The tanh approximation of GELU instead of the exact one."""
    true = models.transformer.linear

    def approximate(x: Tensor, layer: nn.Linear, activation: str = "none") -> Tensor:
        if activation != "gelu":
            return true(x, layer, activation)  # type: ignore[arg-type]
        return nn.functional.gelu(true(x, layer), approximate="tanh")

    patch.setattr(models.transformer, "linear", approximate)


def last_block_skipped(patch: Patch) -> None:
    """The last transformer block is left out."""

    def transform(self: Any, x: Tensor, attention_bias: Tensor | None, rotations: Any) -> Tensor:
        for block, rotate in zip(self.blocks[:-1], rotations, strict=False):
            x = block(x, attention_bias, rotate)
        normed: Tensor = self.norm(x)
        return normed

    patch.setattr(models.olmoearth.encoder.OlmoEarthEncoder, "_transform", transform)


def pooling_swapped(patch: Patch) -> None:
    """The maximum over tokens where the mean was asked for, and the other way round."""
    true = harness.embed.pool
    other = {"mean": "max", "max": "mean"}
    patch.setattr(
        harness.embed, "pool", lambda tokens, how, grid=None: true(tokens, other[how], grid)
    )


def rows_and_columns_swapped(patch: Patch) -> None:
    """Images are transposed."""
    true = harness.embed.prepare

    def transposed(*arguments: Any) -> dict[str, Any]:
        return {k: np.ascontiguousarray(v.swapaxes(1, 2)) for k, v in true(*arguments).items()}

    patch.setattr(harness.embed, "prepare", transposed)


# --- what must not matter ---------------------------------------------------------------


def nothing(_: Patch) -> None:
    """The same again."""


def noise(patch: Patch) -> None:
    """Embeddings with relative noise of 1e-7."""
    true = harness.embed.pool
    generator = torch.Generator().manual_seed(0)

    def noisy(tokens: Mapping[str, Tensor], how: str, grid: Grid | None = None) -> Tensor:
        pooled = true(tokens, how, grid)
        return pooled * (1 + 1e-7 * torch.randn(pooled.shape, generator=generator))

    patch.setattr(harness.embed, "pool", noisy)


def one_thread(_: Patch) -> None:
    """One thread."""
    torch.set_num_threads(1)


def two_threads(_: Patch) -> None:
    """Two threads."""
    torch.set_num_threads(2)


def other_batches(patch: Patch) -> None:
    """One sample per batch."""
    patch.setattr(harness.cell, "batch_size", lambda *_: 1)


HARMS: dict[str, Change] = {
    "bands rolled by one": bands_rolled,
    "two bands swapped (B8A, B11)": two_bands_swapped,
    "statistics of the next band": statistics_of_another_band,
    "mean and deviation swapped": mean_and_std_swapped,
    "position encoding zero": no_position,
    "month encoding zero": no_month,
    "time encoding zero": no_time,
    "weights in bfloat16": weights_bfloat16,
    "weights in float16": weights_float16,
    "activations in bfloat16": activations_bfloat16,
    "activations in float16": activations_float16,
    "GELU by its tanh approximation": gelu_by_tanh,
    "last block skipped": last_block_skipped,
    "mean and max pooling swapped": pooling_swapped,
    "image rows and columns swapped": rows_and_columns_swapped,
}
HARMLESS: dict[str, Change] = {
    "the same again": nothing,
    "noise of 1e-7 on the embeddings": noise,
    "variants and tasks in reverse order": nothing,
    "one thread": one_thread,
    "two threads": two_threads,
    "one sample per batch": other_batches,
    "AVX2 instead of AVX-512": nothing,
    "no vector instructions in torch's own kernels": nothing,
}
_REVERSED = "variants and tasks in reverse order"
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "AVX2 instead of AVX-512": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    },
    "no vector instructions in torch's own kernels": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}


@dataclass(frozen=True)
class Seen:
    """What the check said of one change."""

    exit_code: int
    counts: Mapping[str, int]
    by_scores: int  # cells that their scores alone call worse
    largest_loss: float
    drift: float


def seen_under(change: Change, baseline: Path, suite: Path, store: Path) -> Seen:
    """Run the check with a change in place, and take down its verdicts."""
    kept: list[verdicts.Check] = []
    true = verdicts.judge

    def judge(*arguments: Any) -> verdicts.Check:
        kept.append(true(*arguments))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        change(patch)
        patch.setattr("harness.commands.check.judge", judge)
        code = check_command(
            str(suite),
            RunOptions(None, store, None),
            Telling(None, None, "none"),
            baseline=baseline,
            results=None,
            margin=None,
            tolerance=verdicts.SKETCH_TOLERANCE,
        )
    judged = kept[0].judged
    bounds = [each.bound for each in judged if each.bound is not None]
    return Seen(
        code,
        {verdict: n for verdict, n in verdicts.verdict_counts(kept[0]).items() if n},
        sum("the score changed" in reason for each in judged for reason in each.reasons),
        min((bound.difference for bound in bounds), default=0.0),
        max((each.drift or 0.0 for each in judged), default=0.0),
    )


def main() -> None:
    """Make a baseline, apply every change, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="changes to apply; default: all")
    parser.add_argument("--one", help="apply this change alone and print JSON (internal)")
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--suite", type=Path)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    if given.one:
        change = {**HARMS, **HARMLESS}[given.one]
        print(json.dumps(asdict(seen_under(change, given.baseline, given.suite, given.store))))
        return
    print("| change | exit code | verdicts | worse by scores | worst score change | drift |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        baseline, first = work / "baseline.json", work / "first"
        _run(
            *("-m", "harness.cli", "baseline", str(SUITE)),
            *("--out", str(baseline), "--store", str(first)),
        )
        for name in given.names or [*HARMS, *HARMLESS]:
            print(_line(name, _seen_apart(name, baseline, first, work)), flush=True)


def _seen_apart(name: str, baseline: Path, first: Path, work: Path) -> Seen:
    """A change in a process and a store of its own; only the decoded images are shared."""
    store = work / "store"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    (store / "pixels").symlink_to(first / "pixels")
    suite = _reversed_suite(work) if name == _REVERSED else SUITE
    said = _run(
        *("-m", "benchmarks.mutations", "--one", name, "--baseline", str(baseline)),
        *("--suite", str(suite), "--store", str(store)),
        environment=ENVIRONMENTS.get(name, {}),
    )
    return Seen(**json.loads(said.splitlines()[-1]))


def _reversed_suite(work: Path) -> Path:
    import yaml  # noqa: PLC0415

    content = yaml.safe_load(SUITE.read_text(encoding="utf-8"))
    for key in ("variants", "tasks"):
        content[key].reverse()
    path = work / "regression.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _run(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _line(name: str, seen: Seen) -> str:
    said = ", ".join(f"{n} {verdict}" for verdict, n in seen.counts.items())
    return (
        f"| {name} | {seen.exit_code} | {said} | {seen.by_scores} | {seen.largest_loss:+.3f} | "
        f"{seen.drift:.1e} |"
    )


if __name__ == "__main__":
    main()
