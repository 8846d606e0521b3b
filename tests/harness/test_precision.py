"""Encoders in bfloat16: close to single precision, never mistaken for it, told of everywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from harness import plan as planning
from harness.content import content_key
from harness.costs import with_channels
from harness.embed import pool
from harness.mlflow_view.facts import SuiteRun, suite_params
from harness.plan import Places, Plan, make_plan
from harness.precision import in_single, products_in, true_float32
from harness.provenance import MANIFEST, Manifest
from harness.store import Store
from harness.suite import load_suite
from models.errors import UserError
from models.families import design_of, encoder_code
from models.registry import Variant, load_registry
from models.tokens import InputShape
from models.transformer import Block
from reports.io import load_results
from tests.harness.conftest import Ended, SmallRun

CPU = torch.device("cpu")
BATCH = 6
NAMES = (
    *("olmoearth-v1-nano", "olmoearth-v1.1-nano", "olmoearth-v1.2-nano", "galileo-v1-nano"),
    *("croma-v1-base:joint", "satmae-pretrain-base", "satmae-finetune-base"),
    *("baseline-statistics-mean_std", "baseline-projection-512", "baseline-convolutions-512"),
)


def encoder_of(variant: Variant) -> tuple[nn.Module, dict[str, Tensor], int]:
    """With random weights; images for it, and its patch size."""
    needs = design_of(variant).needs
    names = needs.required or ("sentinel2_l2a",)
    shapes = with_channels(design_of(variant), [InputShape(32, 32, 1, name) for name in names])
    code = encoder_code(variant)
    encoder = code.build(variant, {s.modality: s.bands or () for s in shapes})
    code.init_random(encoder, 0)
    draw = torch.Generator().manual_seed(0)
    images = {
        s.modality: torch.rand(BATCH, 32, 32, 1, len(s.bands or ()), generator=draw) for s in shapes
    }
    return encoder.eval(), images, 4 if 4 in needs.patch_sizes else 8


@torch.inference_mode()
def tokens_in(
    precision: Any, encoder: nn.Module, images: Mapping[str, Tensor], patch_size: int
) -> dict[str, Tensor]:
    stamps = torch.tensor([[[15, 6, 2020]]]).repeat(len(next(iter(images.values()))), 1, 1)
    with products_in(precision, CPU):
        tokens: dict[str, Tensor] = encoder(images, stamps, patch_size)
    return tokens


@pytest.mark.parametrize("name", NAMES)
def test_every_family_gives_nearly_the_same_embeddings(name: str) -> None:
    encoder, images, patch_size = encoder_of(load_registry().variant(name))
    single = pool(tokens_in("float32", encoder, images, patch_size), "mean")
    tokens = tokens_in("bfloat16", encoder, images, patch_size)
    half = pool(in_single(tokens), "mean")
    assert half.dtype is torch.float32
    assert float(F.cosine_similarity(single, half).min()) > 0.999
    assert not torch.equal(single, half)
    if not name.startswith("baseline"):  # the last norm is of what no block has rounded
        assert {x.dtype for x in tokens.values()} == {torch.float32}
    # A batch of others moves a sample by bfloat16's rounding at most (2^-8 of a value).
    first = {modality: x[:1] for modality, x in images.items()}
    alone = pool(in_single(tokens_in("bfloat16", encoder, first, patch_size)), "mean")
    assert float((alone - half[:1]).abs().max()) < 2**-7 * float(half.abs().max())


def test_what_blocks_add_up_is_not_rounded() -> None:
    torch.manual_seed(0)
    block = Block(32, 2)
    for last in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    x = torch.randn(2, 5, 32)
    with torch.inference_mode(), products_in("bfloat16", CPU):
        assert torch.equal(block(x), x)
        assert block(x.bfloat16()).dtype is torch.float32
    pure = block.bfloat16()
    assert pure(x.bfloat16()).dtype is torch.bfloat16


def test_a_resized_kernel_is_rounded_once() -> None:
    from models.galileo.patch_resizing import resize_kernel  # noqa: PLC0415

    kernel = torch.randn(8, 64 * 3, generator=torch.Generator().manual_seed(0))
    with products_in("bfloat16", CPU):
        within = resize_kernel(kernel, 4)
    assert torch.equal(within, resize_kernel(kernel, 4))


def test_single_precision_is_all_of_it_and_settings_are_left_as_they_were() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with true_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")


# --- keys --------------------------------------------------------------------------------------

TASKS = """\
tasks:
  - {name: knn, dataset: simulated, data: {size: 100}, probe: {kind: knn, k: 5}}
  - {name: attention, dataset: simulated, data: {size: 100}, probe: {kind: attention}}
  - {name: tuned, dataset: simulated, data: {size: 100}, probe: {kind: finetune}}
