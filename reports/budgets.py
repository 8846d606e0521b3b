"""Which token budget is best spent where: one question asked at several inputs, score by cost.

Tasks that differ in nothing but patch size, image side or time steps are one group, and every
variant at every input is a point with its own tokens and MACs, which a mean over tasks hides.
Scores are on the same test samples, so that points of a group are compared pair by pair, as
variants of a task are. It must know nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from reports import words
from reports.pairs import difference
from reports.ranking import RankingTable, Score
from reports.resampling import RESAMPLES, TaskScores, bootstrap
from reports.table import SCORE_SCHEMA, SuiteResults, TaskInfo
from reports.tables import Cell, Table

_PIXELS = ("miou", "pixel_")  # metrics of maps: of a smaller image other pixels are asked about
_BETWEEN = " at "


@dataclass(frozen=True)
class Budget:
    """A variant at one input: what it costs per sample, and what it scores.

    ``is_cheapest``: no other of its group scores as much for as few MACs.
    """

    variant: str
    task: TaskInfo
    tokens: int
    macs: float
    score: Score
    is_cheapest: bool = False

    @property
    def name(self) -> str:
        """The variant and its input."""
        return f"{self.variant}{_BETWEEN}{input_of(self.task)}"


@dataclass(frozen=True)
class Step:
    """What more MACs are shown to buy; ``gain`` of the score, with its 95% interval in words."""

    start: Budget
    end: Budget
    gain: float
    spread: str


@dataclass(frozen=True)
class Budgets:
    """One group: its points, cheapest first, and the steps that are shown to pay."""

    task: TaskInfo
    points: tuple[Budget, ...]
    steps: tuple[Step, ...]


def input_of(task: TaskInfo) -> str:
    """``64 x 64 pixels, patch 8``, and how many time steps where there are several."""
    steps = f", T = {task.steps}" if task.steps > 1 else ""
    return f"{task.height} x {task.width} pixels{steps}, patch {task.patch_size}"


def budgets(results: SuiteResults, ranking: RankingTable) -> tuple[Budgets, ...]:
    """The groups of a ranking's tasks that hold more than one input, in the suite's order."""
    found = []
    for tasks in _groups(ranking.tasks):
        points = _points(results, ranking, tasks)
        if len({point.macs for point in points}) > 1:
            scores = _as_one_task(results, points, ranking.resamples or RESAMPLES)
            found.append(Budgets(tasks[0], points, tuple(_steps(points, scores))))
    return tuple(found)


def _groups(tasks: Sequence[TaskInfo]) -> Iterator[tuple[TaskInfo, ...]]:
    groups: dict[object, list[TaskInfo]] = {}
    for task in tasks:
        groups.setdefault(_question(task), []).append(task)
    for group in groups.values():
        inputs = {(t.height, t.width, t.steps, t.patch_size) for t in group}
        if len(group) > 1 and len(inputs) == len(group):
            yield tuple(group)


def _question(task: TaskInfo) -> object:
    asked = (task.dataset, task.title, task.metric, task.protocol, task.probe, task.partition)
    sizes = (task.n_train, task.n_val, task.n_test)
    is_of_pixels = task.metric.startswith(_PIXELS)
    return (*asked, *sizes, (task.height, task.width) if is_of_pixels else ())


def _points(
    results: SuiteResults, ranking: RankingTable, tasks: Sequence[TaskInfo]
) -> tuple[Budget, ...]:
    """Every variant that has a score and a cost at an input; cheapest first, then best."""
    costs = {
        (variant, task): (tokens, macs)
        for variant, task, tokens, macs in results.scores.select(
            "variant", "task", "tokens", "macs"
        ).iter_rows()
        if tokens is not None and macs is not None
    }
    sign = -1 if tasks[0].higher_is_better else 1
    points = [
        Budget(entry.variant, task, *costs[entry.variant, task.name], score)
        for entry in ranking.entries
        for task in tasks
        if (score := entry.scores.get(task.name)) and (entry.variant, task.name) in costs
    ]
    points.sort(key=lambda point: (point.macs, sign * point.score.value))
    best = float("inf")
    marked = []
    for point in points:
        value = sign * point.score.value
        marked.append(replace(point, is_cheapest=value < best))
        best = min(best, value)
    return tuple(marked)


def _as_one_task(
    results: SuiteResults, points: Sequence[Budget], resamples: int
) -> TaskScores | None:
    """All points as if they were variants of one task; None where that cannot be.

    It cannot where nothing is known of their samples, or the samples differ.
    """
    names = pl.DataFrame(
        {
            "variant": [point.variant for point in points],
            "task": [point.task.name for point in points],
            "name": [point.name for point in points],
        }
    )

    def renamed(frame: pl.DataFrame) -> pl.DataFrame:
        joined = frame.join(names, on=["variant", "task"], how="inner", maintain_order="left")
        as_one = joined.with_columns(pl.col("name").alias("variant"), pl.lit("one").alias("task"))
        return as_one.select(frame.columns)

    asked = pl.col("task").is_in([point.task.name for point in points])
    samples = renamed(results.samples.lazy().filter(asked).collect())
    counts = samples.group_by("variant", "seed").len("mine")
    every = samples.group_by("seed").agg(pl.col("sample").n_unique().alias("all"))
    lacking = counts.join(every, on="seed").filter(pl.col("mine") != pl.col("all"))
    if samples.is_empty() or len(lacking):
        return None
    run = replace(results.run, tasks=(replace(points[0].task, name="one"),))
    scores = renamed(results.scores.select(list(SCORE_SCHEMA)))
    whole = replace(
        results, run=run, variants=names.select(variant="name"), scores=scores, samples=samples
    )
    return bootstrap(whole, resamples)["one"]


def _steps(points: Sequence[Budget], scores: TaskScores | None) -> Iterator[Step]:
    """From the cheapest on: each time the cheapest that is better beyond its 95% interval."""
    if scores is None:
        return
    known = [point for point in points if point.name in scores.variants]
    start = known[0] if known else None
    for point in known:
        if start is None or point.macs <= start.macs:
            continue
        found = difference(scores, start.name, point.name)
        if found.verdict == "better" and found.interval is not None:
            yield Step(start, point, found.value, words.spans(found.interval))
            start = point


def budget_sentences(found: Budgets) -> list[str]:
    """Where the cheapest point stands, what is shown to buy more, and where that ends."""
    first, unit = found.points[0], found.task.metric_and_unit
    said = [
        f"{found.task.dataset}, {unit}: {words.number(len(found.points), 'point')} (a variant at "
        f"an input each) from {words.quantity(first.macs)} to "
        f"{words.quantity(found.points[-1].macs)} MACs per sample. The cheapest is {first.name} "
        f"({_cost(first)}), with {words.score(first.score.value)}."
    ]
    for step in found.steps:
        times = step.end.macs / step.start.macs
        said.append(
            f"{times:.1f}x its MACs are shown to buy more with {step.end.name} ({_cost(step.end)}):"
            f" {words.score(step.end.score.value)}, {words.signed(step.gain)} (95% interval of the "
            f"paired difference {step.spread})."
        )
    last = found.steps[-1].end if found.steps else first
    dearer = sum(point.macs > last.macs for point in found.points)
    if dearer:
        said.append(
            f"Of {words.number(dearer, 'dearer point')} none is shown to be better than that."
        )
    return said


def _cost(point: Budget) -> str:
    return f"{words.number(point.tokens, 'token')}, {words.quantity(point.macs)} MACs"


def budget_table(found: Budgets) -> Table:
    """Every point, cheapest first."""
    rows = tuple(
        (
            Cell(point.variant, point.variant),
            Cell(f"{point.task.height} x {point.task.width}", point.task.height),
            Cell(str(point.task.steps), point.task.steps),
            Cell(str(point.task.patch_size), point.task.patch_size),
            Cell(words.count(point.tokens), point.tokens),
            Cell(words.quantity(point.macs), point.macs),
            Cell(
                words.score(point.score.value),
                point.score.value,
                "good" if point.is_cheapest else "",
                note=words.spans(point.score.interval) if point.score.interval else "",
            ),
            Cell("yes" if point.is_cheapest else "", float(point.is_cheapest)),
        )
        for point in found.points
    )
    columns = ("Variant", "Pixels", "T", "Patch size", "Tokens", "MACs")
    headings = (*columns, f"Score ({found.task.metric_and_unit})", "Nothing as cheap is as good")
    return Table(headings, (False, *[True] * 6, False), rows)
