"""The table of a GPU, tried on whatever is here: its figures follow from one another."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import gpu
from benchmarks.ceiling import ceiling
from harness.costs import cost_of
from models.registry import load_registry
from models.tokens import InputShape


def test_the_table_holds_each_variant_in_both_precisions_to_one_ceiling(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--sizes", "nano", "--versions", "v1,v1.1", "--patch-sizes", "8", "--batches", "2,5"]
    given += ["--seconds", "0.01", "--side", "64", "--no-reference"]
    monkeypatch.setattr(sys, "argv", ["gpu", *given])
    monkeypatch.setattr(gpu, "ceiling", lambda *_: gpu.Ceiling(1e11, (2, 3, 4)))
    gpu.main()
    said = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if "| olmoearth-" in line]
    table, ratios = rows[:4], rows[4:]
    assert [row[:3] for row in table] == [
        [f"olmoearth-{version}-nano", "8", precision]
        for version in ("v1", "v1.1")
        for precision in ("bfloat16", "float32")
    ]
    for row in table:
        shape = InputShape(64, 64, 1, "sentinel2_l2a")
        macs = cost_of(load_registry().variant(row[0]), (shape,), 8, None).macs
        assert float(row[5]) == pytest.approx(macs / 1e9, abs=5e-4)
        rate, batch = row[3].replace(",", "").split(" ")
        own, harness = row[4].replace(",", "").split(" ")
        assert float(rate) >= float(own) > 0
        assert batch in ("(2)", "(5)", harness)
        assert float(row[7].rstrip("%")) / 100 == pytest.approx(float(rate) * macs / 1e11, rel=0.05)
    for row, precision in zip(ratios, ("bfloat16", "float32"), strict=True):
        assert row[:3] == ["olmoearth-v1.1-nano", "8", precision]
        assert float(row[4].rstrip("x")) > 3  # fewer MACs
    assert "flash kernel: heads of 16, heads of 64." in said


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_ceiling_is_the_best_of_its_products(precision: str) -> None:
    shapes = [(1, 8, 8), (128, 128, 128)]
    found = ceiling(shapes, precision, torch.device("cpu"), 0.01)
    assert found.shape == (128, 128, 128)
    assert found.macs_per_second > 1e7
