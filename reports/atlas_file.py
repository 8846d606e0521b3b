"""The atlas as files to compute with: JSON that can be read back, and a flat table of points.

It must know nothing of figures or pages.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from reports.atlas import Atlas, Entry
from reports.io import ResultsError, as_json, write_whole

FORMAT = "tokenrank-atlas-1"


def atlas_json(atlas: Atlas) -> str:
    """The whole atlas."""
    return as_json({"format": FORMAT, "atlas": asdict(atlas)})


def save_atlas(atlas: Atlas, path: Path) -> Path:
    """Write `atlas_json`, whole or not at all."""
    return write_whole(path, atlas_json(atlas))


def read_atlas(text: str, name: str) -> Atlas:
    """What `atlas_json` gave; `ResultsError` for anything else, calling the file ``name``."""
    try:
        record = TypeAdapter(dict[str, Any]).validate_json(text)
        if record.get("format") != FORMAT:
            raise ResultsError(
                f'{name} has format "{record.get("format")}", but this version reads "{FORMAT}"; '
                "make it again with this version."
            )
        return TypeAdapter(Atlas).validate_python(record.get("atlas"))
    except ValidationError:
        raise ResultsError(f"{name} is not a readable atlas; make it again.") from None


def atlas_csv(atlas: Atlas) -> str:
    """One row per variant, axis and value: closed forms, and what was measured there."""
    rows = [row for entry in atlas.entries for row in _rows(entry)]
    return pl.DataFrame(rows, infer_schema_length=None).write_csv() if rows else ""


def _rows(entry: Entry) -> list[dict[str, Any]]:
    measured = {(m.axis, m.value): m for m in entry.measured}
    rows = []
    for point in entry.curves:
        found = measured.get((point.axis, point.value))
        rows.append(
            {
                "variant": entry.variant,
                "modalities": " ".join(strip.modality for strip in entry.strips),
                "axis": point.axis,
                "value": point.value,
                "tokens": point.tokens,
                "macs": point.macs.total,
                "macs_patch_embedding": point.macs.patch_embedding,
                "macs_linear": point.macs.linear,
                "macs_attention": point.macs.attention,
                "activation_bytes": point.activation_bytes,
                "weights_bytes": entry.weights_bytes,
                "measured_peak_bytes": found.peak_bytes if found else None,
                "measured_samples_per_second": found.samples_per_second if found else None,
                "measured_batch": found.batch if found else None,
            }
        )
    return rows
