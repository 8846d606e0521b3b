"""`tokenrank check`: a run against its baseline, told to a person and to a build server.

It joins suite, store, baseline and the ways of telling; what is a regression is decided in
`harness.regression`. Nothing is mirrored or drawn here: a check must be quick.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.commands.measure import RunOptions, measure, require_folder, saved, writing
from harness.regression.annotations import github_annotations
from harness.regression.baseline import Baseline, read_baseline
from harness.regression.escaping import log_line
from harness.regression.junit import junit_xml
from harness.regression.snapshot import CellId, snapshot
from harness.regression.summary import change, drift, markdown_summary, number, origin_sentences
from harness.regression.verdicts import (
    Check,
    Judged,
    incomparable,
    judge,
    told_together,
    verdict_counts,
)
from harness.suite import suite_names, suite_path
from harness.terminal import Name
from models.config_file import read as read_yaml
from models.errors import UserError, did_you_mean
from reports.io import write_whole
from reports.table import SuiteResults

ANNOTATIONS = ("github", "none")
_COLOURS = {"worse": "red", "missing": "yellow", "new": "cyan", "better": "green", "same": "dim"}


@dataclass(frozen=True)
class Telling:
    """Where the outcome goes besides the terminal."""

    junit: Path | None
    markdown: Path | None
    annotations: str | None


def check_command(
    suite: str | None,
    options: RunOptions,
    telling: Telling,
    *,
    baseline: Path,
    results: Path | None,
    margin: float | None,
    tolerance: float,
) -> int:
    """Hold a run to a baseline, tell the outcome, and return the exit code (0, 1 or 2)."""
    console = Console()
    to_github = _annotations(telling.annotations) == "github"
    for path in (telling.junit, telling.markdown):
        if path is not None:
            require_folder(path)  # before anything is computed
    kept = read_baseline(baseline)
    if results is None:
        table = _measured(console, suite, kept, options)
    elif suite is None:
        options.refuse_beside_results()
        table = saved(results)
        _same_suite(kept, table.run.suite)
    else:
        raise UserError("Give either a suite or --results FOLDER, not both.")
    limit = kept.margin if margin is None else margin
    check = judge(kept.snapshot, snapshot(table), limit, tolerance)
    _show(console, check, kept)
    for path, content in (
        (telling.junit, junit_xml(check)),
        (telling.markdown, markdown_summary(check, kept)),
    ):
        if path is not None:
            with writing(path):
                write_whole(path, content)
    if to_github:
        lines = github_annotations(check, kept, baseline)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return check.exit_code


def _annotations(given: str | None) -> str:
    if given is None:
        return "github" if os.environ.get("GITHUB_ACTIONS") == "true" else "none"
    if given not in ANNOTATIONS:
        hint = did_you_mean(given, ANNOTATIONS)
        raise UserError(f'--annotations "{given}" is not known: {hint}.')
    return given


def _measured(
    console: Console, suite: str | None, kept: Baseline, options: RunOptions
) -> SuiteResults:
    name = suite or kept.snapshot.suite
    if suite is None and name not in suite_names():
        raise UserError(
            f'The baseline is of suite "{name}", which is not shipped with this version; give '
            "its YAML file as the argument."
        )
    path = suite_path(name)
    stated = read_yaml(path).data
    if isinstance(stated, dict) and isinstance(stated.get("name"), str):
        _same_suite(kept, stated["name"])
    filled = as_recorded(options, str(kept.provenance["command"]))
    return measure(console, path, name, filled, _comparable_with(kept)).results


def _same_suite(kept: Baseline, name: str) -> None:
    if name != kept.snapshot.suite:
        raise UserError(
            f'The baseline is of suite "{kept.snapshot.suite}", but these results are of suite '
            f'"{name}"; name the baseline that belongs to it.'
        )


def _comparable_with(kept: Baseline) -> Callable[[SuiteResults], Callable[[CellId], bool]]:
    """Only cells that can be held to the baseline are worth computing."""

    def wanted(results: SuiteResults) -> Callable[[CellId], bool]:
        current = snapshot(results)

        def is_wanted(cell: CellId) -> bool:
            if cell not in kept.snapshot.cells:
                return False
            return incomparable(cell.variant, cell.task, kept.snapshot, current) is None

        return is_wanted

    return wanted


def as_recorded(options: RunOptions, command: str) -> RunOptions:
    """Options that were not given are those of the baseline's own command."""
    recorded = _recorded(command)
    seeds = tuple(int(text) for text in recorded.get("--seed", []))
    sizes = [int(text) for text in recorded.get("--patch-size", [])]
    tiers = recorded.get("--tier", [])
    fills: dict[str, Any] = {
        "variants": tuple(recorded.get("--variant", [])) or None,
        "seeds": seeds or None,
        "patch_size": sizes[0] if sizes else None,
        "tier": tiers[0] if tiers else None,
    }
    return replace(options, **{k: v for k, v in fills.items() if getattr(options, k) is None})


def _recorded(command: str) -> dict[str, list[str]]:
    """Options of a command of ours, each with its values."""
    found: dict[str, list[str]] = {}
    try:
        parts = shlex.split(command)
    except ValueError:
        return found
    for name, value in pairwise(parts):
        if name in ("--variant", "--seed", "--patch-size", "--tier"):
            found.setdefault(name, []).append(value)
    return found


def _show(console: Console, check: Check, kept: Baseline) -> None:
    for sentence in origin_sentences(kept.snapshot):
        console.print(escape(log_line(sentence)), style="yellow", highlight=False)
    for task in dict.fromkeys(each.task for each in check.judged):
        console.print(f"[bold]{escape(log_line(task))}[/]", highlight=False)
        console.print(_table([each for each in check.judged if each.task == task]))
    for verdict, names, why in told_together(check.judged):
        said = escape(f"{log_line(names)}: {log_line(why)}")
        console.print(f"[{_COLOURS[verdict]}]{verdict}[/] {said}", highlight=False)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdict_counts(check).items() if n)
    console.print(
        f"{counts}. At least: one-sided 95% bound; it must stay above -{check.margin_words}. "
        f"Moved: embeddings of the same weights, at most {check.tolerance:g} of their size.",
        style="dim",
        highlight=False,
    )
    colour = {0: "green", 1: "red", 2: "yellow"}[check.exit_code]
    console.print(f"[bold {colour}]{escape(log_line(check.sentence))}[/]", highlight=False)


def _table(judged: Sequence[Judged]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("variant", overflow="fold")
    for name in ("verdict", "was", "now", "change", "at\nleast", "moved"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in judged:
        shown.add_row(
            Name(log_line(each.variant)),
            f"[{_COLOURS[each.verdict]}]{each.verdict}[/]",
            number(each.baseline_score),
            number(each.score),
            change(each),
            "–" if each.bound is None else f"{each.bound.low:+.3f}",
            drift(each),
        )
    return shown
