"""All designs side by side: bands by token, tokens one tile each, attention to one scale.

One row per design, without the names of bands: the figure of its family has those. It must know
nothing of files or pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from reports import words
from reports.atlas import Design, Entry, Kind
from reports.labels import cut_to_width
from reports.look import GRID, INK, MUTED
from reports.token_diagram_legend import legend
from reports.token_diagram_parts import Scale, attention, colours_of, raster, scale_of
from reports.token_diagram_svg import REGION_COLOURS, Canvas, hatch, wrapped
from reports.token_diagram_words import TIMES, spoken, tokens_text

_CELL, _GAP = 10.0, 6.0  # of bands; between groups
_LINES = 16


@dataclass(frozen=True)
class _Plan:
    width: float
    bands: float
    tokens: float
    tile: tuple[float, float]
    columns: int
    attention: float
    attention_side: float
    cost: float
    is_narrow: bool = False


_WIDE = _Plan(880, 176, 400, (3.9, 7), 64, 690, 80, 784)
_NARROW = _Plan(330, 0, 0, (3.3, 7), 64, 256, 70, 0, is_narrow=True)


def overview(designs: tuple[Design, ...], ids: str, *, is_narrow: bool = False) -> str:
    """The figure of all designs, an SVG; ``ids`` must be another for each figure of a page."""
    plan = _NARROW if is_narrow else _WIDE
    canvas = Canvas(plan.width, ids)
    entries = [design.first for design in designs]
    scale = scale_of(entries, plan.attention_side, _LINES * plan.columns, by_group=False)
    y = _heading(canvas, plan, scale)
    for i, design in enumerate(designs):
        if i:
            canvas.line(0, y, plan.width, y, GRID)
        draw = _narrow_row if is_narrow else _row
        y = draw(canvas, design, plan, scale, y + 8, f"o{i}") + 8
    y = legend(canvas, entries, plan.width, y, resolutions=False)
    return canvas.svg(y, "Token designs side by side", spoken(designs))


def _heading(canvas: Canvas, plan: _Plan, scale: Scale) -> float:
    canvas.text(0, 16, "Token designs side by side", 15, bold=True)
    one = words.number(scale.per_square, "token")
    if plan.is_narrow:
        canvas.text(0, 32, f"One tile is {one}; attention to one scale.", 11, MUTED)
        return 38
    for x, text in (
        (0, "Design"),
        (plan.bands, "Bands by token"),
        (plan.tokens, f"Tokens (one tile: {one})"),
        (plan.attention, f"Attention, N {TIMES} N"),
        (plan.cost, "MACs per sample"),
    ):
        canvas.text(x, 40, text, 11, MUTED)
    canvas.line(0, 46, plan.width, 46, INK)
    return 46


def _row(canvas: Canvas, design: Design, plan: _Plan, scale: Scale, y: float, ids: str) -> float:
    entry = design.first
    name = 12 + _name(canvas, design, y + 12, plan.bands - 10)
    bands = _bands(canvas, entry, plan.bands, y + 3, plan.tokens - plan.bands - 16)
    tokens = _tokens(canvas, entry, plan, scale, y + 3, ids)
    side = attention(canvas, entry, scale, plan.attention, y + 3)
    canvas.text(plan.cost, y + 12, _cost(design), 11)
    if entry.macs.attention:
        share = words.percent(_least(design).macs.attention_share)
        canvas.text(plan.cost, y + 26, f"attention {share}", 10.5, MUTED)
    return y + max(30, name, bands, tokens, side + 6)


def _narrow_row(
    canvas: Canvas, design: Design, plan: _Plan, scale: Scale, y: float, ids: str
) -> float:
    entry = design.first
    y += 14 + _name(canvas, design, y + 12, plan.width)
    y += _bands(canvas, entry, 0, y, plan.attention - 12) + 3
    tokens = _tokens(canvas, entry, plan, scale, y, ids)
    side = attention(canvas, entry, scale, plan.attention, y)
    y += max(tokens, side) + 14
    share = f", attention {words.percent(_least(design).macs.attention_share)}"
    canvas.text(0, y, f"{_cost(design)} MACs{share if entry.macs.attention else ''}", 10.5)
    return y


def _name(canvas: Canvas, design: Design, y: float, room: float) -> float:
    """Family and versions, then the scheme; the height that was drawn."""
    family, _, scheme = design.name.partition(" · ")
    top = y
    for line in wrapped(family, room / 1.09, 12):
        canvas.text(0, y, cut_to_width(line, room / 1.09, 12), 12, bold=True)
        y += 14
    canvas.text(0, y, cut_to_width(scheme, room, 11), 11, MUTED)
    return y + 6 - top


def _least(design: Design) -> Entry:
    return min(design.entries, key=lambda e: e.macs.total)


def _cost(design: Design) -> str:
    entry = _least(design)
    return f"{words.quantity(entry.macs.total)} ({cut_to_width(entry.size, 60, 11)})"


def _bands(canvas: Canvas, entry: Entry, x: float, y: float, room: float) -> float:
    """Each kind's channels as joined cells, kind after kind; the height that was drawn."""
    at, top = x, y
    regions = {(s.modality, c.name): c.region for s in entry.strips for c in s.channels}
    for kind in entry.kinds:
        width = max(1, len(kind.bands)) * _CELL
        if at > x and at + width > x + room:
            at, y = x, y + 20
        about = f"{' '.join(kind.bands) or kind.name}: {tokens_text(kind.count)}"
        own = [r for (m, name), r in regions.items() if m == kind.modality and name in kind.bands]
        for i, region in enumerate(own):
            canvas.rect(at + i * _CELL, y, _CELL, 14, REGION_COLOURS[region])
        dash = "" if kind.bands else "2 2"
        canvas.rect(at, y, width, 14, "none", INK, radius=2, thick=0.9, dash=dash, about=about)
        at += width + _GAP
    ignored = [c for s in entry.strips for c in s.channels if not c.read]
    for i, channel in enumerate(ignored):
        box = (at + i * _CELL, y, _CELL, 14)
        canvas.rect(*box, hatch(canvas), MUTED, thick=0.75, about=f"{channel.name}: not read")
    return y - top + 18


def _tokens(canvas: Canvas, entry: Entry, plan: _Plan, scale: Scale, y: float, ids: str) -> float:
    """The sequences as rasters beneath one another, N beside; the height that was drawn.

    Kinds that look alike follow one another in one raster.
    """
    top = y
    for i, (count, kind) in enumerate(_runs(entry)):
        whole = Kind(kind.name, kind.modality, kind.bands, 1, count, 1, kind.sequence)
        place = (plan.tokens, y)
        raster(canvas, entry, whole, scale, place, plan.tile, plan.columns, f"{ids}t{i}")
        y += ceil(ceil(count / scale.per_square) / plan.columns) * plan.tile[1]
    x = plan.tokens + plan.columns * plan.tile[0] + 6
    canvas.text(x, top + 9, words.count(entry.tokens), 11, bold=True)
    return y - top + 4


def _runs(entry: Entry) -> list[tuple[int, Kind]]:
    runs: list[tuple[int, Kind]] = []
    for kind in entry.kinds:
        if runs and _looks(entry, runs[-1][1]) == _looks(entry, kind):
            runs[-1] = runs[-1][0] + kind.count, kind
        else:
            runs.append((kind.count, kind))
    return runs


def _looks(entry: Entry, kind: Kind) -> tuple[str, ...]:
    return (kind.sequence, *colours_of(entry, kind))
