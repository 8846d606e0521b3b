"""The atlas's table, cell by cell. It must know nothing of HTML or Markdown."""

from __future__ import annotations

from reports import words
from reports.atlas import Atlas, Entry, Measurement
from reports.tables import Cell, Table, without_empty_columns

COLUMNS = (
    "Variant",
    "Scheme",
    "Input",
    "Groups",
    "Tokens N",
    "MACs",
    "Attention",
    "Peak activations",
    "Weights",
    "Samples per second",
    "Peak measured",
)


def designs_table(atlas: Atlas) -> Table:
    """One row per variant at the atlas's input."""
    rows = tuple(_row(entry) for entry in atlas.entries)
    return without_empty_columns(Table(COLUMNS, (False,) * 3 + (True,) * 8, rows))


def _row(entry: Entry) -> tuple[Cell, ...]:
    found = measured_here(entry)
    groups = sum(kind.modality is not None for kind in entry.kinds)
    sequences = len(entry.sequences)
    return (
        Cell(entry.variant, entry.variant, note=_size(entry)),
        Cell(entry.scheme, entry.scheme),
        Cell(" + ".join(strip.title for strip in entry.strips), note=_shape(entry)),
        Cell(words.whole(groups), groups),
        Cell(
            words.count(entry.tokens),
            entry.tokens,
            note=f"in {sequences} sequences" if sequences > 1 else "",
        ),
        Cell(words.quantity(entry.macs.total), entry.macs.total),
        Cell(words.percent(entry.macs.attention_share), entry.macs.attention_share),
        _bytes(entry.activation_bytes),
        _bytes(entry.weights_bytes),
        Cell(
            words.quantity(found.samples_per_second),
            found.samples_per_second,
            note=f"batch {found.batch}",
        )
        if found
        else Cell(words.NO_VALUE),
        _bytes(found.peak_bytes if found else None),
    )


def _shape(entry: Entry) -> str:
    strip = entry.strips[0]
    return f"{strip.height} x {strip.width}, T = {strip.steps}, p = {entry.patch_size}"


def _size(entry: Entry) -> str:
    """Width and depth; nothing of a depth that is none, or that only the user's class knows."""
    return f"width {entry.dim}" + (f", depth {entry.depth}" if entry.depth else "")


def _bytes(value: int | None) -> Cell:
    if value is None:
        return Cell(words.NO_VALUE)
    return Cell(f"{words.quantity(value)}B" if value >= 1000 else f"{value} B", value)


def measured_here(entry: Entry) -> Measurement | None:
    """The measurement at the diagrams' own input."""
    strip = entry.strips[0]
    own = {"side": strip.height, "steps": strip.steps, "patch_size": entry.patch_size}
    return next((m for m in entry.measured if own[m.axis] == m.value), None)


def refused_bullets(atlas: Atlas) -> tuple[str, ...]:
    """What cannot be shown at this input, and why."""
    return tuple(f"{one.variant} cannot: {one.reason}" for one in atlas.refused)
