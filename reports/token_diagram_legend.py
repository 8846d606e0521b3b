"""What the colours, hatching, dashes and numbers of a token diagram mean.

Only what a figure holds is explained. It must know nothing of the rest of the figure.
"""

from __future__ import annotations

from reports.atlas import Channel, Entry, Region
from reports.labels import text_width
from reports.look import GRID, INK, MUTED
from reports.token_diagram_svg import REGION_COLOURS, Canvas, hatch, wrapped


def legend(
    canvas: Canvas, entries: list[Entry], width: float, y: float, *, resolutions: bool = True
) -> float:
    """Colours, and what hatching, dashes and the numbers mean; only what is there."""
    channels = [c for entry in entries for strip in entry.strips for c in strip.channels]
    regions = [r for r in REGION_COLOURS if any(c.region == r and c.read for c in channels)]
    canvas.line(0, y, width, y, GRID)
    x, y = 0.0, y + 20
    for label, fill, edge, dash in [*map(_swatch, regions), *_left_out(channels, canvas)]:
        room = 20 + text_width(label, 10.5) + 12
        if x + room > width and x:
            x, y = 0.0, y + 18
        canvas.rect(x, y - 10, 14, 12, fill, edge, radius=2, dash=dash, thick=0.8)
        canvas.text(x + 19, y, label, 10.5)
        x += room
    for line in wrapped(_notes(entries, channels, resolutions), width, 10.5):
        y += 15
        canvas.text(0, y + 3, line, 10.5, MUTED)
    return y + 12


def _swatch(region: Region) -> tuple[str, str, str, str]:
    is_derived = region == "derived"
    label = "derived channel" if is_derived else "other channel" if region == "other" else region
    return label, REGION_COLOURS[region], INK if is_derived else "none", "3 2" if is_derived else ""


def _left_out(channels: list[Channel], canvas: Canvas) -> list[tuple[str, str, str, str]]:
    if all(channel.read for channel in channels):
        return []
    return [("not read by the model", hatch(canvas), MUTED, "")]


def _notes(entries: list[Entry], channels: list[Channel], resolutions: bool) -> str:
    made = {c.name: c.made_from for c in channels if c.made_from}
    said = "Numbers beneath the bands: native resolution in metres." if resolutions else ""
    for name, bands in made.items():
        said += f" {name} is computed from {' and '.join(bands)}."
    if any(len(entry.sequences) > 1 for entry in entries):
        said += (
            " Blocks of attention: within each of a design's sequences; attention from one "
            "sequence to another is not drawn."
        )
    return said.strip()