"""
PROTOCOL = "{patch_size: 8, bootstrap: 100}"


def planned(suite: Path, cache: Path, precision: str | None) -> Plan:
    said = "" if precision is None else f", precision: {precision}"
    text = suite.read_text().partition("tasks:")[0] + TASKS + "baselines: []\n"
    path = suite.with_name(f"{precision}.yaml")
    path.write_text(text.replace(PROTOCOL, f"{PROTOCOL[:-1]}{said}}}"))
    return make_plan(load_suite(path), Places(None, None, cache))


def test_the_default_changes_no_key(
    small_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held to keys that were made before there was a choice, code, data and packages aside."""
    monkeypatch.setattr(planning, "code_version", lambda _: "code")
    monkeypatch.setattr(planning, "package_versions", lambda names: dict.fromkeys(names, "1"))
    data = planning._DataIdentity({"fingerprint": "data"}, "split", is_map=False)
    monkeypatch.setattr(planning._DataIdentity, "of", lambda *_: data)
    before = planned(small_suite, tmp_path / "cache", None)
    said = planned(small_suite, tmp_path / "cache", "float32")
    assert content_key([cell.key for cell in before.cells]) == KEYS_OF_BEFORE
    assert [cell.key for cell in said.cells] == [cell.key for cell in before.cells]
    assert said.key == before.key
    half = planned(small_suite, tmp_path / "cache", "bfloat16")
    for keys_of in (_cells, _embeddings):
        assert not keys_of(half) & keys_of(before)
    assert {cell.inputs["products"] for cell in half.cells} == {"bfloat16"}


KEYS_OF_BEFORE = "35b1a36bd8b57393af0169b7c70f030115cb8aa01ea8e3d5f6993807c32cbc8c"


def _cells(plan: Plan) -> set[str]:
    return {cell.key for cell in plan.cells}


def _embeddings(plan: Plan) -> set[str]:
    return {job.key for cell in plan.cells for job in cell.embeddings}


# --- side by side in one store -----------------------------------------------------------------

BOTH = """\
name: both
title: Both precisions
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100, precision: bfloat16}
tier: random
variants: [olmoearth-one-pico]
tasks:
  - {name: half, dataset: simulated, data: {size: 300}, probe: {kind: knn, k: 5}}
  - {name: single, dataset: simulated, data: {size: 300}, probe: {kind: knn, k: 5},
     precision: float32}
baselines: []
"""


