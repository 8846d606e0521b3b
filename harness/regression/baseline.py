"""A baseline: the results that later ones are held to, in one small file that can be reviewed.

JSON with sorted keys and one line per cell, so that a diff shows which cells changed. The
same results give the same bytes. A checksum over the content tells a file that was edited by
hand from one that was written; a file of another format or suite is refused in one sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.content import canonical_json
from harness.regression.packing import (
    bits_for,
    pack_classes,
    pack_floats,
    unpack_classes,
    unpack_floats,
)
from harness.regression.snapshot import (
    CellFacts,
    CellId,
    Snapshot,
    TaskFacts,
    VariantFacts,
    order,
)
from models.errors import UserError
from reports.io import write_whole
from reports.table import RunInfo

FORMAT = "tokenrank-baseline-1"

_LISTS = ("cells", "sketches", "tasks", "variants")  # one line per entry
_FACTS = {"format", "suite", "margin", "provenance", "checksum"}


@dataclass(frozen=True)
class Baseline:
    """A snapshot with the margin that was agreed on and where it all came from.

    ``lines`` gives the line of the file on which a cell stands, for annotations.
    """

    snapshot: Snapshot
    margin: float
    provenance: Mapping[str, Any]
    lines: Mapping[CellId, int]


def provenance(run: RunInfo, hardware: Mapping[str, str] | None) -> dict[str, Any]:
    """Where a baseline's results came from; shown to its readers, compared with nothing."""
    known = hardware or {}
    accelerators = known.get("accelerators", "none")
    kind = "cpu" if accelerators == "none" else accelerators
    return {
        "command": run.command,
        "git_commit": run.git_commit,
        "hardware": f"{known['system']}, {kind}" if "system" in known else "not recorded",
        "suite_hash": run.suite_hash,
        "title": run.title,
        "versions": dict(run.versions),
    }


def write_baseline(path: Path, found: Snapshot, margin: float, origin: Mapping[str, Any]) -> None:
    """Write a baseline file, whole or not at all."""
    write_whole(path, baseline_text(found, margin, origin))


def baseline_text(found: Snapshot, margin: float, origin: Mapping[str, Any]) -> str:
    """The file's content: the same text for the same results."""
    cells = sorted(found.cells, key=order)
    content: dict[str, Any] = {
        "format": FORMAT,
        "suite": found.suite,
        "margin": margin,
        "provenance": origin,
        "tasks": [_task_entry(found.tasks[name]) for name in sorted(found.tasks)],
        "variants": [vars(found.variants[name]) for name in sorted(found.variants)],
        "cells": [_cell_entry(cell, found.cells[cell], found.tasks[cell.task]) for cell in cells],
        "sketches": _sketch_entries((cell, found.cells[cell].sketch) for cell in cells),
    }
    content["checksum"] = _checksum(content)
    return _layout(content)


def _checksum(content: Mapping[str, Any]) -> str:
    covered = {key: value for key, value in content.items() if key != "checksum"}
    return f"sha256:{hashlib.sha256(canonical_json(covered).encode()).hexdigest()}"


def _layout(content: Mapping[str, Any]) -> str:
    """JSON whose lists have one entry per line. ASCII only: no name can break a line."""
    parts = []
    for key in sorted(content):
        value = content[key]
        if key in _LISTS:
            entries = ",\n".join(f"  {json.dumps(entry, sort_keys=True)}" for entry in value)
            parts.append(f' "{key}": [\n{entries}\n ]' if entries else f' "{key}": []')
        else:
            text = json.dumps(value, sort_keys=True, indent=1 if key == "provenance" else None)
            parts.append(f' "{key}": ' + text.replace("\n", "\n "))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _task_entry(task: TaskFacts) -> dict[str, Any]:
    labels = None if task.labels is None else pack_classes(task.labels, bits_for(task.classes))
    return {**vars(task), "labels": labels}


def _cell_entry(cell: CellId, facts: CellFacts, task: TaskFacts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        **cell._asdict(),
        "score": round(facts.score, 6),
        "tokens": facts.tokens,
        "macs": facts.macs,
        "params": facts.params,
    }
    if facts.predictions is not None:
        entry["predictions"] = pack_classes(facts.predictions, bits_for(task.classes))
    if facts.interval is not None:
        entry["interval"] = [round(end, 6) for end in facts.interval]
    return entry


