"""The plain schema: one row is one score of one model on one task. A pure table.

Every other format is translated into these columns first, so that there is one set of
checks. It must know nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "number", "count"]


@dataclass(frozen=True)
class Column:
    """One column: ``text``, a ``number``, or a ``count`` (a whole number, not negative)."""

    name: str
    kind: Kind
    required: bool
    meaning: str


COLUMNS = (
    Column("model", "text", True, "the model's name in the source, or a variant of the registry"),
    Column("dataset", "text", True, "data set, e.g. m-eurosat"),
    Column("metric", "text", True, "accuracy, micro_mAP, mIoU...; fractions from 0 to 1"),
    Column("score", "number", True, "the score, in the metric's own unit"),
    Column("probe", "text", True, "probe and settings in short; equal names, comparable scores"),
    Column("bands", "text", True, "all, rgb, or band names separated by commas"),
    Column("image_size", "count", True, "side of the resized image in pixels; blank: not resized"),
    Column("ci_low", "number", False, "lower end of the 95% interval"),
    Column("ci_high", "number", False, "upper end of the 95% interval"),
    Column("n_train", "count", False, "training samples"),
    Column("n_val", "count", False, "validation samples"),
    Column("n_test", "count", False, "test samples"),
    Column("partition", "text", False, "share of the training labels; blank: default"),
    Column("interpolation", "text", False, "how images were resized; counts only where they were"),
    Column("normalisation", "text", False, "the model's input normalisation"),
    Column("seed", "count", False, "seed; rows that differ in nothing else are averaged"),
    Column("gflops", "number", False, "cost of one forward pass, as the source counts it"),
    Column("params", "number", False, "parameters of the encoder"),
    Column("source", "text", False, "where this row is from, if not all are from one place"),
)
BY_NAME = {column.name: column for column in COLUMNS}
REQUIRED = tuple(column.name for column in COLUMNS if column.required)


def json_schema() -> dict[str, Any]:
    """JSON Schema of one row of a plain table, for editors and validators."""
    kinds: dict[Kind, dict[str, Any]] = {
        "text": {"type": "string"},
        "number": {"type": "number"},
        "count": {"type": "integer", "minimum": 0},
    }
    properties = {}
    for column in COLUMNS:
        kind = dict(kinds[column.kind])
        if column.name == "image_size" or not column.required:
            kind["type"] = [kind["type"], "null"]
        properties[column.name] = {**kind, "description": column.meaning}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One published result (a row of a CSV or Parquet table)",
        "type": "object",
        "properties": properties,
        "required": list(REQUIRED),
    }
