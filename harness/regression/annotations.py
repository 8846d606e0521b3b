"""Annotations that a code host shows beside the diff: GitHub's workflow commands.

Each points at the line of the baseline file on which the cell stands. The host shows ten
errors of a step; the tenth here says how many more there are. Format and escaping: GitHub
Docs, "Workflow commands for GitHub Actions", and the runner's ActionCommand.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from harness.regression.baseline import Baseline
from harness.regression.escaping import command_data, command_property, one_line
from harness.regression.verdicts import Check, Judged

MOST = 10


def github_annotations(check: Check, baseline: Baseline, path: Path) -> list[str]:
    """Lines to print: an error per regression, a warning per cell that cannot be compared."""
    file = _from_here(path)
    lines = []
    for level, verdict in (("error", "worse"), ("warning", "missing")):
        told = [each for each in check.judged if each.verdict == verdict]
        shown = told if len(told) <= MOST else told[: MOST - 1]
        lines += [_command(level, each, baseline, file) for each in shown]
        if len(told) > len(shown):
            rest = f"{len(told) - len(shown)} more cells are {verdict}; see the summary"
            lines.append(f"::{level} file={command_property(file)}::{command_data(rest)}")
    return lines


def _command(level: str, judged: Judged, baseline: Baseline, file: str) -> str:
    line = baseline.lines.get(judged.cells[0], 1) if judged.cells else 1
    title = f"{judged.verdict}: {one_line(judged.variant)} on {one_line(judged.task)}"
    properties = f"file={command_property(file)},line={line},title={command_property(title)}"
    return f"::{level} {properties}::{command_data('; '.join(judged.reasons))}"


def _from_here(path: Path) -> str:
    """The path as the host wants it: relative to the checkout, with forward slashes."""
    absolute = path.resolve()
    here = Path.cwd().resolve()
    inside = absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
    return str(PurePosixPath(*inside.parts))
