"""How a sample becomes tokens, drawn: one figure per family, each of its designs beneath another.

A design is read from left to right (on a phone, from top to bottom): the bands in the order of
their wavelengths and which of them share a token; the grid of patches; the tokens, one square
each; and attention, N x N, to one scale in the whole figure, so that areas can be compared. See
`reports.token_diagram_svg` for why it is not a chart. It must know nothing of files or pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports import words
from reports.atlas import Design, Entry, Kind, Strip
from reports.labels import text_width
from reports.look import GRID, INK, MUTED
from reports.token_diagram_legend import legend
from reports.token_diagram_parts import (
    HEADER,
    Scale,
    attention,
    band_row,
    grid_of_patches,
    group_row,
    lettered,
    raster,
    raster_lines,
    scale_of,
)
from reports.token_diagram_svg import (
    Canvas,
    wrapped,
)
from reports.token_diagram_words import (
    TIMES,
    arithmetic,
    shape_text,
    share_of_attention,
    spoken,
)


@dataclass(frozen=True)
class Plan:
    """Where things stand, in pixels; the narrow plan puts them beneath one another."""

    width: float
    bands: float
    band_room: float
    pitch_most: float
    grid: float
    grid_side: float
    tokens: float
    square: float
    columns: int
    attention: float
    attention_side: float
    is_narrow: bool = False

    @property
    def tile(self) -> tuple[float, float]:
        """Distance of one token's square from the next, right and down."""
        return self.square, self.square


WIDE = Plan(880, 18, 352, 27, 396, 88, 512, 6.5, 32, 790, 76)
NARROW = Plan(330, 16, 314, 25, 16, 76, 16, 8, 32, 16, 84, is_narrow=True)


MOST_LINES = 4
"""Lines of squares for one group of tokens."""


def family_diagram(designs: tuple[Design, ...], plan: Plan, ids: str) -> str:
    """The figure of some designs, an SVG; ``ids`` must be another for each figure of a page."""
    canvas = Canvas(plan.width, ids)
    shown = [d.first for d in designs]
    most = MOST_LINES * plan.columns
    scale = scale_of(shown, plan.attention_side, most, by_group=True)
    family = designs[0].first.family
    y = _heading(canvas, plan, f"{family}: from [H, W, T, D] to N tokens", scale)
    for i, design in enumerate(designs):
        block = _narrow_block if plan.is_narrow else _wide_block
        if i:
            canvas.line(0, y, plan.width, y, GRID)
        y = block(canvas, design, plan, scale, y + 20, f"d{i}") + 12
    y = legend(canvas, [d.first for d in designs], plan.width, y)
    title = f"{family}: how a sample becomes tokens"
    return canvas.svg(y, title, spoken(designs))


def _heading(canvas: Canvas, plan: Plan, title: str, scale: Scale) -> float:
    canvas.text(0, 16, title, 15, bold=True)
    one = words.number(scale.per_square, "token")
    if plan.is_narrow:
        canvas.text(0, 32, f"One square is {one}; attention to one scale.", 11, MUTED)
        return 36
    for x, text in (
        (plan.bands, "Bands, and which share a token"),
        (plan.grid, "Patches"),
        (plan.tokens, f"Tokens (one square: {one})"),
        (plan.attention, f"Attention, N {TIMES} N"),
    ):
        canvas.text(x, 40, text, 11, MUTED)
    canvas.line(0, 46, plan.width, 46, INK)
    return 44


def _name(canvas: Canvas, design: Design, plan: Plan, y: float) -> float:
    """Name and title; the y below them."""
    canvas.text(0, y, design.name, 12.5, bold=True)
    beside = text_width(design.name, 12.5) * 1.08 + 14
    if not plan.is_narrow and beside + text_width(design.title, 11) < plan.width:
        canvas.text(beside, y, design.title, 11, MUTED)
        return y + 6
    for line in wrapped(design.title, plan.width, 11) if design.title else []:
        y += 15
        canvas.text(0, y, line, 11, MUTED)
    return y + 6


# --- side by side ---------------------------------------------------------------------------


def _wide_block(
    canvas: Canvas, design: Design, plan: Plan, scale: Scale, y: float, ids: str
) -> float:
    entry = design.first
    y = _name(canvas, design, plan, y)
    names = lettered(entry)
    top, drawn, bottom = y + 8, set(), 0.0
    y = top
    for strip in entry.strips:
        canvas.text(plan.bands, y + 9, shape_text(strip), 10.5, MUTED)
        y += 14
        start = y
        pitch = min(plan.pitch_most, plan.band_room / len(strip.channels))
        band_row(canvas, strip, plan.bands, y, pitch)
        y += HEADER
        own = [kind for kind in entry.kinds if kind.modality == strip.modality]
        for kind in own:
            height = max(18.0, raster_lines(kind, scale, plan.columns) * plan.square + 5)
            group_row(canvas, strip, kind, plan.bands, y, pitch, height)
            _token_row(
                canvas, entry, kind, plan, scale, y, height, names[kind], f"{ids}{names[kind]}"
            )
            y += height
            drawn.add(kind)
        if own:
            bottom = _patches(canvas, own[0], strip, entry, plan, start - 10)
        is_last = strip == entry.strips[-1]
        y = y + 6 if is_last else max(y, bottom) + 8
    for kind in (k for k in names if k not in drawn):
        height = max(18.0, raster_lines(kind, scale, plan.columns) * plan.square + 5)
        canvas.text(plan.bands, y + height / 2 + 4, _lone(kind), 10.5)
        _token_row(canvas, entry, kind, plan, scale, y, height, names[kind], f"{ids}{names[kind]}")
        y += height
    side = attention(canvas, entry, scale, plan.attention, top)
    canvas.text(plan.attention, top + side + 13, f"N = {words.count(entry.tokens)}", 11)
    if entry.macs.attention:
        canvas.text(plan.attention, top + side + 26, share_of_attention(design), 9.5, MUTED)
    room = plan.grid - plan.bands - 8
    for line in (part for text in arithmetic(entry) for part in wrapped(text, room, 12.4)):
        y += 15
        canvas.text(plan.bands, y, line, 11.5, bold=True)
    return max(y + 2, bottom, top + side + 28)


