"""Charts as figures of a page: rendered in both widths, named, and said in words.

It must know nothing of what a chart shows, nor where on the page it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from reports import look
from reports.document import Figure

Chart = Callable[[look.Frame], look.Spec | None]


def drawn(
    stem: str, chart: Chart, caption: str, alt: str, *, fits_a_phone: bool = True
) -> tuple[Figure, ...]:
    """The figure of a chart; none where the chart has nothing to show.

    One with too many marks gets no narrow version: a phone scrolls the wide one sideways.
    """
    wide = chart(look.WIDE)
    if wide is None:
        return ()
    slim = chart(look.NARROW) if fits_a_phone else None
    narrow = look.to_svg(slim) if slim else ""
    return (Figure(safe_stem(stem), caption, alt, look.to_svg(wide), narrow),)


def safe_stem(text: str) -> str:
    """A file stem of lower-case letters, digits, dots and underscores."""
    return re.sub(r"[^a-z0-9._]+", "_", text.lower()).strip("._")[:80] or "figure"


def image_files(figure: Figure) -> Iterator[tuple[str, bytes]]:
    """The wide drawing as SVG and as PNG, by file name."""
    yield f"{figure.stem}.svg", figure.wide.encode()
    yield f"{figure.stem}.png", look.to_png(figure.wide)
