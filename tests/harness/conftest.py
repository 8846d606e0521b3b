"""A suite small enough to run in seconds: two tiny variants, simulated data, two probes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import cli

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


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def tokenrank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Call the command line as a user would, in this process; no tracking server is up."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for name in ("TOKENRANK_DATA", "TOKENRANK_STORE", "TOKENRANK_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tokenrank", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call
