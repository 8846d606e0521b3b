"""Charts as figures of a page: in both widths, named, said in words, and rendered.

It must know nothing of what a chart shows, nor where on the page it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from altair.utils.schemapi import debug_mode

from reports import look
from reports.document import Figure
from reports.rendering import Job, Studio

Chart = Callable[[look.Frame], look.Spec | None]


def safe_stem(text: str) -> str:
    """A file stem of lower-case letters, digits, dots and underscores."""
    return re.sub(r"[^a-z0-9._]+", "_", text.lower()).strip("._")[:80] or "figure"


@dataclass(frozen=True)
class Plate:
    """A figure as drawn: SVG text in both widths (``narrow`` may be empty), and the wide PNG."""

    wide: str
    narrow: str
    png: bytes


class Gallery:
    """Figures of one report, being drawn while the rest of the page is written."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._places: dict[str, tuple[int, int | None]] = {}

    def drawn(
        self, stem: str, chart: Chart, caption: str, alt: str, *, fits_a_phone: bool = True
    ) -> tuple[Figure, ...]:
        """The figure of a chart; none where the chart has nothing to show.

        One with too many marks gets no narrow version: a phone scrolls the wide one sideways.
        """
        # Altair's checks find mistakes in this code, not in results: they are for its tests.
        with debug_mode(False):
            wide = chart(look.WIDE)
            narrow = chart(look.NARROW) if fits_a_phone and wide is not None else None
        if wide is None:
            return ()
        name = safe_stem(stem)
        self._places[name] = (
            self._studio.submit(Job(wide, look.VEGA_LITE, png=True)),
            None if narrow is None else self._studio.submit(Job(narrow, look.VEGA_LITE)),
        )
        return (Figure(name, caption, alt),)

    def plates(self) -> dict[str, Plate]:
        """Every figure as drawn, by its stem; waits for those still to be drawn."""
        drawings = self._studio.finish()
        found = {}
        for stem, (place, slim) in self._places.items():
            narrow = "" if slim is None else drawings[slim].svg
            found[stem] = Plate(drawings[place].svg, narrow, drawings[place].png)
        return found


def image_files(drawn_figures: Mapping[str, Plate]) -> Iterator[tuple[str, bytes]]:
    """The wide drawings as SVG and as PNG, by file name."""
    for stem, plate in drawn_figures.items():
        yield f"{stem}.svg", plate.wide.encode()
        yield f"{stem}.png", plate.png
