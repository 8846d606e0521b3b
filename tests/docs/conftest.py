"""What the documentation's commands download, offered by the local hub."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.miniatures import foreign_class, write_m_eurosat

CHECKPOINTS = {"OlmoEarth-v1-Nano": "v1", "OlmoEarth-v1_1-Nano": "v1.1"}
M_EUROSAT = "datasets/recursix/geo-bench-1.0/classification_v1.0/m-eurosat.zip"


@pytest.fixture
def documented_hub(empty_hub: Any, tmp_path: Path) -> Any:
    """A hub with a miniature m-eurosat, and checkpoints of untrained reference models."""
    folder = tmp_path / "offered" / "m-eurosat"
    with foreign_class() as foreign:
        write_m_eurosat(folder, foreign)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"m-eurosat/{path.name}")
    empty_hub.files[M_EUROSAT] = packed.getvalue()
    reference = pytest.importorskip(
        "olmoearth_pretrain_minimal", reason="the reference package is a development dependency"
    )
    torch.manual_seed(0)
    for name, version in CHECKPOINTS.items():
        model = reference.OlmoEarthPretrain_v1(model_size="nano", model_version=version).model
        weights = io.BytesIO()
        torch.save(model.state_dict(), weights)
        config = json.dumps({"model": {"version": version}}).encode()
        empty_hub.files[f"allenai/{name}/weights.pth"] = weights.getvalue()
        empty_hub.files[f"allenai/{name}/config.json"] = config
    return empty_hub
