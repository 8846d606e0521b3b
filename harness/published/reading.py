"""A CSV or Parquet file as text cells that remember their line: nothing is interpreted here.

Mistakes of the file itself (not a table, ragged, no rows, a header twice) are answered
with file and line. It must know nothing of what the columns mean.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.errors import UserError


@dataclass(frozen=True)
class RawTable:
    """A file's cells as stripped text; ``lines`` holds where each row begins.

    ``name`` is the file's own name, without its folder; ``place`` is what ``lines`` count
    (a Parquet file has rows, not lines).
    """

    path: Path
    sha256: str
    place: str
    columns: tuple[str, ...]
    lines: tuple[int, ...]
    rows: tuple[Mapping[str, str], ...]

    @property
    def name(self) -> str:
        """The file's name without its folder, on one line."""
        return " ".join(self.path.name.split())

    def error(self, line: int, sentence: str) -> UserError:
        """A mistake in one row, as a sentence that begins with where it is."""
        where = f"{self.path}:{line}" if self.place == "line" else f"{self.path}, row {line}"
        return UserError(f"{where}: {sentence}")


def read_table(path: Path) -> RawTable:
    """Read a table. Raises `UserError` when the file is not there or is no table."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a CSV or Parquet file in it.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    digest = hashlib.sha256(raw).hexdigest()
    if path.suffix.lower() in (".parquet", ".pq") or raw[:4] == b"PAR1":
        return _parquet(path, raw, digest)
    return _csv(path, raw, digest)


def _csv(path: Path, raw: bytes, digest: str) -> RawTable:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the table as UTF-8 CSV.") from None
    records, lines = _records(path, text)
    if not records:
        raise UserError(f"{path} is empty; a table begins with a line of column names.")
    columns = _header(path, records[0])
    if len(records) == 1:
        raise UserError(f"{path} has column names but no rows; nothing was imported.")
    for line, record in zip(lines[1:], records[1:], strict=True):
        if len(record) != len(columns):
            raise UserError(
                f"{path}:{line}: {len(record)} values, but there are {len(columns)} columns; "
                "the line is cut short, or a value with a comma lacks its quotes."
            )
    rows = tuple(dict(zip(columns, _stripped(record), strict=True)) for record in records[1:])
    return RawTable(path, digest, "line", columns, tuple(lines[1:]), rows)


def _records(path: Path, text: str) -> tuple[list[list[str]], list[int]]:
    """Records of a CSV text and the line on which each begins; blank lines are no records."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records, lines, begins = [], [], 1
    try:
        for record in reader:
            if record:
                records.append(record)
                lines.append(begins)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}:{begins}: not valid CSV ({error}); a quoted value must be closed, and the "
            "file must be text."
        ) from None
    return records, lines


def _header(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(_stripped(names))
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise UserError(f"{path}:1: values must be separated by commas; save the table as CSV.")
    twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
    if twice is not None:
        raise UserError(f'{path}:1: the column "{twice}" stands twice; remove or rename one.')
    return columns


def _stripped(values: Sequence[str]) -> list[str]:
    return [value.strip() for value in values]


def _parquet(path: Path, raw: bytes, digest: str) -> RawTable:
    try:
        frame = pl.read_parquet(io.BytesIO(raw))
        text = frame.select(_as_text(name, kind) for name, kind in frame.schema.items())
    except (pl.exceptions.PolarsError, OSError):
        raise UserError(
            f"{path} is not a readable Parquet table of plain columns: it is damaged, cut short, "
            "or holds nested values; save it again."
        ) from None
    if not text.height:
        raise UserError(f"{path} has no rows; nothing was imported.")
    rows = tuple({k: v.strip() for k, v in row.items()} for row in text.iter_rows(named=True))
    return RawTable(path, digest, "row", tuple(text.columns), tuple(range(1, len(rows) + 1)), rows)


def _as_text(name: str, kind: pl.DataType) -> pl.Expr:
    """A column as text: null is blank, a list of band names is joined by commas."""
    column = pl.col(name)
    text = column.list.join(",") if kind == pl.List(pl.String) else column.cast(pl.String)
    return text.fill_null("")
