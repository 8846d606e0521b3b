"""What a report is made of: parts with paragraphs, figures and tables, in reading order.

Everything is a finished string or table, so that the HTML and the Markdown page cannot
disagree. It must know nothing of rankings, of HTML or of Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports.tables import Table


@dataclass(frozen=True)
class Figure:
    """A figure by its file stem, with its caption, and what it shows in words."""

    stem: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Banner:
    """What kind of data and weights the numbers below stand on."""

    text: str
    warn: bool


@dataclass(frozen=True)
class Statement:
    """One paragraph of the answer: what it is about, in a few words, and what holds."""

    about: str
    text: str


@dataclass(frozen=True)
class Part:
    """One section, its content in the order of the fields; ``folded`` ones open on demand.

    ``about`` names the variants that the whole part is about: a filter hides it with them.
    ``anchor`` is set by `anchored`.
    """

    heading: str
    banner: Banner | None = None
    answer: tuple[Statement, ...] = ()
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    bullets: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    command: str = ""
    parts: tuple[Part, ...] = ()
    folded: bool = False
    about: tuple[str, ...] = ()
    anchor: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing beneath the heading."""
        return not any(
            (
                self.banner,
                self.answer,
                self.paragraphs,
                self.figures,
                self.tables,
                self.bullets,
                self.terms,
                self.command,
                self.parts,
            )
        )


@dataclass(frozen=True)
class Page:
    """The whole report; ``variants`` holds what a reader may filter by, in the suite's order.

    ``links`` are pages beside it: what they are called, and their files.
    """

    title: str
    description: str
    parts: tuple[Part, ...]
    variants: tuple[Mapping[str, str], ...]
    links: tuple[tuple[str, str], ...] = ()


FACETS = ("family", "size", "version", "scheme", "tier")
"""What variants are filtered by."""


def anchored(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts without empty ones, each with an anchor that no other of the page has."""
    taken: dict[str, int] = {}

    def one(part: Part) -> Part:
        stem = re.sub(r"[^a-z0-9]+", "-", part.heading.lower())[:48].strip("-") or "part"
        taken[stem] = taken.get(stem, 0) + 1
        anchor = stem if taken[stem] == 1 else f"{stem}--{taken[stem]}"
        return replace(part, anchor=anchor, parts=tuple(one(p) for p in part.parts if keep(p)))

    def keep(part: Part) -> bool:
        return not part.is_empty

    return tuple(one(part) for part in parts if keep(part))
