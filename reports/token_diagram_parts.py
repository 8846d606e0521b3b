"""The pieces of a token diagram: bands and groups, the grid of patches, tokens, attention.

Each draws at a place and says how much room it took. It must know nothing of how they are put
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from reports import words
from reports.atlas import Channel, Entry, Kind, Strip
from reports.labels import cut_to_width, text_width
from reports.look import INK, MUTED
from reports.token_diagram_svg import (
    ON_COLOUR,
    REGION_COLOURS,
    Canvas,
    hatch,
    tiles,
)
from reports.token_diagram_words import tokens_text

HEADER = 33.0  # height of a strip's row of bands, resolutions beneath


@dataclass(frozen=True)
class Scale:
    """What one figure keeps the same for all of its designs.

    Args:
        per_square: tokens that one square stands for.
        longest: tokens of the longest input, whose attention is drawn ``room`` pixels wide.
        room: see ``longest``.
    """

    per_square: int
    longest: int
    room: float

    def side(self, tokens: int) -> float:
        """Side of an attention matrix in pixels: true to scale, but never invisible."""
        return max(1.0, tokens / self.longest * self.room)


def scale_of(entries: Sequence[Entry], room: float, squares: int, *, by_group: bool) -> Scale:
    """A scale for these: a square stands for 1, 2, 4, ... tokens.

    Of one group, or of one whole design, at most so many ``squares`` are drawn.
    """
    longest = max(entry.tokens for entry in entries)
    most = max(k.count for e in entries for k in e.kinds) if by_group else longest
    per_square = 1
    while most > per_square * squares:
        per_square *= 2
    return Scale(per_square, longest, room)


def lettered(entry: Entry) -> dict[Kind, str]:
    """The kinds in the order in which they are drawn, with short names: a, b, c, ...

    Those of the strips come first, then the ones that hold no pixels.
    """
    drawn = [k for strip in entry.strips for k in entry.kinds if k.modality == strip.modality]
    rest = [kind for kind in entry.kinds if kind not in drawn]
    return {kind: _letter(i) for i, kind in enumerate([*drawn, *rest])}


def _letter(number: int) -> str:
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + "abcdefghijklmnopqrstuvwxyz"[last]


# --- bands ----------------------------------------------------------------------------------


def band_row(canvas: Canvas, strip: Strip, x: float, y: float, pitch: float) -> None:
    """The channels as coloured cells, native resolution beneath; what is ignored is hatched."""
    size = 10.5 if pitch >= 26 else 8.8
    for i, channel in enumerate(strip.channels):
        _cell(canvas, channel, x + i * pitch, y, pitch, size)


def _cell(canvas: Canvas, channel: Channel, x: float, y: float, pitch: float, size: float) -> None:
    made = f", computed from {' and '.join(channel.made_from)}" if channel.made_from else ""
    left_out = "" if channel.read else ", not read by this model"
    where = f", {channel.resolution:g} m" if channel.resolution else ""
    about = f"{channel.name}, {channel.region}{where}{made}{left_out}"
    box = (x + 0.75, y, pitch - 1.5, 19.0)
    middle = x + pitch / 2
    name = cut_to_width(channel.name, pitch - 2, size)
    if channel.read:
        colour = REGION_COLOURS[channel.region]
        edge = INK if channel.made_from else "none"
        canvas.rect(
            *box, colour, edge, radius=2, dash="3 2" if channel.made_from else "", about=about
        )
        fits = min(size, size * (pitch - 3) / text_width(channel.name, size))
        canvas.text(
            middle,
            y + 13.3,
            name if fits < 7 else channel.name,
            max(7, fits),
            ON_COLOUR,
            anchor="middle",
        )
    else:
        canvas.rect(*box, hatch(canvas), MUTED, radius=2, thick=0.75, about=about)
        canvas.text(middle, y + 13.3, name, min(size, 9), MUTED, anchor="middle")
    if channel.resolution is not None:
        canvas.text(middle, y + 29, f"{channel.resolution:g}", 8.8, MUTED, anchor="middle")


def group_row(
    canvas: Canvas, strip: Strip, kind: Kind, x: float, y: float, pitch: float, height: float
) -> None:
    """Which channels share this kind's tokens: joined pieces, dots where a channel is elsewhere."""
    places = [i for i, channel in enumerate(strip.channels) if channel.name in kind.bands]
    middle = y + height / 2
    for i, channel in enumerate(strip.channels):
        if channel.read and i not in places:
            canvas.rect(x + (i + 0.5) * pitch - 1, middle - 1, 2, 2, MUTED, radius=1)
    if len(places) > 1:
        ends = (x + (place + 0.5) * pitch for place in (places[0], places[-1]))
        canvas.line(next(ends), middle, next(ends), middle, INK, 1.2)
    for i, channel in enumerate(strip.channels):
        if i in places:
            box = (x + i * pitch + 2.5, middle - 6, pitch - 5, 12.0)
            canvas.rect(*box, REGION_COLOURS[channel.region], INK, radius=3, thick=0.9)
    about = f"{' '.join(kind.bands)}: {tokens_text(kind.count)}"
    width = len(strip.channels) * pitch
    canvas.rect(x, y, width, height, about=about)


