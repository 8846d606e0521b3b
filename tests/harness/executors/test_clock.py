"""A machine whose clock is an hour off, at work on one store beside one whose clock is right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.disturbed import Undisturbed, assert_same, ended, start

OFF = 3600
# What Python's own clock says in each process that is started with it; and who was started so.
SHIFTED = f"""
import os, sys, time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + {OFF}
time.time_ns = lambda: now_ns() + {OFF} * 10**9
with open(os.path.join(os.path.dirname(__file__), "shifted"), "a") as file:
    file.write(" ".join(sys.orig_argv) + "\\n")
"""


@pytest.mark.parametrize("executor", [(), ("--executor", "local")], ids=["alone", "workers"])
def test_a_clock_that_is_an_hour_off_beside_a_right_one(
    executor: tuple[str, ...], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """They share the work, neither takes the other for dead, and MLflow holds one mirror."""
    store, fast = tmp_path / "store", tmp_path / "fast"
    fast.mkdir()
    (fast / "sitecustomize.py").write_text(SHIFTED)
    path = os.pathsep.join([str(fast), str(Path(__file__).parents[3])])
    both = [
        start(undisturbed.suite, store, *executor, PYTHONPATH=path),
        start(undisturbed.suite, store, *executor),
    ]
    for process in both:
        ended(process)
    shifted = (fast / "shifted").read_text()
    assert "harness.cli" in shifted
    assert ("spawn_main" in shifted) == bool(executor)  # its workers too
    assert_same(store, undisturbed, nobody_died=True)
    assert list((store / "claims").iterdir()) == []
