"""Results and reports on disk: written whole or not at all, the same bytes for the same results.

`save_results` and `load_results` carry a `SuiteResults` to another machine. It must know
nothing of what is in a report.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import polars as pl

from reports.atlas import Atlas
from reports.table import (
    CURVE_SCHEMA,
    SAMPLE_SCHEMA,
    SCORE_SCHEMA,
    TRIAL_SCHEMA,
    VARIANT_SCHEMA,
    MissingCell,
    RunInfo,
    StudyWeights,
    SuiteResults,
    TaskInfo,
)

FORMAT = "tokenrank-results-2"
ATLAS = "atlas.json"
ROWS_TOGETHER = 100_000
"""Samples are saved in groups of so many rows, whether they come in a frame or a few at a time."""
_TABLES = {
    "variants": VARIANT_SCHEMA,
    "scores": SCORE_SCHEMA,
    "samples": SAMPLE_SCHEMA,
    "trials": TRIAL_SCHEMA,
    "curves": CURVE_SCHEMA,
}
_ORDER = {
    "scores": ("variant", "task", "seed"),
    "samples": ("variant", "task", "seed", "sample"),
    "trials": ("variant", "task", "seed", "number"),
    "curves": ("variant", "axis", "value"),
}  # the variants' order is the suite's


_ADDED = ("recipe",)
"""Columns that came later: results saved before are read as having none of it."""


class ResultsError(ValueError):
    """A folder that does not hold readable results; the message is one sentence for the user."""


def write_whole(path: Path, content: bytes | str) -> Path:
    """Write a file by way of a temporary one beside it: it appears whole or stays as it was."""
    raw = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(raw)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def as_json(value: Any) -> str:
    """Indented JSON with sorted keys and a final newline; numbers that JSON lacks are refused."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def as_parquet(frame: pl.DataFrame, together: int | None = None) -> bytes:
    """A frame as Parquet bytes, in groups of ``together`` rows where that is said."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True, row_group_size=together)
    return buffer.getvalue()


def _write_rows(path: Path, rows: pl.LazyFrame) -> None:
    """Write sorted rows as they are read, a group at a time: the bytes that a frame would give."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        rows.sink_parquet(
            temporary,
            compression="zstd",
            statistics=True,
            row_group_size=ROWS_TOGETHER,
            maintain_order=True,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_results(results: SuiteResults, folder: Path) -> None:
    """Write results into a folder: ``run.json``, one Parquet file per table, ``atlas.json``.

    Samples that are still to be read must be sorted by variant, task, seed and sample. ``run.json``
    comes last, so a folder that has one is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in _TABLES.items():
        table: pl.DataFrame | pl.LazyFrame = getattr(results, name)
        tidy = table.select(pl.col(column).cast(kind) for column, kind in schema.items())
        path = folder / f"{name}.parquet"
        if isinstance(tidy, pl.LazyFrame):
            _write_rows(path, tidy)
            continue
        if name in _ORDER:
            tidy = tidy.sort(_ORDER[name])
        together = ROWS_TOGETHER if name == "samples" else None
        write_whole(path, as_parquet(tidy, together))
    _save_atlas(results.atlas, folder / ATLAS)
    facts = {**asdict(results.run), "versions": dict(results.run.versions)}
    write_whole(folder / "run.json", as_json({"format": FORMAT, "run": facts}))


def load_results(folder: Path, *, scan: bool = False) -> SuiteResults:
    """Read what `save_results` wrote; with ``scan`` the samples stay in their file.

    Raises `ResultsError` when the folder lacks a file, or one is broken or of another format.
    """
    record = _read_record(folder / "run.json")
    try:
        run = _run_info(record["run"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{folder / 'run.json'} lacks or mistypes {error}; save the results again."
        ) from None
    samples = scan_samples(folder) if scan else load_table(folder, "samples")
    frames = {name: load_table(folder, name) for name in _TABLES if name != "samples"}
    return SuiteResults(run, samples=samples, **frames, atlas=_load_atlas(folder / ATLAS))


def load_table(folder: Path, name: str) -> pl.DataFrame:
    """One table of saved results; raises as `load_results` does."""
    return _read_table(folder / f"{name}.parquet", _TABLES[name])


def scan_samples(folder: Path) -> pl.LazyFrame:
    """The samples of saved results, to be read from their file; raises as `load_results` does."""
    path = folder / "samples.parquet"
    try:
        rows = pl.scan_parquet(path, glob=False)  # brackets in a folder's name are text
        found = rows.collect_schema()
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing; save the results again.") from None
    except (pl.exceptions.PolarsError, OSError):
        raise ResultsError(f"{path} is broken or cut short; save the results again.") from None
    if dict(found) != dict(SAMPLE_SCHEMA):
        raise ResultsError(
            f"{path} has other columns than {', '.join(SAMPLE_SCHEMA)}; save the results again."
        )
    return rows


def _save_atlas(atlas: Atlas | None, path: Path) -> None:
    from reports.atlas_file import save_atlas  # noqa: PLC0415  (it writes by this module)

    if atlas is None:
        path.unlink(missing_ok=True)
    else:
        save_atlas(atlas, path)


def _load_atlas(path: Path) -> Atlas | None:
    """None where results come without one."""
    from reports.atlas_file import read_atlas  # noqa: PLC0415  (it writes by this module)

    try:
        return read_atlas(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise ResultsError(f"{path} is broken or cut short; save the results again.") from None


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(
            f"{path.parent} holds no saved results (no {path.name}); name the results folder of "
            "a finished suite run."
        ) from None
    except ValueError:
        raise ResultsError(f"{path} is not readable JSON; save the results again.") from None
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise ResultsError(
            f'{path} has format "{found}", but this version reads "{FORMAT}"; save the results '
            "again with this version."
        )
    return dict(record)


def _read_table(path: Path, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing; save the results again.") from None
    except (pl.exceptions.PolarsError, OSError):
        raise ResultsError(f"{path} is broken or cut short; save the results again.") from None
    later = [name for name in _ADDED if name in schema and name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, schema[name]).alias(name) for name in later)
    if dict(frame.schema) != dict(schema):
        raise ResultsError(
            f"{path} has other columns than {', '.join(schema)}; save the results again."
        )
    return frame


def _run_info(raw: Mapping[str, Any]) -> RunInfo:
    facts = dict(raw)
    tasks = tuple(_frozen(TaskInfo, task) for task in facts.pop("tasks"))
    missing = tuple(_frozen(MissingCell, cell) for cell in facts.pop("missing"))
    study = tuple(_frozen(StudyWeights, each) for each in facts.pop("study", ()))
    run: RunInfo = _frozen(RunInfo, {**facts, "tasks": tasks, "missing": missing, "study": study})
    return run


def _frozen(kind: Any, facts: Mapping[str, Any]) -> Any:
    """A data class from JSON: lists are tuples again; a field without a default must be there."""
    names = [f.name for f in fields(kind) if f.name in facts or f.default is MISSING]
    return kind(**{n: tuple(v) if isinstance(v := facts[n], list) else v for n in names})
