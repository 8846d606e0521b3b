"""A Slurm of one node, for each file of tests that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cluster.one_node_slurm import missing, one_node_slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster: its partition ``urgent`` takes the node from ``main``."""
    if missing():
        pytest.skip(f"Slurm is not installed: {', '.join(missing())}")
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as env:
        yield {**env, "PYTHONPATH": str(Path(__file__).parents[3])}