# --- patches --------------------------------------------------------------------------------


def grid_of_patches(
    canvas: Canvas, kind: Kind, strip: Strip, x: float, y: float, side: float
) -> float:
    """The image cut into patches, time steps behind one another; the height that was drawn.

    The longer side of the image takes ``side`` pixels, all sheets included.
    """
    sheets = min(kind.steps, 4)
    shift = 4.0 * (sheets - 1)
    unit = (side - shift) / max(strip.height, strip.width)
    width, height = strip.width * unit, strip.height * unit
    top = y + shift
    for back in range(sheets - 1, 0, -1):  # what is seen of a sheet behind another
        left, above = x + 4 * back, top - 4 * back
        canvas.lines(f"M{left:.2f} {above + 4:.2f}v-4h{width:.2f}v{height:.2f}h-4", MUTED)
    canvas.rect(x, top, width, height, "none", INK)
    canvas.rect(x, top, width / kind.columns, height / kind.rows, INK)
    # More lines than this would be a black square.
    every = ceil(max(kind.columns, kind.rows) / 64)
    across = [x + width * i / kind.columns for i in range(every, kind.columns, every)]
    down = [top + height * i / kind.rows for i in range(every, kind.rows, every)]
    thick = 0.8 if max(kind.columns, kind.rows) <= 16 else 0.3
    path = "".join(f"M{v:.2f} {top:.2f}v{height:.2f}" for v in across)
    path += "".join(f"M{x:.2f} {v:.2f}h{width:.2f}" for v in down)
    if path:
        canvas.lines(path, MUTED, thick)
    return height + shift


# --- tokens ---------------------------------------------------------------------------------


def raster_lines(kind: Kind, scale: Scale, columns: int) -> int:
    """Lines of squares that this kind's tokens take."""
    return ceil(ceil(kind.count / scale.per_square) / columns)


def raster(
    canvas: Canvas,
    entry: Entry,
    kind: Kind,
    scale: Scale,
    place: tuple[float, float],
    pitch: tuple[float, float],
    columns: int,
    name: str,
) -> None:
    """This kind's tokens as tiles in the colours of its bands; its last line may be short."""
    x, y = place
    squares = ceil(kind.count / scale.per_square)
    colours = colours_of(entry, kind)
    if squares == 1 and len(colours) < 2:
        size = pitch[0] - 1.5, pitch[1] - 1.5
        canvas.rect(x + 0.5, y + 0.5, *size, colours[0] if colours else "none", INK, thick=0.8)
        return
    fill = tiles(canvas, name, colours, pitch, x, y)
    full, rest = divmod(squares, columns)
    if full:
        canvas.rect(x, y, columns * pitch[0], full * pitch[1], fill)
    if rest:
        canvas.rect(x, y + full * pitch[1], rest * pitch[0], pitch[1], fill)
    about = f"{' '.join(kind.bands) or kind.name}: {tokens_text(kind.count)}"
    height = (full + bool(rest)) * pitch[1]
    canvas.rect(x, y, min(columns, squares) * pitch[0], height, about=about)


def colours_of(entry: Entry, kind: Kind) -> list[str]:
    """Colours of the regions that this kind's tokens hold, each once, in the strip's order."""
    regions = [
        channel.region
        for strip in entry.strips
        for channel in strip.channels
        if channel.read and channel.name in kind.bands and kind.modality == strip.modality
    ]
    return list(dict.fromkeys(REGION_COLOURS[region] for region in regions))


# --- attention ------------------------------------------------------------------------------


def attention(canvas: Canvas, entry: Entry, scale: Scale, x: float, y: float) -> float:
    """N x N to scale, one block per sequence on its diagonal; the height that was drawn."""
    whole = scale.side(entry.tokens)
    sequences = list(entry.sequences.values())
    if len(sequences) > 1:
        canvas.rect(x, y, whole, whole, "none", MUTED, dash="2 2", thick=0.8)
    at = 0.0
    for name, kinds in entry.sequences.items():
        side = scale.side(sum(kind.count for kind in kinds))
        about = f"{name}: {words.count(sum(k.count for k in kinds) ** 2)} pairs of tokens"
        canvas.rect(x + at, y + at, side, side, "#8a6fd1", about=about)
        at += side
    return whole
