"""Plain text rows -> checked results: numbers, units and intervals.

What is wrong is refused with file, line, column and value; nothing is mended in silence. It
must know nothing of duplicates, or of which results are compared.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from harness.content import content_key
from harness.published.columns import BY_NAME
from harness.published.formats import PlainRow, PlainTable
from harness.published.vocabulary import MetricEntry, Vocabulary, vocabulary
from models.errors import UserError, did_you_mean

_SLACK = 1e-6  # tables hold float32: 1.0000001 is 1


@dataclass(frozen=True)
class Result:
    """One published score. Null: the table does not say. ``bands`` are canonical and sorted.

    ``conflict`` marks a result that the same table also gives with another value.
    """

    line: int
    model: str
    dataset: str
    metric: str
    score: float
    probe: str
    bands: tuple[str, ...]
    image_size: int | None
    ci_low: float | None
    ci_high: float | None
    n_train: int | None
    n_val: int | None
    n_test: int | None
    partition: str
    interpolation: str
    normalisation: str
    seed: int | None
    gflops: float | None
    params: float | None
    source: str
    conflict: bool = False

    @property
    def identity(self) -> str:
        """Equal for two rows that claim to be the same measurement."""
        claims = {k: v for k, v in asdict(self).items() if k not in _NOT_IDENTITY}
        return content_key(claims)

    @property
    def value(self) -> tuple[float, float | None, float | None]:
        """What two rows of one identity must agree in."""
        return self.score, self.ci_low, self.ci_high


_NOT_IDENTITY = {
    "line", "score", "ci_low", "ci_high", "gflops", "params", "source", "conflict",
}  # fmt: skip


def check(table: PlainTable, percent: bool) -> tuple[Result, ...]:
    """Check every row. Raises `UserError` with file, line, column and value of a mistake."""
    words = vocabulary()
    results = [_result(table, row, words) for row in table.rows]
    if not results:
        raise UserError(f"{table.raw.path} holds costs but no scores; there is nothing to rank.")
    scaled = _in_fractions(table, results, words, percent)
    for row, result in zip(table.rows, scaled, strict=True):
        _check_values(table, row, result, words.metrics[result.metric])
    return tuple(scaled)


# --- values -----------------------------------------------------------------------------


def _result(table: PlainTable, row: PlainRow, words: Vocabulary) -> Result:
    def text(name: str) -> str:
        value = row.values.get(name, "")
        if not value and name in ("model", "dataset", "metric", "probe", "bands"):
            raise table.error(row, name, "is blank; every row needs it.")
        if any(unicodedata.category(c) == "Cc" and not c.isspace() for c in value):
            raise table.error(row, name, f"holds a control character ({value!r}); remove it.")
        return value

    def count(name: str) -> int | None:
        value = _number(table, row, name)
        return None if value is None else int(value)

    metric = words.metric(text("metric"))
    if metric is None:
        hint = did_you_mean(text("metric"), words.metrics)
        raise table.error(row, "metric", f'holds "{text("metric")}", which is not known: {hint}.')
    score = _number(table, row, "score")
    if score is None:
        raise table.error(row, "score", "is blank; remove the row if there is no result.")
    bands = words.band_names(text("dataset"), text("bands"))
    if not bands:
        raise table.error(row, "bands", f'holds "{text("bands")}", which names no band.')
    size = count("image_size")
    return Result(
        line=row.line,
        model=text("model"),
        dataset=text("dataset"),
        metric=metric,
        score=score,
        probe=text("probe"),
        bands=bands,
        image_size=size,
        ci_low=_number(table, row, "ci_low"),
        ci_high=_number(table, row, "ci_high"),
        n_train=count("n_train"),
        n_val=count("n_val"),
        n_test=count("n_test"),
        partition=text("partition") or "default",
        # How an image was resized says nothing where it was not.
        interpolation=text("interpolation") if size is not None else "",
        normalisation=text("normalisation"),
        seed=count("seed"),
        gflops=_number(table, row, "gflops"),
        params=_number(table, row, "params"),
        source=text("source"),
    )


def _number(table: PlainTable, row: PlainRow, name: str) -> float | None:
    text = row.values.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise table.error(
            row, name, f'holds "{text}", which is not a number{_hint(text)}'
        ) from None
    if not math.isfinite(value):
        do = "remove the row" if name == "score" else "leave it blank if it is unknown"
        raise table.error(row, name, f'holds "{text}", which says nothing; {do}.')
    if BY_NAME[name].kind == "count" and (value < 0 or value != int(value)):
        raise table.error(row, name, f'holds "{text}", which must be a whole number from 0 on.')
    if name == "image_size" and value == 0:
        raise table.error(row, name, 'holds "0"; leave it blank if images were not resized.')
    return value


def _hint(text: str) -> str:
    if text.endswith("%"):
        return "; write it without the % sign, and import with --percent."
    if "," in text and "." not in text:
        return "; write decimals with a point."
    return "."


# --- units ------------------------------------------------------------------------------


def _in_fractions(
    table: PlainTable, results: Sequence[Result], words: Vocabulary, percent: bool
) -> list[Result]:
    """Scores of fraction metrics between 0 and 1; percent only where the user says so."""
    pairs = list(zip(table.rows, results, strict=True))
    fractions = [(row, r) for row, r in pairs if words.metrics[r.metric].fraction]
    above = [(row, r, name) for row, r in fractions for name in _above_one(r)]
    if not percent and above:
        row, result, name = above[0]
        share = f"{len({id(r) for r, _, _ in above})} of {len(fractions)}"
        raise table.error(
            row,
            name,
            f"holds {row.values[name]}, but {result.metric} is a fraction from 0 to 1 ({share} "
            "results are above 1); if the whole file is in percent, import it with --percent.",
        )
    if not percent:
        return list(results)
    within = [(row, r) for row, r in fractions if 0 < r.score <= 1]
    if within:
        row, _ = within[0]
        share = f"{len(within)} of {len(fractions)} rows"
        raise table.error(
            row,
            "score",
            f"holds {row.values['score']}, which is no percentage ({share} hold fractions); "
            "import without --percent, or write the whole file in one unit.",
        )
    return [_divided(r) if words.metrics[r.metric].fraction else r for r in results]


def _above_one(result: Result) -> Iterator[str]:
    for name, value in (
        ("score", result.score), ("ci_low", result.ci_low), ("ci_high", result.ci_high),
    ):  # fmt: skip
        if value is not None and value > 1 + _SLACK:
            yield name


def _divided(result: Result) -> Result:
    low, high = result.ci_low, result.ci_high
    return replace(
        result,
        score=result.score / 100,
        ci_low=None if low is None else low / 100,
        ci_high=None if high is None else high / 100,
    )


def _check_values(table: PlainTable, row: PlainRow, result: Result, metric: MetricEntry) -> None:
    least = 0.0 if metric.fraction else metric.at_least
    most = 1.0 if metric.fraction else metric.at_most
    for name in ("score", "ci_low", "ci_high"):
        value = getattr(result, name)
        shown = f"holds {row.values.get(name)}, but {result.metric}"
        if value is not None and least is not None and value < least:
            raise table.error(row, name, f"{shown} is never below {least:g}.")
        if value is not None and most is not None and value > most + _SLACK:
            raise table.error(row, name, f"{shown} is never above {most:g}.")
    for name in ("gflops", "params"):
        value = getattr(result, name)
        if value is not None and value <= 0:
            raise table.error(row, name, f"holds {row.values[name]}; a cost is above 0.")
    low, high = result.ci_low, result.ci_high
    if (low is None) != (high is None):
        name = "ci_low" if low is None else "ci_high"
        raise table.error(row, name, "is blank; give both ends of an interval, or neither.")
    if low is not None and high is not None and not (
        low - _SLACK <= result.score <= high + _SLACK
    ):  # fmt: skip
        raise table.error(
            row,
            "score",
            f"holds {row.values['score']}, which lies outside its own interval "
            f"({row.values['ci_low']} to {row.values['ci_high']}).",
        )
