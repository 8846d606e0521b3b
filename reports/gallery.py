"""Charts as figures of a page: in both widths, named, said in words, and rendered.

It must know nothing of what a chart shows, nor where on the page it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from altair.utils.schemapi import debug_mode

from reports import look
from reports.document import Figure
from reports.rendering import Job, draw_all

Chart = Callable[[look.Frame], look.Spec | None]


def drawn(
    stem: str, chart: Chart, caption: str, alt: str, *, fits_a_phone: bool = True
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
    return (Figure(safe_stem(stem), caption, alt, wide, narrow),)


def safe_stem(text: str) -> str:
    """A file stem of lower-case letters, digits, dots and underscores."""
    return re.sub(r"[^a-z0-9._]+", "_", text.lower()).strip("._")[:80] or "figure"


@dataclass(frozen=True)
class Plate:
    """A figure as drawn: SVG text in both widths (``narrow`` may be empty), and the wide PNG."""

    wide: str
    narrow: str
    png: bytes


def plates(figures: Sequence[Figure]) -> dict[str, Plate]:
    """Every figure drawn, by its stem."""
    jobs = [Job(figure.wide, look.VEGA_LITE, png=True) for figure in figures]
    slim = [figure for figure in figures if figure.narrow is not None]
    jobs += [Job(figure.narrow, look.VEGA_LITE) for figure in slim if figure.narrow]
    drawings = draw_all(jobs)
    wide, rest = drawings[: len(figures)], drawings[len(figures) :]
    narrow = {figure.stem: d.svg for figure, d in zip(slim, rest, strict=True)}
    return {
        figure.stem: Plate(d.svg, narrow.get(figure.stem, ""), d.png)
        for figure, d in zip(figures, wide, strict=True)
    }


def image_files(drawn_figures: Mapping[str, Plate]) -> Iterator[tuple[str, bytes]]:
    """The wide drawings as SVG and as PNG, by file name."""
    for stem, plate in drawn_figures.items():
        yield f"{stem}.svg", plate.wide.encode()
        yield f"{stem}.png", plate.png
