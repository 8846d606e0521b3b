"""Whose table is it? torchgeo-bench's results file, or the plain schema -> plain text rows.

A format is recognised by its columns. torchgeo-bench keeps scores and costs in rows of
their own; they are joined here. It must know nothing of what values are valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from harness.published.columns import BY_NAME, COLUMNS, REQUIRED
from harness.published.reading import RawTable
from models.errors import UserError

TORCHGEO_BENCH, PLAIN = "torchgeo-bench", "plain"

# torchgeo-bench's columns and ours.
_TORCHGEO = {
    "name": "model",
    "dataset": "dataset",
    "metric_name": "metric",
    "metric_value": "score",
    "ci_lower": "ci_low",
    "ci_upper": "ci_high",
    "method": "probe",
    "bands": "bands",
    "image_size": "image_size",
    "n_train": "n_train",
    "n_val": "n_val",
    "n_test": "n_test",
    "partition": "partition",
    "normalization": "normalisation",
    "seed": "seed",
}
_TORCHGEO_OPTIONAL = {"interpolation": "interpolation"}
_TORCHGEO_DETAILS = ("feature_dim", "best_c")  # no part of a result's identity
_TORCHGEO_MARKS = {"method", "metric_name", "metric_value"}
_TORCHGEO_PROBES = {"knn5": "knn-5-l2-uniform", "linear": "logistic-regression-c-sweep"}
_PROFILE = "profile"


@dataclass(frozen=True)
class PlainRow:
    """One result as text under the plain schema's names, and where it stands in the file."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class PlainTable:
    """A translated file. ``shown`` maps plain column names to the file's own.

    ``exact_duplicates`` rows said nothing new and are dropped; ``costs`` counts rows that
    are no scores; ``ignored`` columns are not known.
    """

    format: str
    raw: RawTable
    rows: tuple[PlainRow, ...]
    shown: Mapping[str, str]
    exact_duplicates: int
    costs: int = 0
    ignored: tuple[str, ...] = ()
    conflicting_costs: int = 0
    notes: tuple[str, ...] = field(default=())

    def error(self, row: PlainRow, column: str, sentence: str) -> UserError:
        """A mistake in one value: file, line, the file's own column name, then the sentence."""
        return self.raw.error(row.line, f'column "{self.shown.get(column, column)}" {sentence}')


def translate(raw: RawTable) -> PlainTable:
    """Recognise a table by its columns and bring it to the plain schema.

    Raises `UserError` naming the columns that are missing, and the allowed ones.
    """
    if len(_TORCHGEO_MARKS & set(raw.columns)) >= 2:
        return _torchgeo_bench(raw)
    return _plain(raw)


def _plain(raw: RawTable) -> PlainTable:
    _check_columns(raw, REQUIRED, tuple(BY_NAME), "the plain schema")
    rows, dropped = _distinct(raw)
    return PlainTable(
        format=PLAIN,
        raw=raw,
        rows=tuple(PlainRow(line, row) for line, row in rows),
        shown={column.name: column.name for column in COLUMNS},
        exact_duplicates=dropped,
        ignored=tuple(name for name in raw.columns if name not in BY_NAME),
    )


def _torchgeo_bench(raw: RawTable) -> PlainTable:
    wanted = {**_TORCHGEO, **_TORCHGEO_OPTIONAL}
    known = (*wanted, *_TORCHGEO_DETAILS)
    _check_columns(raw, tuple(_TORCHGEO), known, "torchgeo-bench's results")
    rows, dropped = _distinct(raw)
    costs, conflicting = _costs(raw, [(i, r) for i, r in rows if r["method"] == _PROFILE])
    scores = [(line, row) for line, row in rows if row["method"] != _PROFILE]
    return PlainTable(
        format=TORCHGEO_BENCH,
        raw=raw,
        rows=tuple(_score_row(line, row, wanted, costs) for line, row in scores),
        shown={ours: theirs for theirs, ours in wanted.items()} | {"gflops": "metric_value"},
        exact_duplicates=dropped,
        costs=len(rows) - len(scores),
        ignored=tuple(name for name in raw.columns if name not in known),
        conflicting_costs=conflicting,
        notes=(
            "params_m is not imported: it counts the decoder and the target encoder too, which "
            "no embedding needs",
        ),
    )


def _check_columns(
    raw: RawTable, required: tuple[str, ...], known: tuple[str, ...], schema: str
) -> None:
    missing = [name for name in required if name not in raw.columns]
    if not missing:
        return
    extra = [name for name in raw.columns if name not in known]
    listed = ", ".join(f'"{name}"' for name in missing)
    # One column misspelt is both missing and unknown: the spelling is what the user can mend.
    close = get_close_matches(missing[0], extra, n=1, cutoff=0.5)
    hint = f'is it meant by "{close[0]}"?' if close else ""
    raise UserError(
        f"{raw.path}: the column{'s' * (len(missing) > 1)} {listed} of {schema} "
        f"{'is' if len(missing) == 1 else 'are'} missing{f' ({hint})' if hint else ''}; "
        f"needed: {', '.join(required)}; allowed besides: "
        f"{', '.join(name for name in known if name not in required)}."
    )


Numbered = list[tuple[int, Mapping[str, str]]]


def _distinct(raw: RawTable) -> tuple[Numbered, int]:
    """Rows without exact repetitions, each with its first line; how many were dropped."""
    seen: set[tuple[str, ...]] = set()
    rows: Numbered = []
    for line, row in zip(raw.lines, raw.rows, strict=True):
        key = tuple(row.values())
        if key not in seen:
            seen.add(key)
            rows.append((line, row))
    return rows, len(raw.rows) - len(rows)


def _measured_on(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a cost row and the score rows it belongs to have in common."""
    return tuple(row[k] for k in ("name", "dataset", "bands", "image_size", "partition"))


def _costs(raw: RawTable, rows: Numbered) -> tuple[Mapping[tuple[str, ...], str], int]:
    """GFLOPs by what they were measured on; a cost stated twice differently is unknown."""
    found: dict[tuple[str, ...], set[str]] = {}
    for line, row in rows:
        if row["metric_name"] != "gflops":
            continue  # throughput is the machine's, not the model's
        if not _is_cost(row["metric_value"]):
            raise raw.error(
                line,
                f'column "metric_value" holds "{row["metric_value"]}" for gflops, which must be '
                "a number from 0 on.",
            )
        if float(row["metric_value"]) > 0:  # 0: the counter saw nothing (plain statistics)
            found.setdefault(_measured_on(row), set()).add(row["metric_value"])
    certain = {key: values.copy().pop() for key, values in found.items() if len(values) == 1}
    return certain, len(found) - len(certain)


def _is_cost(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


def _score_row(
    line: int,
    row: Mapping[str, str],
    wanted: Mapping[str, str],
    costs: Mapping[tuple[str, ...], str],
) -> PlainRow:
    values = {ours: row.get(theirs, "") for theirs, ours in wanted.items()}
    method = row["method"]
    values["probe"] = _TORCHGEO_PROBES.get(method, f"{TORCHGEO_BENCH}-{method}" if method else "")
    values["gflops"] = costs.get(_measured_on(row), "")
    return PlainRow(line, values)


def licence_of(format_name: str) -> str:
    """The licence under which a known source publishes its tables."""
    return "MIT (torchgeo-bench contributors)" if format_name == TORCHGEO_BENCH else "not stated"


def citation_of(format_name: str) -> str:
    """Where a known source's tables come from."""
    if format_name == TORCHGEO_BENCH:
        return "torchgeo-bench, https://github.com/torchgeo/torchgeo-bench"
    return "not stated"
