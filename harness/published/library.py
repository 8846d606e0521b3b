"""Imported tables in the store, by content: importing the same file twice changes nothing.

    published/<digest>.parquet    the checked results, one row each
    published/<digest>.json       where they come from, and what was dropped and why

The JSON file comes last, so an entry that has one is whole. It must know nothing of how
results are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from harness.content import content_key
from harness.published.cleaning import Result, check
from harness.published.duplicates import Cleaned, Conflict, DuplicateRule, without_duplicates
from harness.published.formats import PlainTable, citation_of, licence_of, translate
from harness.published.reading import read_table
from harness.store import Store, write_json
from models.errors import UserError, did_you_mean
from reports.io import as_parquet, write_whole

FOLDER = "published"
FORMAT = "tokenrank-published-1"
"""Raise it when the same file would be read differently: entries of another one are read anew."""

_SCHEMA: dict[str, Any] = {
    "line": pl.Int64, "model": pl.String, "dataset": pl.String, "metric": pl.String,
    "score": pl.Float64, "probe": pl.String, "bands": pl.List(pl.String),
    "image_size": pl.Int64, "ci_low": pl.Float64, "ci_high": pl.Float64, "n_train": pl.Int64,
    "n_val": pl.Int64, "n_test": pl.Int64, "partition": pl.String, "interpolation": pl.String,
    "normalisation": pl.String, "seed": pl.Int64, "gflops": pl.Float64, "params": pl.Float64,
    "source": pl.String, "conflict": pl.Boolean,
}  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """What the user decided: scores are in percent; what to do with contradictions."""

    percent: bool = False
    duplicates: DuplicateRule = "exclude"


@dataclass(frozen=True)
class Source:
    """Where an imported table comes from, and what happened to its rows.

    ``rows`` were in the file: scores, cost rows, exact duplicates, and results given twice
    in other words (``repeated``). ``conflicts`` contradict themselves.
    """

    digest: str
    name: str
    sha256: str
    format: str
    licence: str
    citation: str
    rows: int
    results: int
    costs: int
    exact_duplicates: int
    repeated: int
    conflicting_costs: int
    percent: bool
    duplicates: str
    place: str
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def short(self) -> str:
        """The digest as a person types it."""
        return self.digest[:12]


@dataclass(frozen=True)
class Imported:
    """One imported table."""

    source: Source
    results: tuple[Result, ...]


def read_published(path: Path, rules: Rules, licence: str = "", citation: str = "") -> Imported:
    """Read and check a file of published results; nothing is written.

    Raises `UserError` for whatever is wrong with the file.
    """
    table = translate(read_table(path))
    cleaned = without_duplicates(table, check(table, rules.percent), rules.duplicates)
    return Imported(_source(table, cleaned, rules, licence, citation), cleaned.results)


def _source(
    table: PlainTable, cleaned: Cleaned, rules: Rules, licence: str, citation: str
) -> Source:
    facts: dict[str, Any] = {
        "sha256": table.raw.sha256,
        "format": table.format,
        "licence": licence or licence_of(table.format),
        "citation": citation or citation_of(table.format),
        **asdict(rules),
    }
    return Source(
        digest=content_key({"reader": FORMAT, **facts}),
        name=table.raw.name,
        rows=len(table.raw.rows),
        results=len(cleaned.results),
        costs=table.costs,
        exact_duplicates=table.exact_duplicates,
        repeated=cleaned.repeated,
        conflicting_costs=table.conflicting_costs,
        place=table.raw.place,
        ignored=table.ignored,
        notes=table.notes,
        conflicts=cleaned.conflicts,
        **facts,
    )


def keep(imported: Imported, store: Store) -> bool:
    """Put a table into the store; False when its very content is there already."""
    place = _folder(store) / f"{imported.source.digest[:16]}.json"
    store.prepare()
    store.fetch_folder(FOLDER)
    if _load(place) is not None:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(result) for result in imported.results]
    raw = as_parquet(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
    write_whole(place.with_suffix(".parquet"), raw)
    record = {
        "format": FORMAT,
        "rows_sha256": hashlib.sha256(raw).hexdigest(),
        "source": asdict(imported.source),
    }
    write_json(place, record)
    store.keep_folder(FOLDER)
    return True


def imported_tables(store: Store) -> list[Imported]:
    """All tables of the store, by file name.

    Raises `UserError` for one that is damaged or of another version: a ranking without it
    would be another ranking.
    """
    tables = []
    store.fetch_folder(FOLDER)
    for path in sorted(_folder(store).glob("*.json")):
        table = _load(path)
        if table is None:
            raise UserError(
                f"The imported table {path} is damaged or of another version; remove that file "
                "and import its table again."
            )
        tables.append(table)
    return sorted(tables, key=lambda t: (t.source.name, t.source.digest))


def chosen_tables(store: Store, wanted: Sequence[str]) -> list[Imported]:
    """The tables that a user means: by the beginning of a digest, or by file name.

    Raises `UserError` when none is named and there are several: which one is meant must
    not hang on the order of import.
    """
    tables = imported_tables(store)
    if not tables:
        raise UserError(
            f"The store {store} holds no published results; import a table first "
            '("tokenrank published import FILE"), or name one with --from.'
        )
    listed = ", ".join(f"{t.source.short} ({t.source.name})" for t in tables)
    if not wanted:
        if len(tables) > 1:
            raise UserError(
                f"The store {store} holds {len(tables)} tables of published results; choose "
                f"with --table: {listed}."
            )
        return tables
    chosen: dict[str, Imported] = {}
    for text in wanted:
        matching = [t for t in tables if _is_meant(t, text)]
        if len(matching) != 1:
            names = [t.source.short for t in tables] + [t.source.name for t in tables]
            problem = "means several tables" if matching else "is none of the imported tables"
            hint = listed if matching else did_you_mean(text, names)
            raise UserError(f'--table "{text}" {problem}: {hint}.')
        chosen[matching[0].source.digest] = matching[0]
    return list(chosen.values())


def _is_meant(table: Imported, text: str) -> bool:
    named = table.source.name == text
    return named or (len(text) >= 4 and table.source.digest.startswith(text.lower()))


def _folder(store: Store) -> Path:
    return store.root / FOLDER


def _load(path: Path) -> Imported | None:
    """A stored table; None when it is not whole, or of another version."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        raw = path.with_suffix(".parquet").read_bytes()
        if record["format"] != FORMAT or record["rows_sha256"] != _sha256(raw):
            return None
        return Imported(_source_from(record["source"]), _results_from(raw))
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        return None


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _source_from(facts: dict[str, Any]) -> Source:
    conflicts = tuple(_frozen(Conflict, conflict) for conflict in facts.pop("conflicts"))
    source: Source = _frozen(Source, {**facts, "conflicts": conflicts})
    return source


def _frozen(kind: Any, facts: dict[str, Any]) -> Any:
    """A data class from JSON: lists are tuples again."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()})


def _results_from(raw: bytes) -> tuple[Result, ...]:
    frame = pl.read_parquet(raw).select(field.name for field in fields(Result))
    return tuple(Result(**{**row, "bands": tuple(row["bands"])}) for row in frame.to_dicts())
