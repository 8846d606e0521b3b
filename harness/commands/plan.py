"""`tokenrank plan`: what a suite would cost here, without running it.

Counts, bytes and time of each task; for what was run, how long it took. It decides nothing.
"""

from __future__ import annotations

from rich.console import Console

from harness import estimates
from harness.commands.measure import RunOptions, loaded_plan
from harness.estimates import TaskEstimate
from harness.results import bfloat16_sentences
from harness.store_place import open_store
from harness.terminal import Name, plain_table
from reports.words import number, quantity


def plan_command(suite: str, options: RunOptions) -> None:
    """Estimate and show. Raises `UserError` as `tokenrank run` would before it computes."""
    from harness.calibration import this_machine  # noqa: PLC0415  (torch loads)

    console = Console()
    store = open_store(options.store)
    with console.status("Planning, and timing this machine for a few seconds"):
        plan = loaded_plan(suite, options)
        found = estimates.estimate(plan, store, this_machine())
    estimates.remember(store, plan, found)
    took = estimates.taken(store, plan)
    headings = ["task", "to do", "passes", "MACs", "memory", "disk", "time"]
    rows = [_row(each) for each in found]
    if took:
        headings.append("took")
        for row, each in zip(rows, found, strict=True):
            row.append(duration(took[each.task]) if each.task in took else "-")
    table = plain_table(headings, rows, 1)
    table.columns[0].no_wrap = False  # a long name goes on below; the numbers are what is asked for
    console.print(table)
    total = sum(each.encoder_seconds + each.probe_seconds for each in found)
    room = sum(each.bytes for each in found)
    missing, to_do = len(plan.missing), sum(each.to_do for each in found)
    lines = [
        f"{number(to_do, 'cell')} to do: about {duration(total)}, and {size(room)} of disk."
        if to_do
        else "Nothing is to do: every cell has its result.",
        "Equal cells are done once (kNN draws nothing: all seeds of one encoder are one cell); "
        "time is from a short calibration on blank images; what is cached costs nothing. Memory is "
        "the widest moment of an encoder, beside weights and libraries (some 500 MB).",
    ]
    lines += bfloat16_sentences(plan)
    if missing:
        lines.append(f"{number(missing, 'cell')} cannot run; tokenrank run says why.")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _row(each: TaskEstimate) -> list[str | Name]:
    seconds = each.encoder_seconds + each.probe_seconds
    return [
        Name(each.task),
        f"{each.to_do} of {each.cells}" if each.to_do < each.cells else str(each.to_do),
        str(each.passes),
        quantity(float(each.macs)) if each.macs else "0",
        size(each.memory) if each.memory else "-",
        size(each.bytes),
        duration(seconds) if each.to_do else "-",
    ]


def duration(seconds: float) -> str:
    """In a unit that suits it: ``12 s``, ``3.5 min``, ``2.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """Bytes in a unit that suits them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
