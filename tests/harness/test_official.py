"""Official weights from end to end: the reference package writes them, the suite runs on them.

The checkpoints are the reference's own models with random numbers in them, in the form
in which the published ones come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from harness.plan import Places, make_plan
from harness.suite import load_suite
from reports.io import load_results
from reports.ranking import rank
from reports.table import SuiteResults
from suites.datasets import catalogue

reference = pytest.importorskip(
    "olmoearth_pretrain_minimal", reason="the reference package is a development dependency"
)
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import (  # noqa: E402
    Modality,
)
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import (  # noqa: E402
    MaskedOlmoEarthSample,
)

Tokenrank = Callable[..., Any]
PATCH = 8
PUBLISHED = {
    "olmoearth-v1-nano": ("OlmoEarth-v1-Nano", "v1", 3),
    "olmoearth-v1.1-nano": ("OlmoEarth-v1_1-Nano", "v1.1", 1),
}
UNPUBLISHED = "olmoearth-v1-nano:single"
SUITE = f"""\
name: official
title: Published checkpoints
protocol: {{patch_size: {PATCH}, bootstrap: 100, normalisations: [dataset, pretraining]}}
tier: official
variants: [olmoearth-v1-nano, "{UNPUBLISHED}", olmoearth-v1.1-nano]
baselines: []
tasks:
  - name: sim-knn
    dataset: simulated
    data: {{size: 100}}
    probe: {{kind: knn, k: 5}}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "official.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """The reference's whole models by variant: encoder, decoder and target, as published."""
    torch.manual_seed(0)
    found = {}
    for variant, (_, version, _) in PUBLISHED.items():
        model = reference.OlmoEarthPretrain_v1(model_size="nano", model_version=version).model
        with torch.no_grad():
            for p in model.parameters():  # biases and norms away from their defaults
                p.add_(0.05 * torch.randn(p.shape))
        found[variant] = model.eval()
    return found


@pytest.fixture
def weights(tmp_path: Path, models: dict[str, Any]) -> Path:
    """A folder of checkpoint folders, for --weights-dir."""
    for variant, (folder, version, _) in PUBLISHED.items():
        place = tmp_path / "weights" / folder
        place.mkdir(parents=True)
        torch.save(models[variant].state_dict(), place / "weights.pth")
        (place / "config.json").write_text(json.dumps({"model": {"version": version}}))
    return tmp_path / "weights"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results_of(store: Path) -> SuiteResults:
    (folder,) = store.glob("runs/*/results")
    return load_results(folder)


def cells(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.glob("cells/*/*")}


def embedding(store: Path, variant: str, normalisation: str) -> Any:
    """The stored embeddings of a variant, read by the safetensors library."""
    scores = results_of(store).scores
    (key,) = scores.filter(scores["variant"] == variant)["cell"]
    inputs = json.loads((store / "cells" / key[:2] / f"{key}.json").read_text())["inputs"]
    own = inputs["embeddings"][inputs["normalisations"].index(normalisation)]
    return load_file(store / "embeddings" / own[:2] / f"{own}.safetensors")