def _sketch_entries(sketches: Iterable[tuple[CellId, tuple[float, ...]]]) -> list[dict[str, Any]]:
    """Each distinct sketch once per variant, with the cells that share it."""
    found: dict[tuple[str, str], list[list[Any]]] = {}
    for cell, sketch in sketches:
        if sketch:
            found.setdefault((cell.variant, pack_floats(sketch)), []).append([cell.task, cell.seed])
    return [
        {"variant": variant, "cells": cells, "sketch": text}
        for (variant, text), cells in found.items()
    ]


# --- reading ----------------------------------------------------------------------------


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file. Raises `UserError` for one that cannot be trusted."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f'There is no baseline {path}; write one with "tokenrank baseline SUITE --out {path}".'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"The baseline {path} cannot be read: {reason}.") from None
    content = _content(path, text)
    try:
        found = _snapshot(content)
        lines = _lines(text, sorted(found.cells, key=order))
        return Baseline(found, float(content["margin"]), dict(content["provenance"]), lines)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # The checksum was right, so a program wrote it: another one than ours.
        raise UserError(
            f"The baseline {path} is not laid out as {FORMAT} is ({error}); write it anew with "
            '"tokenrank baseline".'
        ) from None


def _content(path: Path, text: str) -> dict[str, Any]:
    """The parsed file, if it is whole, of this format, and as it was written."""
    again = 'restore it from version control or write it anew with "tokenrank baseline"'
    try:
        content = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise UserError(
            f"The baseline {path} is cut short or damaged (line {line} is not JSON); {again}."
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found is None:
        raise UserError(f"{path} is no baseline: it names no format; {again}.")
    if found != FORMAT:
        raise UserError(
            f'The baseline {path} has format "{found}", but this version reads "{FORMAT}"; write '
            'it anew with "tokenrank baseline".'
        )
    if content.get("checksum") != _stated(content):
        raise UserError(
            f"The baseline {path} was changed by hand: its content does not match its checksum; "
            f"{again}."
        )
    return dict(content)


def _stated(content: Mapping[str, Any]) -> str | None:
    try:
        return _checksum(content)
    except ValueError:  # NaN, which we never write
        return None


def _snapshot(content: Mapping[str, Any]) -> Snapshot:
    if set(content) != {*_LISTS, *_FACTS}:
        raise KeyError(", ".join(sorted({*_LISTS, *_FACTS} ^ set(content))))
    tasks = {entry["name"]: _task(entry) for entry in content["tasks"]}
    sketches = {
        CellId(entry["variant"], task, seed): unpack_floats(entry["sketch"])
        for entry in content["sketches"]
        for task, seed in entry["cells"]
    }
    cells = {}
    for entry in content["cells"]:
        cell = CellId(entry["variant"], entry["task"], entry["seed"])
        cells[cell] = _cell(entry, tasks[cell.task], sketches.get(cell, ()))
    variants = {entry["name"]: VariantFacts(**entry) for entry in content["variants"]}
    return Snapshot(content["suite"], tasks, variants, cells, {})


def _task(entry: Mapping[str, Any]) -> TaskFacts:
    labels = entry["labels"]
    bits, count = bits_for(entry["classes"]), entry["data"]["n_test"]
    unpacked = None if labels is None else unpack_classes(labels, bits, count)
    return TaskFacts(**{**entry, "labels": unpacked})


def _cell(entry: Mapping[str, Any], task: TaskFacts, sketch: tuple[float, ...]) -> CellFacts:
    packed, interval = entry.get("predictions"), entry.get("interval")
    predictions = None
    if packed is not None and task.labels is not None:
        predictions = unpack_classes(packed, bits_for(task.classes), len(task.labels))
    return CellFacts(
        score=entry["score"],
        tokens=entry["tokens"],
        macs=entry["macs"],
        params=entry["params"],
        interval=None if interval is None else (interval[0], interval[1]),
        predictions=predictions,
        sketch=sketch,
    )


def _lines(text: str, cells: Iterable[CellId]) -> dict[CellId, int]:
    """Line of each cell: they follow the line that opens their list, in order."""
    first = text.split("\n").index(' "cells": [') + 2
    return {cell: first + i for i, cell in enumerate(cells)}
