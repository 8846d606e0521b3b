"""An SVG being drawn: rectangles, lines and text in the colours of all figures.

The diagrams are drawings, not charts: nothing in them is a mark at a place of a scale, and the
count of what is drawn follows from the design. A charting library would have to be given every
coordinate all the same, one data row each, so they are written out here; text stays text, and
the page's style sheet recolours ink and paper for a dark screen as it does for charts. It must
know nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from reports.atlas import Region
from reports.labels import text_width
from reports.look import FONT, GRID, INK, PAPER

MARGIN = 10
ON_COLOUR = "#101418"
"""Text on a coloured cell: dark on every screen."""

# Paul Tol's "light" scheme, made for the ground of labelled cells: its colours are told apart
# under every common colour blindness, and dark text can be read on all of them.
REGION_COLOURS: dict[Region, str] = {
    "atmosphere": "#99ddff",
    "visible": "#77aadd",
    "red edge": "#ee8866",
    "near infrared": "#ffaabb",
    "short wave": "#eedd88",
    "thermal": "#aaaa00",
    "radar": "#44bb99",
    "derived": "#bbcc33",
    "other": "#dddddd",
}


class Canvas:
    """Collects elements; ``ids`` starts every name that its elements refer to one another by."""

    def __init__(self, width: float, ids: str) -> None:
        self.width = width
        self.ids = ids
        self._parts: list[str] = []
        self._defs: dict[str, str] = {}
        self.define("hatch", _HATCH)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = "none",
        stroke: str = "none",
        *,
        radius: float = 0,
        dash: str = "",
        thick: float = 1,
        about: str = "",
    ) -> None:
        """A rectangle; ``about`` is told when a reader points at it."""
        more = f' rx="{_n(radius)}"' if radius else ""
        if stroke != "none":
            more += f' stroke="{stroke}" stroke-width="{_n(thick)}"'
        more += f' stroke-dasharray="{dash}"' if dash else ""
        if about:
            more += f' role="graphics-symbol" aria-label="{escape(about)}" pointer-events="all"'
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self._parts.append(f'<rect {place} fill="{fill}"{more}/>')

    def line(
        self, x0: float, y0: float, x1: float, y1: float, stroke: str = INK, thick: float = 1
    ) -> None:
        """A straight line."""
        ends = f'x1="{_n(x0)}" y1="{_n(y0)}" x2="{_n(x1)}" y2="{_n(y1)}"'
        self._parts.append(f'<line {ends} stroke="{stroke}" stroke-width="{_n(thick)}"/>')

    def lines(self, path: str, stroke: str = INK, thick: float = 1) -> None:
        """Many straight lines as one path."""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{_n(thick)}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 11,
        fill: str = INK,
        *,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """One line of text, ``y`` its baseline."""
        more = f' text-anchor="{anchor}"' if anchor != "start" else ""
        more += ' font-weight="bold"' if bold else ""
        place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{fill}"'
        self._parts.append(f"<text {place}{more}>{escape(text, quote=False)}</text>")

    def define(self, name: str, element: str) -> str:
        """Keep something to be referred to; what a fill says to use it."""
        full = f"{self.ids}-{name}"
        self._defs[full] = element.replace("ID", full, 1)
        return f"url(#{full})"

    def svg(self, height: float, title: str, description: str) -> str:
        """The whole drawing on white paper."""
        width, height = self.width + 2 * MARGIN, height + 2 * MARGIN
        size = f'width="{_n(width)}" height="{_n(height)}"'
        corner = f"{-MARGIN} {-MARGIN}"
        names = f'aria-labelledby="{self.ids}-title {self.ids}-desc"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="{corner} {_n(width)} {_n(height)}" role="img" {names} '
            f'font-family="{FONT}">'
            f'<rect x="{-MARGIN}" y="{-MARGIN}" {size} fill="{PAPER}"/>'
            f'<title id="{self.ids}-title">{escape(title, quote=False)}</title>'
            f'<desc id="{self.ids}-desc">{escape(description, quote=False)}</desc>'
            f"<defs>{''.join(self._defs.values())}</defs>{''.join(self._parts)}</svg>\n"
        )


_HATCH = (
    '<pattern id="ID" width="4" height="4" patternUnits="userSpaceOnUse" '
    f'patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="4" stroke="{GRID}" '
    'stroke-width="2.4"/></pattern>'
)


def hatch(canvas: Canvas) -> str:
    """The fill of what is left out."""
    return f"url(#{canvas.ids}-hatch)"


def tiles(
    canvas: Canvas,
    name: str,
    colours: Sequence[str],
    pitch: tuple[float, float],
    x: float,
    y: float,
) -> str:
    """A fill of tiles ``pitch`` apart (right, down) from (x, y) on, striped with the colours.

    Stripes lie along the shorter side. Without colours the tiles are outlines.
    """
    gap = max(0.6, min(pitch) / 7)
    width, height = pitch[0] - gap, pitch[1] - gap
    if colours:
        inner = "".join(_stripe(i, len(colours), width, height, c) for i, c in enumerate(colours))
    else:
        inner = (
            f'<rect x="0.4" y="0.4" width="{_n(width - 0.8)}" height="{_n(height - 0.8)}" '
            f'fill="none" stroke="{INK}" stroke-width="0.8"/>'
        )
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(pitch[0])}" height="{_n(pitch[1])}"'
    return canvas.define(
        name, f'<pattern id="ID" {place} patternUnits="userSpaceOnUse">{inner}</pattern>'
    )


def _stripe(number: int, of: int, width: float, height: float, colour: str) -> str:
    if height > width:
        place = f'x="0" y="{_n(number * height / of)}"'
        return f'<rect {place} width="{_n(width)}" height="{_n(height / of)}" fill="{colour}"/>'
    place = f'x="{_n(number * width / of)}" y="0"'
    return f'<rect {place} width="{_n(width / of)}" height="{_n(height)}" fill="{colour}"/>'


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The text in lines that are no wider than so many pixels, broken between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