def reference_tokens(model: Any, groups: int, rows: list[int]) -> torch.Tensor:
    """Tokens ``[B, H/p, W/p, T, G, dim]`` by the reference alone, from the bands as stored."""
    data = catalogue.resolve("simulated", None, {"size": 100})
    batch, stored = data.read(rows), data.card.bands["sentinel2_l2a"]
    order = [stored.index(band) for band in Modality.SENTINEL2_L2A.band_order]
    digital_numbers = batch.images["sentinel2_l2a"][..., order] * data.card.units_per_dn
    image = reference.Normalizer().normalize(Modality.SENTINEL2_L2A, digital_numbers)
    sample = MaskedOlmoEarthSample(
        timestamps=torch.from_numpy(batch.timestamps),
        sentinel2_l2a=torch.from_numpy(image).float(),
        sentinel2_l2a_mask=torch.zeros(*image.shape[:4], groups),
    )
    with torch.no_grad():
        out = model.encoder(sample, patch_size=PATCH, input_res=10)["tokens_and_masks"]
    tokens: torch.Tensor = out.sentinel2_l2a
    assert tokens.shape[1:5] == (64 // PATCH, 64 // PATCH, 1, groups)
    return tokens


def test_embeddings_are_the_references_own(
    tokenrank: Tokenrank, suite: Path, weights: Path, models: dict[str, Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    ended = tokenrank("run", suite, "--store", store, "--weights-dir", weights)
    assert ended.code == 0, ended.err
    assert "OFFICIAL" in ended.out
    rows = [0, 17, 41, 99]
    for variant, (_, _, groups) in PUBLISHED.items():
        tokens = reference_tokens(models[variant], groups, rows).flatten(1, -2)
        kept = embedding(store, variant, "pretraining")
        # Far from equal between samples, so that agreement says something.
        assert np.abs(kept["mean"][0] - kept["mean"][17]).max() > 1e-2
        for pooling, expected in (("mean", tokens.mean(1)), ("max", tokens.amax(1))):
            np.testing.assert_allclose(kept[pooling][rows], expected.numpy(), rtol=0, atol=1e-5)


def test_files_are_named_by_hash_and_what_nobody_published_is_incomplete(
    tokenrank: Tokenrank, suite: Path, weights: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    ended = tokenrank("run", suite, "--store", store, "--weights-dir", weights)
    assert ended.code == 0, ended.err
    results = results_of(store)
    hashes = dict(results.variants.select("variant", "weights_hash").iter_rows())
    assert hashes == {
        **{
            name: sha256(weights / folder / "weights.pth")
            for name, (folder, *_) in PUBLISHED.items()
        },
        UNPUBLISHED: "none",
    }
    (missing,) = results.run.missing
    assert missing.variant == UNPUBLISHED
    assert "no official weights exist" in missing.reason
    (table,) = rank(results)
    assert {entry.variant for entry in table.ranked} == set(PUBLISHED)
    assert [entry.variant for entry in table.incomplete] == [UNPUBLISHED]
    assert UNPUBLISHED not in set(results.scores["variant"])
    assert f"{UNPUBLISHED} was not run: no official weights exist" in ended.out
    (report,) = store.glob("runs/*/report/report.md")
    assert "no official weights exist" in report.read_text()


def test_the_hub_and_a_folder_give_the_same_cells(
    tokenrank: Tokenrank,
    suite: Path,
    weights: Path,
    tmp_path: Path,
    empty_hub: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
    for path in weights.glob("*/*"):
        empty_hub.files[f"allenai/{path.parent.name}/{path.name}"] = path.read_bytes()
    by_hub, by_folder = tmp_path / "by hub", tmp_path / "by folder"
    ended = tokenrank("run", suite, "--store", by_hub)
    assert ended.code == 0, ended.err
    assert any("OlmoEarth-v1_1-Nano/resolve/main/weights.pth" in line for line in empty_hub.asked)
    assert tokenrank("run", suite, "--store", by_folder, "--weights-dir", weights).code == 0
    assert cells(by_hub) == cells(by_folder) != {}
    # The hub goes away: what it gave is still there.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    ended = tokenrank("run", suite, "--store", by_hub)
    assert (ended.code, ended.err) == (0, "")
    assert "Nothing to compute" in ended.out


def keys(suite: Path, weights: Path, cache: Path) -> dict[str, str]:
    plan = make_plan(load_suite(suite), Places(None, weights, cache))
    return {cell.variant.name: cell.key for cell in plan.cells}


def test_the_bytes_of_the_weights_count_and_not_their_place(
    suite: Path, weights: Path, tmp_path: Path
) -> None:
    before = keys(suite, weights, tmp_path / "cache")
    moved = weights.rename(tmp_path / "elsewhere")
    assert keys(suite, moved, tmp_path / "cache") == before
    file = moved / "OlmoEarth-v1-Nano" / "weights.pth"
    state = torch.load(file, weights_only=True)
    weight = state["encoder.norm.weight"]
    weight.view(torch.int32)[0] ^= 1  # the last bit of one number
    torch.save(state, file)
    after = keys(suite, moved, tmp_path / "cache")
    assert after["olmoearth-v1-nano"] != before["olmoearth-v1-nano"]
    assert after["olmoearth-v1.1-nano"] == before["olmoearth-v1.1-nano"]
    # The training configuration beside the weights is a note; it changes no tensor.
    (moved / "OlmoEarth-v1-Nano" / "config.json").write_text("{}")
    assert keys(suite, moved, tmp_path / "cache") == after


def test_a_checkpoint_that_does_not_fit_ends_the_run_before_anything_is_computed(
    tokenrank: Tokenrank, tmp_path: Path, weights: Path
) -> None:
    suite = tmp_path / "late.yaml"
    suite.write_text(
        """\
name: late
title: The second variant's weights are of another size
variants:
  - olmoearth-v1-nano
  - {variant: olmoearth-v1-tiny, weights: weights/OlmoEarth-v1-Nano}
tasks:
  - {name: knn, dataset: simulated, data: {size: 100}, probe: {kind: knn, k: 5}}
"""
    )
    ended = tokenrank("run", suite, "--store", tmp_path / "store")
    assert ended.code == 2
    assert "does not suit olmoearth-v1-tiny" in ended.err
    assert cells(tmp_path / "store") == {}
