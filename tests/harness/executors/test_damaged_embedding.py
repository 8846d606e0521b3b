"""A stored embedding is damaged: that one is made again, the results are the same, the user knows.

Its cells are not there any more, as after a suite's probe was changed; all else is as it was left.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.executors.local import cores
from tests.disturbed import (
    Undisturbed,
    assert_mirrored,
    assert_untouched,
    embedded,
    ended,
    kept_files,
    standing,
    start,
)

SAMPLES = 100


def flipped(path: Path) -> None:
    """One bit, in the middle of the numbers."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "how"),
    [(flipped, ()), (cut_short, ("--executor", "local", "--workers", "2"))],
    ids=["a flipped bit, one process", "cut short, two workers"],
)
def test_it_alone_is_made_again(
    damage: Callable[[Path], None],
    how: tuple[str, ...],
    undisturbed: Undisturbed,
    tmp_path: Path,
) -> None:
    if how and cores() < 2:
        pytest.skip("two workers need two processor cores")
    store = shutil.copytree(undisturbed.store, tmp_path / "store")
    shutil.rmtree(store / "cells")
    (store / "timings.jsonl").unlink()
    broken, *whole = sorted((store / "embeddings").rglob("*.safetensors"))
    damage(broken)
    before = standing(store)
    said = ended(start(undisturbed.suite, store, *how))
    assert "1 stored embedding was damaged (the file is not what its hash says)" in said
    assert broken.stem[:16] in said
    assert len(whole) >= 3
    assert_untouched({k: v for k, v in before.items() if broken.stem not in k}, store)
    assert embedded(store).total() == SAMPLES
    assert kept_files(store) == undisturbed.files
    assert_mirrored(undisturbed, store)
    assert "damaged" not in ended(start(undisturbed.suite, store, *how))
