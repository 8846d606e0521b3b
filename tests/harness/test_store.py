"""The store: what is in it is whole, and what was cut short is not in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from harness.store import CellResult, Store
from models.errors import UserError

KEY = "ab" * 32


def a_result() -> CellResult:
    predictions = pl.DataFrame(
        {"sample": ["a", "b"], "label": [0, 1], "prediction": [0, 0], "value": [1.0, 0.0]}
    )
    return CellResult(
        key=KEY,
        metric="accuracy",
        scores={"accuracy": (0.5, 0.0, 1.0)},
        val_score=0.25,
        chosen={"pooling": "mean", "learning_rate": 1e-3},
        n_train=3,
        n_val=2,
        n_test=2,
        inputs={"seed": 0},
        trials=[{"number": 0, "params": {"pooling": "mean"}, "val_score": 0.25}],
        sketch=[0.5, -1.25],
        predictions=predictions,
    )


def test_a_cell_comes_back_as_it_was_and_as_the_same_bytes(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "1"), Store(tmp_path / "2")
    for store in (first, second):
        store.put_cell(a_result())
    back = first.cell(KEY)
    assert back is not None
    assert back.predictions.equals(a_result().predictions)
    assert back.scores == a_result().scores
    files = [p.relative_to(first.root) for p in first.root.rglob("*") if p.is_file()]
    assert len(files) == 2
    for file in files:
        assert (first.root / file).read_bytes() == (second.root / file).read_bytes()


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_damaged_cell_counts_as_not_computed(tmp_path: Path, suffix: str) -> None:
    store = Store(tmp_path)
    store.put_cell(a_result())
    (path,) = tmp_path.rglob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:-5])
    assert store.cell(KEY) is None


def test_embeddings_are_valid_safetensors(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    with store.embedding_writer(KEY, 4, 3, ("mean", "max")) as draft:
        draft.arrays["mean"][:2] = rows[:2]
        draft.arrays["mean"][2:] = rows[2:]
        draft.arrays["max"][:] = -rows
    (path,) = tmp_path.rglob("*.safetensors")
    read_by_the_library = load_file(path)
    np.testing.assert_array_equal(read_by_the_library["mean"], rows)
    np.testing.assert_array_equal(read_by_the_library["max"], -rows)
    embedding = store.embedding(KEY)
    assert embedding is not None
    np.testing.assert_array_equal(embedding.poolings["max"], -rows)


def test_an_interrupted_embedding_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def interrupted() -> None:
        with store.embedding_writer(KEY, 4, 3, ("mean",)) as draft:
            draft.arrays["mean"][0] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.embedding(KEY) is None
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_flipped_bit_in_an_embedding_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.embedding_writer(KEY, 2, 2, ("mean",)) as draft:
        draft.arrays["mean"][:] = 1
    (path,) = tmp_path.rglob("*.safetensors")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert store.embedding(KEY) is None


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to .*--store"):
        Store(tmp_path / "file" / "store").prepare()
