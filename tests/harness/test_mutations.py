"""A real harm turns the check red, noise does not: applied to the running code of a small suite.

The whole table, on the shipped suite, is printed by ``python -m benchmarks.mutations``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.mutations import ENVIRONMENTS, HARMLESS, HARMS, seen_under

Tokenrank = Callable[..., Any]


@pytest.fixture(scope="module")
def kept(small_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline of the small suite."""
    from harness.commands.baseline import baseline_command  # noqa: PLC0415
    from harness.commands.measure import RunOptions  # noqa: PLC0415

    path = tmp_path_factory.mktemp("kept") / "baseline.json"
    options = RunOptions(data_dir=None, store=small_run.store, weights_dir=None)
    baseline_command(str(small_run.suite), options, results=None, margin=0.2, out=path)
    return path


@pytest.fixture
def store(small_run: Any, tmp_path: Path) -> Path:
    """A fresh store: a patched encoder has the same content keys as the true one."""
    shutil.copytree(small_run.store / "pixels", tmp_path / "store" / "pixels")
    return tmp_path / "store"


@pytest.mark.parametrize("name", HARMS)
def test_a_harm_is_red(name: str, kept: Path, store: Path, small_run: Any) -> None:
    seen = seen_under(HARMS[name], kept, small_run.suite, store)
    assert seen.exit_code == 1
    assert seen.counts == {"worse": 4}  # every variant on every task


@pytest.mark.parametrize("name", [name for name in HARMLESS if name not in ENVIRONMENTS])
def test_what_must_not_matter_is_green(
    name: str, kept: Path, store: Path, small_run: Any, tmp_path: Path
) -> None:
    suite = small_run.suite
    if "order" in name:
        content = yaml.safe_load(suite.read_text())
        content["variants"].reverse()
        content["tasks"].reverse()
        content["registry"] = [str(suite.parent / "pico.yaml")]
        suite = tmp_path / "small.yaml"
        suite.write_text(yaml.safe_dump(content))
    threads = torch.get_num_threads()
    try:
        seen = seen_under(HARMLESS[name], kept, suite, store)
    finally:
        torch.set_num_threads(threads)
    assert seen.exit_code == 0
    assert set(seen.counts) <= {"same", "better"}
    assert seen.drift < 1e-5


def test_another_instruction_set_and_thread_count_are_green(
    kept: Path, store: Path, small_run: Any
) -> None:
    """As on an older processor: torch's and oneDNN's kernels without AVX-512, one thread."""
    environment = {**ENVIRONMENTS["AVX2 instead of AVX-512"], "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness.cli", "check", "--baseline", str(kept)),
            *(str(small_run.suite), "--store", str(store)),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
