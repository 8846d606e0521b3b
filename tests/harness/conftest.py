"""A suite small enough to run in seconds: two tiny variants, simulated data, two probes."""

from __future__ import annotations

from pathlib import Path

import pytest

SUITE = """\
name: small
title: A small suite
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100}
tier: random
seeds: [0, 1]
variants: [olmoearth-one-pico, olmoearth-three-pico]
tasks:
  - name: sim-knn
    dataset: simulated
    data: {size: 100}
    probe: {kind: knn, k: 5}
  - name: sim-linear
    dataset: simulated
    data: {size: 100}
    probe: {kind: linear, trials: 4, epochs: 2}
"""
REGISTRY = """\
family: olmoearth
sizes:
  pico: {dim: 32, depth: 1, heads: 4}
versions:
  one: {scheme: single, sizes: [pico]}
  three: {scheme: per-resolution, sizes: [pico]}
"""


@pytest.fixture
def small_suite(tmp_path: Path) -> Path:
    """The path of the small suite's YAML."""
    (tmp_path / "pico.yaml").write_text(REGISTRY)
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path
