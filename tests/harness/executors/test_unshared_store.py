"""A real Slurm whose node does not see the store: a folder that was thought to be shared."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.disturbed import Undisturbed, cells, ended, start
from tests.harness.cluster.one_node_slurm import job_ids, missing, one_node_slurm, profile

pytest.importorskip("submitit", reason="submitit is a development dependency")


def test_a_store_that_no_node_sees(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The run ends with the first job, in a sentence that says what to do."""
    if missing():
        pytest.skip(f"Slurm is not installed: {', '.join(missing())}")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to hide a folder (root)")
    for name in ("slurm", "local"):
        (tmp_path / name).mkdir()
    store = tmp_path / "local" / "store"
    with one_node_slurm(tmp_path / "slurm", hidden=tmp_path / "local") as env:
        settings = {**env, "PYTHONPATH": str(Path(__file__).parents[3])}
        process = start(undisturbed.suite, store, "--profile", str(profile(tmp_path)), **settings)
        said = " ".join(ended(process, code=2).split())
        assert f"cannot write to {store}/work/" in said
        assert "give a folder that all nodes share (--store)" in said
        assert "again, because" not in said
        assert "Traceback" not in said
        assert job_ids(env, "pending,running,completing") == []
    assert cells(store) == 0
