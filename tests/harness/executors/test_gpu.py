"""With a real GPU: workers compute on it, and every run has the same results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.disturbed import Undisturbed, ended, kept_files, start

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def results(suite: Path, store: Path, executor: str) -> dict[str, bytes]:
    """What a run left, every cell of which was computed on a GPU."""
    if executor == "ray":
        pytest.importorskip("ray", reason="ray is a development dependency")
    ended(start(suite, store, "--executor", executor))
    entries = [json.loads(line) for line in (store / "timings.jsonl").read_text().splitlines()]
    assert entries
    assert {entry["device"] for entry in entries} == {"cuda"}
    return kept_files(store)


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_gpu_computes_and_gives_equal_results_run_to_run(
    undisturbed: Undisturbed, tmp_path: Path, executor: str
) -> None:
    first = results(undisturbed.suite, tmp_path / "first", "local")
    again = results(undisturbed.suite, tmp_path / "again", executor)
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []
