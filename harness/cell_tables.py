"""What a plan's stored cells come to as tables: scores, trials, per-sample values.

Cells are read one after another, each distinct one once, and only what their rows need is kept;
per-sample values, by far the most, can stay where they are until somebody reads them. It must
know nothing of costs, of reports, or of how cells are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
from polars.io.plugins import register_io_source

from harness.content import canonical_json
from harness.entrants import Row
from harness.metrics import metric
from harness.plan import Plan, shown_name
from harness.store import CellResult, Store
from models.errors import UserError
from reports.io import ROWS_TOGETHER
from reports.samples import Samples
from reports.table import SAMPLE_SCHEMA, SCORE_SCHEMA, TRIAL_SCHEMA

COSTS = ("tokens", "macs")
"""Columns of the scores that no cell knows."""
_SCORES = {name: kind for name, kind in SCORE_SCHEMA.items() if name not in COSTS}
_TRIALS_TOGETHER = 20_000


class Standing(NamedTuple):
    """Where a cell's rows stand in every table."""

    variant: str
    task: str
    seed: int
    key: str


@dataclass(frozen=True)
class CellTables:
    """Tables in the plan's order. ``scores`` come without `COSTS`; ``absent`` are cells' keys."""

    scores: pl.DataFrame
    trials: pl.DataFrame
    samples: Samples
    absent: frozenset[str]


def standings(plan: Plan) -> list[Standing]:
    """One for each cell, in the plan's order."""
    names: dict[Row, str] = {}
    found = []
    for cell in plan.cells:
        row = cell.row
        if row not in names:
            names[row] = shown_name(plan, cell)
        found.append(Standing(names[row], cell.task.name, cell.seed, cell.key))
    return found


def tables_of(plan: Plan, store: Store) -> CellTables:
    """All tables in memory."""
    rows = _Rows()
    frames: dict[str, pl.DataFrame] = {}
    order = standings(plan)
    for key, mine in _by_key(order).items():
        result = store.cell(key)
        rows.add(mine, result)
        if result is not None:
            frames[key] = _sample_rows(result)
    samples = [_labelled(frames[each.key], each) for each in order if each.key in frames]
    joined = pl.concat(samples) if samples else pl.DataFrame(schema=SAMPLE_SCHEMA)
    return rows.tables(order, joined)


def streamed_tables_of(plan: Plan, store: Store) -> CellTables:
    """The same, with samples that are read from the cells when they are asked for.

    They come sorted as `reports.io` saves them. Reading them raises `UserError` for a cell that
    has been damaged in the meantime.
    """
    rows = _Rows()
    order = standings(plan)
    for key, mine in _by_key(order).items():
        rows.add(mine, store.cell(key, with_predictions=False))
    present = sorted(each for each in order if each.key not in rows.absent)

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for frame in _batches(present, store):
            part = frame if left is None else frame.head(left)
            left = None if left is None else left - len(part)
            part = part if predicate is None else part.filter(predicate)
            yield part if with_columns is None else part.select(with_columns)
            if left == 0:
                return

    samples = register_io_source(read, schema=pl.Schema(SAMPLE_SCHEMA))
    return rows.tables(order, samples)


def _by_key(order: list[Standing]) -> dict[str, list[Standing]]:
    """Several cells of a plan may be one computation: kNN with the same weights has no seed."""
    found: dict[str, list[Standing]] = {}
    for each in order:
        found.setdefault(each.key, []).append(each)
    return found


class _Rows:
    """Rows of scores and trials, gathered without keeping the results that they are of."""

    def __init__(self) -> None:
        self.absent: set[str] = set()
        self._scores: dict[Standing, tuple[object, ...]] = {}
        self._trials: list[tuple[object, ...]] = []
        self._frames: list[pl.DataFrame] = []

    def add(self, standing: list[Standing], result: CellResult | None) -> None:
        if result is None:
            self.absent.add(standing[0].key)
            return
        found = (*result.scores[result.metric], result.val_score, _chosen(result))
        for each in standing:
            self._scores[each] = (*each[:3], *found, each.key, list(result.sketch))
            self._trials += [
                (*each[:3], trial["number"], canonical_json(trial["params"]), trial["val_score"])
                for trial in result.trials
            ]
        if len(self._trials) > _TRIALS_TOGETHER:
            self._flush()

    def _flush(self) -> None:
        # Rows of Python objects take several times the room that a frame's do.
        self._frames.append(pl.DataFrame(self._trials, schema=TRIAL_SCHEMA, orient="row"))
        self._trials = []

    def tables(self, order: list[Standing], samples: Samples) -> CellTables:
        self._flush()
        rows = [self._scores[each] for each in order if each.key not in self.absent]
        scores = pl.DataFrame(rows, schema=_SCORES, orient="row")
        trials = in_order(pl.concat(self._frames), order, "number")
        return CellTables(scores, trials, samples, frozenset(self.absent))


def in_order(frame: pl.DataFrame, order: list[Standing], *within: str) -> pl.DataFrame:
    """Rows as the plan's cells stand, and then by other columns."""
    columns = ("variant", "task", "seed")
    places = pl.DataFrame(
        [each[:3] for each in order], schema={c: SCORE_SCHEMA[c] for c in columns}, orient="row"
    ).with_row_index("place")
    joined = frame.join(places, on=columns, how="left")
    return joined.sort("place", *within, maintain_order=True).drop("place")


def _chosen(result: CellResult) -> str:
    return ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in result.chosen.items()
    )


def _batches(order: list[Standing], store: Store) -> Iterator[pl.DataFrame]:
    """Samples of cells in an order, in frames of the size in which they are saved."""
    held: list[pl.DataFrame] = []
    rows = 0
    for each in order:
        result = store.cell(each.key)
        if result is None:
            raise UserError(
                f"The cell {each.key[:16]} in {store} was damaged or removed while it was "
                "read; run the same command again."
            )
        held.append(_labelled(_sample_rows(result).sort("sample"), each))
        rows += len(held[-1])
        if rows >= ROWS_TOGETHER:
            joined = pl.concat(held, rechunk=True)
            whole = rows - rows % ROWS_TOGETHER
            yield from joined.head(whole).iter_slices(ROWS_TOGETHER)
            held, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield pl.concat(held, rechunk=True)


def _labelled(frame: pl.DataFrame, standing: Standing) -> pl.DataFrame:
    return frame.select(
        pl.lit(standing.variant).alias("variant"),
        pl.lit(standing.task).alias("task"),
        pl.lit(standing.seed, dtype=pl.Int64).alias("seed"),
        pl.all(),
    ).select(list(SAMPLE_SCHEMA))


def _sample_rows(result: CellResult) -> pl.DataFrame:
    """Label, prediction and confidence, where each sample has one class; else none of them."""
    if metric(result.metric).kind == "classes":
        confidence = pl.max_horizontal(pl.col(r"^p\d+$").cast(pl.Float64)).alias("confidence")
        predicted = [pl.col("label"), pl.col("prediction"), confidence]
    else:
        predicted = [
            pl.lit(None, dtype=SAMPLE_SCHEMA[name]).alias(name)
            for name in ("label", "prediction", "confidence")
        ]
    return result.predictions.select("sample", "value", *predicted)