def _lone(kind: Kind) -> str:
    return kind.name if kind.count == 1 else f"{kind.name} (no pixels of its own)"


def _patches(canvas: Canvas, kind: Kind, strip: Strip, entry: Entry, plan: Plan, y: float) -> float:
    height = grid_of_patches(canvas, kind, strip, plan.grid, y, plan.grid_side)
    for line in _grid_words(kind, strip, entry):
        height += 12.5
        canvas.text(plan.grid, y + height, line, 10.5, MUTED)
    return y + height + 4


def _grid_words(kind: Kind, strip: Strip, entry: Entry) -> list[str]:
    if kind.count == 1:
        return ["the whole sample"]
    rows, columns = strip.height // kind.rows, strip.width // kind.columns
    lines = [f"{kind.rows} {TIMES} {kind.columns} patches", f"of {rows} {TIMES} {columns} px"]
    return lines + ([words.number(kind.steps, "time step")] if kind.steps > 1 else [])


def _token_row(
    canvas: Canvas,
    entry: Entry,
    kind: Kind,
    plan: Plan,
    scale: Scale,
    y: float,
    height: float,
    letter: str,
    ids: str,
) -> None:
    lines = raster_lines(kind, scale, plan.columns)
    top = y + (height - lines * plan.square) / 2
    canvas.text(plan.bands - 6, y + height / 2 + 4, letter, 10.5, MUTED, anchor="end")
    canvas.text(plan.tokens - 8, y + height / 2 + 4, letter, 10.5, MUTED, anchor="end")
    raster(canvas, entry, kind, scale, (plan.tokens, top), plan.tile, plan.columns, ids)
    said = words.count(kind.count)
    if len(entry.sequences) > 1:
        said += f" {kind.sequence}"
    canvas.text(plan.tokens + plan.columns * plan.square + 8, y + height / 2 + 4, said, 10.5)


# --- beneath one another --------------------------------------------------------------------


def _narrow_block(
    canvas: Canvas, design: Design, plan: Plan, scale: Scale, y: float, ids: str
) -> float:
    entry = design.first
    y = _name(canvas, design, plan, y) + 6
    names = lettered(entry)
    for strip in entry.strips:
        canvas.text(0, y + 9, shape_text(strip), 10.5, MUTED)
        y += 15
        pitch = min(plan.pitch_most, plan.band_room / len(strip.channels))
        band_row(canvas, strip, plan.bands, y, pitch)
        y += HEADER
        own = [kind for kind in entry.kinds if kind.modality == strip.modality]
        for kind in own:
            canvas.text(plan.bands - 5, y + 12, names[kind], 10.5, MUTED, anchor="end")
            group_row(canvas, strip, kind, plan.bands, y, pitch, 16)
            y += 16
        y += 8
    y = _beside(canvas, design, plan, scale, y)
    for kind in names:
        lines = raster_lines(kind, scale, plan.columns)
        canvas.text(plan.tokens - 5, y + 8, names[kind], 10.5, MUTED, anchor="end")
        place = (plan.tokens, y)
        raster(canvas, entry, kind, scale, place, plan.tile, plan.columns, f"{ids}{names[kind]}")
        canvas.text(
            plan.tokens + plan.columns * plan.square + 6, y + 8, words.count(kind.count), 10.5
        )
        y += lines * plan.square + 5
    return y + 4


def _beside(canvas: Canvas, design: Design, plan: Plan, scale: Scale, y: float) -> float:
    """Patches and attention beside each other, and the arithmetic beneath."""
    entry = design.first
    strip = entry.strips[0]
    kind = next((k for k in entry.kinds if k.modality == strip.modality), entry.kinds[0])
    left = grid_of_patches(canvas, kind, strip, plan.grid, y, plan.grid_side)
    for line in _grid_words(kind, strip, entry):
        left += 12.5
        canvas.text(plan.grid, y + left, line, 10.5, MUTED)
    x = plan.width / 2 + 10
    right = attention(canvas, entry, scale, x, y) + 13
    canvas.text(x, y + right, f"attention, N = {words.count(entry.tokens)}", 10.5, MUTED)
    if entry.macs.attention:
        right += 12.5
        canvas.text(x, y + right, share_of_attention(design), 10.5, MUTED)
    y += max(left, right) + 6
    for line in (part for text in arithmetic(entry) for part in wrapped(text, plan.width, 12)):
        y += 15
        canvas.text(0, y, line, 11.5, bold=True)
    return y + 10