def test_both_precisions_stand_side_by_side_and_are_told_apart(
    small_suite: Path, tmp_path: Path, tokenrank: Callable[..., Ended]
) -> None:
    both, store = tmp_path / "both.yaml", tmp_path / "store"
    both.write_text(BOTH)
    note = "Task half: encoders take their products in bfloat16"
    assert note in tokenrank("plan", both, "--store", store).out
    done = tokenrank("run", both, "--store", store)
    assert done.code == 0, done.err

    (run,) = (store / "runs").iterdir()
    results = load_results(run / "results")
    half, single = results.scores.sort("task").to_dicts()
    assert abs(half["score"] - single["score"]) <= 0.05
    distance = np.linalg.norm(np.subtract(half["sketch"], single["sketch"]))
    assert 1e-5 < distance / np.linalg.norm(single["sketch"]) < 0.02

    kept, plan = Store(store), make_plan(load_suite(both), Places(None, None, store / "cache"))
    arrays = []
    for cell in plan.cells:
        result, found = kept.cell(cell.key), kept.embedding(cell.embeddings[0].key)
        assert result is not None
        assert found is not None
        assert result.inputs.get("products", "float32") == cell.task.precision
        arrays.append(torch.from_numpy(np.array(found.poolings["mean"])))
    assert {x.dtype for x in arrays} == {torch.float32}
    assert float(F.cosine_similarity(*arrays).min()) > 0.99

    markdown = (run / "report" / "report.md").read_text()
    assert "chosen on the validation split; encoders' products in bfloat16" in markdown
    assert note in markdown
    assert [task.probe.endswith("-bfloat16") for task in results.run.tasks] == [True, False]
    manifest = Manifest(**json.loads((run / MANIFEST).read_text()))
    assert manifest.precision == "bfloat16, float32"
    assert suite_params(SuiteRun(results, manifest, (), ""))["precision"] == "bfloat16, float32"


def test_a_run_in_single_precision_writes_what_it_wrote_before(small_run: SmallRun) -> None:
    """Nothing of a run's files names what was not there to choose."""
    manifests = list((small_run.store / "runs").glob(f"*/{MANIFEST}"))
    assert manifests
    for file in (*manifests, small_run.results / "run.json"):
        assert "precision" not in file.read_text()
        assert "bfloat16" not in file.read_text()
    cells = [json.loads(file.read_text()) for file in (small_run.store / "cells").rglob("*.json")]
    assert cells
    assert not any("products" in cell["inputs"] for cell in cells)


# --- users' own classes ------------------------------------------------------------------------

OWN = """\
import torch
from torch import nn


class Net(nn.Module):
    name = "net"
    bands = ["B04", "B03", "B02"]

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 64), nn.Linear(64, 64)

    def forward(self, images, timestamps, patch_size):
        x = self.last(self.first(images["sentinel2_l2a"].flatten(1, 3)).relu())
"""
KEEPS = "        return x\n"
FILLS = "        y = torch.zeros(x.shape)\n        y[torch.arange(len(x))] = x\n        return y\n"
# As kernels may: in half precision a sample that comes alone is rounded the other way.
ROUNDS = "        return x * 1.004 if len(x) == 1 and x.dtype is torch.bfloat16 else x\n"
SHARES = "        return x - x.mean(dim=0)\n"


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (KEEPS, None),
        (ROUNDS, None),
        (FILLS, r"cannot encode in bfloat16 \(.*leave the protocol's precision at float32\)"),
        (SHARES, "comes alone than among others"),
    ],
)
def test_own_classes_work_in_bfloat16_or_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, sentence: str | None
) -> None:
    monkeypatch.setenv("TOKENRANK_CACHE", str(tmp_path / "notes"))
    (tmp_path / "net.py").write_text(OWN + last)
    variant = load_registry().variant("net.py:Net", {}, tmp_path)
    try:
        encoder = encoder_code(variant).build(variant, {})
        images = {"sentinel2_l2a": torch.rand(3, 8, 8, 1, 3)}
        if sentence is not None:
            with pytest.raises(UserError, match=sentence) as caught:
                tokens_in("bfloat16", encoder, images, 8)
            assert "\n" not in str(caught.value)
            return
        half = pool(tokens_in("bfloat16", encoder, images, 8), "mean")
        single = pool(tokens_in("float32", encoder, images, 8), "mean")
        assert half.dtype is torch.float32
        assert float(F.cosine_similarity(half, single).min()) > 0.999
        assert not torch.equal(half, single)
    finally:
        sys.modules.pop("net", None)
        sys.path[:] = [place for place in sys.path if place != str(tmp_path)]
