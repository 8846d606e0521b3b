"""Synthetic suite results: seeded, with known qualities, shared by the tests of `reports`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from reports.table import (
    SAMPLE_SCHEMA,
    SCORE_SCHEMA,
    VARIANT_SCHEMA,
    MissingCell,
    RunInfo,
    SuiteResults,
    TaskInfo,
)

BASE_MACS = {"nano": 0.9e9, "tiny": 5.1e9, "small": 20e9, "base": 70e9, "large": 240e9}
OWN_SCHEME = {"v1": "resolution", "v1.1": "single", "v1.2": "single"}


def make_task(name: str, **changes: Any) -> TaskInfo:
    facts: dict[str, Any] = {
        "name": name,
        "dataset": "eurosat-ms",
        "title": "EuroSAT multispectral, 10 land-cover classes",
        "origin": "real",
        "metric": "accuracy",
        "higher_is_better": True,
        "protocol": "kNN on mean-pooled tokens: k = 20, cosine, votes weighted exp(s / 0.07).",
        "probe": "knn-20-cosine-exp-0.07",
        "bands": ("B02", "B03", "B04"),
        "partition": "default",
        "height": 64,
        "width": 64,
        "steps": 1,
        "patch_size": 4,
        "n_train": 233,
        "n_val": 93,
        "n_test": 140,
        "classes": ("Forest", "River"),
        "fingerprint": "ab" * 32,
        "licence": "MIT",
        "notes": ("Bands are stored with B8A last; the reader puts it in its place.",),
    }
    return TaskInfo(**{**facts, **changes})


def _variant_row(name: str, tier: str) -> dict[str, Any]:
    stem, _, recipe = name.partition("@")
    stem, _, departed = stem.partition(":")
    family, version, size = stem.rsplit("-", 2)
    scheme = departed or OWN_SCHEME.get(version, "single")
    groups = {"resolution": 3, "single": 1, "spectral": 5, "per-band": 12, "two": 2}.get(scheme, 1)
    linear = BASE_MACS.get(size, 1e9) * groups / 3
    attention = BASE_MACS.get(size, 1e9) * 0.8 * (groups / 3) ** 2
    return {
        "variant": name,
        "family": family,
        "version": version,
        "size": size,
        "scheme": scheme,
        "tier": tier,
        "licence": "OlmoEarth Artifact License",
        "groups": groups,
        "params": int(BASE_MACS.get(size, 1e9) / 700),
        "tokens": 256.0 * groups,
        "macs": linear + attention + 1e6,
        "macs_patch_embedding": 1e6,
        "macs_linear": linear,
        "macs_attention": attention,
        "weights_hash": f"{abs(hash_of(name)):064x}",
        "published_gflops": None,
        "recipe": (recipe or version) if tier == "study" else None,
    }


def hash_of(name: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**61


def make_results(
    quality: Mapping[str, float],
    tasks: Sequence[TaskInfo] | None = None,
    *,
    seeds: Sequence[int] = (0,),
    tiers: Mapping[str, str] | None = None,
    without: Sequence[tuple[str, str, int]] = (),
    noise: float = 0.15,
    **run: Any,
) -> SuiteResults:
    """Variants that are right with the given probability, on samples of shared difficulty.

    ``without`` lists the (variant, task, seed) cells to leave out as missing.
    """
    tasks = list(tasks or [make_task("eurosat-knn"), make_task("eurosat-linear")])
    scores: list[dict[str, Any]] = []
    samples: list[pl.DataFrame] = []
    for t, task in enumerate(tasks):
        for seed in seeds:
            rng = np.random.default_rng([t, seed])
            difficulty = rng.uniform(size=task.n_test)
            labels = rng.integers(10, size=task.n_test)
            for name, chance in quality.items():
                jitter = rng.normal(0, noise, task.n_test)
                value = ((difficulty + jitter) < chance).astype(float)
                if (name, task.name, seed) in without:
                    continue
                samples.append(
                    pl.DataFrame(
                        {
                            "variant": [name] * task.n_test,
                            "task": [task.name] * task.n_test,
                            "seed": [seed] * task.n_test,
                            "sample": [f"s{i:05d}" for i in range(task.n_test)],
                            "label": labels,
                            "prediction": np.where(value > 0, labels, (labels + 1) % 10),
                            "value": value,
                            "confidence": np.clip(0.5 + (chance - difficulty) / 2, 0.1, 1),
                        },
                        schema=SAMPLE_SCHEMA,
                    )
                )
                half = 1.96 * float(value.std()) / task.n_test**0.5
                mean = float(value.mean())
                scores.append(
                    {
                        "variant": name,
                        "task": task.name,
                        "seed": seed,
                        "score": mean,
                        "ci_low": mean - half,
                        "ci_high": mean + half,
                        "val_score": mean,
                        "tokens": 256,
                        "macs": 1e9,
                        "chosen": "pooling=mean",
                        "cell": f"{hash_of(name + task.name + str(seed)):064x}",
                        "sketch": [mean, half],
                    }
                )
    tiers = tiers or {}
    facts: dict[str, Any] = {
        "suite": "eurosat",
        "title": "EuroSAT: what does a token scheme cost, and what does it buy?",
        "description": "Land-cover classification of Sentinel-2 tiles.",
        "suite_hash": "cd" * 32,
        "seeds": tuple(seeds),
        "tasks": tuple(tasks),
        "missing": tuple(MissingCell(*cell, "out of memory") for cell in without),
        "versions": {"tokenrank": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "git_commit": "0123456789abcdef",
        "command": "tokenrank run eurosat",
    }
    return SuiteResults(
        RunInfo(**{**facts, **run}),
        pl.DataFrame(
            [_variant_row(name, tiers.get(name, "official")) for name in quality],
            schema=VARIANT_SCHEMA,
        ),
        pl.DataFrame(scores, schema=SCORE_SCHEMA),
        pl.concat(samples) if samples else pl.DataFrame(schema=SAMPLE_SCHEMA),
    )


@pytest.fixture(name="make_results")
def _make_results() -> Callable[..., SuiteResults]:
    return make_results


@pytest.fixture(name="make_task")
def _make_task() -> Callable[..., TaskInfo]:
    return make_task
