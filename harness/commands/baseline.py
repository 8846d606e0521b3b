"""`tokenrank baseline`: the results of a suite become the file that later ones are held to.

It joins suite, store and file; what a baseline holds is `harness.regression.baseline`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from harness.commands.measure import RunOptions, measure, require_folder, saved, writing
from harness.regression.baseline import provenance, write_baseline
from harness.regression.escaping import log_line
from harness.regression.noninferiority import room_for_losses
from harness.regression.snapshot import Snapshot, snapshot
from harness.regression.summary import origin_sentences
from harness.suite import suite_path
from models.errors import UserError

_FORGIVING = 3  # lost samples that a margin should have room for


def baseline_command(
    suite: str | None, options: RunOptions, *, results: Path | None, margin: float, out: Path
) -> None:
    """Write the baseline of a suite, computing what is missing, or of saved results."""
    console = Console()
    require_folder(out)
    hardware: Mapping[str, str] | None = None
    if results is not None and suite is None:
        options.refuse_beside_results()
        table = saved(results)
    elif suite is not None and results is None:
        found = measure(console, suite_path(suite), suite, options)
        table, hardware = found.results, found.hardware
    else:
        raise UserError("Give either a suite or --results FOLDER to make the baseline from.")
    taken = snapshot(table)
    if not taken.cells:
        raise UserError("These results hold no score, so there is nothing to make a baseline of.")
    with writing(out):
        write_baseline(out, taken, margin, provenance(table.run, hardware))
    _show(console, taken, margin, out)


def _show(console: Console, taken: Snapshot, margin: float, out: Path) -> None:
    size = out.stat().st_size / 1024
    lines = [
        f"Baseline: {out} ({len(taken.cells)} cells, {size:.0f} KiB, margin {margin:g}). Review it "
        "and commit it.",
        *origin_sentences(taken),
    ]
    if taken.reasons:
        cell, reason = next(iter(taken.reasons.items()))
        lines.append(
            f"{len(taken.reasons)} cells have no result and are not in it (first: {cell.variant} "
            f"on {cell.task}: {reason})."
        )
    lines += _what_it_can_show(taken, margin)
    for line in lines:
        console.print(log_line(line), soft_wrap=True, highlight=False, markup=False)


def _what_it_can_show(taken: Snapshot, margin: float) -> list[str]:
    """A warning for each task whose test split is too small for the margin."""
    sentences = []
    for task in taken.tasks.values():
        if task.labels is None:
            sentences.append(f"{task.name}: without predictions only intervals can be compared.")
            continue
        room = room_for_losses(len(task.labels), margin)
        if room < _FORGIVING:
            only = f"{room} or fewer predictions are lost" if room >= 0 else "all stay the same"
            sentences.append(
                f"{task.name}: {len(task.labels)} test samples are few for margin {margin:g}: a "
                f"check passes only while {only}; more samples or a larger --margin make it less "
                "strict."
            )
    return sentences
