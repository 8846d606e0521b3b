"""The published nano encoder with its stored inputs and outputs, where they are at hand."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from models.galileo.checkpoint import load
from models.galileo.encoder import GalileoEncoder, build
from models.registry import load_registry
from models.weights import read_checkpoint


@dataclass(frozen=True)
class Reference:
    """A folder with ``encoder.pt``, ``config.json``, ``cases.safetensors`` and ``cases.json``."""

    folder: Path
    cases: dict[str, Any]
    tensors: dict[str, Tensor]

    def encoder(self, variant: str = "galileo-v1-nano") -> GalileoEncoder:
        """The published weights in one of our variants."""
        encoder = build(load_registry().variant(variant), {})
        files = self.folder / "config.json", self.folder / "encoder.pt"
        load(encoder, read_checkpoint(*files, "reference").state_dict)
        return encoder.eval()

    def of(self, case: str, side: str) -> dict[str, Tensor]:
        """Tensors of a case, ``in`` or ``out``."""
        prefix = f"{case}/{side}/"
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


@pytest.fixture(scope="package")
def reference() -> Reference:
    root = os.environ.get("TOKENRANK_TEST_REFERENCE")
    if root is None:
        pytest.skip("needs galileo_nano: set TOKENRANK_TEST_REFERENCE to the folder that holds it")
    folder = Path(root) / "galileo_nano"
    cases = json.loads((folder / "cases.json").read_text())
    return Reference(folder, cases, load_file(folder / "cases.safetensors"))
